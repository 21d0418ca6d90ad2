"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType


class Phases:
    """Seconds per phase, added up; phases may nest, and then each counts its own time only.

    Used by the dispatcher's thread alone.
    """

    def __init__(self) -> None:
        self._known: dict[str, _Phase] = {}
        self._open: list[_Phase] = []
        self._since = 0.0  # up to when time has been given to phases

    @property
    def seconds(self) -> dict[str, float]:
        """By name, for the phases that have ended at least once."""
        return {name: phase.seconds for name, phase in self._known.items() if phase.calls}

    @property
    def calls(self) -> dict[str, int]:
        """How often each ended."""
        return {name: phase.calls for name, phase in self._known.items() if phase.calls}

    def add(self, seconds: Mapping[str, float]) -> None:
        """Take over the times of another process."""
        for name, more in seconds.items():
            phase = self._known.setdefault(name, _Phase(self))
            phase.seconds += more
            phase.calls += 1

    def of(self, name: str) -> _Phase:
        """A context manager whose time goes to this phase."""
        phase = self._known.get(name)
        if phase is None:
            phase = self._known[name] = _Phase(self)
        return phase


class _Phase:
    """All stays of one name: time goes to the innermost open phase, so a phase needs nothing per stay."""

    __slots__ = ("_phases", "calls", "seconds")

    def __init__(self, phases: Phases) -> None:
        self._phases = phases
        self.seconds = 0.0
        self.calls = 0

    def __enter__(self) -> None:
        phases = self._phases
        now = time.perf_counter()
        if phases._open:
            phases._open[-1].seconds += now - phases._since
        phases._open.append(self)
        phases._since = now

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        phases = self._phases
        now = time.perf_counter()
        self.seconds += now - phases._since
        self.calls += 1
        phases._open.pop()
        phases._since = now
