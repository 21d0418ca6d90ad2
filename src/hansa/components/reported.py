"""What a site's result reports beside its tensors: steps and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.shareable import Shareable

Meta = Mapping[str, Any]  # Any: whatever the codec can carry


def dxo_of(result: Shareable) -> DXO | None:
    """The DXO of a result; None where it holds none."""
    try:
        return from_shareable(result)
    except ValueError:
        return None


def meta_of(dxo: DXO | None) -> Meta:
    """What a DXO says about itself; a COLLECTION says what it does not say itself through its model's weights."""
    if dxo is None:
        return {}
    weights = dxo.data.get(AppConstants.MODEL_WEIGHTS) if dxo.data_kind == DataKind.COLLECTION else None
    return {**weights.meta, **dxo.meta} if isinstance(weights, DXO) else dxo.meta


def metric_in(meta: Meta, name: str) -> object:
    """What is reported under this name: the entry itself, or one of several in INITIAL_METRICS; None if nothing is."""
    if (value := meta.get(name)) is not None and not isinstance(value, Mapping):
        return value
    several = meta.get(MetaKey.INITIAL_METRICS)
    return several.get(name) if isinstance(several, Mapping) else None


def initial_metrics(meta: Meta) -> Mapping[str, object]:
    """How the received model did, by name of the metric."""
    reported = meta.get(MetaKey.INITIAL_METRICS)
    if isinstance(reported, Mapping):
        return {str(name): value for name, value in reported.items()}
    return {} if reported is None else {MetaKey.INITIAL_METRICS: reported}
