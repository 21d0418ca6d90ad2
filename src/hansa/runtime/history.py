"""What happened in a run, round by round: who was asked, who counted, who was refused and why, which numbers."""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RoundRecord:
    """One round.

    Attributes:
        number: As the workflow counts, from its start round.
        targets: The sites that were asked, sorted.
        counted: Site to weight, for each result that is part of the model.
        refused: Site to reasons, for each result that is not.
        metrics: Site (or `server`) to name to value; the last value wins where a site reports steps.
        seconds: How long the round took on the wall clock, once closed.
        virtual_seconds: The same on the virtual clock, which deadlines and simulated times go by.
    """

    number: int
    targets: list[str] = field(default_factory=list)
    counted: dict[str, float] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float | None = None
    virtual_seconds: float | None = None

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """A copy as plain data."""
        return {
            "number": self.number,
            "targets": list(self.targets),
            "counted": dict(self.counted),
            "refused": {site: list(reasons) for site, reasons in self.refused.items()},
            "metrics": {site: dict(values) for site, values in self.metrics.items()},
            "seconds": self.seconds,
            "virtual_seconds": self.virtual_seconds,
        }


@dataclass(frozen=True)
class Scalar:
    """One number that somebody reported, with the step it belongs to."""

    round_number: int | None
    site: str
    name: str
    value: float
    step: int | None


@dataclass(frozen=True)
class Evaluation:
    """How a model did on the data of a site.

    Attributes:
        model: Whose it is: a site, or `SRV_` and the name of one of the server's.
        site: Whose data.
        metrics: Values by name; empty where it could not be measured.
        error: Why it could not be.
    """

    model: str
    site: str
    metrics: dict[str, float]
    error: str | None = None


class RunHistory:
    """The history of one run; filled by workflows and receivers, read by people and plots.

    Implements the port `hansa.apis.engine.History`. Safe to use from any thread.

    Args:
        on_line: Called with each record as plain data, for the run's folder.
        now: Wall-clock seconds.
        clock: Seconds of the virtual clock; None: there is none.
        most_rounds: How many rounds stay in memory, where nobody reads them here; None: all.
    """

    def __init__(
        self,
        on_line: Callable[[dict[str, Any]], None] | None = None,  # Any: a line is JSON
        *,
        now: Callable[[], float],
        clock: Callable[[], float] | None = None,
        most_rounds: int | None = None,
    ) -> None:
        self.rounds: list[RoundRecord] = []
        self.scalars: list[Scalar] = []
        self.evaluations: list[Evaluation] = []
        """Models on the data of sites, as they came."""
        self.early_end: tuple[int, str] | None = None
        """The round after which the training ended although there might be more, and why."""
        self.seconds, self.virtual_seconds = array("d"), array("d")
        """How long each round took, on both clocks, of those that were closed."""
        self._on_line = on_line
        self._most_rounds = most_rounds
        self._num_dropped = 0
        self._now = now
        self._clock = clock
        self._opened_at = self._virtually_opened_at = 0.0
        self._taken: list[dict[str, Any]] = []  # Any: lines are JSON; those that were read
        self._num_taken = 0
        self._num_written = 0
        self._lock = threading.RLock()

    # -- filled by the run -------------------------------------------------------------------------------------

    def round_opened(self, round_number: int, targets: list[str]) -> None:
        """A round began, with these sites as its targets."""
        with self._lock:
            self.rounds.append(RoundRecord(round_number, list(targets)))
            self._drop_old()
            self._opened_at = self._now()
            if self._clock is not None:
                self._virtually_opened_at = self._clock()

    def result_counted(self, round_number: int, site: str, *, weight: float) -> None:
        """A site's result is part of the round's aggregate."""
        with self._lock:
            self._round(round_number).counted[site] = float(weight)

    def result_refused(self, round_number: int, site: str, *, reason: str) -> None:
        """A site's result is not part of the aggregate, and why."""
        with self._lock:
            self._round(round_number).refused.setdefault(site, []).append(reason)
            self._line({"refused": {"round": round_number, "site": site, "reason": reason}})

    def scalar(self, round_number: int | None, site: str, *, name: str, value: float, step: int | None = None) -> None:
        """A site (or `server`) reports a number."""
        value, step = float(value), None if step is None else int(step)  # plain numbers: the record is JSON
        with self._lock:
            if self._most_rounds is None:
                self.scalars.append(Scalar(round_number, site, name, value, step))
            if round_number is not None:
                self._round(round_number).metrics.setdefault(site, {})[name] = value
            if step is not None or round_number is None:
                self._line(
                    {"scalar": {"round": round_number, "site": site, "name": name, "value": value, "step": step}}
                )

    def round_closed(self, round_number: int) -> None:
        """The round's model is committed."""
        with self._lock:
            record = self._round(round_number)
            if record.targets:  # and sites that came while it was open
                record.targets += sorted({*record.counted, *record.refused}.difference(record.targets))
            record.seconds = self._now() - self._opened_at
            if self._clock is not None:
                record.virtual_seconds = self._clock() - self._virtually_opened_at
            self._note_times(record)
            self._line({"round": record.as_dict()})

    def evaluated(self, model: str, site: str, *, metrics: Mapping[str, float], error: str | None = None) -> None:
        """A model was measured on a site's data, or why that could not be."""
        found = Evaluation(model, site, {str(name): float(value) for name, value in metrics.items()}, error)
        with self._lock:
            self.evaluations.append(found)
            self._line({"evaluation": vars(found)})

    def ended_early(self, round_number: int, *, reason: str) -> None:
        """No round comes after this one although there might be more, and why."""
        with self._lock:
            self.early_end = round_number, reason
            self._line({"early_end": {"round": round_number, "reason": reason}})

    def finish(self) -> None:
        """The run is over: rounds that never closed are written down as they stand."""
        with self._lock:
            for record in self.rounds:
                if record.seconds is None:
                    self._line({"round": record.as_dict()})

    # -- read by components -----------------------------------------------------------------------------------

    def reported(self, round_number: int, name: str) -> dict[str, float]:
        """What was reported under a name in a round, by site (or `server`); the last value of each."""
        with self._lock:
            return {site: values[name] for site, values in self._round(round_number).metrics.items() if name in values}

    def metric(self, round_number: int, name: str) -> float | None:
        """A metric of a round's global model; see `series`."""
        with self._lock:
            return _value(self._round(round_number), name, None)

    # -- read by people ----------------------------------------------------------------------------------------

    def metric_names(self) -> list[str]:
        """Every metric that anybody reported, sorted."""
        return sorted({name for r in self.rounds for metrics in r.metrics.values() for name in metrics})

    def series(self, name: str, site: str | None = None) -> list[tuple[int, float]]:
        """A metric per round.

        Args:
            name: The metric.
            site: One site's values (`server` for the server's). None: the server's where it reported the
                metric in that round, else the mean over the sites whose value is finite, weighted as they were
                counted.

        Returns:
            Pairs of round number and value, for the rounds that have one.
        """
        points = []
        for record in self.rounds:
            value = _value(record, name, site)
            if value is not None:
                points.append((record.number, value))
        return points

    def sites(self) -> list[str]:
        """Everybody who took part, sorted; without the server."""
        names = {site for r in self.rounds for site in (*r.targets, *r.counted, *r.refused, *r.metrics)}
        return sorted(names - {"server"})

    @property
    def num_lines(self) -> int:
        """How many lines it consists of: those that were written, or taken up and not taken back."""
        return self._num_taken + self._num_written

    def add_line(self, line: dict[str, Any]) -> None:
        """Take up again what `on_line` was given (used when a run is read from its folder)."""
        if "resumed" in line:
            self._go_back(line["resumed"]["lines"])
        else:
            self._taken.append(line)
            self._num_taken += 1
            self._add(line)

    def forget_lines(self) -> None:
        """All that was read is taken up, and nothing of it will be taken back: the lines themselves need not stay."""
        with self._lock:
            self._taken = []
            self._drop_old()

    def _go_back(self, num_lines: int) -> None:
        """The run was interrupted, and went on from a commit: what came after it comes again."""
        kept = self._taken[:num_lines]
        self.rounds, self.scalars, self.evaluations, self.early_end = [], [], [], None
        self._taken, self._num_taken = [], 0
        del self.seconds[:], self.virtual_seconds[:]
        for line in kept:
            self.add_line(line)

    def _add(self, line: dict[str, Any]) -> None:
        if "round" in line:
            record = RoundRecord(**line["round"])
            self._note_times(record)
            if self.rounds and self.rounds[-1].number == record.number and self.rounds[-1].seconds is None:
                self.rounds[-1] = record  # in place of what was pieced together from its refusals
            else:
                self.rounds.append(record)
        elif "refused" in line:
            refusal = line["refused"]
            reasons = self._round(refusal["round"]).refused.setdefault(refusal["site"], [])
            reasons.append(refusal["reason"])
        elif "scalar" in line:
            entry = line["scalar"]
            self.scalars.append(Scalar(entry["round"], entry["site"], entry["name"], entry["value"], entry["step"]))
        elif "evaluation" in line:
            self.evaluations.append(Evaluation(**line["evaluation"]))
        elif "early_end" in line:
            self.early_end = line["early_end"]["round"], line["early_end"]["reason"]

    def _round(self, number: int) -> RoundRecord:
        for record in reversed(self.rounds):
            if record.number == number:
                return record
        record = RoundRecord(number)
        if not self._num_dropped or number > self.rounds[-1].number:  # else it was dropped: what comes now is too late
            self.rounds.append(record)
        return record

    def _note_times(self, record: RoundRecord) -> None:
        if record.seconds is not None:
            self.seconds.append(record.seconds)
            self.virtual_seconds.append(record.virtual_seconds or 0.0)

    def _drop_old(self) -> None:
        most = self._most_rounds
        if most is None:
            return
        self.scalars = []
        for record in self.rounds[:-most]:
            self._num_dropped += 1
            if record.seconds is None:
                self._line({"round": record.as_dict()})
        del self.rounds[:-most]

    def _line(self, line: dict[str, Any]) -> None:
        if self._on_line is not None:
            self._num_written += 1
            self._on_line(line)


def _value(record: RoundRecord, name: str, site: str | None) -> float | None:
    if site is not None:
        return record.metrics.get(site, {}).get(name)
    if name in record.metrics.get("server", {}):
        return record.metrics["server"][name]
    # in site order, so that the mean does not depend on who answered first
    held = [(s, m[name]) for s, m in sorted(record.metrics.items()) if name in m]
    if not held:
        return None
    held = [(s, v) for s, v in held if math.isfinite(v)] or held
    weights = [record.counted.get(s, 0.0) for s, _ in held]
    if sum(weights) <= 0:
        weights = [1.0] * len(held)
    return sum(w * v for w, (_, v) in zip(weights, held, strict=True)) / sum(weights)
