"""A live line for people: round, sites done, a metric, where the time goes; silent where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from hansa.runtime.history import RunHistory

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_REFRESH_PER_SECOND = 8


class Progress:
    """Shows how a run gets on.

    Args:
        history: The record that is being filled.
        num_rounds: How many rounds the job wants, None if unknown.
        show: None: only where `stream` is a terminal.
        stream: Where to; standard error if None, so that output stays clean.
        phases: Seconds per phase, as they add up.
    """

    def __init__(
        self,
        history: RunHistory,
        num_rounds: int | None,
        *,
        show: bool | None = None,
        stream: TextIO | None = None,
        phases: Mapping[str, float] | None = None,
    ) -> None:
        self._history = history
        self._num_rounds = num_rounds
        self._stream = stream or sys.stderr
        self._show = self._stream.isatty() if show is None else show
        self._bar: RichProgress | None = None
        self._phases = phases or {}
        self._next = 0.0

    def __enter__(self) -> Self:
        if self._show:
            self._bar = _rich_bar(self._stream)
            self._bar.start()
            self._task = self._bar.add_task("start", total=self._num_rounds, detail="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bar is not None:
            self.update("")
            self._bar.stop()

    def update(self, site: str) -> None:
        """A site has answered (or, with an empty name, the run is over)."""
        if self._bar is None or not self._history.rounds:
            return
        now = time.monotonic()
        if site and now < self._next:  # nobody reads faster, and summing up costs more the longer the run
            return
        self._next = now + 1 / _REFRESH_PER_SECOND
        record = self._history.rounds[-1]
        closed = [r.seconds for r in self._history.rounds if r.seconds is not None]
        answered = len(record.counted) + len(record.refused)
        parts = [f"{answered}/{len(record.targets)} sites", *self._metric(), *self._times(closed)]
        self._bar.update(
            self._task, description=f"round {record.number}", completed=len(closed), detail=" · ".join(parts)
        )

    def _metric(self) -> list[str]:
        """The last metric by name: the server's own (`test_...`) rather than the sites' `initial_metrics`."""
        for name in self._history.metric_names()[-1:]:
            points = self._history.series(name)
            if points:
                return [f"{name} {points[-1][1]:.4f}"]
        return []

    def _times(self, closed: list[float]) -> list[str]:
        if not closed:
            return []
        phases = dict(self._phases)  # a copy: the run goes on meanwhile
        total = sum(phases.values())
        longest = sorted(phases.items(), key=lambda item: -item[1])[:2]
        return [
            f"{closed[-1] * 1e3:.1f} ms a round",
            *(f"{name} {spent / total:.0%}" for name, spent in longest if total),
        ]


def _rich_bar(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:>10}", markup=False),
        BarColumn(bar_width=30),
        TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        console=Console(file=stream),
        refresh_per_second=_REFRESH_PER_SECOND,
        transient=True,
    )
