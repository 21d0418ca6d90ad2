"""What federating gains: one metric of sites alone, the federation, and all data in one place, over several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MOST_ROWS = 12
"""Sites that get a row of their own; of more of them, lowest, highest and mean are enough."""


@dataclass(frozen=True)
class _OfSeed:
    seed: int
    alone: dict[str, float]
    federated: float
    pooled: float

    @property
    def mean_alone(self) -> float:
        return float(np.mean(list(self.alone.values())))


class Gain:
    """One metric, measured on the same test data for every model, and repeated over seeds.

    Args:
        title: What is learnt, from which data.
        metric: What is measured, on what.
        higher_is_better: Whether a higher value is better.
        unit: What follows a value, such as `cycles`.
    """

    def __init__(self, title: str, *, metric: str, higher_is_better: bool = True, unit: str = "") -> None:
        self.title = title
        self.metric = metric
        self.higher_is_better = higher_is_better
        self.unit = unit
        self._seeds: list[_OfSeed] = []

    def add(self, *, seed: int, alone: Mapping[str, float], federated: float, pooled: float) -> None:
        """Add what one seed gave.

        Args:
            seed: The seed.
            alone: The metric of each site's own model, by the site's name.
            federated: That of the global model.
            pooled: That of a model which was trained on all sites' data in one place.

        Raises:
            ValueError: There is no site, the seed is there already, or a value is no finite number.
        """
        if not alone:
            raise ValueError("there must be at least one site alone")
        if any(each.seed == seed for each in self._seeds):
            raise ValueError(f"seed {seed} is there already")
        for name, value in {**alone, "federated": federated, "pooled": pooled}.items():
            if not np.isfinite(value):
                raise ValueError(f"seed {seed}: {self.metric} of {name} is {value}")
        named = {name: float(value) for name, value in alone.items()}
        self._seeds.append(_OfSeed(seed, named, float(federated), float(pooled)))

    def rows(self) -> dict[str, list[float]]:
        """The values over the seeds of each line of the table; each site has one, unless they are many or change.

        Raises:
            ValueError: Nothing was added.
        """
        if not self._seeds:
            raise ValueError("nothing was measured yet")
        names = list(self._seeds[0].alone)
        stay = all(list(each.alone) == names for each in self._seeds)
        if stay and len(names) <= MOST_ROWS:
            rows = {f"{name} alone": [each.alone[name] for each in self._seeds] for name in names}
        else:
            rows = {
                "lowest site alone": [min(each.alone.values()) for each in self._seeds],
                "highest site alone": [max(each.alone.values()) for each in self._seeds],
            }
        rows["mean site alone"] = [each.mean_alone for each in self._seeds]
        rows["federated"] = [each.federated for each in self._seeds]
        rows["pooled"] = [each.pooled for each in self._seeds]
        return rows

    def table(self) -> str:
        """Markdown: a line for each row, mean ± standard deviation over the seeds, and the two differences."""
        head = f"{self.metric}{f' ({self.unit})' if self.unit else ''}, {self._better} is better"
        lines = [f"| {self.title} | {head} |", "| --- | ---: |"]
        lines += [f"| {name} | {self._said(values)} |" for name, values in self._all_rows().items()]
        return "\n".join(lines) + "\n"

    def verdict(self) -> str:
        """Whether the federation does better than the mean site alone, in one line."""
        rows = self._all_rows()
        differences = rows["federated - mean site alone"]
        difference = float(np.mean(differences))
        gains = difference > 0 if self.higher_is_better else difference < 0
        seeds = sum(
            (value > 0) == self.higher_is_better and value != 0 for value in rows["federated - mean site alone"]
        )
        word = "beats the mean site alone by" if gains else "does not beat the mean site alone: it is worse by"
        return (
            f"The federated model {word} {self._number(abs(difference))}{self._unit}"
            f" (better with {seeds} of {len(self._seeds)} seeds); pooled - federated is "
            f"{self._said(rows['pooled - federated'], signed=True)}{self._unit}."
        )

    def to_dict(self) -> dict[str, Any]:  # Any: JSON
        """Everything as plain data."""
        summary = {
            name: {"mean": float(np.mean(values)), "sd": _sd(values)} for name, values in self._all_rows().items()
        }
        seeds = [
            {"seed": each.seed, "alone": each.alone, "federated": each.federated, "pooled": each.pooled}
            for each in self._seeds
        ]
        words = {"title": self.title, "metric": self.metric, "unit": self.unit}
        more = {"higher_is_better": self.higher_is_better, "verdict": self.verdict()}
        return {**words, **more, "summary": summary, "seeds": seeds}

    def save(self, folder: Path) -> Path:
        """Write `gain.json`, `gain.md` and `gain.png`.

        Returns:
            The path of the figure.

        Raises:
            MissingExtra: matplotlib is not installed.
            OSError: The folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=1)
        (folder / "gain.json").write_text(text + "\n", encoding="utf-8")
        (folder / "gain.md").write_text(f"{self.table()}\n{self.verdict()}\n", encoding="utf-8")
        from hansa.demos.gain_figure import draw

        return draw(self, folder / "gain.png")

    @property
    def _better(self) -> str:
        return "higher" if self.higher_is_better else "lower"

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""

    def _all_rows(self) -> dict[str, list[float]]:
        rows = self.rows()
        federated, pooled, alone = (np.array(rows[name]) for name in ("federated", "pooled", "mean site alone"))
        rows["pooled - federated"] = (pooled - federated).tolist()
        rows["federated - mean site alone"] = (federated - alone).tolist()
        return rows

    def _said(self, values: Sequence[float], *, signed: bool = False) -> str:
        mean, sd = float(np.mean(values)), _sd(values)
        text = f"{'+' if signed and mean >= 0 else ''}{self._number(mean)}"
        return text if sd is None else f"{text} ± {self._number(sd)}"

    def _number(self, value: float) -> str:
        largest = max(abs(each.federated) for each in self._seeds)
        return f"{value:.{3 if largest < 10 else 2}f}"


def _sd(values: Sequence[float]) -> float | None:
    """Of a sample; None for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
