"""Folding at the source: a process near the sites folds their results and passes on sums.

The server makes a `FoldPlan` when it posts a round's task. Whoever holds sites builds the plan's rule, opens a
`SourceFold` with it, hands it each result, and passes on every `FoldedPart` it gets. The server takes the parts over;
the sites' messages come without tensors, with the header `RoundKey.FOLDED`. The sum is that of one process, bit for
bit, however the sites are divided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from hansa.apis.aggregator import RuleSpec
from hansa.apis.controller_spec import Task
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]  # Any: of the types in which the rule adds, or their bytes

Allocate = Callable[[int], "Array"]
"""Gives writable memory: so many bytes as a flat uint8 array, aligned for every dtype, its content arbitrary."""


class TensorSpec(NamedTuple):
    """What a contribution's tensor of this name must look like."""

    name: str
    dtype: str
    """As `numpy.dtype` reads it."""
    shape: tuple[int, ...]


class FoldPlan(NamedTuple):
    """What a process near the sites needs to fold a round's results; can be written as plain JSON."""

    rule: RuleSpec
    round_number: int
    targets: list[str]
    """The round's targets, sorted by code point; the tree stands over them."""
    model: list[TensorSpec]
    """The tensors that the round's global model has."""

    def to_json(self) -> dict[str, Any]:  # Any: plain JSON
        """The plan as what `json.dumps` takes."""
        return {
            "rule": [self.rule.path, _plain(self.rule.args)],
            "round": self.round_number,
            "targets": self.targets,
            "model": [[spec.name, spec.dtype, list(spec.shape)] for spec in self.model],
        }

    @classmethod
    def from_json(cls, plan: Mapping[str, Any]) -> FoldPlan:  # Any: plain JSON
        """The plan that `to_json` wrote.

        Raises:
            DecodeError: It is something else.
        """
        try:
            path, args = plan["rule"]
            model = [TensorSpec(name, dtype, tuple(shape)) for name, dtype, shape in plan["model"]]
            return cls(RuleSpec(path, args), plan["round"], list(plan["targets"]), model)
        except (KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"no plan of a fold: {type(error).__name__}: {error}") from error


class FoldedPart(NamedTuple):
    """A complete node of the tree over a round's targets."""

    span: tuple[int, int]
    """The blocks of the tree that it covers, the second excluded."""
    sites: list[str]
    """All targets in these blocks, whether counted, refused or absent."""
    head: dict[str, Any]  # Any: plain JSON, in which floats come back exactly
    """What the rule must know of the sums."""
    regions: list[Array]
    """The sums; flat, in memory that `allocate` gave. Over a link they may come as their bytes."""


class SourceFold(Protocol):
    """The fold of one round near the sites. Not for several threads."""

    def needs_whole(self, site: str) -> bool:
        """Whether a site's result must travel as it is: its block is not wholly held here, or it is no target."""
        ...

    def add(self, site: str, result: Shareable) -> str | None:
        """Check a result and fold it. Its arrays are only read, and not referred to afterwards.

        Returns:
            Why it is refused, as the server would say it; None if it counts. Either way the site is done with.

        Raises:
            RuleError: The site must send its result whole, or was added or marked absent before.
        """
        ...

    def absent(self, site: str) -> None:
        """Do not wait for this site: it is lost, or its result goes another way. A second time nothing happens.

        Raises:
            RuleError: Its result is in the sum.
        """
        ...

    def ready(self) -> list[FoldedPart]:
        """The nodes that were completed since this was last asked; they are forgotten here.

        A node goes out when it is complete and covers 32 sites (or a sixteenth of all), or is as large as the sites
        held here allow. Sites that are all absent or refused make a part, too; it has no regions.
        """
        ...


@runtime_checkable
class FoldsAtSource(Protocol):
    """An aggregator whose rule can be applied near the sites."""

    def fold_plan(self, fl_ctx: FLContext) -> FoldPlan | None:
        """On the server, when the round's task is posted: the plan; None if this round must come here whole."""
        ...

    def source_fold(self, plan: FoldPlan, held: Sequence[str], *, allocate: Allocate) -> SourceFold:
        """Near the sites, on an aggregator that was built from `plan.rule`: a fold of what they send.

        Args:
            plan: The server's plan.
            held: The targets whose results will be seen here.
            allocate: Where the parts' memory comes from.
        """
        ...

    def accept_part(self, part: FoldedPart, fl_ctx: FLContext) -> None:
        """On the server: take over a node. The aggregator writes into its memory; changes nothing if it raises.

        Bookkeeping is not done here: the results of `part.sites`, with the header `RoundKey.FOLDED`, go through
        `accept` one by one, before or after.

        Raises:
            RuleError: It is of another round, a site is counted already, or a tensor is unlike those of other parts.
        """
        ...

    def mark_absent(self, site: str) -> None:
        """On the server: a target is lost and will not contribute to this round; others need not wait for it."""
        ...

    def use_memory(self, allocate: Allocate, *, rest: Callable[[], None] | None = None) -> None:
        """From now on sums lie in memory from here, and so do the means that are views of them.

        Args:
            allocate: Where memory comes from.
            rest: Called now and then in long work, when what was worked on is not needed for a while.
        """
        ...


@runtime_checkable
class PlansFolding(Protocol):
    """A workflow whose tasks' results may be folded near the sites."""

    def fold_plan(self, task: Task, fl_ctx: FLContext) -> FoldPlan | None:
        """The plan for the results of a standing task; None if they must come whole."""
        ...

    def accept_part(self, part: FoldedPart, fl_ctx: FLContext) -> None:
        """Take over a node of the tree; the results of its sites follow, one by one.

        Raises:
            RuleError: See `FoldsAtSource.accept_part`.
        """
        ...


def _plain(value: Any) -> Any:  # Any: plain JSON
    return {key: _plain(each) for key, each in value.items()} if isinstance(value, Mapping) else value
