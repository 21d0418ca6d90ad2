"""What the filters share that change a site's whole update: one row of numbers out of it, and back again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.algorithms.arrays import as_value
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.shareable import Shareable

Numbers = NDArray[np.float64]
_UNPROTECTED = (DataKind.WEIGHTS, DataKind.COLLECTION)


def changed(shareable: Shareable, change: Callable[[Numbers], Numbers], *, who: str) -> Shareable:
    """The same result with its update changed, per step of the training, and scaled back.

    Args:
        shareable: A site's result. What brings no weights (a failure, metrics) passes.
        change: Takes and gives the numbers of all tensors, in the order of their names; shape (n,).
        who: The filter, for errors.

    Raises:
        ValueError: The result has weights in another form than as an update (WEIGHT_DIFF), or one that is not finite:
            neither may leave unchanged.
    """
    if shareable.get_return_code() != ReturnCode.OK:
        return shareable
    try:
        dxo = from_shareable(shareable)
    except ValueError:
        return shareable
    if dxo.data_kind in _UNPROTECTED:
        raise ValueError(f"{who} works on an update (WEIGHT_DIFF), and the result is of kind {dxo.data_kind}")
    if dxo.data_kind != DataKind.WEIGHT_DIFF:
        return shareable
    arrays = {name: as_value(name, dxo.data[name]).array for name in sorted(dxo.data)}
    steps = _steps(dxo.meta, who)
    row = _row(arrays)
    if not np.isfinite(row).all():
        raise ValueError(f"{who}: the update is not finite")
    return DXO(DataKind.WEIGHT_DIFF, _apart(arrays, change(row / steps) * steps), dxo.meta).update_shareable(shareable)


def _steps(meta: Mapping[str, Any], who: str) -> float:  # Any: as a DXO has it
    steps = meta.get(MetaKey.NUM_STEPS_CURRENT_ROUND, 1)
    if isinstance(steps, bool) or not isinstance(steps, int | float | np.number) or not 0 < steps < np.inf:
        raise ValueError(f"{who}: {MetaKey.NUM_STEPS_CURRENT_ROUND} must be a number above 0, not {steps!r}")
    return float(steps)


def _row(arrays: Mapping[str, NDArray[Any]]) -> Numbers:  # Any: every dtype
    rows = [np.asarray(array, np.float64).ravel() for array in arrays.values()]
    return np.concatenate(rows) if rows else np.zeros(0)


def _apart(arrays: Mapping[str, NDArray[Any]], row: Numbers) -> dict[str, NDArray[Any]]:
    parts, at = {}, 0
    for name, array in arrays.items():
        part = row[at : at + array.size].reshape(array.shape)
        at += array.size
        parts[name] = np.rint(part).astype(array.dtype) if array.dtype.kind in "iub" else part.astype(array.dtype)
    return parts


def uniform_of(seed: int | None) -> Callable[[int], Numbers]:
    """Where a filter's randomness comes from.

    Args:
        seed: None: the operating system's secure generator, which nobody can foresee. Else NumPy's, for tests.
    """
    if seed is not None:
        rng = np.random.default_rng(seed)
        return lambda num: _open(rng.integers(0, 1 << 53, num, np.uint64))
    return lambda num: _open(np.frombuffer(os.urandom(8 * num), np.uint64) >> np.uint64(11))


def _open(bits: NDArray[np.uint64]) -> Numbers:
    """Numbers of 53 bits as the middles of as many intervals: never 0 and never 1."""
    return np.asarray((bits.astype(np.float64) + 0.5) * 2.0**-53)
