"""The dispatcher's loop over one server and its sites, wherever these are.

The thread that calls `run` is the dispatcher: it hands tasks out, takes results, and runs the passes of the task
board. The workflows run on one other thread, started once. Sites are served in code point order of their names; every
idle site is offered its task before the first result is taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from hansa.apis.client import Client
from hansa.errors import RunError
from hansa.failpoints import reach
from hansa.runtime.assignments import Answer, Assignment, Crew, Delivery
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.flights import Flights
from hansa.runtime.phases import Phases
from hansa.runtime.seeding import server_randomness_untouched
from hansa.runtime.server_side import ServerSide
from hansa.runtime.site_times import SiteTimes

STOP_GRACE_S = 5.0
"""How long a workflow that was told to stop may take before it is left behind."""


def is_repeated(task_id: str) -> bool:
    """Whether a site has had this very task before, by the last part of the id: the n-th visit."""
    visit = task_id.rpartition("/")[2]
    return visit.isdecimal() and int(visit) > 1


@dataclass(frozen=True)
class DispatchOptions:
    """What a dispatcher may be told.

    Attributes:
        on_progress: Called after each result with the site's name.
        times: How long tasks and messages take on the virtual clock; None: no time at all.
    """

    on_progress: Callable[[str], None] = lambda site: None
    times: SiteTimes | None = None


class Federation:
    """Runs the workflows of a server over sites in this process, or in its workers.

    Args:
        server: The server's side.
        crew: Has the sites.
        clients: The sites that take part, by name, asked anew each time.
        loop: Clock and waiting place.
        phases: Where the time of each phase is added up.
        options: Progress and simulated times.
    """

    stop_grace_s = STOP_GRACE_S

    def __init__(
        self,
        server: ServerSide,
        crew: Crew,
        *,
        clients: Callable[[], Mapping[str, Client]],
        loop: EventLoop,
        phases: Phases,
        options: DispatchOptions = DispatchOptions(),
    ) -> None:
        self._server = server
        self._crew = crew
        self._clients = clients
        self._loop = loop
        self._phases = phases
        self._on_progress = options.on_progress
        self._flights = (
            None if options.times is None else Flights(options.times, loop, stands=server.stands, land=self._land)
        )
        self._done = False
        self._left_behind = False
        self._workflows = threading.Thread(target=self._run_workflows, name="hansa-workflows", daemon=True)
        loop.on_resume = server.release_finished

    def run(self) -> None:
        """Run all workflows; returns when the last has ended.

        Raises:
            KeyboardInterrupt: From the keyboard; the workflows were told to stop.
        """
        try:
            self._workflows.start()
            while not self._done and not self._left_behind:
                self._step()
        except KeyboardInterrupt:
            self._server.stop("interrupted from the keyboard")
            raise
        finally:
            if not self._done and not self._left_behind:  # nobody serves the workflow any more: it must not wait
                self._server.stop("the dispatcher failed")
                self._server.cancel_tasks()
            if self._flights is not None:
                self._flights.close()
            self._workflows.join(self.stop_grace_s if self._server.abort_signal.triggered else None)

    def _run_workflows(self) -> None:
        try:
            self._server.run_workflows()
        finally:
            self._done = True
            self._loop.notify()

    def _step(self) -> None:
        seen = self._loop.generation
        self._crew.attend()
        batch = self._hand_out() if self._server.has_tasks else []
        if batch:
            # A task that stands for ever keeps the sites busy for ever: its time is up only if time passes meanwhile.
            for_ever = all(is_repeated(assignment.task_id) for assignment in batch)
            with self._loop.held(), self._own_randomness(), self._loop.flowing() if for_ever else nullcontext():
                self._collect()
            if for_ever:
                self._loop.run_due()
            return
        if self._loop.run_due() or self._done:
            return
        with self._phases.of("wait for the workflow"):
            something_may_come = self._loop.idle(seen, num_actors=1)
        if not something_may_come and not self._done:
            self._stuck()

    def _hand_out(self) -> list[Assignment]:
        clients = self._clients()
        wanted = self._server.candidates()
        batch = []
        for name in clients if wanted is None else wanted:
            client = clients.get(name)
            if client is None or not (self._flights is None or self._flights.may_ask(name)):
                continue
            with self._phases.of("hand out"):
                assignment = self._server.request(client, self._crew.props(name))
                if assignment is not None:
                    self._crew.hand_over(assignment)
                    batch.append(assignment)
        return batch

    def _own_randomness(self) -> AbstractContextManager[None]:
        """The workflow's generators stay as they are, whatever sites and callbacks draw meanwhile."""
        if self._crew.shares_randomness or self._server.draws:
            return server_randomness_untouched()
        return nullcontext()

    def _collect(self) -> None:
        """Take everything that comes of what was handed out."""
        clients = self._clients()
        with self._phases.of("sites"):
            for delivery in self._crew.deliveries():
                if self._flights is not None:
                    self._flights.launch(delivery)
                    continue
                with self._phases.of("submit"):
                    self._take(delivery, clients)

    def _land(self, answers: Sequence[Answer]) -> None:
        """Answers arrive that were under way on the virtual clock."""
        clients = self._clients()
        with self._loop.held(), self._own_randomness(), self._phases.of("submit"):
            self._take(Delivery([each for each in answers if each.assignment.site in clients]), clients)

    def _take(self, delivery: Delivery, clients: Mapping[str, Client]) -> None:
        if delivery.parts:
            self._server.take_parts(delivery)
        for answer in delivery.answers:
            site = answer.assignment.site
            self._server.submit(clients[site], answer)
            reach("aggregate.mid")
            self._on_progress(site)

    def _stuck(self) -> None:
        if self._server.abort_signal.triggered:  # told to stop, its tasks cancelled, and still waiting
            self._left_behind = True
            return
        gone = [f"{site} left ({reason})" for site, reason in sorted(self._crew.ended.items())]
        waits_for = self._server.waits_for
        what = (
            f"{waits_for}, and more can never come"
            if waits_for
            else "the workflow waits for results that can never come"
        )
        reason = "; ".join([what, *gone])
        self._server.outcome.failures.append(RunError(reason))
        self._server.stop(reason)
        self._server.cancel_tasks()
