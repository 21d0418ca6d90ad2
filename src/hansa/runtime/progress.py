"""A live line for people: round, sites done, a metric, time; silent where nobody looks."""

from __future__ import annotations

import sys
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
    """

    def __init__(
        self, history: RunHistory, num_rounds: int | None, *, show: bool | None = None, stream: TextIO | None = None
    ) -> None:
        self._history = history
        self._num_rounds = num_rounds
        self._stream = stream or sys.stderr
        self._show = self._stream.isatty() if show is None else show
        self._bar: RichProgress | None = None
        self._done = 0

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
        record = self._history.rounds[-1]
        closed = sum(1 for r in self._history.rounds if r.seconds is not None)
        answered = len(record.counted) + len(record.refused)
        detail = f"{answered}/{len(record.targets)} sites"
        for name in self._history.metric_names()[:1]:
            points = self._history.series(name)
            if points:
                detail += f" · {name} {points[-1][1]:.4f}"
        if closed and record.seconds is not None:
            detail += f" · {record.seconds * 1e3:.1f} ms a round"
        self._bar.update(self._task, description=f"round {record.number}", completed=closed, detail=detail)


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
