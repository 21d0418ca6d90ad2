"""What a site's result says about itself."""

from __future__ import annotations

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


def num_steps(result: Shareable) -> float:
    """The local work behind a result, NUM_STEPS_CURRENT_ROUND; 1.0 where it does not say."""
    steps = as_float(_meta(result).get(MetaKey.NUM_STEPS_CURRENT_ROUND))
    return 1.0 if steps is None else steps


def initial_metric(result: Shareable) -> float | None:
    """How the received model did before training, INITIAL_METRICS; None where it does not say."""
    return as_float(_meta(result).get(MetaKey.INITIAL_METRICS))


def _meta(result: Shareable) -> dict[str, object]:
    try:
        return from_shareable(result).meta
    except ValueError:  # no DXO: says nothing about itself
        return {}
