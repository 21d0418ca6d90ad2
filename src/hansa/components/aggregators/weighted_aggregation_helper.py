"""The weighted mean over dicts of arrays, with a record of who contributed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hansa.algorithms.fold import Fold
from hansa.algorithms.weighted_mean import Term, WeightedMean


class WeightedAggregationHelper:
    """Collects weighted contributions and returns their mean; see `WeightedMean` and `Fold`.

    The bits of the mean depend on who contributed and on the targets, not on the order of the contributions.
    Nothing is checked beyond what the arithmetic needs; `DXOAggregator` does that.

    Args:
        exclude_vars: Regular expression; variables whose names it finds are left out. None: none are.

    Raises:
        ValueError: `exclude_vars` is no text.
    """

    def __init__(self, exclude_vars: str | None = None) -> None:
        if exclude_vars is not None and not isinstance(exclude_vars, str):
            raise ValueError(f"exclude_vars must be a regular expression, but got {exclude_vars!r}")
        self.exclude_vars = re.compile(exclude_vars) if exclude_vars else None
        self._rule = WeightedMean()
        self.reset_stats()

    def reset_stats(self) -> None:
        """Forget all contributions."""
        self._fold: Fold[Term] | None = None
        self._history: list[dict[str, Any]] = []
        self._contributors: set[str] = set()

    def included(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables that `exclude_vars` leaves in."""
        if self.exclude_vars is None:
            return data
        search = self.exclude_vars.search
        return {name: value for name, value in data.items() if not search(str(name))}

    def add(
        self,
        data: Mapping[str, Any],
        weight: float,
        contributor_name: str,
        contribution_round: Any,  # Any: whatever the workflow counts with
        *,
        divisor: float | None = None,
        targets: Iterable[str] = (),
    ) -> bool:
        """Take a contribution; its arrays are read here and not referred to afterwards.

        Args:
            data: Variables by name; see `hansa.algorithms.arrays.as_value`.
            weight: What they are multiplied by.
            contributor_name: Whose they are.
            contribution_round: For the history.
            divisor: What is added to the divisor of the mean; the weight unless given.
            targets: With the first contribution: the sites that may come, which fix the tree of the sum.

        Returns:
            False, with nothing changed, if this contributor is in the sum already.

        Raises:
            RuleError: A variable is not made of numbers, or differs in shape from another contribution's.
        """
        if contributor_name in self._contributors:
            return False
        term = self._rule.term(self.included(data), weight, divisor=divisor)
        if self._fold is None:
            self._fold = Fold(targets, self._rule.combine)
        self._fold.add(contributor_name, term)
        self._rule.own(term)
        self._contributors.add(contributor_name)
        self._history.append({"contributor_name": contributor_name, "round": contribution_round, "weight": weight})
        return True

    def has(self, contributor_name: str) -> bool:
        """Whether this contributor is in the sum."""
        return contributor_name in self._contributors

    @property
    def num_held(self) -> int:
        """How many sums are in memory: few while contributions come in the order of the targets."""
        return self._fold.held if self._fold is not None else 0

    def get_result(self) -> dict[str, Any]:
        """The mean by name, empty if there is no contribution; all contributions are forgotten."""
        fold = self._fold
        self.reset_stats()
        return self._rule.mean(fold.finish() if fold is not None else None)

    def get_history(self) -> list[dict[str, Any]]:
        """For each contribution in order of arrival `contributor_name`, `round` and `weight`."""
        return self._history

    def get_len(self) -> int:
        """How many contributions there are."""
        return len(self._history)
