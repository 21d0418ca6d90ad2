"""What a site's result says about itself."""

from __future__ import annotations

from typing import NamedTuple

from hansa.apis.dxo import MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.shareable import Shareable
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
    initial_metric: float | None
    """How the received model did before training, INITIAL_METRICS; None where it does not say."""


def facts_of(result: Shareable) -> Facts:
    """What a result says about itself; one without a DXO says nothing."""
    try:
        meta = from_shareable(result).meta
    except ValueError:
        meta = {}
    steps = as_float(meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND))
    return Facts(1.0 if steps is None else steps, as_float(meta.get(MetaKey.INITIAL_METRICS)))
