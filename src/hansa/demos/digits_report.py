"""Alone, federated, pooled: the comparison that says whether a federation is worth it, over several seeds."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hansa.demos.digits import ALPHA, BATCH, LOCAL_EPOCHS, NUM_HIDDEN, NUM_SITES, RATE, digits_job, load_digits
from hansa.demos.small_network import Images, Labels, accuracy, initial_weights, train_epoch
from hansa.errors import MissingExtra
from hansa.runtime.simulator import simulate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROUNDS = 40
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Report:
    """Test accuracies; the first axis is the seed.

    Attributes:
        seeds: The seeds.
        alone: Each site by itself, shape (seeds, sites).
        federated: The global model after each round, shape (seeds, rounds).
        pooled: One model on all data, shape (seeds,).
        counts: Examples per site and digit of the first seed, shape (sites, 10).
        run_folders: Where the federated runs are kept.
        seconds: How long everything took.
    """

    seeds: tuple[int, ...]
    alone: NDArray[np.float64]
    federated: NDArray[np.float64]
    pooled: NDArray[np.float64]
    counts: NDArray[np.int64]
    run_folders: tuple[str, ...]
    seconds: float

    def rows(self) -> list[tuple[str, float, float]]:
        """The table: who, mean over seeds, standard deviation over seeds."""
        lone = [(f"site-{i + 1} alone", self.alone[:, i]) for i in range(self.alone.shape[1])]
        levels = [
            *lone,
            ("mean site alone", self.alone.mean(axis=1)),
            ("best site alone", self.alone.max(axis=1)),
            ("federated", self.federated[:, -1]),
            ("pooled (nobody may)", self.pooled),
        ]
        return [(who, float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for who, v in levels]

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data."""
        return {
            "data": "scikit-learn digits, 1,797 images, a quarter for testing",
            "sites": int(self.alone.shape[1]),
            "alpha": ALPHA,
            "rounds": int(self.federated.shape[1]),
            "seeds": list(self.seeds),
            "metric": "accuracy on the test images",
            "table": [{"who": who, "mean": mean, "sd": sd} for who, mean, sd in self.rows()],
            "alone": self.alone.tolist(),
            "federated_per_round": self.federated.tolist(),
            "pooled": self.pooled.tolist(),
            "examples_per_site_and_digit": self.counts.tolist(),
            "runs": list(self.run_folders),
            "seconds": round(self.seconds, 2),
        }


def check_extras() -> None:
    """Look for the optional packages, before minutes go into what could not be drawn in the end.

    Raises:
        MissingExtra: One is not installed.
    """
    if not all(importlib.util.find_spec(name) for name in ("sklearn", "matplotlib")):
        raise MissingExtra("the digits demo", extra="demo")


def compare(
    seeds: Sequence[int] = SEEDS,
    *,
    rounds: int = ROUNDS,
    home: Path | None = None,
    progress: bool | None = None,
    on_seed: Callable[[int], None] = lambda seed: None,
) -> Report:
    """Train alone, federated and pooled with the same network, steps per example and rate.

    Args:
        seeds: One comparison per seed: split, initial weights, order of examples.
        rounds: Rounds of the federation; the others train `rounds` x local epochs.
        home: The folder that keeps runs.
        progress: See `simulate`.
        on_seed: Told before each seed.
    """
    began = time.perf_counter()
    alone, federated, pooled, folders = [], [], [], []
    for seed in seeds:
        on_seed(seed)
        digits = load_digits(seed)
        # In this process: the sites' work is so small that starting processes would take longer.
        run = simulate(digits_job(seed, rounds), NUM_SITES, workers=0, seed=seed, home=home, progress=progress)
        federated.append([value for _, value in run.history.series("test_accuracy", "server")])
        folders.append(str(run.folder))
        alone.append([_train_by_itself(part, digits.test, seed, rounds) for part in digits.sites])
        pooled.append(_train_by_itself(digits.pooled, digits.test, seed, rounds))
    counts = [np.bincount(labels, minlength=10) for _, labels in load_digits(seeds[0]).sites]
    return Report(
        tuple(seeds),
        np.array(alone),
        np.array(federated),
        np.array(pooled),
        np.array(counts),
        tuple(folders),
        time.perf_counter() - began,
    )


def _train_by_itself(part: tuple[Images, Labels], test: tuple[Images, Labels], seed: int, rounds: int) -> float:
    weights = initial_weights(64, NUM_HIDDEN, 10, seed)
    rng = np.random.default_rng(seed)
    for _ in range(rounds * LOCAL_EPOCHS):
        train_epoch(weights, *part, rate=RATE, batch=BATCH, rng=rng)
    return accuracy(weights, *test)


def write_json(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.write_text(json.dumps(report.as_dict(), indent=1) + "\n", encoding="utf-8")


def draw(report: Report, path: Path) -> None:
    """Draw the split, the global model per round with the other levels, and the sites.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a figure", extra="figures") from None
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3, width_ratios=[1, 1.25, 1.1])
    _draw_split(axes[0], report)
    _draw_rounds(axes[1], report)
    _draw_sites(axes[2], report)
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)


def _draw_split(axes: Axes, report: Report) -> None:
    sites = np.arange(len(report.counts))
    left = np.zeros(len(sites))
    for digit in range(10):
        axes.barh(sites, report.counts[:, digit], left=left, color=f"C{digit}", label=str(digit))
        left += report.counts[:, digit]
    axes.set_yticks(sites, [f"site-{i + 1}" for i in sites])
    axes.invert_yaxis()
    axes.set_xlabel("training images")
    axes.set_title(f"Who has which digits (Dirichlet {ALPHA}, seed {report.seeds[0]})", fontsize="medium")
    axes.legend(ncols=10, fontsize="x-small", frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.12),
                handlelength=0.9, handletextpad=0.3, columnspacing=0.7)  # fmt: skip


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard deviation over the seeds, as in the table."""
    spread: NDArray[np.float64] = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    return spread


def _draw_rounds(axes: Axes, report: Report) -> None:
    rounds = np.arange(1, report.federated.shape[1] + 1)
    mean, spread = report.federated.mean(axis=0), _spread(report.federated)
    axes.axhline(report.pooled.mean(), color="0.3", linestyle="--", label=f"pooled {report.pooled.mean():.3f}")
    axes.plot(rounds, mean, color="C0", linewidth=2, label=f"federated {mean[-1]:.3f}")
    axes.fill_between(rounds, mean - spread, mean + spread, color="C0", alpha=0.2, linewidth=0)
    best, typical = report.alone.max(axis=1).mean(), report.alone.mean()
    axes.axhline(best, color="C1", linestyle=":", label=f"best site alone {best:.3f}")
    axes.axhline(typical, color="C3", linestyle=":", label=f"mean site alone {typical:.3f}")
    axes.set_xlabel("round")
    axes.set_ylabel("test accuracy")
    axes.set_title(f"Global model (mean ± sd of {len(report.seeds)} seeds)", fontsize="medium")
    axes.legend(fontsize="small", frameon=False, loc="lower right")


def _draw_sites(axes: Axes, report: Report) -> None:
    sites = np.arange(report.alone.shape[1])
    axes.bar(sites, report.alone.mean(axis=0), yerr=_spread(report.alone), color="C3", alpha=0.75, capsize=3)
    level = report.federated[:, -1].mean()
    axes.axhline(level, color="C0", linewidth=2)
    axes.annotate("federated", (sites[-1] + 0.45, level), ha="right", va="bottom", color="C0", fontsize="small")
    axes.set_xticks(sites, [f"site-{i + 1}" for i in sites], rotation=45, fontsize="small")
    axes.set_ylabel("test accuracy alone")
    axes.set_ylim(0, 1.05)
    axes.set_title("What each site reaches by itself", fontsize="medium")
