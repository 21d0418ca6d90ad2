"""EarlyStopping: when enough is enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.components.handlers.early_stopping import EarlyStopping
from hansa.runtime.history import RunHistory
from sides import ServerSide, Side


class Server(ServerSide):
    """A side with a real history."""

    def __init__(self, handler: EarlyStopping) -> None:
        super().__init__([handler])
        self.history = RunHistory(now=lambda: 0.0)  # type: ignore[assignment]  # in place of the one that keeps calls

    def round_of(self, number: int, values: dict[str, float], *, targets: Sequence[str] = ()) -> Any:
        """Why it is enough after a round in which sites reported these values; None if it is not."""
        self.history.round_opened(number, list(targets or values))
        for site, value in values.items():
            self.history.result_counted(number, site, weight=1.0)
            self.history.scalar(number, site, name="accuracy", value=value)
        props = {AppConstants.CURRENT_ROUND: number, RoundKey.TARGETS: list(targets or values)}
        return self.fire(AppEventType.ROUND_DONE, **props).get_prop(RoundKey.ENOUGH)


def reasons(values: Sequence[float], **arguments: Any) -> list[Any]:
    """After each round, where a single site reports these values one after the other."""
    server = Server(EarlyStopping("accuracy", **arguments))
    return [server.round_of(number, {"site-1": value}) for number, value in enumerate(values)]


def test_it_is_enough_after_so_many_rounds_in_a_row_without_an_improvement() -> None:
    # 0.6 is no improvement over 0.6; 0.7 is one, and the count begins anew
    found = reasons([0.5, 0.6, 0.6, 0.7, 0.6, 0.65], patience=2)
    assert found[:5] == [None] * 5
    assert found[5] == "accuracy has not improved for 2 rounds: 0.7 in round 3 was the best"


def test_less_than_min_delta_is_no_improvement() -> None:
    # 0.5 -> 0.75 is more than 0.125; 0.75 -> 0.875 is just as much, which is not more
    found = reasons([0.5, 0.75, 0.875], patience=1, min_delta=0.125)
    assert found == [None, None, "accuracy has not improved for a round: 0.75 in round 1 was the best"]


def test_of_a_loss_smaller_is_better() -> None:
    found = reasons([2.0, 1.0, 1.5], patience=1, larger_is_better=False)
    assert found == [None, None, "accuracy has not improved for a round: 1 in round 1 was the best"]


@pytest.mark.parametrize(
    ("values", "arguments"),
    [([0.5, 0.8, 0.9], {"target": 0.9}), ([0.5, 0.3, 0.25], {"target": 0.25, "larger_is_better": False})],
)
def test_a_target_that_is_reached_is_enough(values: list[float], arguments: dict[str, Any]) -> None:
    found = reasons(values, **arguments)
    assert found == [None, None, f"accuracy is {values[-1]:g}, the target {values[-1]:g}"]


def test_without_patience_it_waits_for_the_target_for_ever() -> None:
    assert reasons([0.5] * 20, target=0.9) == [None] * 20


def test_nan_and_missing_values_are_left_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(EarlyStopping("accuracy", patience=1))
    three = ["site-1", "site-2", "site-3"]
    assert server.round_of(0, {"site-1": 0.5, "site-2": math.nan}, targets=three) is None
    assert server.round_of(1, {"site-1": 0.6, "site-2": math.nan}, targets=three) is None
    assert server.round_of(2, {"site-1": 0.6, "site-2": math.nan}, targets=three) is not None
    assert caplog.text.count("'accuracy' in round 0 is NaN or infinite at 1 site(s): site-2;") == 1
    assert caplog.text.count("'accuracy' in round 0 is missing at 1 site(s): site-3;") == 1
    assert len(caplog.records) == 2


def test_a_model_that_is_nan_everywhere_does_not_improve() -> None:
    found = reasons([0.5, math.nan, math.nan], patience=2)
    assert found == [None, None, "accuracy has not improved for 2 rounds: 0.5 in round 0 was the best"]
    assert reasons([math.nan], patience=1) == ["accuracy has not been a finite number for a round"]


def test_a_round_that_nobody_measured_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(EarlyStopping("accuracy", patience=1))
    assert server.round_of(0, {"site-1": 0.5}) is None
    assert server.round_of(1, {}, targets=["site-1"]) is None
    assert server.round_of(2, {}, targets=["site-1"]) is None
    assert server.round_of(3, {"site-1": 0.5}) is not None
    assert caplog.text.count("nobody has reported 'accuracy' in round 1") == 1
    assert "round 2" not in caplog.text


def test_what_the_server_reports_comes_first(caplog: pytest.LogCaptureFixture) -> None:
    server = Server(EarlyStopping("accuracy", target=0.9))
    assert server.round_of(0, {"site-1": 0.95, "server": 0.5}, targets=["site-1", "site-2"]) is None
    assert server.round_of(1, {"site-1": 0.5, "server": 0.95}, targets=["site-1", "site-2"]) is not None
    assert caplog.records == []


def test_it_survives_a_restart() -> None:
    before = EarlyStopping("accuracy", patience=2)
    server = Server(before)
    for number, value in enumerate((0.5, 0.7, 0.6)):
        server.round_of(number, {"site-1": value})
    after = EarlyStopping("accuracy", patience=2)
    after.restore(before.state())
    reason = Server(after).round_of(3, {"site-1": 0.6})
    assert reason == "accuracy has not improved for 2 rounds: 0.7 in round 1 was the best"


def test_a_new_one_restores_what_a_new_one_saved() -> None:
    after = EarlyStopping("accuracy", patience=1)
    after.restore(EarlyStopping("accuracy", patience=1).state())
    assert Server(after).round_of(0, {"site-1": 0.5}) is None


def test_the_next_workflow_begins_anew() -> None:
    server = Server(EarlyStopping("accuracy", patience=1))
    assert server.round_of(0, {"site-1": 0.9}) is None
    assert server.round_of(1, {"site-1": 0.9}) is not None
    assert server.round_of(0, {"site-1": 0.2}) is None


def test_the_first_reason_stands() -> None:
    server = Server(EarlyStopping("accuracy", target=0.5))
    server.handlers.append(EarlyStopping("accuracy", target=0.25))
    assert server.round_of(0, {"site-1": 0.75}) == "accuracy is 0.75, the target 0.5"


def test_where_no_history_is_kept_it_says_so_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    side = Side("project", [EarlyStopping("accuracy", target=0.5)])
    side.fire(EventType.START_RUN)
    fl_ctx = side.fire(AppEventType.ROUND_DONE, **{AppConstants.CURRENT_ROUND: 0})
    assert fl_ctx.get_prop(RoundKey.ENOUGH) is None
    assert "no history is kept here, so 'accuracy' ends nothing" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "needs patience, or target, or both"),
        ({"metric": 1, "patience": 1}, TypeError, "metric must be str"),
        ({"patience": 0}, ValueError, "patience must be > 0, but got 0"),
        ({"patience": 1.0}, TypeError, "patience must be int"),
        ({"patience": True}, TypeError, "patience must be int"),
        ({"patience": 1, "min_delta": -1}, ValueError, "min_delta must be >= 0, but got -1"),
        ({"patience": 1, "min_delta": "x"}, TypeError, "min_delta must be a number"),
        ({"target": math.nan}, ValueError, "target must be finite, but got nan"),
        ({"patience": 1, "larger_is_better": "no"}, TypeError, "larger_is_better must be bool"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        EarlyStopping(**arguments)
