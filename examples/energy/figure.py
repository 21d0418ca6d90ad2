"""A well as a log analyst would draw it: some curves, the true lithology and the predicted one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from data import LOGS, Well

COLOURS = (
    "#f6d55c", "#c8b560", "#6b7a8f", "#9fb8ad", "#b78fd6", "#5aa9e6",
    "#bfe6f7", "#e8a0bf", "#d65db1", "#e07a5f", "#222222", "#8d5a3b",
)  # fmt: skip
"""One for each class, in their order."""
CURVES = (("GR", "gamma ray (API)"), ("RHOB", "density (g/cm³)"), ("RDEP", "log10 resistivity"))


def draw(well: Well, predicted: np.ndarray, classes: tuple[str, ...], file: Path) -> Path:
    """Write the figure.

    Args:
        well: The well.
        predicted: The class of each of its rows.
        classes: Their names.
        file: The PNG to write.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(1, 5, sharey=True, width_ratios=[2, 2, 2, 1, 1])
    for axis, (name, label) in zip(axes, CURVES, strict=False):
        axis.plot(well.logs[:, LOGS.index(name)], well.depth, linewidth=0.5, color="#334")
        axis.set_xlabel(label)
        axis.grid(alpha=0.3)
    extent = (0, 1, float(well.depth[-1]), float(well.depth[0]))
    for axis, rows, label in zip(axes[3:], (well.lithology, predicted), ("true", "predicted"), strict=True):
        axis.imshow(
            rows[:, None], cmap=ListedColormap(COLOURS), vmin=-0.5, vmax=11.5, aspect="auto", extent=extent,
            interpolation="nearest",
        )  # fmt: skip
        axis.set_xticks([])
        axis.set_xlabel(label)
    axes[0].set_ylim(extent[2], extent[3])
    axes[0].set_ylabel("measured depth (m)")
    right = float((well.lithology == predicted).mean())
    figure.suptitle(f"{' '.join(well.name.split())}, held out: the federated model has {right:.0%} of the rows right")
    seen = np.union1d(well.lithology, predicted)
    handles = [Patch(color=COLOURS[each], label=classes[each]) for each in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(file, dpi=120)
    return file
