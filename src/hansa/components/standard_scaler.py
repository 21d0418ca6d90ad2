"""Scaling at a site by the federation's mean and standard deviation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hansa.apis.fl_component import FLComponent


@final
class StandardScaler(FLComponent):
    """(x - mean) / sd, with the mean and sd of all sites together; part of the site's state, from task to task.

    `ScalerExecutor` fits it when the server sends the statistics; a trainer of the same job takes it as
    `fl_ctx.get_engine().get_component("scaler")`.
    """

    hears = frozenset[str]()

    def __init__(self) -> None:
        super().__init__()
        self._features: tuple[str, ...] = ()
        self._mean: NDArray[np.float64] = np.empty(0)
        self._sd: NDArray[np.float64] = np.empty(0)

    @property
    def is_fitted(self) -> bool:
        """Whether it knows mean and sd."""
        return bool(self._features)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns that it scales, in their order."""
        return self._features

    @property
    def mean(self) -> NDArray[np.float64]:
        """The federation's means, float64[k]."""
        return self._mean

    @property
    def sd(self) -> NDArray[np.float64]:
        """Its standard deviations, float64[k]; 1 where a feature is constant or its sd is not known."""
        return self._sd

    def fit(self, features: Sequence[str], mean: ArrayLike, *, sd: ArrayLike) -> None:
        """Take the federation's numbers.

        Raises:
            ValueError: They do not fit together.
        """
        means, sds = np.array(mean, np.float64), np.array(sd, np.float64)
        if means.shape != (len(features),) or sds.shape != means.shape or not np.isfinite(means).all():
            raise ValueError(f"{len(features)} features need as many means and standard deviations")
        self._features, self._mean = tuple(map(str, features)), means
        self._sd = np.where(np.isfinite(sds) & (sds > 0), sds, 1.0)

    def transform(self, table: ArrayLike | Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        """Scaled values, float64[rows, features].

        Args:
            table: Columns by name (others are left out), or an array (rows, features) in the order of `features`.

        Raises:
            RuntimeError: It is not fitted.
            ValueError: A column is missing, or there are more or fewer than `features`.
        """
        if not self.is_fitted:
            raise RuntimeError("the scaler is not fitted: let the task 'preprocess' come first")
        if isinstance(table, Mapping):
            missing = [name for name in self._features if name not in table]
            if missing:
                raise ValueError(f"there is no column {missing[0]!r}")
            values = np.stack([np.asarray(table[name], np.float64) for name in self._features], axis=1)
        else:
            values = np.asarray(table, np.float64)
        if values.ndim != 2 or values.shape[1] != len(self._features):
            raise ValueError(f"the scaler knows {len(self._features)} features, the table has shape {values.shape}")
        scaled: NDArray[np.float64] = (values - self._mean) / self._sd
        return scaled

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """Features, means and standard deviations."""
        return {"features": list(self._features), "mean": self._mean, "sd": self._sd}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self._features = tuple(state["features"])
        self._mean, self._sd = np.array(state["mean"], np.float64), np.array(state["sd"], np.float64)
