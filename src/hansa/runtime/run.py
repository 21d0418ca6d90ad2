"""A run that has ended: its history, its model, where its time went, what went wrong."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.errors import MissingExtra
from hansa.runtime.history import RunHistory
from hansa.runtime.run_folder import HISTORY, MODEL, PROBLEMS, STATISTICS, read_lines, read_record

if TYPE_CHECKING:
    import numpy as np

    from hansa.runtime.cross_site import CrossSite


class RunStatus(Enum):
    """How a run stands."""

    RUNNING = "RUNNING"
    """Under way, or cut off with its process."""
    COMPLETED = "COMPLETED"
    """Every workflow ended as it should."""
    FAILED = "FAILED"
    """A workflow failed or a component gave up; `cause` says why."""
    ABORTED = "ABORTED"
    """Somebody asked it to stop."""


@dataclass(frozen=True)
class Problem:
    """One thing that user code raised, or that could not be done.

    Attributes:
        site: Where (`server` for the server).
        where: What was under way.
        cause: What went wrong, in one line.
    """

    site: str
    where: str
    cause: str

    def __str__(self) -> str:
        return f"{self.site}, {self.where}: {self.cause}"


@dataclass(frozen=True)
class Timings:
    """Where the time of a run went, in seconds.

    Attributes:
        start: From the call to the first workflow: building, workspaces, START_RUN.
        run: The workflows, first round to last.
        end: END_RUN, model and record.
        phases: Parts of `run`, by what was done; the rest is waiting and the workflow's own code.
        rounds: One number per round.
        virtual: How far the virtual clock came meanwhile: the time that waits, deadlines and simulated work took.
        virtual_rounds: One number per round, on the virtual clock.
    """

    start: float
    run: float
    end: float
    phases: Mapping[str, float] = field(default_factory=dict)
    rounds: tuple[float, ...] = ()
    virtual: float = 0.0
    virtual_rounds: tuple[float, ...] = ()

    @property
    def total(self) -> float:
        """From the call to the end."""
        return self.start + self.run + self.end

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the record."""
        return {
            "start": self.start,
            "run": self.run,
            "end": self.end,
            "phases": dict(self.phases),
            "rounds": list(self.rounds),
            "virtual": self.virtual,
            "virtual_rounds": list(self.virtual_rounds),
        }


@dataclass
class Run:
    """The record of a run.

    Attributes:
        id: Name of the run's folder.
        folder: Where it is kept.
        status: How it ended.
        cause: Why, where it did not complete, or completed before its last round.
        history: Rounds, sites and metrics.
        timings: Where the time went.
        problems: What user code raised, in order.
        config: What was run: job, sites, seed, versions.
    """

    id: str
    folder: Path
    status: RunStatus
    history: RunHistory
    timings: Timings
    cause: str | None = None
    problems: list[Problem] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    _model: dict[str, np.ndarray[Any, Any]] | None = None  # Any: tensors of every dtype

    @property
    def model(self) -> dict[str, np.ndarray[Any, Any]]:
        """The global model: name to array; empty where the job has none."""
        if self._model is None:
            from hansa import tensors  # a listing of runs needs no NumPy

            file = self.folder / MODEL
            self._model = dict(tensors.read(file, mmap=False)) if file.exists() else {}
        return self._model

    @property
    def model_digest(self) -> str | None:
        """SHA-256 of the global model as it is kept: equal tensors, equal digest, wherever the run took place.

        None where the job has no model. `sha256sum model.safetensors` in the run's folder gives the same.
        """
        try:
            with (self.folder / MODEL).open("rb") as file:
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except FileNotFoundError:
            return None

    def state_dict(self) -> dict[str, Any]:  # Any: torch tensors
        """The global model as torch tensors, for `load_state_dict`; every dtype as it is, bfloat16 too.

        Raises:
            MissingExtra: torch is not installed.
        """
        try:
            import torch
        except ImportError:
            raise MissingExtra("a model in torch", extra="torch") from None
        tensors = {}
        for name, array in self.model.items():
            kind = getattr(torch, array.dtype.name, None)
            if array.dtype.kind == "V" and kind is not None:  # of ml_dtypes: torch takes the bits
                bits = array.view("int16" if array.itemsize == 2 else "uint8")
                tensors[name] = torch.from_numpy(bits).view(kind)
            else:
                tensors[name] = torch.as_tensor(array)
        return tensors

    @property
    def statistics(self) -> dict[str, Any]:  # Any: JSON
        """The federated statistics, as in `statistics.json`; empty where the job has made none."""
        try:
            found: dict[str, Any] = json.loads((self.folder / STATISTICS).read_text(encoding="utf-8"))
            return found
        except FileNotFoundError:
            return {}

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Show the federated statistics: tables, histograms, correlations.

        Args:
            path: The file to write: `.html`, one page that needs nothing else; `.png`, `.svg` or `.pdf`, a figure.
                `statistics.html` in the run's folder if None.

        Returns:
            The file.

        Raises:
            MissingExtra: A figure is wanted, and matplotlib is not installed.
            ConfigError: The run has no statistics, or the file cannot be written.
        """
        from hansa.runtime.statistics_report import report_run

        return report_run(self, None if path is None else Path(path))

    def plot(self, path: str | os.PathLike[str] | None = None, *, metric: str | None = None) -> Path:
        """Draw the metrics per round, the global model's and each site's.

        Args:
            path: The PNG, SVG or PDF to write; `curves.png` in the run's folder if None.
            metric: Only this one; all if None.

        Returns:
            The file.

        Raises:
            MissingExtra: matplotlib is not installed.
            ConfigError: Nothing was reported, or no such metric.
        """
        from hansa.runtime.figures import plot_runs

        target = Path(path) if path is not None else self.folder / "curves.png"
        return plot_runs([self], target, metric=metric)

    def cross_site(self, metric: str | None = None) -> CrossSite:
        """Every model on every site's data, after an evaluation across sites.

        Args:
            metric: Which; an accuracy if there is one, else the first by name, if None.

        Raises:
            ConfigError: Nothing was measured across sites, or no such metric.
        """
        from hansa.runtime.cross_site import cross_site

        return cross_site(self.history.evaluations, metric)

    def plot_cross_site(
        self, path: str | os.PathLike[str] | None = None, *, metric: str | None = None, lower: bool | None = None
    ) -> Path:
        """Draw the same as a heat map.

        Args:
            path: The PNG, SVG or PDF to write; `cross_site.png` in the run's folder if None.
            metric: As for `cross_site`.
            lower: Whether lower is better; guessed from the metric's name if None.

        Returns:
            The file.

        Raises:
            MissingExtra: matplotlib is not installed.
            ConfigError: Nothing was measured across sites, or no such metric.
        """
        from hansa.runtime.matrix_figure import plot_matrix

        target = Path(path) if path is not None else self.folder / "cross_site.png"
        return plot_matrix(self.cross_site(metric), target, title=self.id, lower=lower)

    def summary(self) -> dict[str, Any]:
        """The run in a few plain values, for tables and `--json`."""
        last = self.history.rounds[-1] if self.history.rounds else None
        best = {
            name: self.history.series(name)[-1][1] for name in self.history.metric_names() if self.history.series(name)
        }
        return {
            "id": self.id,
            "status": self.status.value,
            "cause": self.cause,
            "job": self.config.get("job"),
            "sites": self.config.get("sites"),
            "seed": self.config.get("seed"),
            "rounds": len(self.history.rounds),
            "counted_last_round": len(last.counted) if last else 0,
            "refused": sum(len(reasons) for r in self.history.rounds for reasons in r.refused.values()),
            "problems": len(self.problems),
            "metrics": best,
            "seconds": round(self.timings.total, 3),
            "virtual_seconds": round(self.timings.virtual, 3),
            "folder": str(self.folder),
        }

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Run:
        """Read a run from its folder.

        Raises:
            ConfigError: It is no run's folder, or of another version.
        """
        path = Path(folder)
        record = read_record(path)
        history = RunHistory(now=lambda: 0.0)
        for line in read_lines(path / HISTORY):
            history.add_line(line)
        times = record.get("timings", {})
        return cls(
            id=path.name,
            folder=path,
            status=RunStatus(record.get("status", "RUNNING")),
            history=history,
            timings=Timings(
                times.get("start", 0.0),
                times.get("run", 0.0),
                times.get("end", 0.0),
                times.get("phases", {}),
                tuple(times.get("rounds", ())),
                times.get("virtual", 0.0),
                tuple(times.get("virtual_rounds", ())),
            ),
            cause=record.get("cause"),
            problems=[Problem(**line) for line in read_lines(path / PROBLEMS)],
            config=record.get("config", {}),
        )
