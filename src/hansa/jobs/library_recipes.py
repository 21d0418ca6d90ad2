"""Jobs in Python for models that are no mean of weights: trees, sufficient statistics, centres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from hansa.errors import ConfigError
from hansa.jobs.component import Component
from hansa.jobs.initial_weights import InitialWeights
from hansa.jobs.job import Job
from hansa.jobs.recipe_options import NOT_IN_TURN, CyclicOptions, Options, check_options
from hansa.jobs.recipe_parts import Trainer, Way, job_of
from hansa.jobs.recipes import Model, Part, Script

_AGGREGATORS = "hansa.components.aggregators"
_GENERATOR = "hansa.components.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator"
_WHOLE = ("params_type", "names", "aggregator")
"""Options that say how tensors are averaged; here none are."""


def xgboost_bagging(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[Options]
) -> Job:
    """Boosted trees that grow side by side: in each round every site adds trees to the same model.

    What the new trees of a round add to a prediction is the mean of what each site's would, weighted by rows; with one
    site that is plain boosting. Breiman, "Bagging Predictors", 1996, Machine Learning 24; Chen and Guestrin,
    "XGBoost: A Scalable Tree Boosting System", 2016, arXiv:1603.02754.

    Args:
        model: The booster to begin with: `hansa.client.xgboost.start(...)`, which has no trees, or a trained one.
        executor: As in `fed_avg`.
        script: Likewise; it answers with `hansa.client.xgboost.grow(...)`.
        rounds: How many times each site adds trees; at least 1.
        options: See `Options`; but `params_type`, `names` and `aggregator`, which say how tensors are averaged.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    way = Way(
        recipe="xgboost_bagging",
        aggregator=Component(f"{_AGGREGATORS}.tree_bagging.TreeBaggingAggregator"),
        generator=Component(_GENERATOR, keep_missing=True),
    )
    return _merged(_booster(model), Trainer(executor, script), rounds, options=options, way=way)


def xgboost_cyclic(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 5, **options: Unpack[CyclicOptions]
) -> Job:
    """Boosted trees that grow one site after the other: each adds trees to what the ones before have made.

    See `cyclic` and `xgboost_bagging`.

    Args:
        model: As in `xgboost_bagging`.
        executor: Likewise.
        script: Likewise.
        rounds: How many passes over the sites; at least 1.
        options: See `CyclicOptions`; but `params_type`, `names` and `aggregator`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    for key, why in NOT_IN_TURN.items():
        if key in options:
            raise ConfigError(f"xgboost_cyclic {why}", key=key)
    check_options("xgboost_cyclic", options, CyclicOptions)
    way = Way(recipe="xgboost_cyclic", generator=Component(_GENERATOR, keep_missing=True), in_turn=True)
    given = _unaveraged("xgboost_cyclic", options)
    return job_of(_booster(model), Trainer(executor, script), rounds, options={**given, "names": "any"}, way=way)


def naive_bayes(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 1, **options: Unpack[Options]
) -> Job:
    """Naive Bayes of scikit-learn, exactly as if all rows were in one place: sites send counts and moments by class.

    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances", 1979.

    Args:
        model: The estimator as `hansa.client.sklearn.prepare(...)` returns it: it knows classes and features.
        executor: As in `fed_avg`.
        script: Likewise; it answers with `hansa.client.sklearn.statistics_of(...)`.
        rounds: One is enough; each begins anew.
        options: See `Options`; but `params_type`, `names` and `aggregator`, which say how tensors are averaged.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    way = Way(
        recipe="naive_bayes", aggregator=Component(f"{_AGGREGATORS}.pooled_statistics.PooledStatisticsAggregator")
    )
    return _merged(model, Trainer(executor, script), rounds, options=options, way=way)


def k_means(
    model: Model, *, executor: Part = None, script: Script = None, rounds: int = 10, **options: Unpack[Options]
) -> Job:
    """K-means over all sites: each sends centres and how many rows lie at each; the new centres are their means.

    With one step of Lloyd's algorithm at each site a round is one step over all rows. The first round starts it: sites
    send centres of their own, and the server chooses among them. Lloyd, "Least Squares Quantization in PCM", 1982,
    IEEE Trans. Inf. Theory 28; the start after Arthur and Vassilvitskii, "k-means++", 2007.

    Args:
        model: `hansa.client.sklearn.no_centers(clusters, features=...)`; or `centers` and `counts` to begin with.
        executor: As in `fed_avg`.
        script: Likewise; it answers with `hansa.client.sklearn.centers_of(...)`.
        rounds: How many steps, the start included.
        options: See `Options`; but `params_type`, `names` and `aggregator`, which say how tensors are averaged.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    way = Way(recipe="k_means", aggregator=Component(f"{_AGGREGATORS}.k_means.KMeansAggregator"))
    return _merged(model, Trainer(executor, script), rounds, options=options, way=way)


def _merged(
    model: Model,
    trainer: Trainer,
    rounds: int,
    *,
    options: Mapping[str, Any],  # Any: one of the options' TypedDicts
    way: Way,
) -> Job:
    check_options(way.recipe, options, Options)
    return job_of(model, trainer, rounds, options=_unaveraged(way.recipe, options), way=way)


def _unaveraged(recipe: str, options: Mapping[str, Any]) -> dict[str, Any]:  # Any: as above
    for key in _WHOLE:
        if key in options:
            raise ConfigError(f"{recipe} averages no tensors, so there is nothing to say of how", key=key)
    return dict(options)


def _booster(model: Model) -> InitialWeights:
    weights = InitialWeights.of(model)
    if "start" not in weights.arrays:
        raise ConfigError("must be an xgboost.Booster, such as hansa.client.xgboost.start(...)", key="model")
    return weights
