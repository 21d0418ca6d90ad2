"""Intake: one result at a time, whatever the threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.workflows.intake import Intake
from hansa.components.workflows.round_tally import RoundTally
from sides import FakeHistory, Side


class Counter(Aggregator):
    """Accepts everything, and notes how many calls there are at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = self.total = 0

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        self._call()
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        self._call()
        return Shareable()

    def _call(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        self.total += sum(range(2000)) > 0  # long enough for a thread to be switched
        self.now -= 1


def test_accept_and_aggregate_never_overlap() -> None:
    aggregator, side = Counter(), Side("project", [])
    intake = Intake(FLComponent(), aggregator, history=None)
    tally = intake.open(0, None)
    gate = threading.Barrier(6)

    def work(what: Any) -> None:
        gate.wait()
        for _ in range(50):
            what(side.new_context())

    def on_time(fl_ctx: FLContext) -> None:
        intake.take("site-1", Shareable(), fl_ctx=fl_ctx)

    def late(fl_ctx: FLContext) -> None:
        intake.take_late("site-2", Shareable(), fl_ctx=fl_ctx, is_over=False)

    threads = [threading.Thread(target=work, args=(what,)) for what in (on_time, late, intake.aggregate) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert aggregator.most == 1
    assert 100 <= tally.num_counted <= 200  # late ones count until the round is aggregated
    assert aggregator.total == tally.num_counted + 100


def test_a_late_result_is_never_part_of_the_next_round() -> None:
    aggregator, history, side = Counter(), FakeHistory(), Side("project", [])
    intake = Intake(FLComponent(), aggregator, history=history)
    intake.open(3, ["site-1"])
    late = Shareable()
    late.add_cookie(AppConstants.CONTRIBUTION_ROUND, 3)
    assert intake.take_late("site-1", late, fl_ctx=side.new_context(), is_over=False) is None
    intake.aggregate(side.new_context())
    refusal = intake.take_late("site-1", late, fl_ctx=side.new_context(), is_over=False)
    assert refusal == "result of round 3: late, came in round 3: round 3 was aggregated"
    assert history.calls[-1] == ("refused", 3, "site-1", "late, came in round 3: round 3 was aggregated")
    intake.open(4, ["site-1"])
    assert intake.take_late("site-1", late, fl_ctx=side.new_context(), is_over=False) is None  # the rule decides again


def test_a_result_before_the_first_round_is_a_mistake_of_the_caller() -> None:
    intake = Intake(FLComponent(), Counter(), history=None)
    with pytest.raises(RuntimeError, match="before the first round"):
        intake.take("site-1", Shareable(), fl_ctx=FLContext())


def test_a_tally_says_what_is_missing() -> None:
    history = FakeHistory()
    tally = RoundTally(3, ["site-1", "site-2"], history=history)
    tally.counted("site-1", Shareable())
    assert tally.shortfall(1) is None
    assert tally.shortfall(2) == "round 3: 1 of 2 results counted, 2 needed"
    tally.refused("site-2", "late")
    assert tally.shortfall() == "round 3: 1 of 2 results counted: site-2: late"
    tally.closed()
    assert history.calls == [
        ("opened", 3, ["site-1", "site-2"]),
        ("counted", 3, "site-1", 1.0),
        ("refused", 3, "site-2", "late"),
        ("closed", 3),
    ]


def test_where_anyone_may_come_nobody_is_missing() -> None:
    tally = RoundTally(0, None, history=None)
    assert tally.shortfall() is None
    assert tally.shortfall(1) == "round 0: 0 results counted, 1 needed"
