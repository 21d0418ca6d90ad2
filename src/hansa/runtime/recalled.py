"""Results of tasks that were given by a process before this one: they count once this one gives the same task."""

from __future__ import annotations

from dataclasses import replace

from hansa.errors import DecodeError
from hansa.runtime.assignments import Assignment
from hansa.runtime.file_blobs import Head
from hansa.runtime.members import Member, Members, Standing
from hansa.runtime.recall import Recall
from hansa.wire.message import Message

_MOST = 10_000


class Recalled:
    """Keeps them until they are asked for.

    Args:
        recall: Has those that were received before this process was started.
    """

    def __init__(self, recall: Recall) -> None:
        self._results = recall.results
        self._is_restarted = recall.start > 1

    def takes(self, member: Member, head: Head, *, message: Message | DecodeError | None) -> bool:
        """Take a result that comes only now, if it answers a task that this process has not given yet."""
        is_given = head.get("number") in member.given
        is_owed = member.assignment is not None and member.assignment.task_id == head.get("task_id")
        is_early = self._is_restarted and not is_given and not is_owed and len(self._results) < _MOST
        if is_early and isinstance(message, Message):
            self._results[str(head["task_id"])] = head, message
            return True
        return False

    def pop(self, assignment: Assignment) -> tuple[Assignment, Head, Message] | None:
        """The result of a task, if it is there: with the task as it was numbered when the site was given it."""
        kept = self._results.pop(assignment.task_id, None)
        if kept is None:
            return None
        head, message = kept
        return replace(assignment, number=int(head["number"])), head, message

    def absent(self, members: Members) -> list[Member]:
        """Sites that have answered something, and are not there to be asked."""
        if not self._results:
            return []
        found = (members.find(site) for site in sorted({str(head["site"]) for head, _ in self._results.values()}))
        return [
            each for each in found if each is not None and each.standing is not Standing.LIVE and not each.assignment
        ]
