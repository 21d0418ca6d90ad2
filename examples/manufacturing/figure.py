"""Predicted against true life."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from data import MOST_LIFE


def draw(true: np.ndarray, predicted: Mapping[str, np.ndarray], file: Path) -> Path:
    """Write the figure.

    Args:
        true: Cycles left of each test engine, shape (n,).
        predicted: What models say, by the model's name.
        file: The PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(predicted), 4.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(predicted), sharex=True, sharey=True))
    for axis, (name, values) in zip(axes, predicted.items(), strict=True):
        axis.plot([0, 150], [0, 150], color="0.6", linewidth=1)
        axis.axhline(MOST_LIFE, color="0.6", linewidth=1, linestyle=":")
        axis.plot(true, values, "o", markersize=4, alpha=0.7)
        error = np.sqrt(np.mean((values - true) ** 2))
        axis.set_title(f"{name}: RMSE {error:.1f} cycles")
        axis.set_xlabel("true life left (cycles)")
    axes[0].set_ylabel("predicted life left (cycles)")
    figure.savefig(file, dpi=120)
    return file
