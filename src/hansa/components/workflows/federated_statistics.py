"""Statistics of data that stay where they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.dxo import DXO
from hansa.apis.engine import OffersProblems, RoundKey, port
from hansa.apis.fl_context import FLContext
from hansa.apis.sampling import Sampling
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.reported import dxo_of
from hansa.components.statistics_words import KIND, MOST_BINS, TASK, cells_for
from hansa.components.workflows.checks import check_ints
from hansa.components.workflows.contribution import failure_of
from hansa.components.workflows.statistics_answers import FirstAnswer, SecondAnswer, first_answer, second_answer
from hansa.components.workflows.statistics_document import DatasetStatistics, Wanted
from hansa.components.workflows.targets import Draw, round_targets
from hansa.errors import ConfigError, RuleError, RunError

Raw = dict[str, dict[str, Any]]  # Any: a site's answer as it came, by site
FORMAT_VERSION = 1


class FederatedStatistics(Controller):
    """Count, missing, mean, sd, range, histogram, quantiles and correlations, by feature and by label, in two tasks.

    The first task brings counts and moments of each site's data sets, and ranges with noise; the second histograms and
    sums of pairs over the ranges and moments that all agree on. Sites are put together by code point of their names.
    What a site's floor hides does not arrive here; the result says how many sites hid a bin.

    The result stands in the context as `RoundKey.STATISTICS` (private, sticky), where a workflow after this one finds
    it, and in the run's record: `run.statistics`, `statistics.json`, `statistics.html`. After a restart the workflow
    goes on with the answers to its first task, if it had them all.

    Args:
        min_clients: How many sites' answers are enough; > 0.
        wait_time_after_min_received: Whole seconds that the others get then; >= 0.
        timeout: Seconds until a task ends whoever has answered; 0 for never.
        task: The task's name.
        min_count: The floor that is asked for; a site with a higher one keeps its own.
        bins: Bins of a histogram, from 1 to 1000.
        quantiles: Levels from 0 to 1.
        ranges: Lowest and highest value of features whose range is known: `{"age": [0, 120]}`. Values beyond it are
            counted as such. The other features' ranges are found, and told with noise.
        correlation: Whether correlations are wanted.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        min_clients: int = 1,
        wait_time_after_min_received: int = 10,
        *,
        timeout: int = 0,
        task: str = TASK,
        **wanted: Any,  # Any: the attributes of Wanted, as JSON
    ) -> None:
        super().__init__()
        check_ints(at_least=1, min_clients=min_clients)
        check_ints(wait_time_after_min_received=wait_time_after_min_received, timeout=timeout)
        self.min_clients = min_clients
        self.grace = wait_time_after_min_received
        self.timeout = timeout
        self.task_name = task
        self.wanted = _checked(wanted)
        self._answers: tuple[Raw, Raw] = ({}, {})
        self._refused: list[str] = []
        self._has_first = False

    # -- what a restart needs ----------------------------------------------------------------------------------

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The answers to the first task, once all are there."""
        return {"first": self._answers[0] if self._has_first else {}, "refused": list(self._refused)}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self._answers = (dict(state["first"]), {})
        self._has_first = bool(self._answers[0])
        self._refused = list(state["refused"])

    # -- the run -----------------------------------------------------------------------------------------------

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is needed."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is held."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Both tasks, and the result."""
        try:
            if not self._has_first:
                self._first_task(abort_signal, fl_ctx)
                if abort_signal.triggered:
                    return
                self._has_first = True
                self.commit(fl_ctx, self.state())
            plans = self._plans()
            self._second_task(plans, abort_signal, fl_ctx)
            if not abort_signal.triggered:
                self._finish(plans, fl_ctx)
        except (ConfigError, RunError) as error:
            self.system_panic(str(error), fl_ctx)

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """It came too late."""
        self.log_warning(fl_ctx, f"{client.name} was too late with {task_name}")

    def _first_task(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        targets = round_targets(
            fl_ctx.get_engine(),
            self.min_clients,
            draw=Draw(Sampling(), f"{self.workflow_index}/sites/{self.task_name}"),
            abort_signal=abort_signal,
            on_wait=partial(self._wait_for, fl_ctx),
        )
        self.waits_for = None
        if not abort_signal.triggered:
            self._ask(
                0, {"phase": 1, "min_count": self.wanted.min_count}, targets, abort_signal=abort_signal, fl_ctx=fl_ctx
            )

    def _second_task(self, plans: Mapping[str, DatasetStatistics], abort_signal: Signal, fl_ctx: FLContext) -> None:
        request = {
            "phase": 2,
            "min_count": self.wanted.min_count,
            "bins": self.wanted.bins,
            "cells": cells_for(self.wanted.bins),
            "correlation": self.wanted.correlation,
            "datasets": {name: plan.request() for name, plan in plans.items() if plan.features},
        }
        if request["datasets"]:
            self._ask(1, request, sorted(self._answers[0]), abort_signal=abort_signal, fl_ctx=fl_ctx)

    def _ask(
        self,
        phase: int,
        request: dict[str, Any],  # Any: what the codec carries
        targets: list[str] | None,
        *,
        abort_signal: Signal,
        fl_ctx: FLContext,
    ) -> None:
        """Post a task and wait for enough answers.

        Raises:
            RunError: Too few answered.
        """
        task = Task(self.task_name, DXO(KIND, request).to_shareable(), timeout=self.timeout)
        task.result_received_cb = partial(self._take, phase)
        self.broadcast_and_wait(task, fl_ctx, targets, self.min_clients, self.grace, abort_signal)
        task.data = Shareable()
        if task.exception is not None:
            raise task.exception
        answered = len(self._answers[phase])
        if answered < self.min_clients and not abort_signal.triggered:
            of = "" if targets is None else f" of {len(targets)}"
            why = f": {'; '.join(sorted(self._refused)[:3])}" if self._refused else ""
            raise RunError(
                f"statistics, task {phase + 1} of 2: {answered}{of} sites answered, {self.min_clients} needed{why}"
            )

    def _take(self, phase: int, client_task: ClientTask, fl_ctx: FLContext) -> None:
        site, result = client_task.client.name, client_task.result
        client_task.result = None
        try:
            self._answers[phase][site] = self._checked(phase, site, result or Shareable())
        except RuleError as error:
            self._refused.append(f"{site}: {error.reason}")
            self.log_warning(fl_ctx, f"{site} has no part in the statistics: {error.reason}", fire_event=False)
            keeper = port(fl_ctx.get_engine(), OffersProblems)
            if keeper is not None:
                keeper.problem(f"statistics, task {phase + 1} of 2", RunError(error.reason, site=site))

    def _checked(self, phase: int, site: str, result: Shareable) -> dict[str, Any]:  # Any: as above
        failure = failure_of(result)
        dxo = dxo_of(result)
        if failure is not None:
            raise RuleError(failure)
        if dxo is None or dxo.data_kind != KIND or not isinstance(dxo.data.get("datasets"), Mapping):
            raise RuleError(f"the answer is no DXO of {KIND}")
        for data in dxo.data["datasets"].values():
            if phase == 0:
                first_answer(data)
        return dict(dxo.data)

    def _plans(self) -> dict[str, DatasetStatistics]:
        """The data sets with what the first task said of them.

        Raises:
            ConfigError: Columns differ by site, or a range is for a feature that there is not.
        """
        firsts: dict[str, dict[str, FirstAnswer]] = {}
        for site, answer in sorted(self._answers[0].items()):
            for name, data in answer["datasets"].items():
                firsts.setdefault(name, {})[site] = first_answer(data)
        plans = {name: DatasetStatistics(name, firsts[name], wanted=self.wanted) for name in sorted(firsts)}
        known = {feature for plan in plans.values() for feature in plan.features}
        for feature in self.wanted.ranges:
            if known and feature not in known:
                raise ConfigError(
                    f"there is no feature {feature!r}; there are {', '.join(sorted(known))}", key="ranges"
                )
        return plans

    def _finish(self, plans: Mapping[str, DatasetStatistics], fl_ctx: FLContext) -> None:
        notes = [note for plan in plans.values() for note in plan.notes()] + sorted(self._refused)
        datasets = {}
        for name, plan in plans.items():
            seconds: dict[str, SecondAnswer] = {}
            for site, answer in sorted(self._answers[1].items()):
                if name in answer["datasets"]:
                    data, bins = answer["datasets"][name], self.wanted.bins
                    try:
                        seconds[site] = second_answer(data, plan.places[site], bins=bins, cells=cells_for(bins))
                    except (RuleError, KeyError) as error:
                        notes.append(f"{site}: {error}")
            datasets[name] = plan.document(seconds)
        missing = sorted(self._answers[0].keys() - self._answers[1].keys())
        notes += [f"{site}: did not answer the second task; histograms lack it" for site in missing if self._answers[1]]
        document: dict[str, Any] = {  # Any: JSON
            "format_version": FORMAT_VERSION,
            "sites": sorted(self._answers[0]),
            "min_count": {site: int(answer["min_count"]) for site, answer in sorted(self._answers[0].items())},
            "notes": notes,
            "datasets": datasets,
        }
        for note in notes:
            self.log_warning(fl_ctx, note, fire_event=False)
        fl_ctx.set_prop(RoundKey.STATISTICS, document, private=True, sticky=True)
        self.commit(fl_ctx, self.state())
        self.log_info(fl_ctx, f"statistics of {len(document['sites'])} sites: {', '.join(datasets) or 'nothing'}")

    def _wait_for(self, fl_ctx: FLContext, missing: str) -> None:
        self.waits_for = f"statistics wait for {missing}"
        self.log_info(fl_ctx, self.waits_for)


def _checked(given: Mapping[str, Any]) -> Wanted:  # Any: JSON
    unknown = [key for key in given if key not in _KEYS]
    if unknown:
        raise TypeError(f"FederatedStatistics takes no argument {unknown[0]!r}")
    given = {_KEYS[key]: value for key, value in given.items()}
    wanted = Wanted(**given)
    check_ints(at_least=1, bins=wanted.bins, min_count=wanted.min_count)
    if wanted.bins > MOST_BINS:
        raise ValueError(f"bins must be <= {MOST_BINS}, but got {wanted.bins}")
    if not isinstance(wanted.levels, Sequence) or not all(_is_share(level) for level in wanted.levels):
        raise ValueError(f"quantiles must be a list of numbers from 0 to 1, but got {wanted.levels!r}")
    if not isinstance(wanted.ranges, Mapping):
        raise TypeError(f"ranges must be a dict such as {{'age': [0, 120]}}, but got {wanted.ranges!r}")
    for feature, ends in wanted.ranges.items():
        if not _is_range(ends):
            raise ValueError(f"ranges: {feature!r} needs a lowest and a highest value, but got {ends!r}")
    if not isinstance(wanted.correlation, bool):
        raise TypeError(f"correlation must be bool but got {type(wanted.correlation)}")
    return wanted


_KEYS = {
    "bins": "bins",
    "quantiles": "levels",
    "ranges": "ranges",
    "correlation": "correlation",
    "min_count": "min_count",
}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:  # Any: JSON
    return _is_number(value) and 0 <= value <= 1


def _is_range(value: object) -> bool:
    match value:
        case [int() | float() as low, int() | float() as high]:
            return _is_number(low) and _is_number(high) and low < high
        case _:
            return False
