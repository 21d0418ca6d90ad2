"""What users and we test with.

A clock that one holds in the hand, engines that offer next to nothing, and whole federations from objects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.engine import Waiter
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.signal import Signal
from hansa.jobs.build import Builder, ClientApp, ServerApp, ServerSettings
from hansa.jobs.class_policy import ClassPolicy
from hansa.runtime import server_side
from hansa.runtime.engines import Services
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.federation import Federation
from hansa.runtime.history import RunHistory
from hansa.runtime.host import HostSettings, SiteHost
from hansa.runtime.later import LaterWriter
from hansa.runtime.local_crew import LocalCrew
from hansa.runtime.memory_link import MemoryLink
from hansa.runtime.participants import SERVER, Headquarters, Place, RunParts, SiteEnd, make_server, make_site
from hansa.runtime.phases import Phases
from hansa.runtime.seeding import server_randomness_untouched
from hansa.runtime.site_factory import FoldRules
from hansa.runtime.site_side import SiteSettings, SiteSide
from hansa.runtime.user_code import Failure, Mishap
from hansa.wire.blobs import fresh

_Watch = tuple[Callable[[], float | None], Callable[[], None]]


class ManualWaiter:
    """A clock that stands still until the test moves it, and the place where a controller's blocking calls wait.

    Args:
        start: The first time, in seconds.
        jump: Whether a blocking call moves the clock itself to the next due time, so that a test needs no second
            thread. Where nothing is due it raises, instead of waiting for ever.
    """

    def __init__(self, start: float = 1000.0, *, jump: bool = False) -> None:
        self._now = start
        self._jump = jump
        self._changed = threading.Condition()
        self._watches: list[_Watch] = []
        self._acting: dict[int, Callable[[], None]] = {}
        self.num_notified = 0
        """How often somebody was told to look again."""

    def now(self) -> float:
        """The time, in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock, stopping at each due time on the way to run what is due then."""
        end = self._now + seconds
        while (due := self.next_due()) is not None and due <= end:
            self._advance_to(due)
        self._now = max(self._now, end)
        self.notify()

    def next_due(self) -> float | None:
        """The next time at which something is due; None if nothing is."""
        with self._changed:
            watches = list(self._watches)
        return min((time for time in (due() for due, _ in watches) if time is not None), default=None)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block until `condition()` is true.

        Raises:
            RuntimeError: With `jump`: it never will be, since nothing is due.
        """
        while self._jump and not condition():
            due = self.next_due()
            if due is None:
                raise RuntimeError("waits for ever: the condition does not hold and nothing is due")
            self._advance_to(due)
        with self._changed:
            self._changed.wait_for(condition)

    def notify(self) -> None:
        """Look at the conditions again."""
        with self._changed:
            self.num_notified += 1
            self._changed.notify_all()

    def watch(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        """Run `act()` when the clock is moved past `due()`."""
        with self._changed:
            self._watches.append((due, act))

    def unwatch(self, act: Callable[[], None]) -> None:
        """Stop that; waits for an `act` that runs in another thread."""
        me = threading.get_ident()
        with self._changed:
            self._watches = [watch for watch in self._watches if watch[1] != act]
            self._changed.wait_for(lambda: all(act != acting for who, acting in self._acting.items() if who != me))

    def _advance_to(self, time: float) -> None:
        self._now = max(self._now, time)
        with self._changed:
            watches = list(self._watches)
        me = threading.get_ident()
        for due, act in watches:
            own = due()
            if own is not None and own <= self._now:
                self._acting[me] = act
                try:
                    act()
                finally:
                    with self._changed:
                        del self._acting[me]
                        self._changed.notify_all()


class BareEngine:
    """An engine that offers contexts and events, and nothing else. Events are kept in `events`, in their order."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self._contexts = FLContextManager(self, "test", 1, None, None)

    def new_context(self) -> FLContext:
        """A context of this engine's only run, which is number 1."""
        return self._contexts.new_context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Keep the event's name."""
        self.events.append(event_type)


class ClockedEngine(BareEngine):
    """A bare engine with a clock of its own.

    Args:
        waiter: The clock.
    """

    def __init__(self, waiter: Waiter) -> None:
        super().__init__()
        self.waiter = waiter


@dataclass
class Outcome:
    """What a federation under test left behind.

    Attributes:
        history: Rounds, refusals and numbers.
        failures: What user code raised, as `site, what: cause`; a failed workflow among them.
        context: A context of the server, after the end: its sticky properties show what the workflow left.
    """

    history: RunHistory
    failures: list[str] = field(default_factory=list)
    context: FLContext = field(default_factory=FLContext)


def run_federation(
    workflow: Controller,
    executors: Mapping[str, Executor],
    *,
    folder: Path,
    components: Mapping[str, object] | None = None,
    tasks: Sequence[str] = ("train",),
    seed: int = 0,
) -> Outcome:
    """Run one workflow over executors that are at hand as objects: no job, no config, no record of the run.

    Everything passes through the codec, events and seeds as in `hansa.simulate`, on a virtual clock.

    Args:
        workflow: The controller.
        executors: One per site, by the site's name.
        folder: Where participants have their workspaces; nothing is written there but by components.
        components: The server's components by id.
        tasks: The tasks that the executors answer.
        seed: Of all randomness.
    """
    outcome = Outcome(RunHistory(now=perf_counter))

    def failed(mishap: Mishap, failure: Failure) -> None:
        outcome.failures.append(f"{mishap.site}, {mishap.where}: {failure.cause}")

    with closing(LaterWriter(lambda what, failure: failed(Mishap(SERVER, what), failure))) as writer:
        loop, phases, link, abort = EventLoop(), Phases(), MemoryLink(failed), Signal()
        shared = RunParts(link, abort, Builder(ClassPolicy.simulator()))
        clients = {name: Client(name, "") for name in sorted(executors)}

        def make(name: str, spare: SiteSide | None = None) -> SiteSide:
            app = ClientApp({}, {}, {}, [executors[name]], dict.fromkeys(tasks, executors[name]))
            settings = SiteSettings(name, seed, failed, phases)
            return make_site(settings, app, lambda site: Place.of(folder, site), shared=shared)

        settings = HostSettings(seed, abort, fresh, failed)
        host = SiteHost(list(clients), make, open_fold=FoldRules(shared.builder).open, settings=settings)

        def live() -> dict[str, Client]:
            return {name: client for name, client in clients.items() if name not in host.ended}

        server, server_end = make_server(
            server_side.ServerSettings(seed, failed, phases),
            _server_app(workflow, components or {}),
            Place.of(folder, SERVER),
            shared=shared,
            office=Headquarters(Services(loop, outcome.history, writer), "test", lambda: list(live().values())),
        )
        link.join(server_end, lambda name: SiteEnd(site) if (site := host.find(name)) else None)
        host.make_all()
        with server_randomness_untouched():
            server.start()
            host.start()
            Federation(server, LocalCrew(host), clients=live, loop=loop, phases=phases).run()
            host.end()
            server.end()
    outcome.failures += [str(error) for error in server.outcome.failures if str(error) not in outcome.failures]
    outcome.context = server.engine.new_context()
    return outcome


def _server_app(workflow: Controller, components: Mapping[str, object]) -> ServerApp:
    handlers = [part for part in components.values() if isinstance(part, FLComponent)]
    return ServerApp(components, {}, {}, [*handlers, workflow], [("workflow", workflow)], ServerSettings())
