"""FLARE's filter that sends the largest part of an update."""

from __future__ import annotations

from functools import partial

from hansa.algorithms.percentile_sharing import largest
from hansa.apis.filter import Filter
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.filters.whole_update import changed


class PercentilePrivacy(Filter):
    """Zeroes the smallest numbers of a site's update and clips the largest (Shokri and Shmatikov 2015, CCS).

    **Not differentially private**, in spite of its name: there is no noise, and what is sent is the site's own. It
    makes updates sparse and bounded. The update is divided by the number of its steps before, and multiplied after.

    Args:
        percentile: What is smaller in size than this percentile of the whole model's sizes becomes 0; in [0, 100].
        gamma: What is larger in size per step becomes this size; > 0.

    Raises:
        ValueError: A number is out of range.
    """

    writes_input = False
    stateless = True

    def __init__(self, percentile: float = 10, gamma: float = 0.01) -> None:
        super().__init__()
        if not 0 <= percentile <= 100:
            raise ValueError(f"percentile must be from 0 to 100, but got {percentile!r}")
        if not gamma > 0:
            raise ValueError(f"gamma must be above 0, but got {gamma!r}")
        self.percentile = percentile
        self.gamma = gamma

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The result with its update made sparse.

        Raises:
            ValueError: It has weights that are no update (WEIGHT_DIFF), or numbers that are not finite.
        """
        change = partial(largest, percentile=self.percentile, bound=self.gamma)
        return changed(shareable, change, who=type(self).__name__)
