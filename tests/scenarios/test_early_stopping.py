"""Trainings that end early: whichever way a metric comes, the run completes, and its record says why it ended."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation import Federation, trained
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.cli.show import print_run
from hansa.jobs import Component
from hansa.runtime.run import Run, RunStatus
from scenarios.federations import Adds, averaging, number_of, simulate
from sides import Listener

ACCURACIES = [0.1, 0.5, 0.7, 0.7, 0.6, 0.8]


class Measures(Executor):
    """Sends the model back, and an accuracy that depends on the round.

    Args:
        name: Under which key of the DXO's meta; empty: as a scalar `accuracy` of the AnalyticsSender.
        nan_at: The number of a site whose model is always NaN.
    """

    def __init__(self, name: str = "", nan_at: int = 0) -> None:
        super().__init__()
        self.name = name
        self.nan_at = nan_at

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        accuracy = ACCURACIES[int(shareable.get_header(AppConstants.CURRENT_ROUND))]
        if number_of(fl_ctx) == self.nan_at:
            accuracy = math.nan
        meta: dict[str, Any] = {}
        if self.name == MetaKey.INITIAL_METRICS:
            meta[MetaKey.INITIAL_METRICS] = accuracy
        elif self.name:
            meta[MetaKey.INITIAL_METRICS] = {self.name: accuracy, "loss": -accuracy}
        else:
            fl_ctx.get_engine().get_component("analytic_sender").add_scalar("accuracy", accuracy)
        return DXO(DataKind.WEIGHTS, from_shareable(shareable).data, meta).to_shareable()


@pytest.mark.parametrize(
    ("sent_as", "metric"), [("", "accuracy"), (MetaKey.INITIAL_METRICS, "initial_metrics"), ("accuracy", "accuracy")]
)
def test_a_training_ends_when_the_metric_stands_still(
    tmp_path: Path, sent_as: str, metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    job = averaging(Component(Measures, name=sent_as), rounds=6, early_stopping={"metric": metric, "patience": 2})
    run = simulate(job, 3, home=tmp_path)
    reason = f"{metric} has not improved for 2 rounds: 0.7 in round 2 was the best"
    # 0.1, 0.5, 0.7; then 0.7 and 0.6 are no better
    assert len(run.history.rounds) == 5
    assert (run.status, run.cause) == (RunStatus.COMPLETED, f"ended after round 4: {reason}")
    assert json.loads((run.folder / "run.json").read_text())["cause"] == run.cause
    assert Run.load(run.folder).history.early_end == (4, reason)
    assert f"training finished: {reason}" in (run.folder / "log.txt").read_text()
    print_run(run)
    assert "ended after round 4" in capsys.readouterr().out


def test_a_loss_that_is_low_enough(tmp_path: Path) -> None:
    stop = {"metric": "loss", "target": -0.5, "larger_is_better": False}
    run = simulate(averaging(Component(Measures, name="accuracy"), rounds=6, early_stopping=stop), 2, home=tmp_path)
    assert run.cause == "ended after round 1: loss is -0.5, the target -0.5"


def test_a_site_whose_metric_is_nan_does_not_spoil_the_mean(tmp_path: Path) -> None:
    stop = {"metric": "accuracy", "target": 0.7}
    run = simulate(averaging(Component(Measures, nan_at=2), rounds=6, early_stopping=stop), 3, home=tmp_path)
    assert run.cause == "ended after round 2: accuracy is 0.7, the target 0.7"
    log = (run.folder / "log.txt").read_text()
    assert log.count("'accuracy' in round 0 is NaN or infinite at 1 site(s): site-2;") == 1
    assert "in round 1 is NaN" not in log


def test_a_training_that_runs_to_its_end_has_no_cause(tmp_path: Path) -> None:
    stop = {"metric": "accuracy", "target": 0.99}
    run = simulate(averaging(Measures, rounds=6, early_stopping=stop), 2, home=tmp_path)
    assert (run.status, run.cause, len(run.history.rounds)) == (RunStatus.COMPLETED, None, 6)


def test_results_are_folded_where_they_come_from_all_the_same(tmp_path: Path) -> None:
    run = simulate(averaging(Adds, rounds=2, early_stopping={"patience": 1}), 4, home=tmp_path)
    sent = json.loads((run.folder / "run.json").read_text())["outboxes"]
    assert {sent[name]["tensors_encoded"] for name in sent if name != "server"} == {0}


class HasEnough(Listener):
    """Says so after a round."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.ROUND_DONE and fl_ctx.get_prop(AppConstants.CURRENT_ROUND) == self.after:
            fl_ctx.set_prop(RoundKey.ENOUGH, "it is good", private=True, sticky=False)


class TestEnough:
    def ended(self) -> Federation:
        fed = Federation("site-1", num_rounds=5)
        fed.engine.handlers.append(HasEnough(1))
        for value in (1, 2):
            fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(value, value)))
        fed.run()
        return fed

    def test_no_round_begins_after_somebody_has_had_enough(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("INFO"):
            fed = self.ended()
        np.testing.assert_array_equal(fed.persistor.saved, [[1, 1], [2, 2]])
        assert fed.engine.panics == []
        assert "training finished: it is good" in caplog.text
        assert [call for call in fed.engine.history.calls if call[0] != "counted"] == [
            ("opened", 0, ["site-1"]),
            ("closed", 0),
            ("opened", 1, ["site-1"]),
            ("closed", 1),
            ("ended early", 1, "it is good"),
        ]

    def test_after_the_last_round_nothing_ends_early(self) -> None:
        fed = Federation("site-1")
        fed.engine.handlers.append(HasEnough(0))
        fed.script(fed.sites.ask("site-1"), fed.sites.answer("site-1", trained(1, 1)))
        fed.run()
        assert fed.engine.history.calls[-1] == ("closed", 0)
        assert fed.workflow.state() == {"next_round": 1}

    def test_after_a_restart_it_is_still_enough(self) -> None:
        commits = self.ended().engine.commits
        assert commits == [{"next_round": 1}, {"next_round": 2, "enough": "it is good"}]
        again = Federation("site-1", num_rounds=5)
        again.workflow.restore(commits[-1])
        again.run()
        assert again.counted == []
        assert again.workflow.state() == commits[-1]
