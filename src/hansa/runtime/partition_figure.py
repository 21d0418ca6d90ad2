"""A picture of a partition: what each site has; needs the extra `figures`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hansa.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_NAMED = 30
"""More sites than this are not named one by one."""
_FULL = 0.8
"""The largest bar's or bubble's part of its cell."""


def plot_partition(
    counts: NDArray[np.integer],
    path: str | Path,
    *,
    labels: Sequence[str] | None = None,
    sites: Sequence[str] | None = None,
    title: str | None = None,
) -> Path:
    """Draw how many examples of each label each site has, and how many in all.

    On the left a bubble per site and label, its area in proportion to the number; on the right a bar per site.

    Args:
        counts: Shape (sites, labels), as `hansa.algorithms.partition.label_counts` gives them.
        path: The PNG, SVG or PDF to write.
        labels: Names of the labels; their numbers if None.
        sites: Names of the sites; `site-1`, `site-2`, ... if None.
        title: Above the picture.

    Returns:
        The file.

    Raises:
        MissingExtra: matplotlib is not installed.
        ConfigError: The numbers are no table, the names do not fit it, or the file cannot be written.
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or 0 in counts.shape or counts.min() < 0 or counts.max() == 0:
        raise ConfigError(f"must be numbers of examples of shape (sites, labels), not {counts.shape}", key="counts")
    num_sites, num_labels = counts.shape
    site_names = _names("sites", sites, [f"site-{n + 1}" for n in range(num_sites)])
    label_names = _names("labels", labels, [str(n) for n in range(num_labels)])
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    cell = min(0.42, 9.0 / max(num_sites, num_labels))  # inches
    figure = Figure(figsize=(cell * num_labels + 3.2, max(1.6, cell * num_sites) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[cell * num_labels, 1.8])
    _draw_bubbles(left, counts, label_names, cell=cell)
    _draw_sizes(right, counts)
    step = -(-num_sites // _MOST_NAMED)
    left.set_yticks(range(0, num_sites, step), site_names[::step])
    left.set_ylim(num_sites - 0.5, -0.5)  # the first site on top
    if title is not None:
        figure.suptitle(title, fontsize="medium")
    try:
        figure.savefig(path, dpi=200)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot write {path}: {error}", key="path") from None
    return Path(path)


def _names(key: str, given: Sequence[str] | None, numbered: list[str]) -> list[str]:
    names = numbered if given is None else [str(name) for name in given]
    if len(names) != len(numbered):
        raise ConfigError(f"there are {len(numbered)}, and {len(names)} names", key=key)
    return names


def _draw_bubbles(axes: Axes, counts: NDArray[np.integer], names: list[str], *, cell: float) -> None:
    num_labels = counts.shape[1]
    site, label = np.nonzero(counts)
    axes.scatter(label, site, s=(_FULL * cell * 72) ** 2 * counts[site, label] / counts.max(), linewidths=0)
    axes.set_xlim(-0.5, num_labels - 0.5)
    is_long = max(len(name) for name in names) > 3
    axes.set_xticks(
        range(num_labels), names, rotation=45 if is_long else 0, ha="right" if is_long else "center", fontsize="small"
    )
    axes.tick_params(length=0)
    axes.set_xlabel("label")
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def _draw_sizes(axes: Axes, counts: NDArray[np.integer]) -> None:
    sizes = counts.sum(axis=1)
    axes.barh(range(len(sizes)), sizes, height=_FULL, color="0.7")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False, labelleft=False)
    axes.set_xlabel("examples")
    if len(sizes) <= _MOST_NAMED:
        for row, size in enumerate(sizes):
            axes.annotate(
                f"{size:,}", (size, row), xytext=(3, 0), textcoords="offset points", va="center", fontsize="x-small"
            )
        axes.set_xlim(0, 1.3 * sizes.max())
    axes.locator_params(axis="x", nbins=3)
    axes.xaxis.set_major_formatter("{x:,.0f}")
