"""What the examples hospitals, oncology and finance read and compute, on small files and numbers worked by hand."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from field_parts import modules_of
from hansa.errors import ConfigError

# -- hospitals -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hospitals() -> Iterator[list[ModuleType]]:
    with modules_of("hospitals", "data", "model") as found:
        yield found


def heart_file(folder: Path, *lines: str) -> None:
    (folder / "heart_disease").mkdir(exist_ok=True)
    (folder / "heart_disease" / "processed.va.data").write_text("\n".join(lines) + "\n")


def test_patients_are_read_and_no_cholesterol_is_none_measured(hospitals: list[ModuleType], tmp_path: Path) -> None:
    data, _ = hospitals
    heart_file(tmp_path, "63,1,1,145,233,1,2,150,0,2.3,3,0,6,0", "67,1,4,160,0,0,2,108,1,1.5,2,?,3,2")
    patients = data.load(tmp_path, "va")
    assert patients.ill.tolist() == [False, True]
    assert patients.x[0].tolist() == [63, 1, 1, 145, 233, 1, 2, 150, 0, 2.3, 3, 0, 6]
    assert np.flatnonzero(np.isnan(patients.x[1])).tolist() == [4, 11]


@pytest.mark.parametrize(
    ("line", "says"),
    [("63,1,1", "line 1 has 3 values, not 14"), ("63,1,x" + ",0" * 11, "line 1, column cp: 'x' is no number")],
)
def test_a_line_that_is_none_is_named(hospitals: list[ModuleType], tmp_path: Path, line: str, says: str) -> None:
    data, _ = hospitals
    heart_file(tmp_path, line)
    with pytest.raises(ConfigError, match=says):
        data.load(tmp_path, "va")
    with pytest.raises(ConfigError, match="--data is the folder above heart_disease"):
        data.load(tmp_path, "cleveland")


def test_three_in_ten_of_each_are_held_out(hospitals: list[ModuleType]) -> None:
    data, _ = hospitals
    patients = data.Patients(np.arange(100.0)[:, None].repeat(13, axis=1), np.arange(100) < 40)
    training, held_out = data.split(patients, 3)
    assert (training.ill.sum(), held_out.ill.sum()) == (28, 12)
    assert sorted([*training.x[:, 0], *held_out.x[:, 0]]) == list(range(100))
    assert (data.split(patients, 3)[1].x == held_out.x).all()
    assert (data.split(patients, 4)[1].x != held_out.x).any()


def test_the_scale_leaves_out_what_is_missing_and_auc_is_the_usual_one(hospitals: list[ModuleType]) -> None:
    data, model = hospitals
    x = np.full((4, 13), np.nan)
    x[:, 0] = [1, 2, 3, np.nan]
    scale = model.Scale.of(x)
    assert (scale.mean[0], scale.sd[0], scale.mean[1], scale.sd[1]) == (2, 1, 0, 1)
    assert scale.apply(x)[:, 0].tolist() == [-1, 0, 1, 0]
    rng = np.random.default_rng(0)
    said, ill = rng.integers(0, 5, 60).astype(float), rng.random(60) < 0.4
    assert model.auc(said, ill) == pytest.approx(roc_auc_score(ill, said))
    patients = data.Patients(rng.normal(size=(60, 13)), ill)
    weights = model.train(model.initial(), model.Scale.of(patients.x), patients, steps=50)
    assert model.auc(model.scores(weights, model.Scale.of(patients.x), patients.x), ill) > 0.6


# -- oncology --------------------------------------------------------------------------------------------------------


@pytest.fixture
def oncology() -> Iterator[list[ModuleType]]:
    with modules_of("oncology", "data", "model", "figure") as found:
        yield found


def test_the_partial_likelihood_by_hand(oncology: list[ModuleType]) -> None:
    """One feature; at weights 0 each death is held against the mean of those still observed."""
    data, model, _ = oncology
    patients = data.Patients(np.array([[1.0], [2.0], [6.0]]), np.array([True, True, False]), np.array([5.0, 5.0, 9.0]))
    gradient, hessian = model.derivatives(np.zeros(1), patients)
    # Both deaths, on the same day: all three were observed, mean 3, mean of squares 41 / 3.
    assert gradient[0] == pytest.approx((1 - 3) + (2 - 3))
    assert hessian[0, 0] == pytest.approx(2 * (41 / 3 - 9))
    nobody = data.Patients(patients.x, np.zeros(3, bool), patients.days)
    assert [part.any() for part in model.derivatives(np.zeros(1), nobody)] == [False, False]


def log_likelihood(beta: np.ndarray, x: np.ndarray, died: np.ndarray, days: np.ndarray) -> float:
    risk = x @ beta
    return float(sum(risk[i] - np.log(np.exp(risk[days >= days[i]]).sum()) for i in np.flatnonzero(died)))


def test_the_derivatives_are_those_of_the_likelihood(oncology: list[ModuleType]) -> None:
    data, model, _ = oncology
    rng = np.random.default_rng(1)
    x, died, days = rng.normal(size=(40, 3)), rng.random(40) < 0.5, rng.integers(1, 15, 40).astype(float)
    beta, step = rng.normal(size=3) * 0.5, 1e-5
    gradient, hessian = model.derivatives(beta, data.Patients(x, died, days))
    for number, unit in enumerate(np.eye(3) * step):
        slope = (log_likelihood(beta + unit, x, died, days) - log_likelihood(beta - unit, x, died, days)) / (2 * step)
        assert gradient[number] == pytest.approx(slope, rel=1e-5)
        ahead, behind = (model.derivatives(beta + way * unit, data.Patients(x, died, days))[0] for way in (1, -1))
        np.testing.assert_allclose(-hessian[number], (ahead - behind) / (2 * step), rtol=1e-4)


def test_the_c_index_by_hand(oncology: list[ModuleType]) -> None:
    data, model, _ = oncology
    patients = data.Patients(np.zeros((4, 1)), np.array([True, True, False, True]), np.array([1.0, 2.0, 3.0, 4.0]))
    # Pairs: (1,2) (1,3) (1,4) (2,3) (2,4); of risks 5, 1, 1, 3 right are three, half right one.
    assert model.concordance(np.array([5.0, 1.0, 1.0, 3.0]), patients) == pytest.approx(3.5 / 5)


def test_survival_by_hand(oncology: list[ModuleType]) -> None:
    _, _, figure = oncology
    days, alive = figure.kaplan_meier(np.array([True, False, True, False]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert days.tolist() == [0, 1, 3]
    assert alive.tolist() == pytest.approx([1, 3 / 4, 3 / 8])


# -- finance ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def finance() -> Iterator[list[ModuleType]]:
    with modules_of("finance", "data", "model") as found:
        yield found


def fraud_file(folder: Path, rows: list[list[float]]) -> None:
    (folder / "fraud_ulb").mkdir()
    with gzip.open(folder / "fraud_ulb" / "creditcard_sample.csv.gz", "wt") as stream:
        stream.write("Time," + ",".join(f"V{number}" for number in range(1, 29)) + ",Amount,Class\n")
        stream.writelines(",".join(map(str, row)) + "\n" for row in rows)


def test_payments_are_in_the_order_of_time_and_the_last_quarter_is_the_test(
    finance: list[ModuleType], tmp_path: Path
) -> None:
    data, _ = finance
    fraud_file(
        tmp_path, [[time, *[0.0] * 28, float(time), int(time % 4 == 0)] for time in (*range(20, 40), *range(20))]
    )
    payments = data.load(tmp_path)
    np.testing.assert_allclose(np.expm1(payments.x[:, -1]), np.arange(40), rtol=1e-5)
    banks, later = data.split(payments)
    assert [len(bank.fraud) for bank in banks.values()] == [6] * 5
    np.testing.assert_allclose(np.expm1(later.x[:, -1]), np.arange(30, 40), rtol=1e-5)
    assert np.expm1(banks["bank-5"].x[-1, -1]) == pytest.approx(29)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ([0] * 30, "line 2: there are 30 values, not 31"),
        ([0] * 5 + ["abc"] + [0] * 25, "line 2: column V5 holds 'abc', which is no number"),
        (None, "there are no payments"),
    ],
)
def test_a_file_of_payments_that_is_none_is_named(
    finance: list[ModuleType], tmp_path: Path, row: list[Any] | None, says: str
) -> None:
    data, _ = finance
    fraud_file(tmp_path, [] if row is None else [row])
    with pytest.raises(ConfigError, match=says):
        data.load(tmp_path)


def test_average_precision_at_the_true_rate_is_scikit_learns_with_weights(finance: list[ModuleType]) -> None:
    _, model = finance
    rng = np.random.default_rng(2)
    said, fraud = rng.integers(0, 30, 300).astype(np.float32), rng.random(300) < 0.1
    weights = np.where(fraud, 1, 29.8)
    expected = average_precision_score(fraud, said, sample_weight=weights)
    assert model.average_precision(said, fraud, 29.8) == pytest.approx(expected)
    # By hand: fraud, genuine, fraud; the second fraud is found together with one that stands for ten.
    assert model.average_precision(np.array([3.0, 2.0, 1.0]), np.array([True, False, True]), 10) == pytest.approx(
        (1 + 2 / 12) / 2
    )
