"""Several sites' contributions folded into one value, on the way to the place where all come together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hansa.errors import RuleError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Tensor = NDArray[Any]  # Any: whatever dtype the rule folds in


@dataclass(frozen=True, eq=False)
class Partial:
    """The weighted sum over some of a round's sites, not yet divided.

    For sites S: sum[name] = Σ weight(site) · value(site, name), weight = Σ weight(site), over S. Whoever folds near
    the sites (a worker that holds several, a relay, a node of a tree) passes one of these on instead of |S| results.

    A site counts once: two partials that share a participant cannot be merged.

    Args:
        sum: The sums by tensor name, in the rule's own dtype; not to be written to.
        weight: The total weight; by tensor name where sites may leave names out.
        participants: The sites in it, in the order of the fold's tree.
        meta: What else each site sent (metrics, meta of its DXO), by site.

    Raises:
        RuleError: No participant, one twice, meta of a site that is not in it, or weights and sums of unlike names.
    """

    sum: Mapping[str, Tensor]
    weight: float | Mapping[str, float]
    participants: tuple[str, ...]
    meta: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # Any: what a site's meta holds

    def __post_init__(self) -> None:
        if not self.participants:
            raise RuleError("a partial without participants")
        _refuse_repeats(self.participants)
        strangers = sorted(set(self.meta) - set(self.participants))
        if strangers:
            raise RuleError("has meta in a partial that it is not part of", site=strangers[0])
        if isinstance(self.weight, Mapping) and set(self.weight) != set(self.sum):
            odd = sorted(set(self.weight) ^ set(self.sum))
            raise RuleError(f"a partial's weights and sums differ in {odd[0]!r}")

    def weight_of(self, name: str) -> float:
        """The total weight behind one tensor; 0.0 where no participant has it."""
        if name not in self.sum:
            return 0.0
        return self.weight[name] if isinstance(self.weight, Mapping) else self.weight

    def merge(self, right: Partial) -> Partial:
        """Both in one: this one's sums plus `right`'s, in this order, in new arrays.

        A tensor that only one of them has is taken over as it is (assigned, not added to zero); the weight is then
        kept by name.

        Raises:
            RuleError: A site is in both.
        """
        participants = self.participants + right.participants
        _refuse_repeats(participants)
        total = dict(self.sum)
        for name, term in right.sum.items():
            total[name] = total[name] + term if name in total else term
        return Partial(
            sum=total,
            weight=self._merged_weight(right, total),
            participants=participants,
            meta={**self.meta, **right.meta},
        )

    def _merged_weight(self, right: Partial, names: Iterable[str]) -> float | Mapping[str, float]:
        if (
            not isinstance(self.weight, Mapping)
            and not isinstance(right.weight, Mapping)
            and set(self.sum) == set(right.sum)
        ):
            return self.weight + right.weight
        return {name: self.weight_of(name) + right.weight_of(name) for name in names}


def _refuse_repeats(participants: Iterable[str]) -> None:
    seen: set[str] = set()
    for site in participants:
        if site in seen:
            raise RuleError("contributes twice to one sum", site=site)
        seen.add(site)
