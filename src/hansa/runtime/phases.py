"""Where the time of a run goes."""

from __future__ import annotations

import time
from types import TracebackType


class Phases:
    """Seconds per phase, added up; phases may nest, and then each counts its own time only.

    Used by the dispatcher's thread alone.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self._stack: list[_Phase] = []

    def of(self, name: str) -> _Phase:
        """A context manager whose time goes to this phase."""
        return _Phase(self, name)


class _Phase:
    __slots__ = ("_began", "_inner", "_name", "_phases")

    def __init__(self, phases: Phases, name: str) -> None:
        self._phases = phases
        self._name = name
        self._inner = 0.0
        self._began = 0.0

    def __enter__(self) -> None:
        self._phases._stack.append(self)
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        spent = time.perf_counter() - self._began
        phases = self._phases
        phases._stack.pop()
        if phases._stack:
            phases._stack[-1]._inner += spent
        phases.seconds[self._name] = phases.seconds.get(self._name, 0.0) + spent - self._inner
        phases.calls[self._name] = phases.calls.get(self._name, 0) + 1
