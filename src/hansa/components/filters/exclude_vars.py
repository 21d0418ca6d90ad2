"""Variables that stay at home."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

from hansa.apis.dxo import DataKind, from_shareable
from hansa.apis.filter import Filter
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class ExcludeVars(Filter):
    """Drops variables from weights and weight differences.

    Args:
        exclude_vars: A list of exact names, or a regular expression that is searched for in each name. None, "" or
            anything else: nothing is dropped.
    """

    writes_input = False
    stateless = True

    def __init__(self, exclude_vars: list[str] | str | None = None) -> None:
        super().__init__()
        self.exclude_vars = exclude_vars
        self._is_excluded = _matcher(exclude_vars)

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The same message without these variables; what is no weights passes unchanged."""
        if self._is_excluded is None or shareable.get_return_code() != ReturnCode.OK:
            return shareable
        try:
            dxo = from_shareable(shareable)
        except ValueError:
            return shareable
        if dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
            return shareable
        excluded = [name for name in dxo.data if self._is_excluded(name)]
        if not excluded:
            return shareable
        kept = copy.copy(dxo.data)  # the dict may still be somebody's model
        for name in excluded:
            del kept[name]
        self.log_debug(fl_ctx, f"left out: {', '.join(map(str, excluded))}")
        dxo.data = kept
        return dxo.update_shareable(shareable)


def _matcher(exclude_vars: object) -> Callable[[str], bool] | None:
    if isinstance(exclude_vars, str) and exclude_vars:
        pattern = re.compile(exclude_vars)
        return lambda name: pattern.search(str(name)) is not None
    if isinstance(exclude_vars, list) and exclude_vars and all(isinstance(name, str) for name in exclude_vars):
        names = frozenset(exclude_vars)
        return lambda name: name in names
    return None
