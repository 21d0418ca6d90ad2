"""Federated statistics in whole federations, against NumPy on the pooled data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes

import hansa
from hansa.algorithms.federated_statistics import PairPass
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.statistics_source import StatisticsSource
from hansa.components.executors.statistics_passes import _told_pairs
from hansa.components.standard_scaler import StandardScaler
from hansa.errors import ConfigError, RunError
from hansa.jobs import Component, fed_avg, fed_statistics
from hansa.runtime.run import Run

SITES = 3


def number_of(fl_ctx: Any) -> int:
    return int(fl_ctx.get_identity_name()[-1])


def source(
    make: Callable[[int], Any], *, wanted: tuple[str, ...] = (), by: str | None = None
) -> type[StatisticsSource]:
    class Made(StatisticsSource):
        def features(self) -> tuple[str, ...]:
            return wanted

        def label(self) -> str | None:
            return by

        def load(self, fl_ctx: Any) -> Any:
            return make(number_of(fl_ctx))

    return Made


def run_of(made: type[StatisticsSource], home: Path, **options: Any) -> Run:
    return hansa.simulate(fed_statistics(made, **options), SITES, workers=0, home=home, progress=False)


def diabetes(site: int) -> Any:
    data, target = load_diabetes(return_X_y=True, scaled=False)
    names = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]
    columns = dict(zip(names, data[site - 1 :: SITES].T, strict=True))
    return {"train": {**columns, "progression": target[site - 1 :: SITES]}}


def cancer(site: int) -> Any:
    data = load_breast_cancer()
    columns = dict(zip(data.feature_names[:6], data.data[site - 1 :: SITES, :6].T, strict=True))
    return {"train": {**columns, "y": data.target[site - 1 :: SITES]}}


def test_diabetes_over_three_sites_is_diabetes_pooled(tmp_path: Path) -> None:
    run = run_of(source(diabetes), tmp_path)
    train = run.statistics["datasets"]["train"]
    pooled = {
        name: np.concatenate([diabetes(s + 1)["train"][name] for s in range(SITES)]) for name in train["features"]
    }
    assert train["rows"] == 442
    for name, values in pooled.items():
        entry = train["features"][name]
        assert (entry["count"], entry["missing"]) == (442, 0)
        np.testing.assert_allclose(entry["mean"], values.mean(), rtol=1e-12)
        np.testing.assert_allclose(entry["sd"], values.std(ddof=1), rtol=1e-12)
        assert entry["min"] < values.min() < values.max() < entry["max"]
        for level, found in entry["quantiles"].items():
            assert found["low"] <= np.quantile(values, float(level), method="inverted_cdf") <= found["high"]
    wanted = np.corrcoef(np.stack(list(pooled.values())))
    np.testing.assert_allclose(np.array(train["correlation"]["matrix"]), wanted, atol=1e-9)
    page = (run.folder / "statistics.html").read_text(encoding="utf-8")
    assert all(f"<td>{name}" in page for name in pooled)
    assert "src=" not in page
    assert "href=" not in page
    assert run.report(tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_by_label_and_nothing_under_the_floor(tmp_path: Path) -> None:
    run = run_of(source(cancer, by="y"), tmp_path, ranges={"mean radius": [5, 30]}, bins=25)
    train = run.statistics["datasets"]["train"]
    data = load_breast_cancer()
    for label in (0, 1):
        entry = train["by_label"][str(label)]["mean radius"]
        values = data.data[data.target == label, 0]
        np.testing.assert_allclose([entry["mean"], entry["sd"]], [values.mean(), values.std(ddof=1)], rtol=1e-12)
        counts, _ = np.histogram(values, 25, (5, 30))
        told, hides = entry["histogram"]["counts"], entry["histogram"]["sites_that_hide"]
        assert all(c <= n and (h or c == n) for c, n, h in zip(told, counts, hides, strict=True))
        assert any(hides)
    whole = train["features"]["mean radius"]["histogram"]
    assert all(count == 0 or count >= 10 for count in whole["counts"])
    assert train["features"]["mean radius"]["min"] == 5
    for index, (name, entry) in enumerate(train["features"].items()):
        for level, found in entry["quantiles"].items():
            wanted = np.quantile(data.data[:, index], float(level), method="inverted_cdf")
            assert found["low"] - 1e-9 <= wanted <= found["high"] + 1e-9, name


def test_the_same_bits_for_any_number_of_workers_and_either_order_of_columns(tmp_path: Path) -> None:
    def turned(site: int) -> Any:
        columns = diabetes(site)["train"]
        return {"train": dict(reversed(columns.items())) if site == 2 else columns}

    ranges = {name: [-100, 1000] for name in diabetes(1)["train"]}
    runs = [run_of(source(made), tmp_path, ranges=ranges).statistics for made in (diabetes, turned)]
    assert json.dumps(runs[0]) == json.dumps(runs[1])


def test_missing_values_a_small_feature_a_constant_one_and_an_empty_site(tmp_path: Path) -> None:
    def make(site: int) -> Any:
        rows = 0 if site == 3 else 50
        rng = np.random.default_rng(site)
        a, b, c = rng.normal(size=(3, rows))
        if site == 1:
            a[:45] = np.nan
            b[:] = 7.0
        y = np.zeros(rows, int) if site == 1 else rng.integers(0, 2, rows)
        return {"train": {"a": a, "b": b, "c": c, "y": y}}

    statistics = run_of(source(make, by="y"), tmp_path).statistics
    train = statistics["datasets"]["train"]
    assert train["features"]["a"]["count"] == 50  # of site-2 alone: 5 values of site-1 are under the floor
    assert list(train["features"]["a"]["by_site"]) == ["site-2"]
    assert train["features"]["b"]["count"] == 100
    notes = "\n".join(statistics["notes"])
    for line in (
        "site-1: too few values of 'a' in 'train', left out there",
        "site-1: 'b' in 'train' is the same in all rows",
        "site-1: 'train' has only the class '0' above the site's floor",
        "site-3: data set 'train' has no rows",
    ):
        assert line in notes


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"a": np.arange(30.0)}, "site-2, data set 'train': there is no column 'b', which site-1 has"),
        ({"a": np.arange(30.0), "b": ["x"] + ["1"] * 29}, "site-2: .*column b: row 1 holds 'x', which is no number"),
    ],
)
def test_a_bad_site_is_named_in_one_line(tmp_path: Path, bad: Any, words: str) -> None:
    good = {"a": np.arange(30.0), "b": np.arange(30.0)}
    with pytest.raises(RunError, match=words) as caught:
        run_of(source(lambda site: {"train": bad if site == 2 else good}), tmp_path)
    assert "\n" not in str(caught.value)


def test_with_enough_others_a_bad_site_is_a_note(tmp_path: Path) -> None:
    def make(site: int) -> Any:
        return {"train": {"a": ["x"] * 30 if site == 2 else np.arange(30.0)}}

    run = run_of(source(make, wanted=("a",)), tmp_path, min_sites=2, wait_s=0)
    assert run.statistics["datasets"]["train"]["features"]["a"]["count"] == 60
    assert any("site-2" in note and "no number" in note for note in run.statistics["notes"])
    assert any(problem.site == "server" and "no number" in problem.cause for problem in run.problems)


def test_the_sums_of_pairs_tell_nothing_of_a_single_row() -> None:
    rng = np.random.default_rng(0)
    block = rng.normal(size=(2, 100))
    block[1, 7] = np.nan  # so the sums of the first feature, with the second and alone, would differ by one value
    one = PairPass(np.zeros(2), np.ones(2))
    one.take(block)
    told = _told_pairs(one.sums, np.array([True, True]), 10)
    assert told["single"][0, 1] == told["single"][0, 0] != one.sums.single[0, 1]
    assert told["square"][0, 1] == told["square"][0, 0] != one.sums.square[0, 1]
    block[1, :30] = np.nan
    many = PairPass(np.zeros(2), np.ones(2))
    many.take(block)
    told = _told_pairs(many.sums, np.array([True, True]), 10)
    assert told["single"][0, 1] == many.sums.single[0, 1]


def test_images(tmp_path: Path) -> None:
    def make(site: int) -> Any:
        return {"scans": np.random.default_rng(site).integers(0, 256, (20, 8, 8), np.uint8)}

    run = run_of(source(make), tmp_path, ranges={"intensity": [0, 256]}, bins=16)
    entry = run.statistics["datasets"]["scans"]["features"]["intensity"]
    pooled = np.concatenate([make(site)["scans"].ravel() for site in (1, 2, 3)])
    np.testing.assert_allclose(entry["mean"], pooled.mean(), rtol=1e-12)
    # A bin needs as many pixels as ten images have, 640; each site's bins have about 80.
    assert entry["histogram"]["counts"] == [0] * 16
    assert entry["histogram"]["sites_that_hide"] == [3] * 16


class Scaled(Executor):
    """Answers with the mean of what the scaler makes of its data."""

    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
        weights = from_shareable(shareable).data["w"]
        scaler = fl_ctx.get_engine().get_component("scaler")
        values = scaler.transform(diabetes(number_of(fl_ctx))["train"])
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: len(values)}
        return DXO(DataKind.WEIGHTS, {"w": values.mean(axis=0) + 0 * weights}, meta).to_shareable()


@pytest.mark.parametrize("workers", [0, 2])
def test_statistics_preprocessing_and_training_in_one_job(tmp_path: Path, workers: int) -> None:
    training = fed_avg({"w": np.zeros(11)}, executor=Scaled, rounds=2)
    job = fed_statistics(source_of_diabetes, then=training, scale=True)
    run = hansa.simulate(job, SITES, workers=workers, home=tmp_path, progress=False)
    assert len(run.history.rounds) == 2
    np.testing.assert_allclose(run.model["w"], 0.0, atol=1e-12)  # the mean of all sites' scaled rows
    assert run.statistics["datasets"]["train"]["rows"] == 442


class source_of_diabetes(StatisticsSource):
    def load(self, fl_ctx: Any) -> Any:
        return diabetes(number_of(fl_ctx))


def test_the_scaler_says_what_is_wrong_and_keeps_what_it_knows() -> None:
    scaler = StandardScaler()
    with pytest.raises(RuntimeError, match="not fitted"):
        scaler.transform([[1.0]])
    scaler.fit(["a", "b"], [1.0, 2.0], sd=[2.0, 0.0])
    again = StandardScaler()
    again.restore(scaler.state())
    np.testing.assert_array_equal(again.transform({"b": [2.0], "a": [5.0], "c": [0.0]}), [[2.0, 0.0]])
    with pytest.raises(ValueError, match="no column 'b'"):
        again.transform({"a": [1.0]})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bin": 3}, "bin: fed_statistics takes no such argument"),
        ({"bins": 0}, "bins: must be a whole number"),
        ({"bins": 5000}, "bins: must be at most 1000"),
        ({"quantiles": [2]}, "quantiles: must be numbers from 0 to 1"),
        ({"ranges": {"a": [3, 1]}}, "ranges.a: needs a lowest and a highest value"),
        ({"then": 3}, "then: must be a job"),
        ({"min_count": 0}, "min_count: must be a whole number"),
    ],
)
def test_a_bad_argument_of_the_recipe_is_named(options: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        fed_statistics("data.csv", **options)


def test_a_range_of_a_feature_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ranges: there is no feature 'bmx'"):
        run_of(source(diabetes), tmp_path, ranges={"bmx": [0, 1]})


def test_files_of_each_site(tmp_path: Path) -> None:
    for site in range(1, SITES + 1):
        rows = "\n".join(f"{site}.{index},{index % 2}" for index in range(40))
        (tmp_path / f"site-{site}.csv").write_text(f"x,y\n{rows}\n")
    path = "hansa.components.csv_statistics_source.CsvStatisticsSource"
    given = Component(path, path={"train": f"{tmp_path}/$SITE.csv"}, label="y")
    run = hansa.simulate(fed_statistics(given), SITES, workers=0, home=tmp_path / "runs", progress=False)
    train = run.statistics["datasets"]["train"]
    assert (train["rows"], sorted(train["by_label"])) == (120, ["0", "1"])
