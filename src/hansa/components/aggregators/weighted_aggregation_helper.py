"""The weighted mean over dicts of arrays, with a record of who contributed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from hansa.algorithms.fold import Fold, Node, Span
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
        self._names: list[str] = []
        self._kept: list[str] = []
        self.rule = WeightedMean()
        """The arithmetic."""
        self.reset_stats()

    def reset_stats(self) -> None:
        """Forget all contributions."""
        self._fold: Fold[Term] | None = None
        self._history: list[dict[str, Any]] = []
        self._contributors: set[str] = set()
        self._absent: set[str] = set()
        self._owed: set[str] = set()  # recorded, and their sum has not come
        self._unrecorded: set[str] = set()  # the other way round

    def open(self, targets: Iterable[str], *, outlets: Collection[Span] = frozenset()) -> None:
        """Fix the tree of the sum, unless it is fixed already; see `Fold`."""
        if self._fold is None:
            self._fold = Fold(targets, self.rule.combine, outlets=outlets)
            for site in sorted(self._absent):
                self.mark_absent(site)

    def included(self, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """The variables that `exclude_vars` leaves in."""
        if self.exclude_vars is None:
            return data
        names = list(data)
        if names != self._names:  # those of one round are nearly always the same
            search = self.exclude_vars.search
            self._names, self._kept = names, [name for name in names if not search(str(name))]
        return {name: data[name] for name in self._kept}

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
        term = self.rule.term(self.included(data), weight, divisor=divisor)
        self.open(targets)
        self.add_term(term, contributor_name)
        self.record(contributor_name, contribution_round, weight=weight)
        return True

    def add_term(self, term: Term, contributor_name: str) -> None:
        """Take what `rule` made of a contribution; its arrays are read here and not referred to afterwards.

        Raises:
            RuleError: See `Fold.add`.
        """
        assert self._fold is not None, "not open"
        self._fold.add(contributor_name, term)
        self.rule.own(term)

    def record(self, contributor_name: str, contribution_round: Any, *, weight: float) -> None:  # Any: as in `add`
        """Write down who contributed."""
        self._contributors.add(contributor_name)
        self._history.append({"contributor_name": contributor_name, "round": contribution_round, "weight": weight})

    def owe(self, contributor_name: str) -> None:
        """This contributor is recorded, and its numbers are in a node that came or will come."""
        if contributor_name in self._unrecorded:
            self._unrecorded.remove(contributor_name)
        else:
            self._owed.add(contributor_name)

    def add_node(self, node: Node[Term]) -> None:
        """Take a sum that was formed elsewhere.

        Raises:
            RuleError: See `Fold.add_node`.
        """
        assert self._fold is not None, "not open"
        self._fold.add_node(node)
        counted = {site for site, has in node.counted.items() if has}
        self._unrecorded |= counted - self._owed
        self._owed -= counted

    def take_ready(self) -> list[Node[Term]]:
        """The nodes that came to an outlet since this was last called."""
        return self._fold.take_ready() if self._fold is not None else []

    def mark_absent(self, site: str) -> None:
        """Do not wait for this target.

        Raises:
            RuleError: Its contribution is in the sum.
        """
        self._absent.add(site)
        if self._fold is not None:
            self._fold.mark_absent(site)

    def has(self, contributor_name: str) -> bool:
        """Whether this contributor is in the sum, or recorded."""
        return contributor_name in self._contributors or bool(self._seen(contributor_name))

    def has_recorded(self, contributor_name: str) -> bool:
        """Whether this contributor is recorded."""
        return contributor_name in self._contributors

    def is_absent(self, site: str) -> bool:
        """Whether it is settled that this site does not contribute."""
        return site in self._absent or self._seen(site) is False

    def unsettled(self) -> tuple[list[str], list[str]]:
        """The sites that are recorded without a sum, and those that are in a sum and not recorded."""
        return sorted(self._owed), sorted(self._unrecorded)

    def _seen(self, site: str) -> bool | None:
        return self._fold.has_seen(site) if self._fold is not None else None

    @property
    def num_held(self) -> int:
        """How many sums are in memory: few while contributions come in the order of the targets."""
        return self._fold.held if self._fold is not None else 0

    def get_result(self) -> dict[str, Any]:
        """The mean by name, empty if there is no contribution; all contributions are forgotten."""
        fold = self._fold
        self.reset_stats()
        return self.rule.mean(fold.finish() if fold is not None else None)

    def get_history(self) -> list[dict[str, Any]]:
        """For each contribution in order of arrival `contributor_name`, `round` and `weight`."""
        return self._history

    def get_len(self) -> int:
        """How many contributions there are."""
        return len(self._history)
