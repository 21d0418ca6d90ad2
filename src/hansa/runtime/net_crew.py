"""The sites of a job in processes of their own, somewhere, as the dispatcher sees them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from hansa.apis.client import Client
from hansa.apis.fl_constant import ReturnCode
from hansa.errors import DecodeError, RunError
from hansa.runtime.assignments import Answer, Assignment, Delivery, failed_reply
from hansa.runtime.file_blobs import Head, Packing, Unpacking
from hansa.runtime.members import Member, Members, Standing
from hansa.runtime.memory_link import answer
from hansa.runtime.net_aux import SitesAsk
from hansa.runtime.outbox import Sent
from hansa.runtime.participants import SERVER, default_props
from hansa.runtime.recall import Recall
from hansa.runtime.recalled import Recalled
from hansa.runtime.run import RunStatus
from hansa.runtime.user_code import Failure, Mishap, OnFailure
from hansa.wire.codec import decode
from hansa.wire.message import Message

_MOST_TARGETS = 64
"""Sites that one frame of a task goes to: the first are at work while others are still asked."""

_NOT_GIVEN = "%s answers task %r (%r), which it was not given; it is refused, and further ones are not logged"

_logger = logging.getLogger("hansa.server")


class FramePipe(Protocol):
    """The way to the server process; `hansa.wire.pipe.Pipe` is one."""

    def send(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        """Send a frame; any thread."""
        ...

    def receive(self) -> tuple[Head, list[bytes]] | None:
        """Wait for a frame; None at the end."""
        ...


@dataclass(frozen=True)
class CrewTold:
    """Who is told what a crew comes across.

    Attributes:
        on_failure: User code raised.
        notify: Something came in.
        on_abort: The run is to stop: why, and how it has ended then; on the reading thread.
        on_gone: The server process is gone; on the reading thread.
    """

    on_failure: OnFailure
    notify: Callable[[], None]
    on_abort: Callable[[str, RunStatus], None]
    on_gone: Callable[[], None]


@dataclass(frozen=True)
class _Came:
    """A frame, with the message that it brought."""

    head: Head
    message: Message | DecodeError | None


class NetCrew:
    """Gives tasks to sites and takes what comes back; the rest of a site's affairs is its `Members`' and the office's.

    Args:
        pipe: The way to the server process, which passes on.
        members: The sites.
        packing: Makes frames of messages.
        told: Who is told what.
        run_number: The job's number here.
        recall: What came before this process was started anew.
    """

    shares_randomness = False

    def __init__(
        self,
        pipe: FramePipe,
        members: Members,
        *,
        packing: Packing,
        told: CrewTold,
        run_number: int = 1,
        recall: Recall | None = None,
    ) -> None:
        recall = recall or Recall()
        self.members = members
        self.aux = SitesAsk(self._ask, abort_task=self._abort_task, is_there=self._is_there)
        self.on_word: Callable[[Head, Member], None] = lambda head, member: None
        """Told of what is said of a site's part in the run: ready, started, ended, site_down, site_back."""
        self._pipe = pipe
        self._packing = packing
        self._told = told
        self._run_number = run_number
        self._inbox: SimpleQueue[_Came] = SimpleQueue()
        self._unpacking = recall.unpacking
        self._recalled = Recalled(recall)
        self._orders: list[Assignment] = []  # handed over, not yet sent
        self._due: list[Delivery] = []  # answers in the place of those that will not come
        self._acks: dict[str, list[int]] = {}  # not yet sent
        self._number = recall.start << 32  # a site may still answer under a number of a process before this one
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="hansa-listener", daemon=True)

    def listen(self) -> None:
        """Begin to read what comes."""
        self._reader.start()

    # -- the dispatcher's side ---------------------------------------------------------------------------------

    @property
    def ended(self) -> Mapping[str, str]:
        """See `Crew`."""
        return {each.name: each.reason for each in self.members if not each.is_there}

    def props(self, site: str) -> dict[str, Any]:  # Any: properties hold any value
        """See `Crew`."""
        member = self.members.find(site)
        return member.props if member is not None and member.props else default_props(site, self._run_number)

    def recalled_clients(self) -> dict[str, Client]:
        """Sites that are not there, but have answered something before this process was started anew."""
        return {each.name: each.client for each in self._recalled.absent(self.members)}

    def is_idle(self, site: str) -> bool:
        """Whether a site would take a task."""
        member = self.members.find(site)
        return member is not None and member.standing is Standing.LIVE and member.assignment is None

    def hand_over(self, assignment: Assignment) -> None:
        """See `Crew`."""
        member = self.members.find(assignment.site)
        assert member is not None
        if (kept := self._recalled.pop(assignment)) is not None:
            self._due.append(self._answered(member, kept[0], head=kept[1], message=kept[2]))
            self._told.notify()
            return
        self._number += 1
        numbered = replace(assignment, number=self._number)
        member.assignment, member.was_told_to_stop = numbered, False
        member.given.add(self._number)
        if self._orders and (self._orders[0].body is not assignment.body or len(self._orders) >= _MOST_TARGETS):
            self.flush()
        self._orders.append(numbered)

    def flush(self) -> None:
        """Send what was handed over: one frame for all sites that get the same."""
        orders, self._orders = self._orders, []
        if not orders:
            return
        body = orders[0].body
        head: Head = {
            "k": "task",
            "name": body.name,
            "timeout_s": body.timeout_s,
            "each": {each.site: {"number": each.number, "task_id": each.task_id} for each in orders},
        }
        self.send([each.site for each in orders], head, message=body.message)

    def deliveries(self) -> Iterator[Delivery]:
        """What has come; does not wait."""
        while True:
            due, self._due = self._due, []
            yield from due
            try:
                came = self._inbox.get_nowait()
            except Empty:
                if not self._due:
                    return
                continue
            if (delivery := self._handle(came)) is not None:
                yield delivery

    def attend(self) -> None:
        """See `Crew`; what comes is seen to by `deliveries`."""

    def acknowledge(self, site: str, number: int) -> None:
        """A site's result was taken: it need not be kept there any more. It is told so with the next frame it gets."""
        with self._sending:
            self._acks.setdefault(site, []).append(number)

    def send_acks(self) -> None:
        """Send the acknowledgements that no other frame has taken along."""
        if sites := list(self._acks):
            self.send(sites, {"k": "ack"})

    def stop_work(self, is_over: Callable[[str], bool]) -> None:
        """Tell sites that work on what nobody waits for any more."""
        verdicts: dict[str, bool] = {}
        for member in self.members.of(Standing.LIVE):
            if member.assignment is None or member.was_told_to_stop:
                continue
            task = member.assignment.task_id.rpartition("/")[0].rpartition("/")[0]
            if task not in verdicts:
                verdicts[task] = is_over(member.assignment.task_id)
            if verdicts[task]:
                member.was_told_to_stop = True
                self._abort_task(member.name)

    @property
    def is_working(self) -> bool:
        """Whether something may come without anybody's doing: a result, or a site that is on its way."""
        return any(
            each.standing in (Standing.EXPECTED, Standing.READY)
            or (each.standing is Standing.LIVE and each.assignment is not None)
            for each in self.members
        )

    def give_up(self, member: Member) -> None:
        """What a site that is lost had under way counts as answered, with an error."""
        assignment, member.assignment = member.assignment, None
        if assignment is not None:
            cause = f"lost: {member.reason}"
            self._told.on_failure(
                Mishap(member.name, f"task {assignment.body.name}"), Failure(RunError(cause), cause, "")
            )
            self._due.append(Delivery((_in_place(assignment, ReturnCode.COMMUNICATION_ERROR, cause),)))
            self._told.notify()

    def send(self, sites: Sequence[str], head: Head, *, message: Message | None = None) -> None:
        """Send a frame to sites."""
        parts: list[bytes] = []
        with self._sending:  # who is said to know a table must have it before anybody leaves it out
            if message is not None:
                known = [member.known for site in sites if (member := self.members.find(site)) is not None]
                said, parts = self._packing.pack(message, known)
                head = {**head, **said}
            if told := {site: {"acks": acks} for site in sites if (acks := self._acks.pop(site, None))}:
                each = head.get("each", {})
                head = {**head, "each": {site: each.get(site, {}) | told.get(site, {}) for site in each | told}}
            self._pipe.send({**head, "to": list(sites)}, parts)

    def tell(self, head: Head, message: Message | None = None) -> None:
        """Tell the server process something."""
        said, parts = self._packing.pack(message, [set()]) if message is not None else ({}, [])
        self._pipe.send({**head, **said}, parts)

    def sent(self) -> dict[str, Sent]:
        """What has left each site, as far as it is known."""
        return {each.name: each.sent for each in self.members if each.sent is not None}

    # -- aux ---------------------------------------------------------------------------------------------------

    def _is_there(self, site: str) -> bool:
        member = self.members.find(site)
        return member is not None and member.is_there

    def _ask(self, numbers: dict[str, int], message: Message, timeout_s: float) -> None:
        each = {site: {"number": number} for site, number in numbers.items()}
        self.send(list(numbers), {"k": "ask", "timeout_s": timeout_s, "each": each}, message=message)

    def _abort_task(self, site: str) -> None:
        member = self.members.find(site)
        if member is not None and member.assignment is not None:
            self.send([site], {"k": "abort_task", "number": member.assignment.number})

    # -- what comes in -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        while (frame := self._pipe.receive()) is not None:
            head, parts = frame
            site = str(head.get("site"))
            message: Message | DecodeError | None = None
            if "m" in head:
                try:
                    message = self._unpacking.setdefault(site, Unpacking()).message(head, parts)
                except DecodeError as error:
                    message = error
            match head.get("k"):
                case "reply":
                    self.aux.replies.came(site, head["number"], reply=message if isinstance(message, Message) else None)
                    continue
                case "abort":
                    self._told.on_abort(str(head.get("reason", "aborted")), RunStatus.ABORTED)
                case "fail":
                    self._told.on_abort(str(head.get("reason")), RunStatus.FAILED)
                case "site_down":
                    self.aux.replies.gone(head["site"])
            self._inbox.put(_Came(head, message))
            self._told.notify()
        self._told.on_gone()

    def _handle(self, came: _Came) -> Delivery | None:
        head, message = came.head, came.message
        site = head.get("site")
        if site is None:
            return None
        if head["k"] in ("ready", "site_back"):
            member = self.members.find_or_add(site)
        elif (found := self.members.find(site)) is None:
            return None
        else:
            member = found
        match head["k"]:
            case "result":
                return self._result(member, head, message)
            case "lost":
                assignment = self._owed(member, head)
                if assignment is None or head.get("number") != assignment.number:
                    return None  # it has got the task under another number since, from another process before this one
                return self._lost(assignment, str(head.get("cause")))
            case "ask":
                self._answer(member, head, message)
            case "failed":
                failure = Failure(RunError(head["cause"]), head["cause"], head["detail"])
                self._told.on_failure(Mishap(site, head["where"]), failure)
            case "ready" if head["error"] is None:
                head = {**head, "error": _introduced(member, message)}
        self.on_word(head, member)
        return None

    def _owed(self, member: Member, head: Head) -> Assignment | None:
        """The task that a site answers; None if it has been answered, or is none of its."""
        number, assignment = head.get("number"), member.assignment
        if assignment is not None and head.get("task_id") == assignment.task_id:
            return assignment  # whatever its number: a process before this one may have given it
        if number in member.given:  # it has come before, or another answer took its place
            self.acknowledge(member.name, number)
            self.send_acks()
        elif not member.was_refused:
            member.was_refused = True
            _logger.warning(_NOT_GIVEN, member.name, head.get("task_id"), number)
        return None

    def _result(self, member: Member, head: Head, message: Message | DecodeError | None) -> Delivery | None:
        if self._recalled.takes(member, head, message=message):
            return None
        assignment = self._owed(member, head)
        if assignment is None:
            return None
        if not isinstance(message, Message):
            return self._lost(assignment, f"the result cannot be read: {message}")
        member.assignment = None
        return self._answered(member, assignment, head=head, message=message)

    def _answered(self, member: Member, assignment: Assignment, *, head: Head, message: Message) -> Delivery:
        if head.get("ended") is not None:
            self.members.set(member, Standing.LEFT, reason=str(head["ended"]))
        return Delivery((Answer(assignment, message),))

    def _lost(self, assignment: Assignment, cause: str) -> Delivery:
        member = self.members.find(assignment.site)
        assert member is not None
        member.assignment = None
        mishap = Mishap(assignment.site, f"task {assignment.body.name}")
        self._told.on_failure(mishap, Failure(RunError(cause), cause, ""))
        return Delivery((_in_place(assignment, ReturnCode.COMMUNICATION_ERROR, cause),))

    def _answer(self, member: Member, head: Head, message: Message | DecodeError | None) -> None:
        if self.aux.server is None or not isinstance(message, Message):
            return
        try:
            reply = answer(self.aux.server, message, name=SERVER, on_failure=self._told.on_failure)
        except DecodeError as error:
            _logger.warning("a request of %s cannot be read: %s", member.name, error)
            return
        if head["number"]:
            self.send([member.name], {"k": "reply", "number": head["number"]}, message=reply)


def _introduced(member: Member, message: Message | DecodeError | None) -> str | None:
    """Take what a site says of itself; returns why it cannot."""
    member.known = set()
    try:
        props = decode(message, arrays="own") if isinstance(message, Message) else None
    except DecodeError as error:
        return f"what it says of itself cannot be read: {error}"
    if not isinstance(props, dict):
        return "it says nothing of itself"
    member.props = props
    return None


def _in_place(assignment: Assignment, code: str, cause: str) -> Answer:
    return Answer(assignment, failed_reply(assignment, code, cause))
