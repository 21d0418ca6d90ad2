"""Curves of one or more runs; needs the extra `figures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from hansa.runtime.run import Run


def plot_runs(runs: Sequence[Run], path: Path, *, metric: str | None = None) -> Path:
    """Draw metrics per round.

    One run: the global value in front, every site's behind it. Several runs: their global values over each
    other, with the best value in the legend.

    Args:
        runs: The runs.
        path: The file to write; its ending chooses the format.
        metric: Only this one; every metric if None.

    Returns:
        The file.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: There is nothing to draw, or the file cannot be written.
    """
    names = _names(runs, metric)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    figure = Figure(figsize=(7.0, 3.4 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    for index, name in enumerate(names):
        axes = figure.add_subplot(len(names), 1, index + 1)
        if len(runs) == 1:
            _draw_one(axes, runs[0], name)
        else:
            _draw_many(axes, runs, name)
        axes.set_ylabel(name.replace("_", " "))
        axes.set_xlabel("round")
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False, fontsize="small")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write {path}: {error}", key="path") from None
    return path


def _names(runs: Sequence[Run], metric: str | None) -> list[str]:
    present = sorted({name for run in runs for name in run.history.metric_names()})
    if metric is not None:
        if metric not in present:
            raise ConfigError(f"no metric {metric!r}; there are: {', '.join(present) or 'none'}", key="metric")
        return [metric]
    if not present:
        raise ConfigError("no metric was reported in this run, so there is nothing to draw", key="run")
    return present


def _draw_one(axes: Axes, run: Run, name: str) -> None:
    sites = [s for s in run.history.sites() if run.history.series(name, s)]
    for position, site in enumerate(sites):
        points = run.history.series(name, site)
        label = f"{len(sites)} sites" if position == 0 else None
        axes.plot([p[0] for p in points], [p[1] for p in points], color="0.7", linewidth=0.9, label=label)
    points = run.history.series(name)
    axes.plot([p[0] for p in points], [p[1] for p in points], color="C0", linewidth=2, marker="o", ms=3, label="global")
    axes.set_title(run.id, fontsize="medium")


def _draw_many(axes: Axes, runs: Sequence[Run], name: str) -> None:
    for run in runs:
        points = run.history.series(name)
        if points:
            best = max(p[1] for p in points)
            axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", ms=3, label=f"{run.id}: {best:.4g}")
