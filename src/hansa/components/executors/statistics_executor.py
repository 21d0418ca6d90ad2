"""A site's part of federated statistics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.algorithms.federated_statistics import Grid
from hansa.apis.dxo import DXO, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.apis.statistics_source import StatisticsSource
from hansa.components.executors.statistics_passes import Agreed, First, first_pass, second_pass
from hansa.components.executors.statistics_policy import StatisticsPolicy
from hansa.components.statistics_tables import Table, table_of
from hansa.components.statistics_words import KIND, MOST_BINS, MOST_CELLS, TASK
from hansa.errors import ConfigError

Data = Mapping[str, Any]  # Any: arrays and texts, as the codec carries them


class StatisticsExecutor(Executor):
    """Answers a `FederatedStatistics` with sums over the tables of a `StatisticsSource`; see there for what leaves.

    The site's floor and noise are its own: `local/statistics.json` in its workspace (`StatisticsPolicy`); a job can
    only raise the floor. What is under it stays here: too small groups and features, cells of histograms, and as many
    further cells as keep these from being had by subtraction. Tables stay in memory from the first task to the last.

    Args:
        source_id: Component id of the `StatisticsSource`.
        task: The task's name.
    """

    writes_input = False
    hears = frozenset[str]()

    def __init__(self, source_id: str = "statistics_source", task: str = TASK) -> None:
        super().__init__()
        self.source_id = source_id
        self.task = task
        self._tables: dict[str, Table] | None = None
        self._firsts: dict[str, tuple[int, First]] = {}

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """One of the two passes; TASK_UNKNOWN for other tasks; a mistake in the data is one line."""
        if task_name != self.task:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        data = from_shareable(shareable).data
        try:
            policy = StatisticsPolicy.of_site(Path(fl_ctx.get_prop(FLContextKey.WORKSPACE_ROOT) or "."))
            floor = policy.floor(data.get("min_count"))
            if self._tables is None:
                self._tables = self._load(fl_ctx)
            answer = self._first(policy, floor, fl_ctx) if data.get("phase") == 1 else self._second(data, policy, floor)
        except ConfigError as error:
            self.log_error(fl_ctx, str(error), fire_event=False)
            reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
            reply.set_header(RoundKey.ERROR, str(error))
            return reply
        return DXO(KIND, {"min_count": floor, "datasets": answer}).to_shareable()

    def _load(self, fl_ctx: FLContext) -> dict[str, Table]:
        source = fl_ctx.get_engine().get_component(self.source_id)
        if not isinstance(source, StatisticsSource):
            found = "there is none" if source is None else f"it is a {type(source).__name__}"
            raise ConfigError(f"component {self.source_id!r} must be a StatisticsSource, but {found}")
        given = source.load(fl_ctx)
        if not isinstance(given, Mapping) or not given:
            raise ConfigError(
                f"{type(source).__name__}.load must give a dict of tables by data set, not {type(given).__name__}"
            )
        features, label = tuple(source.features()), source.label()
        return {
            str(name): table_of(str(name), table, features=features, label=label)
            for name, table in sorted(given.items())
        }

    def _first(self, policy: StatisticsPolicy, floor: int, fl_ctx: FLContext) -> Data:
        draws = policy.draws(str(fl_ctx.get_identity_name()))
        answer = {}
        for name, table in (self._tables or {}).items():
            first, answer[name] = first_pass(table, policy, floor=floor, draws=draws)
            self._firsts[name] = floor, first
        return answer

    def _second(self, data: Data, policy: StatisticsPolicy, floor: int) -> Data:
        answer = {}
        for name, asked in data["datasets"].items():
            table = (self._tables or {}).get(name)
            if table is None:
                continue
            agreed = _agreed(data, asked, table)
            known = self._firsts.get(name)
            if known is None or known[0] != floor:  # this process has not seen the first task
                known = floor, first_pass(table, policy, floor=floor, draws=policy.draws(name))[0]
                self._firsts[name] = known
            if known[1].shown:
                answer[name] = second_pass(table, known[1], agreed, floor=floor)
        return answer


def _agreed(data: Data, asked: Data, table: Table) -> Agreed:
    """What the second task brings, as far as it fits this table.

    Raises:
        ConfigError: It does not.
    """
    bins, cells = int(data["bins"]), int(data["cells"])
    if sorted(asked["features"]) != sorted(table.features):
        raise ConfigError(f"data set {table.name!r} has other columns than it was asked for")
    places = [list(asked["features"]).index(feature) for feature in table.features]
    low, high, mean, sd = (np.asarray(asked[key], np.float64)[places] for key in ("low", "high", "mean", "sd"))
    if not 1 <= bins <= MOST_BINS or not bins <= cells <= MOST_CELLS or cells % bins:
        raise ConfigError(f"no histogram has {bins} bins of {cells} cells", key="bins")
    if not (np.isfinite(low) & np.isfinite(high) & (low < high)).all():
        raise ConfigError(f"data set {table.name!r} was asked for a range that is none")
    return Agreed(Grid(low, high, cells), bins, mean, sd, bool(data.get("correlation")))
