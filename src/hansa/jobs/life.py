"""The life of a job: which states there are, and which may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hansa.errors import RunError


class JobState(Enum):
    """How a job on a federation stands."""

    SUBMITTED = "SUBMITTED"
    """Accepted; it waits for its turn and its sites."""
    SCHEDULED = "SCHEDULED"
    """Its sites are chosen, and room is kept for it there."""
    DEPLOYING = "DEPLOYING"
    """Its apps are on the way, its processes are starting."""
    RUNNING = "RUNNING"
    """Its workflows run."""
    WAITING = "WAITING"
    """Under way, but too few sites are there; the reason says what for, and until when."""
    PAUSED = "PAUSED"
    """At rest: nothing of it runs, and what it needs to go on is kept."""
    COMPLETED = "COMPLETED"
    """Every workflow ended as it should."""
    FAILED = "FAILED"
    """It ended without its result; the reason says why."""
    ABORTED = "ABORTED"
    """Somebody asked it to stop."""

    @property
    def is_over(self) -> bool:
        """Whether nothing comes after it."""
        return not NEXT[self]

    @property
    def is_under_way(self) -> bool:
        """Whether the job has, or may have, processes."""
        return self not in (JobState.SUBMITTED, JobState.PAUSED) and not self.is_over


_ENDS = frozenset({JobState.FAILED, JobState.ABORTED})

NEXT: Mapping[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: _ENDS | {JobState.SCHEDULED},
    # Back to the queue: a site that was chosen has left before anything was started there.
    JobState.SCHEDULED: _ENDS | {JobState.DEPLOYING, JobState.SUBMITTED},
    JobState.DEPLOYING: _ENDS | {JobState.RUNNING, JobState.WAITING, JobState.SUBMITTED},
    JobState.RUNNING: _ENDS | {JobState.WAITING, JobState.PAUSED, JobState.COMPLETED},
    # A workflow may end by itself (all it wanted has come, or its own time is over) while sites are away.
    JobState.WAITING: _ENDS | {JobState.RUNNING, JobState.PAUSED, JobState.COMPLETED},
    JobState.PAUSED: _ENDS | {JobState.SUBMITTED, JobState.RUNNING},
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.ABORTED: frozenset(),  # an aborted job never revives
}
"""What may follow each state; whatever is not in here is refused."""


@dataclass(frozen=True)
class StateChange:
    """One step in the life of a job.

    Attributes:
        state: The state from then on.
        at: When, in seconds since 1970.
        reason: Why: what it waits for, what went wrong, who asked.
    """

    state: JobState
    at: float
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data."""
        return {"state": self.state.value, "at": self.at, "reason": self.reason}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> StateChange:  # Any: JSON
        """The change that plain data describe."""
        return cls(JobState(content["state"]), float(content["at"]), content.get("reason"))


def check_step(job: str, old: JobState, new: JobState) -> None:
    """Refuse what may not follow; the same state again is a new reason, and allowed until the job is over.

    Args:
        job: The job, for the error.
        old: How it stands.
        new: How it shall stand.

    Raises:
        RunError: This state does not follow that one.
    """
    if new not in NEXT[old] and (new is not old or old.is_over):
        over = f"is over ({old.value})" if old.is_over else f"is {old.value}"
        raise RunError(f"job {job} {over} and cannot become {new.value}")
