"""The contract of whatever makes one update of many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable


class RuleSpec(NamedTuple):
    """How to build an aggregation rule somewhere else; a frozen value that the codec can carry."""

    path: str
    """The rule's class, dotted; built only where the ClassPolicy allows it."""
    args: Mapping[str, Any]  # Any: plain JSON values
    """Its keyword arguments, plain JSON values only."""


class Aggregator(FLComponent, ABC):
    """Takes the results of a round one by one and makes the round's update of them.

    `accept` and `aggregate` are called from one thread, never at the same time.

    Attributes:
        reads_tensors: Whether this component looks into the tensors of single results. Every event handler and
            aggregator may declare False (FLARE has no such attribute; True is taken where it is missing). Only
            if all outside `hansa.components` do, a process that holds several sites may fold their results and
            pass on the sum.
    """

    reads_tensors: bool = True

    @abstractmethod
    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Take or refuse one site's result.

        Args:
            shareable: The result; its arrays may be kept and written to.
            fl_ctx: The context of the submission; its peer is the site.

        Returns:
            True if the result counts; False if it is refused (logged, never raised).
        """

    @abstractmethod
    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """The update made of all accepted results; the next round then begins with nothing."""

    def rule(self) -> RuleSpec | None:
        """The aggregation rule, so that a process near the sites can fold their results with it.

        Returns:
            Path and arguments of the rule; None (the default) if every result must come here whole.
        """
        return None
