"""scikit-learn in a federation: what an estimator has learned, to and from `FLModel`.

::

    model = fs.prepare(SGDClassifier(), classes=range(10), features=64)
    while flare.is_running():
        fs.load(model, flare.receive().params)
        model.partial_fit(x, y)
        flare.send(flare.FLModel(params=fs.weights_of(model), num_steps=len(x)))

Linear models go with `fed_avg` and its like, naive Bayes with the recipe `naive_bayes`, centres with `k_means`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hansa.algorithms.k_means import lloyd_step
from hansa.algorithms.pooled_statistics import moments_by_class, pooled_moments
from hansa.apis.library_weights import COUNTED, GAUSSIAN, estimator_arrays, estimator_names
from hansa.client.model import FLModel
from hansa.errors import MissingExtra

try:
    from sklearn.base import clone, is_classifier
    from sklearn.cluster import KMeans
except ImportError:
    raise MissingExtra("hansa.client.sklearn", extra="sklearn") from None

__all__ = ["centers_of", "load", "no_centers", "prepare", "statistics_of", "weights_of"]

Params = Mapping[str, Any]  # Any: arrays or tensors
Estimator = Any  # Any: scikit-learn has no types
Floats = NDArray[np.float64]

_CLASSES = "hansa_classes_"


def prepare(estimator: Estimator, *, classes: Iterable[Any] | None = None, features: int) -> Estimator:  # Any: labels
    """An estimator that has learned nothing, but has everything that it will learn: for a recipe's `model`, and sites.

    Args:
        estimator: A linear model (SGDClassifier, SGDRegressor, LogisticRegression with warm_start, ...), GaussianNB,
            MultinomialNB or BernoulliNB. It is changed in place.
        classes: A classifier's, all of them: a site may have rows of one alone.
        features: How many columns the data have.

    Returns:
        The estimator.

    Raises:
        ValueError: A classifier's classes are missing or fewer than two; the estimator is of no such kind.
    """
    name = type(estimator).__name__
    estimator.n_features_in_ = features
    if not is_classifier(estimator):
        estimator.coef_, estimator.intercept_ = np.zeros(features), np.zeros(1)
        return estimator
    if classes is None:
        raise ValueError(f"{name} needs classes=[...]: all there are, as a site may have rows of one alone")
    known = np.unique(np.asarray(list(classes)))
    if len(known) < 2:
        raise ValueError(f"{name} needs two classes or more, and classes= has {len(known)}")
    if getattr(estimator, "average", False):
        raise ValueError(f"{name}: average=True keeps a second set of weights, which does not travel")
    estimator.classes_ = known
    setattr(estimator, _CLASSES, known)
    table = np.zeros((len(known), features))
    if hasattr(estimator, "var_smoothing"):
        estimator.class_count_, estimator.theta_, estimator.var_ = np.zeros(len(known)), table, table.copy()
    elif hasattr(estimator, "fit_prior"):
        estimator.class_count_, estimator.feature_count_ = np.zeros(len(known)), table
    else:
        rows = 1 if len(known) == 2 else len(known)
        estimator.coef_, estimator.intercept_ = table[:rows].copy(), np.zeros(rows)
    return estimator


def weights_of(estimator: Estimator) -> dict[str, Any]:  # Any: arrays
    """What a linear model has learned, to be averaged; copies.

    Raises:
        ValueError: It is not fitted, is no linear model, or has learned other classes than those it was prepared for.
    """
    name = type(estimator).__name__
    names = estimator_names(estimator)
    if "coef_" not in names:
        kind = "naive Bayes sends statistics_of(...)" if names else "it has no coef_ and intercept_ yet"
        raise ValueError(f"{name}: {kind}")
    known: Any = getattr(estimator, _CLASSES, None)  # Any: labels
    learned: Any = getattr(estimator, "classes_", None)  # Any: likewise
    if known is not None and not np.array_equal(known, learned):
        raise ValueError(
            f"this site has rows of {len(learned)} of the {len(known)} classes, and {name}.fit forgets the others: "
            "take SGDClassifier and its partial_fit"
        )
    return estimator_arrays(estimator)


def load(estimator: Estimator, params: Params) -> None:
    """Give an estimator what the federation has learned. Alone, where nothing comes, it stays as it is.

    Raises:
        ValueError: The estimator was not prepared, shapes differ, or no site has a row of some class.
    """
    arrays = {name: np.asarray(value) for name, value in params.items()}
    if not arrays:
        return
    if set(estimator_names(estimator)) != set(arrays):
        raise ValueError(f"{type(estimator).__name__} must come from prepare(...); the model has {sorted(arrays)}")
    for name, value in arrays.items():
        old = np.asarray(getattr(estimator, name))
        if old.shape != value.shape:
            raise ValueError(f"{name} has shape {value.shape}, the estimator's has {old.shape}")
        setattr(estimator, name, np.array(value, np.float64, order="C"))
    if set(arrays) == {"coef_", "intercept_"} or not estimator.class_count_.any():
        return
    if missing := [each for each, count in zip(estimator.classes_, estimator.class_count_, strict=True) if not count]:
        raise ValueError(f"no site has a row of class {missing[0]}")
    _finish_bayes(estimator)


def statistics_of(estimator: Estimator, x: ArrayLike, y: ArrayLike) -> dict[str, Any]:  # Any: arrays
    """What naive Bayes needs to know of this site's rows; nothing is left of single rows where a class has several.

    Args:
        estimator: From `prepare`.
        x: [n, f]; n may be 0.
        y: The class of each row.

    Raises:
        ValueError: The estimator was not prepared, a row is of another class, or the columns do not fit.
    """
    names, (rows, labels) = estimator_names(estimator), (np.asarray(x), np.asarray(y))
    if names not in (GAUSSIAN, COUNTED) or not hasattr(estimator, _CLASSES):
        raise ValueError(f"{type(estimator).__name__} is no naive Bayes from prepare(...)")
    if unknown := [label for label in np.unique(labels) if label not in estimator.classes_]:
        raise ValueError(f"this site has rows of class {unknown[0]}, which is none of classes=")
    if rows.ndim != 2 or rows.shape[1] != estimator.n_features_in_:
        raise ValueError(f"rows of {estimator.n_features_in_} columns are expected, not an array of shape {rows.shape}")
    if names == GAUSSIAN:
        return dict(zip(GAUSSIAN, moments_by_class(rows, labels, classes=estimator.classes_), strict=True))
    if not len(rows):
        return {name: np.zeros_like(getattr(estimator, name)) for name in COUNTED}
    return estimator_arrays(clone(estimator).partial_fit(rows, labels, classes=estimator.classes_))


def no_centers(clusters: int, *, features: int) -> dict[str, Any]:  # Any: arrays
    """The model of the recipe `k_means` before there are centres."""
    return {"centers": np.zeros((clusters, features)), "counts": np.zeros(clusters)}


def centers_of(incoming: FLModel, x: ArrayLike, *, clusters: int = 8) -> FLModel:
    """The answer of a site to the recipe `k_means`.

    Before there are centres it holds the site's own, else the means of the rows nearest to each centre that came (one
    step of Lloyd's), and in both cases how many rows these are. The metric `inertia` is the mean squared distance
    of a row to the centres that came.

    Args:
        incoming: What `receive` returned.
        x: The site's rows, [n, f]; n may be 0.
        clusters: How many centres to find alone, where nothing comes.
    """
    rows = np.asarray(x, np.float64)
    has_start = bool(incoming.params) and bool(np.asarray((incoming.params or {})["counts"]).any())
    if has_start and incoming.params:
        centers, counts, inertia = lloyd_step(rows, np.asarray(incoming.params["centers"], np.float64))
        metrics = {"inertia": inertia / len(rows)} if len(rows) else {}
        return FLModel({"centers": centers, "counts": counts}, metrics=metrics, num_steps=len(rows) or None)
    wanted = len(incoming.params["counts"]) if incoming.params else clusters
    answer = no_centers(wanted, features=rows.shape[1])
    if len(found := np.unique(rows, axis=0)):
        own = KMeans(min(wanted, len(found)), n_init=4, random_state=int(np.random.randint(2**31))).fit(rows)  # noqa: NPY002  seeded for each task
        answer["centers"][: own.n_clusters] = own.cluster_centers_
        answer["counts"][: own.n_clusters] = np.bincount(own.labels_, minlength=own.n_clusters)
    return FLModel(answer, num_steps=len(rows) or None)


def _finish_bayes(estimator: Estimator) -> None:
    """What scikit-learn derives from the statistics at the end of `partial_fit`."""
    if hasattr(estimator, "theta_"):
        parts = (values[:, None] for values in (estimator.class_count_, estimator.theta_, estimator.var_))
        _, _, spread = pooled_moments(*parts)
        estimator.epsilon_ = estimator.var_smoothing * spread.max()
        estimator.var_ = estimator.var_ + estimator.epsilon_
        prior = estimator.priors
        share = estimator.class_count_ / estimator.class_count_.sum()
        estimator.class_prior_ = share if prior is None else np.asarray(prior)
    else:
        estimator._update_feature_log_prob(estimator._check_alpha())
        estimator._update_class_log_prior(class_prior=estimator.class_prior)
