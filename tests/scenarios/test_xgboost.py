"""Boosted trees through whole federations: what a bare loop would make, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

import hansa
import hansa.client.xgboost as fx
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.shareable import Shareable
from hansa.client import FLModel
from hansa.errors import ConfigError, RunError
from hansa.jobs import Component, cyclic, xgboost_bagging, xgboost_cyclic

PARAMS = {"objective": "binary:logistic", "max_depth": 2, "nthread": 1, "base_score": 0.4}
FEATURES = 5


def data_of(site: str, params: dict[str, Any] = PARAMS) -> xgboost.DMatrix:
    number = int(site.rpartition("-")[2])
    rng = np.random.default_rng(number)
    x = rng.normal(size=(40 * number, FEATURES))
    return xgboost.DMatrix(x, np.argmax(x[:, :3], 1) if "num_class" in params else x.sum(1) > number / 4)


class Grows(Executor):
    """Adds trees, as a script would."""

    def __init__(self, params: dict[str, Any] | None = None, trees: int = 1, empty: str = "") -> None:
        super().__init__()
        self.params, self.trees, self.empty = params or PARAMS, trees, empty

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: Any, abort_signal: Any) -> Shareable:
        data = data_of(fl_ctx.get_identity_name(), self.params)
        if fl_ctx.get_identity_name() == self.empty:
            data = xgboost.DMatrix(np.zeros((0, FEATURES)), [])
        answer = fx.grow(self.params, data, FLModel(from_shareable(shareable).data), trees=self.trees)
        assert answer.params is not None
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: answer.num_steps}
        return DXO(DataKind.WEIGHTS, dict(answer.params), meta).to_shareable()


def added_by(tree: xgboost.Booster, data: xgboost.DMatrix) -> Any:
    plain = xgboost.DMatrix(data.get_data(), base_margin=np.zeros(data.num_row()))
    return tree.predict(plain, output_margin=True)


def document(booster: xgboost.Booster) -> bytes:
    return bytes(booster.save_raw("json"))


@pytest.mark.parametrize("recipe", [xgboost_bagging, xgboost_cyclic])
@pytest.mark.parametrize("more", [{}, {"objective": "multi:softprob", "num_class": 3, "base_score": 0.5}])
def test_one_site_is_plain_boosting(tmp_path: Path, recipe: Any, more: dict[str, Any]) -> None:
    params = {**PARAMS, **more}
    job = recipe(fx.start(params, features=FEATURES), executor=Component(Grows, params=params, trees=2), rounds=3)
    run = hansa.simulate(job, 1, workers=0, home=tmp_path)
    plain = xgboost.train(params, data_of("site-1", params), num_boost_round=6)
    assert document(fx.booster_of(run.model)) == document(plain)


def test_a_round_of_bagging_adds_the_mean_of_what_each_site_adds(tmp_path: Path) -> None:
    job = xgboost_bagging(fx.start(PARAMS, features=FEATURES), executor=Grows, rounds=3)
    run = hansa.simulate(job, 3, workers=0, home=tmp_path)
    joined = fx.booster_of(run.model)
    assert joined.num_boosted_rounds() == 3
    test = data_of("site-9")
    sites = [data_of(f"site-{number}") for number in (1, 2, 3)]
    margins = [np.full(each.num_row(), np.log(0.4 / 0.6)) for each in (*sites, test)]  # the bare loop
    for _ in range(3):
        steps = []
        for site, margin in zip(sites, margins, strict=False):
            site.set_base_margin(margin)
            tree = xgboost.train(PARAMS, site, num_boost_round=1)
            steps.append([added_by(tree, each) for each in (*sites, test)])
        for number in range(len(margins)):
            margins[number] += sum(size / 6 * step[number] for size, step in zip((1, 2, 3), steps, strict=True))
    np.testing.assert_allclose(joined.predict(test, output_margin=True), margins[-1], atol=1e-6)


def test_passes_are_plain_boosting_over_changing_data(tmp_path: Path) -> None:
    job = xgboost_cyclic(fx.start(PARAMS, features=FEATURES), executor=Grows, rounds=2, order="fixed")
    run = hansa.simulate(job, 2, workers=0, home=tmp_path)
    bare = None
    for site in ("site-1", "site-2") * 2:
        bare = xgboost.train(PARAMS, data_of(site), num_boost_round=1, xgb_model=bare)
    assert bare is not None
    assert document(fx.booster_of(run.model)) == document(bare)


def test_sampled_rows_differ_from_round_to_round_and_not_from_run_to_run(tmp_path: Path) -> None:
    params = {**PARAMS, "subsample": 0.5}
    job = xgboost_bagging(fx.start(params, features=FEATURES), executor=Component(Grows, params=params), rounds=3)
    first, second = (hansa.simulate(job, 2, workers=0, seed=3, home=tmp_path) for _ in range(2))
    assert document(fx.booster_of(first.model)) == document(fx.booster_of(second.model))


def test_a_site_without_rows_is_named(tmp_path: Path) -> None:
    executor = Component(Grows, empty="site-2")
    job = xgboost_bagging(fx.start(PARAMS, features=FEATURES), executor=executor, rounds=1, min_sites=1)
    run = hansa.simulate(job, 2, workers=0, home=tmp_path)
    [record] = run.history.rounds
    assert list(record.counted) == ["site-1"]
    assert "no rows to grow trees from" in str(run.problems)


def test_other_features_are_refused_with_both_numbers(tmp_path: Path) -> None:
    job = xgboost_bagging(fx.start(PARAMS, features=4), executor=Grows, rounds=1)
    with pytest.raises(RunError, match=r"columns.*4.*vs.*5|feature.*4.*5"):
        hansa.simulate(job, 1, workers=0, home=tmp_path)


def test_a_model_that_is_no_booster_is_refused() -> None:
    with pytest.raises(ConfigError, match="model: must be an xgboost.Booster"):
        xgboost_bagging({"w": np.zeros(2)}, executor=Grows)
    with pytest.raises(ConfigError, match="names: xgboost_cyclic averages no tensors"):
        xgboost_cyclic(fx.start(PARAMS, features=2), executor=Grows, names="any")
    with pytest.raises(ConfigError, match="xgboost_bagging takes no such argument"):
        xgboost_bagging(fx.start(PARAMS, features=2), executor=Grows, mu=0.1)


def test_a_linear_booster_is_refused_before_it_travels() -> None:
    params = {"booster": "gblinear", "nthread": 1}
    with pytest.raises(ValueError, match="this model is a booster of kind gblinear; only trees of gbtree"):
        fx.grow(params, data_of("site-1"), FLModel())


def test_alone_it_grows_from_nothing() -> None:
    answer = fx.grow(PARAMS, data_of("site-1"), FLModel(), trees=3)
    plain = xgboost.train(PARAMS, data_of("site-1"), num_boost_round=3)
    assert answer.params is not None
    assert document(fx.booster_of(answer.params)) == document(plain)


def test_cyclic_of_arrays_still_works_beside_it() -> None:
    assert cyclic({"w": np.zeros(2)}, executor=Grows).name == "cyclic"
