"""scikit-learn through whole federations: what pooled data, or a bare loop, would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import BernoulliNB, GaussianNB, MultinomialNB

import hansa
import hansa.client.sklearn as fs
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.shareable import Shareable
from hansa.client import FLModel
from hansa.errors import ConfigError, RunError
from hansa.jobs import Component, fed_avg, k_means, naive_bayes

CLASSES, FEATURES = [0, 1, 2], 4
MODELS = {
    "sgd": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "regressor": lambda: SGDRegressor(random_state=0),
    "logistic": lambda: LogisticRegression(warm_start=True, tol=0.5),
    "gaussian": lambda: GaussianNB(),
    "multinomial": lambda: MultinomialNB(),
    "bernoulli": lambda: BernoulliNB(binarize=2.0),
}


def new_model(kind: str, classes: Any = CLASSES) -> Any:
    return fs.prepare(MODELS[kind](), classes=classes, features=FEATURES)


def data_of(site: str) -> tuple[Any, Any]:
    """Whole numbers by class; site-1 has class 0 only, site-4 no rows."""
    number = int(site.rpartition("-")[2])
    rng = np.random.default_rng(number)
    y = rng.integers(0, 3, 0 if number == 4 else 30 + number)
    y[:] = 0 if number == 1 else y
    return rng.poisson(2 + y[:, None] * np.arange(FEATURES), (len(y), FEATURES)).astype(float), y


def scattered(x: Any) -> Any:
    """No two rows at one place, so that no row is as near to one centre as to another."""
    return x + np.random.default_rng(len(x)).normal(0, 0.1, x.shape)


class Site(Executor):
    """Works as a script would; `what` is a model, or `clusters`."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what
        self.model: Any = None if what == "clusters" else new_model(what)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: Any, abort_signal: Any) -> Shareable:
        x, y = data_of(fl_ctx.get_identity_name())
        params = from_shareable(shareable).data
        meta = {}
        if self.what == "clusters":
            answer: Any = fs.centers_of(FLModel(params), scattered(x)).params
        elif self.what in ("gaussian", "multinomial", "bernoulli"):
            answer = fs.statistics_of(self.model, x, y)
        else:
            answer = trained(self.model, params, x, y)
            meta[MetaKey.NUM_STEPS_CURRENT_ROUND] = len(x)
        return DXO(DataKind.WEIGHTS, answer, meta).to_shareable()


def trained(model: Any, params: Any, x: Any, y: Any) -> dict[str, Any]:
    fs.load(model, params)
    (model.partial_fit if hasattr(model, "partial_fit") else model.fit)(x, y)
    return fs.weights_of(model)


@pytest.mark.parametrize("kind", ["sgd", "regressor"])
def test_linear_models_are_a_bare_loop(tmp_path: Path, kind: str) -> None:
    job = fed_avg(new_model(kind), executor=Component(Site, what=kind), rounds=3)
    run = hansa.simulate(job, 3, workers=0, home=tmp_path)
    sites = [(MODELS[kind](), *data_of(f"site-{number}")) for number in (1, 2, 3)]
    weights = {name: np.zeros_like(value) for name, value in run.model.items()}
    for _ in range(3):
        means = {name: np.zeros_like(value) for name, value in weights.items()}
        for model, x, y in sites:
            if not hasattr(model, "coef_") and kind == "sgd":  # scikit-learn's own way to tell it the classes
                model.classes_ = np.array(CLASSES)
            model.n_features_in_ = FEATURES
            for name, value in weights.items():
                setattr(model, name, value.copy())
            model.partial_fit(x, y)
            for name in means:
                means[name] += len(x) / sum(len(each[1]) for each in sites) * getattr(model, name)
        weights = means
    for name, value in weights.items():
        np.testing.assert_allclose(run.model[name], value, rtol=0, atol=1e-6)


def test_logistic_regression_goes_on_from_what_it_was_given() -> None:
    x, y = data_of("site-2")
    whole = LogisticRegression().fit(x, y)  # to a much finer tolerance
    begun = new_model("logistic")
    fs.load(begun, {"coef_": whole.coef_, "intercept_": whole.intercept_})
    again = trained(begun, {}, x, y)
    other = trained(new_model("logistic"), {}, x, y)
    np.testing.assert_allclose(again["coef_"], whole.coef_, atol=1e-3)
    assert np.abs(other["coef_"] - whole.coef_).max() > 0.1


@pytest.mark.parametrize("kind", ["gaussian", "multinomial", "bernoulli"])
def test_naive_bayes_is_what_all_rows_together_give(tmp_path: Path, kind: str) -> None:
    job = naive_bayes(new_model(kind), executor=Component(Site, what=kind))
    run = hansa.simulate(job, 4, workers=0, home=tmp_path)
    model = new_model(kind)
    fs.load(model, run.model)
    x, y = (np.concatenate(each) for each in zip(*(data_of(f"site-{number}") for number in (1, 2, 3)), strict=True))
    pooled = MODELS[kind]().fit(x, y)
    for name in ("class_count_", "theta_", "var_", "feature_count_", "feature_log_prob_", "class_log_prior_"):
        if hasattr(pooled, name):
            np.testing.assert_allclose(getattr(model, name), getattr(pooled, name), rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(model.predict_log_proba(x), pooled.predict_log_proba(x), atol=1e-9)


def test_rounds_of_k_means_are_steps_over_all_rows(tmp_path: Path) -> None:
    x = np.concatenate([scattered(data_of(f"site-{number}")[0]) for number in (1, 2, 3)])
    start = {"centers": x[[0, 40, 80]], "counts": np.ones(3)}
    job = k_means(start, executor=Component(Site, what="clusters"), rounds=4)
    run = hansa.simulate(job, 4, workers=0, home=tmp_path)
    pooled = KMeans(3, init=start["centers"], n_init=1, max_iter=4, tol=0).fit(x)
    np.testing.assert_allclose(run.model["centers"], pooled.cluster_centers_, atol=1e-6)


def test_k_means_finds_a_start_of_its_own(tmp_path: Path) -> None:
    job = k_means(fs.no_centers(3, features=FEATURES), executor=Component(Site, what="clusters"), rounds=8)
    run = hansa.simulate(job, 4, workers=0, home=tmp_path)
    x = np.concatenate([scattered(data_of(f"site-{number}")[0]) for number in (1, 2, 3)])
    own = float(((x[:, None] - run.model["centers"]) ** 2).sum(2).min(1).sum())
    assert own < 1.15 * KMeans(3, n_init=10, random_state=0).fit(x).inertia_
    assert run.model["counts"].sum() == len(x)


def test_a_fit_that_forgets_classes_is_named(tmp_path: Path) -> None:
    x, y = data_of("site-2")
    with pytest.raises(ValueError, match=r"rows of 2 of the 3 classes, and LogisticRegression\.fit forgets the others"):
        trained(new_model("logistic").set_params(warm_start=False), {}, x[y < 2], y[y < 2])
    job = fed_avg(new_model("logistic"), executor=Component(Site, what="logistic"), rounds=1)
    with pytest.raises(RunError, match=r"site-1: EXECUTION_EXCEPTION ValueError: .*at least 2 classes"):
        hansa.simulate(job, 2, workers=0, home=tmp_path)


def test_a_class_that_no_site_has_is_named() -> None:
    model = new_model("gaussian")
    with pytest.raises(ValueError, match="no site has a row of class 1"):
        fs.load(model, fs.statistics_of(model, *data_of("site-1")))


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda: fs.prepare(SGDClassifier(), features=2), "SGDClassifier needs classes="),
        (lambda: fs.prepare(GaussianNB(), classes=[1], features=2), "two classes or more, and classes= has 1"),
        (lambda: fs.prepare(SGDClassifier(average=True), classes=[0, 1], features=2), "average=True"),
        (lambda: fs.weights_of(new_model("gaussian")), "naive Bayes sends statistics_of"),
        (lambda: fs.weights_of(SGDClassifier()), "no coef_ and intercept_ yet"),
        (
            lambda: fs.load(SGDClassifier(), dict.fromkeys(("coef_", "intercept_"), np.zeros(2))),
            "must come from prepare",
        ),
        (
            lambda: fs.load(new_model("sgd"), dict.fromkeys(("coef_", "intercept_"), np.zeros(2))),
            r"coef_ has shape \(2,\)",
        ),
        (lambda: fs.statistics_of(GaussianNB(), [[1.0]], [0]), "no naive Bayes from prepare"),
        (lambda: fs.statistics_of(new_model("gaussian"), np.ones((1, 4)), [7]), "rows of class 7"),
        (lambda: fs.statistics_of(new_model("gaussian"), np.ones((1, 3)), [0]), r"rows of 4 columns.*\(1, 3\)"),
    ],
)
def test_mistakes_are_one_line(act: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_an_estimator_that_was_not_prepared_is_no_model() -> None:
    with pytest.raises(ConfigError, match=r"model: this SGDClassifier has no parameters yet: .*\.prepare"):
        fed_avg(SGDClassifier(), executor=Site)


def test_what_is_no_statistics_is_refused(tmp_path: Path) -> None:
    job = naive_bayes(new_model("gaussian"), executor=Component(Site, what="multinomial"))
    with pytest.raises(RunError, match=r"site-1: .*theta_.* is missing"):
        hansa.simulate(job, 1, workers=0, home=tmp_path)


def test_alone_nothing_changes() -> None:
    model = new_model("sgd")
    fs.load(model, {})
    assert not model.coef_.any()
    answer = fs.centers_of(FLModel(), data_of("site-2")[0], clusters=3).params
    assert answer is not None
    assert answer["counts"].sum() == 32
