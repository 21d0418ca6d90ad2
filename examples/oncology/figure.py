"""Survival by predicted risk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from data import Patients

THIRDS = ("low", "middle", "high")
_YEAR = 365.25


def kaplan_meier(died: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days of deaths and the share that is alive after each, from (0, 1) on (Kaplan and Meier 1958)."""
    times = np.unique(days[died])
    at_risk = np.array([(days >= time).sum() for time in times])
    deaths = np.array([(died & (days == time)).sum() for time in times])
    return np.concatenate([[0], times]), np.concatenate([[1], np.cumprod(1 - deaths / at_risk)])


def draw(risk: np.ndarray, patients: Patients, file: Path) -> Path:
    """Write the figure.

    Args:
        risk: What the model says of each patient, shape (n,).
        patients: Whom nobody trained on.
        file: The PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.subplots()
    third = np.searchsorted(np.quantile(risk, [1 / 3, 2 / 3]), risk)
    for number, colour in enumerate(("#009E73", "#E69F00", "#D55E00")):
        mine = third == number
        days, alive = kaplan_meier(patients.died[mine], patients.days[mine])
        end = patients.days[mine].max()
        label = f"{THIRDS[number]} risk: {mine.sum()} patients, {patients.died[mine].sum()} deaths"
        axes.step(np.append(days, end) / _YEAR, np.append(alive, alive[-1]), where="post", color=colour, label=label)
    axes.set(xlabel="years", ylabel="alive", ylim=(0, 1.02), xlim=(0, None))
    axes.set_title("Test patients of six regions, by the federated model's risk")
    axes.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, 0.93))
    figure.savefig(file, dpi=120)
    return file
