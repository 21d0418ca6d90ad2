"""What goes between the dispatcher and whoever holds the sites: tasks one way, answers the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from hansa.apis.engine import RoundKey
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.folding import FoldedPart, FoldPlan
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.wire.codec import Encoder, Message, decode


@dataclass(frozen=True, eq=False, slots=True)
class TaskBody:
    """A task as it is the same for many sites.

    Attributes:
        name: The task's name.
        message: All of it but the id.
        plan: How results may be folded where they come from; None where each must arrive whole.
        timeout_s: How long a site may work on it, in real seconds; 0 for as long as it likes.
        done: Targets whose part of the plan's sum was received before.
    """

    name: str
    message: Message
    plan: FoldPlan | None = None
    timeout_s: float = 0.0
    done: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Assignment:
    """A task on its way to one site.

    Attributes:
        site: Whose it is.
        task_id: The site's part of the task.
        body: The task.
        number: What the link calls it.
    """

    site: str
    task_id: str
    body: TaskBody
    number: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What a site gives back.

    Attributes:
        assignment: What it was asked.
        message: The result; where it has no tensors left and nothing else that JSON lacks, its plain dicts.
        folded: Whether its tensors are in a part of the sum that came with or before it.
        state: What the site's components know now, if some of them keep something.
        ran_out: Whether the task failed for lack of device memory.
    """

    assignment: Assignment
    message: Message | dict[str, Any]
    folded: bool = False
    state: Message | None = None
    ran_out: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class Delivery:
    """Answers that are received together, and the parts of the sum that their tensors are in.

    Attributes:
        answers: In the order of the tasks.
        plan: What the parts belong to.
        parts: Nodes of the fold's tree.
    """

    answers: Sequence[Answer]
    plan: FoldPlan | None = None
    parts: Sequence[FoldedPart] = field(default=())


class Crew(Protocol):
    """Whoever holds the sites: this process, or workers."""

    @property
    def ended(self) -> Mapping[str, str]:
        """Sites whose part of the run is over, and why."""
        ...

    @property
    def shares_randomness(self) -> bool:
        """Whether sites draw from the random generators of this process."""
        ...

    def props(self, site: str) -> dict[str, Any]:  # Any: properties hold any value
        """A site's public properties, values of their own."""
        ...

    def hand_over(self, assignment: Assignment) -> None:
        """Take a task for one of the sites; from now on it can be aborted."""
        ...

    def attend(self) -> None:
        """See to what came in while nothing was handed over; does not wait."""
        ...

    def deliveries(self) -> Iterator[Delivery]:
        """Work on everything handed over; ends when all that can come has come."""
        ...


def failed_result(assignment: Assignment, code: str, cause: str) -> Shareable:
    """What stands for a result that did not come, or that is none."""
    task = decode(assignment.body.message, arrays="readonly")
    reply = make_reply(code)
    reply.set_header(RoundKey.ERROR, cause)
    reply.set_header(ReservedHeaderKey.TASK_NAME, assignment.body.name)
    reply.set_header(ReservedHeaderKey.TASK_ID, assignment.task_id)
    reply.set_cookie_jar(dict(task.get_cookie_jar() or {}))
    reply.set_peer_props({ReservedKey.IDENTITY_NAME: assignment.site})
    return reply


def failed_reply(assignment: Assignment, code: str, cause: str) -> Message:
    """The same as a message."""
    return Encoder().encode(failed_result(assignment, code, cause))
