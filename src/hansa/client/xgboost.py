"""XGBoost in a federation: the trees of a script's booster, to and from `FLModel`.

::

    import xgboost
    import hansa.client as flare
    import hansa.client.xgboost as fx

    flare.init()
    while flare.is_running():
        flare.send(fx.grow(PARAMS, data, flare.receive(), trees=1))

`data` is an `xgboost.DMatrix` of the site's own rows. The server puts the new trees of all sites side by side (the
recipe `xgboost_bagging`), or the model goes from one to the next (`xgboost_cyclic`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hansa.algorithms.boosted_trees import START, joined_model, next_piece, to_tensor
from hansa.client.model import FLModel
from hansa.errors import MissingExtra, RuleError

try:
    import xgboost
except ImportError:
    raise MissingExtra("hansa.client.xgboost", extra="xgboost") from None

__all__ = ["booster_of", "grow", "start"]

_DRAWS = ("subsample", "colsample_bytree", "colsample_bylevel", "colsample_bynode")


def start(params: Mapping[str, Any], *, features: int | Sequence[str]) -> xgboost.Booster:  # Any: XGBoost's own
    """A booster without trees, for a recipe's `model`.

    Args:
        params: XGBoost's, as for `xgboost.train`. `base_score` is 0.5 unless given: sites must begin at one point, and
            XGBoost would take it from each site's own labels.
        features: How many there are, or their names.
    """
    names = None if isinstance(features, int) else list(features)
    rows = np.zeros((2, features if isinstance(features, int) else len(features)))
    data = xgboost.DMatrix(rows, np.array([0.0, 1.0]), feature_names=names)
    return xgboost.train({"base_score": 0.5, **params}, data, num_boost_round=0)


def booster_of(params: Mapping[str, Any]) -> xgboost.Booster:  # Any: tensors of bytes
    """The booster of a model: of `FLModel.params`, or of `Run.model`.

    Raises:
        RuleError: It is no model of trees.
    """
    booster = xgboost.Booster()
    booster.load_model(bytearray(joined_model({name: np.asarray(value) for name, value in params.items()})))
    return booster


def grow(
    params: Mapping[str, Any],  # Any: XGBoost's own
    data: xgboost.DMatrix,
    incoming: FLModel,
    *,
    trees: int = 1,
    evals: Sequence[tuple[xgboost.DMatrix, str]] = (),
) -> FLModel:
    """Train from the model that came, and answer with what is new.

    Where rows or columns are sampled (`subsample` and the like), the seed is drawn from NumPy's global generator, which
    Hansa seeds for each task: else each round would draw the same ones.

    Args:
        params: XGBoost's, as for `xgboost.train`; the same at all sites.
        data: This site's rows.
        incoming: What `receive` returned. Alone, where nothing comes, training begins from nothing.
        trees: How many iterations; each grows one tree, or one per class.
        evals: What to measure the model on that came, before training: `[(test, "test")]` gives the metric
            `test-logloss`, or whatever `eval_metric` says.

    Returns:
        The answer: the new trees, the number of rows as its weight, the metrics.

    Raises:
        ValueError: There are no rows, or this booster's trees cannot be joined with others.
    """
    if data.num_row() == 0:
        raise ValueError("this site has no rows to grow trees from")
    drawn = {"seed": int(np.random.randint(2**31))} if any(key in params for key in _DRAWS) else {}  # noqa: NPY002  seeded for each task
    settings = {"base_score": 0.5, **params, **drawn}
    if not incoming.params:
        alone = xgboost.train(settings, data, num_boost_round=trees)
        return FLModel({START: _tensor_of(alone)}, num_steps=data.num_row(), metrics=_measured(alone, evals))
    model = booster_of(incoming.params)
    before = model.num_boosted_rounds()
    model.set_param(settings)
    metrics = _measured(model, evals)
    grown = xgboost.train(settings, data, num_boost_round=trees, xgb_model=model)
    name = next_piece(incoming.params)
    return FLModel({name: _tensor_of(grown[before:])}, num_steps=data.num_row(), metrics=metrics)


def _tensor_of(booster: xgboost.Booster) -> Any:  # Any: a tensor of bytes
    try:
        tensor = to_tensor(booster.save_raw("json"))
        joined_model({START: tensor})
    except RuleError as error:
        raise ValueError(error.reason.replace(f"tensor '{START}'", "this model")) from None
    return tensor


def _measured(booster: xgboost.Booster, evals: Sequence[tuple[xgboost.DMatrix, str]]) -> dict[str, float]:
    if not evals:
        return {}
    _, *parts = booster.eval_set(list(evals)).split("\t")
    pairs = (part.rpartition(":") for part in parts)
    return {name: float(value) for name, _, value in pairs}
