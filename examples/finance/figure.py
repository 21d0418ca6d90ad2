"""Precision and recall."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from model import precision_and_recall


def draw(said: Mapping[str, np.ndarray], fraud: np.ndarray, weight: float, file: Path) -> Path:
    """Write the figure.

    Args:
        said: The scores of each model for the payments, shape (n,), by its name.
        fraud: Which of them are frauds, shape (n,).
        weight: How many genuine payments each one stands for.
        file: The PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, values in said.items():
        precision, recall = precision_and_recall(values, fraud, weight)
        strong = name in ("federated", "pooled")
        axes.plot(recall, precision, label=name, linewidth=2.2 if strong else 1.0, alpha=1 if strong else 0.7)
    axes.set(xlabel="frauds that are found", ylabel="alarms that are frauds", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"The last payments in time, {fraud.sum()} frauds, at the true rate")
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(file, dpi=120)
    return file
