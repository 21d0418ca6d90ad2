"""Finished runs on disk, and what is made of them: one table and one figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from configurations import FULL, NAMES, NUM_SITES, PUBLISHED, Configuration, Preset

from hansa.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Result:
    """One configuration with one seed.

    Attributes:
        configuration: Its name.
        seed: The seed.
        settings: Everything that it was made with, apart from the seed.
        accuracy: Of the global model at the start of each round.
        final: Of the model that the last round left.
        seconds: How long the run took.
        run: The folder that keeps it.
    """

    configuration: str
    seed: int
    settings: dict[str, Any]
    accuracy: list[float]
    final: float
    seconds: float
    run: str

    @property
    def curve(self) -> list[float]:
        """Round by round, with the final one at the end."""
        return [*self.accuracy, self.final]


def settings_of(preset: Preset) -> dict[str, Any]:
    """What must be the same for results to stand in one table; the device need not."""
    settings = asdict(preset)
    del settings["training"]["device"]
    return settings


class Results:
    """The finished runs of a folder, a file for each, so that an interrupted comparison goes on where it was.

    Args:
        folder: Holds `results/`, and gets table and figure.
        preset: The settings of this comparison.
    """

    def __init__(self, folder: Path, preset: Preset) -> None:
        self._folder = folder
        self._settings = settings_of(preset)

    def find(self, configuration: str, seed: int) -> Result | None:
        """The result of a finished run; None if there is none.

        Raises:
            ConfigError: It was made with other settings, or is no result.
        """
        file = self._file(configuration, seed)
        return self._read(file) if file.exists() else None

    def keep(self, result: Result) -> None:
        """Write a result, whole or not at all."""
        file = self._file(result.configuration, result.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_suffix(".tmp")
        half.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
        half.replace(file)

    def all(self) -> dict[str, list[Result]]:
        """All finished runs by configuration, in the order of the table, seeds ascending."""
        found: dict[str, list[Result]] = {}
        for file in sorted((self._folder / "results").glob("*.json")):
            result = self._read(file)
            found.setdefault(result.configuration, []).append(result)
        order = sorted(found, key=lambda name: (NAMES.index(name) if name in NAMES else len(NAMES), name))
        return {name: sorted(found[name], key=lambda result: result.seed) for name in order}

    def write(self) -> list[Path]:
        """Write `table.md`, `table.json` and `accuracy.png` of whatever is finished; returns the files."""
        results = self.all()
        markdown, table, figure = (self._folder / name for name in ("table.md", "table.json", "accuracy.png"))
        rows = [summary(of_one) for of_one in results.values()]
        compare = {**_flat(self._settings), "fast": False} == _flat(settings_of(FULL))
        markdown.write_text(as_markdown(rows, compare=compare), encoding="utf-8")
        record = {
            "data": "CIFAR-10",
            "metric": "accuracy of the global model on the test images",
            "sites": NUM_SITES,
            "settings": self._settings,
            "table": rows,
            "curves": {name: {each.seed: each.curve for each in of_one} for name, of_one in results.items()},
        }
        table.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        draw(results, figure)
        return [markdown, table, figure]

    def _file(self, configuration: str, seed: int) -> Path:
        return self._folder / "results" / f"{configuration}-seed-{seed}.json"

    def _read(self, file: Path) -> Result:
        try:
            result = Result(**json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"is no result of this example: {error}", file=str(file)) from None
        for key, value in _flat(self._settings).items():
            if (made := _flat(result.settings).get(key)) != value:
                raise ConfigError(f"was made with {key} {made}, not {value}: give another --out", file=str(file))
        return result


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    inner = settings.get("training", {})
    return {**{key: value for key, value in settings.items() if key != "training"}, **inner}


def summary(results: Sequence[Result]) -> dict[str, Any]:
    """A line of the table: mean and standard deviation over the seeds, beside the published figure."""
    finals = np.array([result.final for result in results])
    bests = np.array([max(result.curve) for result in results])
    name = results[0].configuration
    published = PUBLISHED.get(name)
    return {
        "configuration": name,
        "label": Configuration.named(name).label,
        "seeds": [result.seed for result in results],
        "final": _mean_and_sd(finals),
        "best": _mean_and_sd(bests),
        "published": published,
        "minutes": round(float(np.mean([result.seconds for result in results])) / 60, 2),
    }


def _mean_and_sd(values: np.ndarray[Any, Any]) -> dict[str, float | None]:
    sd = round(float(values.std(ddof=1)), 4) if len(values) > 1 else None
    return {"mean": round(float(values.mean()), 4), "sd": sd}


def as_markdown(rows: Sequence[dict[str, Any]], *, compare: bool) -> str:
    """The table as Markdown; the published figures only beside a run of the published settings."""
    head = ["configuration", "accuracy after the last round", "best round", "seeds", "minutes per run"]
    if compare:
        head[3:3] = ["FLARE 2.0", "difference"]
    lines = [head, ["---", *["---:" for _ in head[1:]]]]
    for row in rows:
        cells = [row["label"], _shown(row["final"]), _shown(row["best"])]
        if compare:
            known = row["published"]
            cells += ["-", "-"] if known is None else [f"{known:.4f}", f"{row['final']['mean'] - known:+.4f}"]
        lines.append([*cells, ", ".join(map(str, row["seeds"])), f"{row['minutes']:.1f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _shown(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.4f}" if value["sd"] is None else f"{value['mean']:.4f} ± {value['sd']:.4f}"


def draw(results: dict[str, list[Result]], path: Path) -> None:
    """Draw the mean over the seeds per round, and the range between the seeds; the central model as a level.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ImportError:
        raise MissingExtra("the figure", extra="figures") from None
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for position, (name, of_one) in enumerate(results.items()):
        _draw_one(axes, Configuration.named(name), np.array([each.curve for each in of_one]), f"C{position % 10}")
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy of the global model")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        title="configuration: best value", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize="small"
    )
    figure.savefig(path, dpi=200)


def _draw_one(axes: Axes, configuration: Configuration, curves: np.ndarray[Any, Any], color: str) -> None:
    best = curves.max(axis=1).mean()
    label = f"{configuration.label}: {best:.4f}"
    if configuration.alpha is None:  # its rounds are epochs over all images
        axes.axhline(best, color="0.4", linestyle="--", linewidth=1.2, label=label)
        return
    rounds = np.arange(curves.shape[1])
    axes.plot(rounds, curves.mean(axis=0), color=color, linewidth=1.5, label=label)
    if len(curves) > 1:
        axes.fill_between(rounds, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.15, linewidth=0)
