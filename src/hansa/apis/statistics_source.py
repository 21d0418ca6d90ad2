"""Where a site's statistics come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext


class StatisticsSource(FLComponent, ABC):
    """A site's data for federated statistics: the one class that a site writes."""

    hears = frozenset[str]()

    def features(self) -> Sequence[str]:
        """The columns that are counted, in this order; of a bare array, their names. Empty: every column of numbers."""
        return ()

    def label(self) -> str | None:
        """The column by whose values everything is told a second time; None: none."""
        return None

    @abstractmethod
    def load(self, fl_ctx: FLContext) -> Mapping[str, Any]:  # Any: see below
        """The data sets of this site by name, such as `{"train": table, "test": table}`.

        Called once per run of the site's part, within its first task. `fl_ctx.get_identity_name()` is the site's name.

        Args:
            fl_ctx: The context of the task.

        Returns:
            Each table as one of: a dict of columns; a 2-D array (rows, features), with names from `features()`; a
            structured array; the path of a CSV file with a header; a frame of pandas or the like; or, for intensities,
            images: a list of arrays (H, W) or (H, W, C), or one array (N, H, W) or (N, H, W, C). NaN is missing.
        """
