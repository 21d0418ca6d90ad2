"""Curves of one or more runs; needs the extra `figures`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.errors import ConfigError, MissingExtra
from hansa.runtime.comparison import (
    Group,
    Grouping,
    Point,
    check_metric,
    group_runs,
    is_lower_better,
    metric_names,
    notes_on,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hansa.runtime.run import Run

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Told apart by people who see colours differently (Okabe and Ito 2008; the last, for their yellow, Tol 2021)."""
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES = ("-", "--", ":", "-.")
_MARKS = 8
"""About how many markers a curve gets."""
_MOST_PANELS = 8
_MOST_INSIDE = 5
"""More curves than this, and the legend stands beside the axes."""
_SPECIAL = {"initial_metrics": "metric at the start of the round"}
STYLE: Any = {  # Any: matplotlib has a type of its own for the keys
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 11,
    "legend.fontsize": 9,
    "legend.title_fontsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.linewidth": 0.8,
    "pdf.fonttype": 42,  # letters stay letters, which some publishers ask for
    "svg.fonttype": "none",
}

_logger = logging.getLogger("hansa.figures")


@dataclass(frozen=True)
class FigureOptions:
    """What a figure may be told.

    Attributes:
        labels: What to call the curves: one label per run (the same label makes a group), or one per curve.
        title: Above the picture; None: the run's name for a single run, else nothing.
        grouping: Which runs count as repetitions of one another and share a curve.
        lower: Whether lower is better; None: guessed from the metric's name.
    """

    labels: Sequence[str] = ()
    title: str | None = None
    grouping: Grouping = Grouping.CONFIG
    lower: bool | None = None


def plot_runs(
    runs: Sequence[Run], path: Path, *, metric: str | None = None, options: FigureOptions = FigureOptions()
) -> Path:
    """Draw metrics per round, a panel for each.

    One run: the global value in front, every site's behind it. Several runs: their global values over each other, with
    the best value of each in the legend; runs that differ in their seed alone are one curve, the mean, in a band from
    the lowest to the highest. What is missing or no number is logged as a warning, in a line per run.

    Args:
        runs: The runs.
        path: The file to write; its ending chooses the format.
        metric: Only this one; every metric if None.
        options: Labels, title, grouping.

    Returns:
        The file.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: There is nothing to draw, labels do not fit, or the file cannot be written.
    """
    groups = group_runs(runs, grouping=options.grouping, labels=options.labels)
    names = _names(runs, metric)
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    is_single = len(groups) == 1 and len(groups[0].runs) == 1
    is_beside = len(groups) > _MOST_INSIDE
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.0 if is_beside else 5.6, 3.6 * len(names)), layout="constrained")
        FigureCanvasAgg(figure)
        for index, name in enumerate(names):
            axes = figure.add_subplot(len(names), 1, index + 1)
            if is_single:
                _draw_one(axes, groups[0], name)
            else:
                _draw_many(axes, groups, name, lower=options.lower)
            _finish(axes, name, legend=None if is_single else _legend_title(groups, name), is_beside=is_beside)
            for note in notes_on(groups, name):
                _logger.warning("%s", note)
        title = groups[0].label if is_single and options.title is None else options.title
        if title:
            figure.suptitle(title, fontsize=11)
        try:
            figure.savefig(path, dpi=200)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot write {path}: {error}", key="path") from None
    return path


def _names(runs: Sequence[Run], metric: str | None) -> list[str]:
    if metric is not None:
        check_metric(runs, metric)
        return [metric]
    present = metric_names(runs)
    if not present:
        raise ConfigError("no metric was reported in this run, so there is nothing to draw", key="run")
    if len(present) > _MOST_PANELS:
        left = ", ".join(present[_MOST_PANELS:])
        _logger.warning("%d metrics are too many for one picture; without: %s", len(present), left)
    return present[:_MOST_PANELS]


def _draw_one(axes: Axes, group: Group, name: str) -> None:
    [run] = group.runs
    sites = [s for s in run.history.sites() if run.history.series(name, s)]
    label = "one site" if len(sites) == 1 else f"each of the {len(sites)} sites"
    for position, site in enumerate(sites):
        values = run.history.series(name, site)
        axes.plot(
            [number for number, _ in values],
            [value for _, value in values],
            color="0.75",
            linewidth=0.8 if len(sites) <= 20 else 0.4,
            marker="." if len(values) == 1 else None,
            zorder=1,
            label=label if position == 0 else None,
        )
    points = group.points(name)
    if points:
        measured = any(name in record.metrics.get("server", {}) for record in run.history.rounds)
        _line(axes, points, 0, label="global" if measured else "global (weighted mean of the sites)")


def _draw_many(axes: Axes, groups: Sequence[Group], name: str, *, lower: bool | None) -> None:
    lower = is_lower_better(name) if lower is None else lower
    for position, group in enumerate(groups):
        points = group.points(name)
        best = group.best(name, lower=lower)
        if not points or best is None:
            continue
        num_runs = len(group.with_metric(name))
        seeds = f" ({num_runs} runs)" if num_runs > 1 else ""
        if num_runs > 1:
            axes.fill_between(
                [p.round_number for p in points],
                [p.low for p in points],
                [p.high for p in points],
                color=_COLOURS[position % len(_COLOURS)],
                alpha=0.18,
                linewidth=0,
            )
        _line(axes, points, position, label=f"{group.label}{seeds}: {best.text()}")


def _line(axes: Axes, points: Sequence[Point], position: int, *, label: str) -> None:
    every = max(1, math.ceil(len(points) / _MARKS))
    axes.plot(
        [p.round_number for p in points],
        [p.mean for p in points],
        color=_COLOURS[position % len(_COLOURS)],
        linestyle=_DASHES[position // len(_COLOURS) % len(_DASHES)],
        linewidth=1.6,
        marker=_MARKERS[position % len(_MARKERS)],
        markersize=4.5,
        markevery=(position % every, every),  # beside those of other curves, not on them
        zorder=3,
        clip_on=False,
        label=label,
    )


def _legend_title(groups: Sequence[Group], name: str) -> str:
    has_band = any(len(group.with_metric(name)) > 1 for group in groups)
    return f"best {_words(name)}" + (", mean ± sd (band: lowest to highest)" if has_band else "")


def _words(name: str) -> str:
    return _SPECIAL.get(name, name.replace("_", " "))


def _finish(axes: Axes, name: str, *, legend: str | None, is_beside: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("round")
    axes.set_ylabel(_words(name))
    axes.set_xlim(0, max(1.0, axes.get_xlim()[1]))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            **({"loc": "center left", "bbox_to_anchor": (1.0, 0.5)} if is_beside else {"loc": "best"}),
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            title=legend,
            alignment="left",
        )
