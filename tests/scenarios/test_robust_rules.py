"""Bad sites in whole runs: the model stays finite with any rule, and within its bound with a robust one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.errors import ConfigError
from hansa.jobs import Component, cyclic, fed_avg, scaffold
from hansa.runtime.run import Run

MODEL = {"w": np.zeros(6, np.float32), "b": np.zeros(1)}
RULES = ("median", "trimmed_mean", "krum", "multi_krum", "geometric_median", "centred_clipping")


class Sends(Executor):
    """Honest sites send an update near 1 for each number; site-8 does its worst."""

    def __init__(self, attack: str) -> None:
        super().__init__()
        self._attack = attack

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
        number = int(fl_ctx.get_identity_name()[-1])
        update = {name: np.full_like(value, 1 + number / 100) for name, value in from_shareable(shareable).data.items()}
        steps: Any = 10
        if number == 8:
            match self._attack:
                case "nan":
                    update["w"][3] = np.nan
                case "weight":
                    steps, update["w"] = 1e12, update["w"] * 50
                case "minus 100":
                    update = {name: -100 * value for name, value in update.items()}
        return DXO(DataKind.WEIGHT_DIFF, update, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}).to_shareable()


def ran(home: Path, attack: str, **options: Any) -> Run:
    job = fed_avg(MODEL, executor=Component(Sends, attack=attack), rounds=2, min_sites=7, params_type="diff", **options)
    return hansa.simulate(job, 8, workers=0, home=home, progress=False)


@pytest.mark.parametrize("attack", ["nan", "weight", "minus 100"])
def test_the_mean_stays_finite(tmp_path: Path, attack: str) -> None:
    run = ran(tmp_path, attack)
    assert all(np.isfinite(value).all() for value in run.model.values())
    if attack == "minus 100":
        assert run.model["w"][0] < -10  # which is why there are other rules
    else:
        assert all("site-8" in record.refused for record in run.history.rounds)


@pytest.mark.parametrize("rule", RULES)
def test_a_robust_rule_stays_where_the_honest_are(tmp_path: Path, rule: str) -> None:
    run = ran(tmp_path, "minus 100", rule={"rule": rule, "mixing": "nnm"})
    for value in run.model.values():
        np.testing.assert_allclose(value, 2, atol=0.3)  # two rounds of about 1; the mean is at -25
    assert [sorted(record.counted) for record in run.history.rounds] == [[f"site-{n}" for n in range(1, 9)]] * 2
    again = ran(tmp_path, "minus 100", rule={"rule": rule, "mixing": "bucketing"})
    assert again.model_digest == ran(tmp_path, "minus 100", rule={"rule": rule, "mixing": "bucketing"}).model_digest


def test_too_few_results_for_a_rule_end_the_run_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(hansa.errors.RunError, match="4 of 8 sites cannot be taken for bad"):
        ran(tmp_path, "nan and nobody", rule={"rule": "krum", "num_bad": 4})


def test_what_takes_no_rule_says_so() -> None:
    with pytest.raises(ConfigError, match="sends several parts"):
        scaffold(MODEL, executor=Component(Sends, attack=""), rule="median")
    with pytest.raises(ConfigError, match="cyclic takes no mean"):
        cyclic(MODEL, executor=Component(Sends, attack=""), rule="median")
