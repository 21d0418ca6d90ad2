"""ROC curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def draw(said: Mapping[str, np.ndarray], ill: np.ndarray, file: Path) -> Path:
    """Write the figure.

    Args:
        said: The scores of each model for the patients, shape (n,), by its name.
        ill: Who is ill, shape (n,).
        file: The PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.4), layout="constrained")
    axes = figure.subplots()
    for name, values in said.items():
        order = np.argsort(-values, kind="stable")
        found, false = np.cumsum(ill[order]) / ill.sum(), np.cumsum(~ill[order]) / (~ill).sum()
        strong = name in ("federated", "pooled")
        axes.plot([0, *false], [0, *found], label=name, linewidth=2.2 if strong else 1.1, alpha=1 if strong else 0.8)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle=":")
    axes.set(xlabel="healthy patients that are called ill", ylabel="ill patients that are found")
    axes.set_title(f"{len(ill)} held-out patients of four hospitals")
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(file, dpi=120)
    return file
