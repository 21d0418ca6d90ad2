"""An aggregator that a few sites cannot lead astray."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.apis.aggregator import Aggregator
from hansa.apis.dxo import DXO, DataKind, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class TrimmedMean(Aggregator):
    """The mean of each number without its largest and smallest values (Yin et al. 2018, arXiv:1803.01498).

    All sites weigh the same. It has to see every result, so the server's memory grows with the number of sites.

    Args:
        trim: The share of the sites that is left out at either end, in [0, 0.5).

    Raises:
        ValueError: `trim` is out of range.
    """

    def __init__(self, trim: float = 0.2) -> None:
        super().__init__()
        if not 0 <= trim < 0.5:
            raise ValueError(f"trim must be in [0, 0.5), not {trim}")
        self.trim = trim
        self._kind = DataKind.WEIGHTS
        self._results: dict[str, dict[str, Any]] = {}  # arrays by name, by site

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Keep a site's weights, or what training changed in them."""
        peer = fl_ctx.get_peer_context()
        site = peer.get_identity_name() if peer is not None else ""
        try:
            dxo = from_shareable(shareable)
        except ValueError as error:
            self.log_error(fl_ctx, f"{site}: {error}")
            return False
        if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            self.log_error(fl_ctx, f"{site}: the result is of kind {dxo.data_kind}")
            return False
        arrays = {name: np.asarray(value) for name, value in dxo.data.items()}
        first = next(iter(self._results.values()), arrays)
        if _shapes(arrays) != _shapes(first):
            self.log_error(fl_ctx, f"{site}: other names or shapes than the sites before")
            return False
        self._kind = dxo.data_kind
        self._results[site] = arrays
        return True

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """The trimmed mean of what was kept; the next round begins with nothing."""
        results = [self._results[site] for site in sorted(self._results)]
        self._results = {}
        cut = int(self.trim * len(results))
        data = {}
        for name in results[0] if results else ():
            values = np.sort(np.stack([result[name] for result in results]), axis=0)  # (sites, *shape)
            data[name] = values[cut : len(results) - cut].mean(axis=0).astype(values.dtype)
        return DXO(self._kind, data).to_shareable()


def _shapes(arrays: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: value.shape for name, value in arrays.items()}
