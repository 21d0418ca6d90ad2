"""What a site's result says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from hansa.apis.dxo import MetaKey
from hansa.apis.engine import RoundKey
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.shareable import Shareable
from hansa.components.reported import dxo_of, initial_metrics, meta_of
from hansa.components.scalars import as_float


def failure_of(result: Shareable) -> str | None:
    """What went wrong at the site, in one line; None if nothing did."""
    code = result.get_return_code()
    if not code or code == ReturnCode.OK:
        return None
    return f"{code} {result.get_header(RoundKey.ERROR) or ''}".strip()


class Facts(NamedTuple):
    """What the history keeps of a result."""

    num_steps: float
    """The local work behind it, NUM_STEPS_CURRENT_ROUND; 1.0 where it does not say."""
    initial_metrics: Mapping[str, float]
    """How the received model did before training, INITIAL_METRICS; only what is a number."""


def facts_of(result: Shareable) -> Facts:
    """What a result says about itself; one without a DXO says nothing."""
    meta = meta_of(dxo_of(result))
    steps = as_float(meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND))
    numbers = {name: number for name, value in initial_metrics(meta).items() if (number := as_float(value)) is not None}
    return Facts(1.0 if steps is None else steps, numbers)
