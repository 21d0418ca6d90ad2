"""A picture of an evaluation across sites; needs the extra `figures`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.errors import ConfigError, MissingExtra
from hansa.runtime.comparison import is_lower_better
from hansa.runtime.cross_site import CrossSite, model_label
from hansa.runtime.figures import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELL = 0.62, 0.42
"""Inches."""
_ROOM_CHARS = 30
"""Of names of sites side by side; longer ones stand upright."""
_MOST_NUMBERS = 24
"""More columns than this, and no numbers stand in the cells."""


def plot_matrix(matrix: CrossSite, path: Path, *, title: str | None = None, lower: bool | None = None) -> Path:
    """Draw a heat map: models from top to bottom, the data of sites from left to right.

    Darker is better. What could not be measured is hatched.

    Args:
        matrix: The values.
        path: The file to write; its ending chooses the format.
        title: Above the picture.
        lower: Whether lower is better; None: guessed from the metric's name.

    Returns:
        The file.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: The file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    lower = is_lower_better(matrix.metric) if lower is None else lower
    width = 2.6 + max(4, len(matrix.sites)) * _CELL[0] * (1 if len(matrix.sites) <= _MOST_NUMBERS else 0.3)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 1.4 + max(3, len(matrix.models)) * _CELL[1]), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _draw(axes, matrix, lower=lower)
        if title:
            figure.suptitle(title, fontsize=11)
        try:
            figure.savefig(path, dpi=200)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot write {path}: {error}", key="path") from None
    return path


def _draw(axes: Axes, matrix: CrossSite, *, lower: bool) -> None:
    from matplotlib.patches import Rectangle

    table = [[matrix.values.get((model, site), math.nan) for site in matrix.sites] for model in matrix.models]
    finite = [value for row in table for value in row if math.isfinite(value)]
    image = axes.imshow(
        table,
        cmap="Blues_r" if lower else "Blues",
        aspect="auto",
        interpolation="nearest",
        vmin=min(finite, default=0.0),
        vmax=max(finite, default=1.0),
    )
    luminance = image.to_rgba(np.asarray(table))[..., :3] @ np.array([0.3, 0.6, 0.1])
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            if not math.isfinite(value):
                axes.add_patch(
                    Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="0.95", edgecolor="0.6", hatch="///", lw=0)
                )
            elif len(matrix.sites) <= _MOST_NUMBERS:
                is_dark = bool(luminance[row, column] < 0.5)
                axes.text(
                    column, row, _short(value), ha="center", va="center", fontsize=8, color="w" if is_dark else "k"
                )
    is_roomy = len(matrix.sites) * max(map(len, matrix.sites), default=0) <= _ROOM_CHARS
    axes.set_xticks(range(len(matrix.sites)), matrix.sites, rotation=0 if is_roomy else 90)
    axes.set_yticks(range(len(matrix.models)), [model_label(model) for model in matrix.models])
    axes.set_xlabel("measured on the data of")
    axes.set_ylabel("model")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    colours = axes.figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    colours.outline.set_visible(False)
    colours.set_label(matrix.metric.replace("_", " ") + (" (lower is better)" if lower else ""))


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"
