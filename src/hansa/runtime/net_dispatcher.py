"""The dispatcher's loop over sites in processes of their own: no batches, every site at its own pace."""

from __future__ import annotations

from collections.abc import Callable

from hansa.failpoints import reach
from hansa.runtime.assignments import Assignment, Delivery
from hansa.runtime.attendance import Attendance
from hansa.runtime.federation import DispatchOptions, Federation
from hansa.runtime.file_blobs import ReceivedBlob
from hansa.runtime.net_crew import NetCrew
from hansa.runtime.phases import Phases
from hansa.runtime.real_loop import RealTimeLoop
from hansa.runtime.server_side import ServerSide
from hansa.wire.message import Message

_ACKS_WAIT_S = 0.05
"""How long an acknowledgement waits for a frame that takes it along: a site's next task, mostly."""

STOP_GRACE_S = 3.0
"""How long a workflow that was told to stop may take before it is left behind: less than its process has."""


class NetDispatcher(Federation):
    """Runs the workflows of a server over sites in processes of their own.

    A site gets its next task as soon as the board has one for it; results are taken as they come, and requests of
    sites are answered in between. Nothing polls.

    Args:
        server: The server's side.
        crew: The way to the sites.
        attendance: Who is there.
        loop: Clock and waiting place.
        phases: Where the time of each phase is added up.
        on_progress: Called after each result with the site's name.
    """

    stop_grace_s = STOP_GRACE_S

    def __init__(
        self,
        server: ServerSide,
        crew: NetCrew,
        *,
        attendance: Attendance,
        loop: RealTimeLoop,
        phases: Phases,
        on_progress: Callable[[str], None],
    ) -> None:
        super().__init__(
            server,
            crew,
            clients=crew.members.clients,
            loop=loop,
            phases=phases,
            options=DispatchOptions(on_progress),
        )
        self._sites = crew
        self._attendance = attendance
        self._clock = loop
        self._stop_at: float | None = None
        self._acks_at: float | None = None
        loop.expects = self._expects
        loop.watch(lambda: self._stop_at, self._leave_behind)
        loop.watch(lambda: self._acks_at, self._send_acks)

    def _expects(self) -> bool:
        if self._server.abort_signal.triggered:
            return False
        return self._sites.is_working or self._attendance.is_waiting

    def _leave_behind(self) -> None:
        self._stop_at = None
        self._left_behind = True
        self.stop_grace_s = 0.0

    def _step(self) -> None:
        seen = self._clock.look()
        worked = self._take_what_came()
        if self._server.abort_signal.triggered:
            self._see_to_the_stop()
        elif self._hand_out_to_idle():
            worked = True
        if self._loop.run_due() or worked or self._done or self._left_behind:
            return
        with self._phases.of("wait for the workflow"):
            something_may_come = self._loop.idle(seen, num_actors=1)
        if not something_may_come and not self._done and not self._attendance.wait_for_lost():
            self._stuck()

    def _take_what_came(self) -> bool:
        came = False
        with self._loop.held():
            for delivery in self._sites.deliveries():
                came = True
                with self._own_randomness(), self._phases.of("submit"):  # a workflow at work may draw meanwhile
                    self._take_one(delivery)
        return came

    def _take_one(self, delivery: Delivery) -> None:
        for answer in delivery.answers:
            member = self._sites.members.find(answer.assignment.site)
            assert member is not None
            self._server.submit(member.client, answer)
            reach("aggregate.mid")
            self._acknowledge(answer.assignment)
            if isinstance(answer.message, Message) and self._server.only_reads(answer):
                for blob in answer.message.blobs:
                    if isinstance(blob, ReceivedBlob):
                        blob.let_go()
            self._on_progress(answer.assignment.site)

    def _acknowledge(self, assignment: Assignment) -> None:
        self._sites.acknowledge(assignment.site, assignment.number)
        if self._acks_at is None:
            self._acks_at = self._loop.now() + _ACKS_WAIT_S

    def _send_acks(self) -> None:
        self._acks_at = None
        self._sites.send_acks()

    def _hand_out_to_idle(self) -> bool:
        if not self._server.has_tasks:
            self._sites.stop_work(self._server.is_over)
            return False
        clients, absent = self._clients(), self._sites.recalled_clients()
        wanted = self._server.candidates()
        if wanted is None:
            wanted = sorted({*clients, *absent}) if absent else list(clients)
        handed_out = False
        for name in wanted:
            client = clients.get(name) or absent.get(name)
            if client is None or not (name in absent or self._sites.is_idle(name)):
                continue
            with self._phases.of("hand out"):
                assignment = self._server.request(client, self._crew.props(name))
                if assignment is not None:
                    self._sites.hand_over(assignment)
                    handed_out = True
        self._sites.flush()
        self._sites.stop_work(self._server.is_over)
        return handed_out

    def _see_to_the_stop(self) -> None:
        if self._stop_at is None:
            self._stop_at = self._loop.now() + self.stop_grace_s
            self._server.cancel_tasks()
        self._sites.stop_work(lambda task_id: True)
