"""Runs side by side, as people read them in a terminal and as programs do."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hansa.cli.output import plain
from hansa.runtime.comparison import Group, Spread

_LEAST_NAME = 12
"""So many characters of a run's name are shown, however narrow the terminal."""

Row = dict[str, Any]  # Any: JSON


def as_rows(groups: Sequence[Group], metric: str, *, lower: bool) -> list[Row]:
    """A row per group; the best first, those without the metric last."""
    rows = [_row(group, metric, lower=lower) for group in groups]
    sign = 1.0 if lower else -1.0
    return sorted(rows, key=lambda row: (row["best"] is None, sign * (row["best"] or {"mean": 0.0})["mean"]))


def _row(group: Group, metric: str, *, lower: bool) -> Row:
    first = group.runs[0]
    return {
        "label": group.label,
        "job": first.config.get("job"),
        "runs": [run.id for run in group.runs],
        "status": sorted({run.status.value for run in group.runs}),
        "sites": len(first.config.get("sites") or first.history.sites()),
        "rounds": [len(run.history.rounds) for run in group.runs],
        "seeds": group.seeds,
        "best": _spread(group.best(metric, lower=lower)),
        "best_rounds": group.best_rounds(metric, lower=lower),
        "last": _spread(group.last(metric)),
        "seconds": statistics.fmean(run.timings.total for run in group.runs),
    }


def _spread(spread: Spread | None) -> dict[str, float | None] | None:
    return None if spread is None else {"mean": spread.mean, "sd": spread.sd}


def print_comparison(
    rows: Sequence[Row], metric: str, *, lower: bool, others: Sequence[str] = (), notes: Sequence[str] = ()
) -> None:
    """Print the table, what it is about, and what a reader should know.

    Args:
        rows: As `as_rows` gives them.
        metric: The metric.
        lower: Whether lower is better.
        others: Other metrics that there are.
        notes: Lines about gaps.
    """
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:  # for a pipe there is no edge to cut at
        console = Console(highlight=False, width=240)
    direction = "lower" if lower else "higher"
    more = f"; there are also: {', '.join(others)}" if others else ""
    console.print(plain(f"{metric} of the global model, {direction} is better{more}"), markup=False, soft_wrap=True)
    console.print(_table(rows, console.width))
    for note in notes:
        console.print(plain(note), style="yellow", markup=False, soft_wrap=True)


def _table(rows: Sequence[Row], width: int) -> Table:
    cells = [_cells(row) for row in rows]
    widths = {column: max(len(column), *(len(row[column]) for row in cells)) for column in cells[0]}
    for unneeded in ("seconds", "rounds", "sites", "last"):  # what gives way in a narrow terminal, in this order
        if _total(widths) - widths["run"] + _LEAST_NAME <= width:
            break
        del widths[unneeded]
    widths["run"] -= max(0, min(_total(widths) - width, widths["run"] - _LEAST_NAME))
    table = Table(box=None, pad_edge=False)
    for column, chars in widths.items():
        justify: Literal["left", "right"] = "left" if column in ("run", "best", "last") else "right"
        table.add_column(column, justify=justify, no_wrap=True, min_width=chars, max_width=chars)
    for row in cells:
        table.add_row(*(escape(row[column]) for column in widths))
    return table


def _total(widths: Mapping[str, int]) -> int:
    return sum(widths.values()) + 2 * (len(widths) - 1)


def _cells(row: Row) -> dict[str, str]:
    return {
        "run": plain(row["label"]),
        "sites": str(row["sites"]),
        "rounds": _span(row["rounds"]),
        "seeds": _seeds(row["seeds"]),
        "best": _text(row["best"]),
        "in round": _span(row["best_rounds"]),
        "last": _text(row["last"]),
        "seconds": f"{row['seconds']:.1f}",
    }


def _text(spread: dict[str, float] | None) -> str:
    return "-" if spread is None else Spread(spread["mean"], spread["sd"]).text()


def _span(numbers: Sequence[int]) -> str:
    if not numbers:
        return "-"
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)}-{max(numbers)}"


def _seeds(seeds: Sequence[object]) -> str:
    """Seeds as short as they can be said: `0-4`, or `0,3,7`, or how many."""
    if all(isinstance(seed, int) for seed in seeds):
        numbers = [seed for seed in seeds if isinstance(seed, int)]
        if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{numbers[0]}-{numbers[-1]}"
    listed = ",".join("?" if seed is None else str(seed) for seed in seeds)
    return listed if len(listed) <= 10 else f"{len(seeds)} seeds"
