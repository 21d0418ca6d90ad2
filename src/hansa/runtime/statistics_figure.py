"""Federated statistics as a figure: a histogram for each feature; needs the extra `figures`."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.errors import ConfigError, MissingExtra
from hansa.runtime.statistics_report import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Json = Mapping[str, Any]  # Any: JSON

_COLUMNS = 4
_MOST = 40


def write_figure(statistics: Json, path: Path, *, title: str) -> None:
    """Write the figure: the features of every data set, those of one label over each other.

    Args:
        statistics: As in `statistics.json`.
        path: Its ending chooses the format.
        title: Above the picture.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: There is no histogram.
    """
    panels = [
        (name, feature, entry, dataset["by_label"])
        for name, dataset in statistics["datasets"].items()
        for feature, entry in dataset["features"].items()
        if "histogram" in entry
    ]
    if not panels:
        raise ConfigError("no site has told enough for a histogram", key="run")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    left_out = max(len(panels) - _MOST, 0)
    panels = panels[:_MOST]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.0 * columns, 2.1 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    several = len(statistics["datasets"]) > 1
    for place, (name, feature, entry, labels) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        _draw(axes, feature, entry, labels)
        axes.set_title(f"{name}: {feature}" if several else feature, fontsize=9)
        axes.tick_params(labelsize=7)
        if place == 0 and labels:
            axes.legend(fontsize=7, frameon=False)
    figure.suptitle(f"{title}, {len(statistics['sites'])} sites" + (f", {left_out} features more" if left_out else ""))
    figure.savefig(path, dpi=150)


def _draw(axes: Axes, feature: str, entry: Json, labels: Json) -> None:
    histogram = entry["histogram"]
    edges, counts, hides = histogram["edges"], histogram["counts"], histogram["sites_that_hide"]
    axes.stairs(counts, edges, fill=True, color="0.8" if labels else COLOURS[0], label="all" if labels else None)
    for colour, (key, features) in zip(COLOURS, labels.items(), strict=False):
        own = features.get(feature, {}).get("histogram")
        if own is not None:
            told = [
                nan if hidden and not n else n for n, hidden in zip(own["counts"], own["sites_that_hide"], strict=True)
            ]
            axes.stairs(told, edges, color=colour, linewidth=1.2, label=str(key))
    top = max((*counts, 1))
    hidden = [top if number else 0 for number in hides]
    axes.stairs(hidden, edges, fill=True, facecolor="none", edgecolor="0.85", hatch="////", linewidth=0, zorder=0)
