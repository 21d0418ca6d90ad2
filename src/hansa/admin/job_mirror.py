"""What a follower knows of a job: built from the messages of `follow`, each of them counted once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.jobs.life import JobState
from hansa.jobs.store import JobRecord
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Problem, RunStatus
from hansa.runtime.run_folder import HISTORY, PROBLEMS

_STATUS = {
    JobState.COMPLETED: RunStatus.COMPLETED,
    JobState.FAILED: RunStatus.FAILED,
    JobState.ABORTED: RunStatus.ABORTED,
}


class JobMirror:
    """A job's state and its record so far.

    Args:
        record: The job as it stood at first.
    """

    def __init__(self, record: JobRecord) -> None:
        self.record = record
        self.history = RunHistory(now=lambda: 0.0)
        self.problems: list[Problem] = []
        self.offsets: dict[str, int] = {}
        """Where to go on after the connection was cut: bytes of each file that are in here already."""
        self.version = 0
        """How often something was new."""

    @property
    def status(self) -> RunStatus:
        """How it stands, in the words of a run."""
        return _STATUS.get(self.record.state, RunStatus.RUNNING)

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self.record.state.is_over

    def take(self, message: Mapping[str, Any]) -> None:  # Any: JSON
        """Take a message in; one of a kind that a newer server may send is passed over.

        Raises:
            KeyError, ValueError, TypeError: It is none.
        """
        match message.get("k"):
            case "state":
                self.record = JobRecord.from_dict(message)
            case "lines" if message["offset"] > self.offsets.get(message["file"], 0):
                for line in message["lines"]:
                    self._line(message["file"], line)
                self.offsets[message["file"]] = message["offset"]
            case _:
                return
        self.version += 1

    def _line(self, file: str, line: dict[str, Any]) -> None:  # Any: JSON
        if file == HISTORY:
            self.history.add_line(line)
        elif file == PROBLEMS:
            self.problems.append(Problem(**line))

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """The job in a few plain values, for tables and `--json`: a run's summary, and how the job stands."""
        rounds = self.history.rounds
        began, ended = self.record.started_at, self.record.ended_at
        return {
            "id": self.record.id,
            "status": self.status.value,
            "state": self.record.state.value,
            "cause": self.record.reason,
            "job": self.record.name,
            "sites": list(self.record.sites),
            "rounds": len(rounds),
            "num_rounds": self.record.num_rounds,
            "counted_last_round": len(rounds[-1].counted) if rounds else 0,
            "refused": sum(len(reasons) for r in rounds for reasons in r.refused.values()),
            "problems": len(self.problems),
            "metrics": {
                name: series[-1][1] for name in self.history.metric_names() if (series := self.history.series(name))
            },
            "seconds": None if began is None or ended is None else round(ended - began, 3),
        }
