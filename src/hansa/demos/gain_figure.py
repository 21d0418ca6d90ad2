"""The figure of a gain: a line for each row of its table, a point for each seed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.errors import MissingExtra

if TYPE_CHECKING:
    from hansa.demos.gain import Gain

COLOURS = {"mean site alone": "#4c566a", "federated": "#d1495b", "pooled": "#2e86ab"}
OF_A_SITE = "#a3acb9"


def draw(gain: Gain, file: Path) -> Path:
    """Write the figure; returns its path.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    rows = gain.rows()
    figure = Figure(figsize=(7, 1.2 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (name, values) in enumerate(rows.items()):
        colour = COLOURS.get(name, OF_A_SITE)
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.45, markersize=5, markeredgewidth=0)
        axes.plot(np.mean(values), place, "|", color=colour, markersize=16, markeredgewidth=2.5)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    unit = f" ({gain.unit})" if gain.unit else ""
    better = "higher" if gain.higher_is_better else "lower"
    axes.set_xlabel(f"{gain.metric}{unit}\n{better} is better; a point for each seed, a bar for their mean", fontsize=9)
    axes.set_title(gain.title, fontsize=11, loc="left")
    figure.savefig(file, dpi=130)
    return file
