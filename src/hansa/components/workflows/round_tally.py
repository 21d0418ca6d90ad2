"""Who counted in a round, who was refused and why."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.apis.engine import History
from hansa.apis.shareable import Shareable
from hansa.components.workflows.contribution import facts_of

_SHOWN = 3
"""How many refusals a message names; the history has them all."""


class RoundTally:
    """The facts of one round, told to the run's history as they come.

    Args:
        number: The round.
        targets: The sites that are asked, sorted; None where anyone may come.
        history: The run's history, if the engine keeps one.
    """

    def __init__(self, number: int, targets: Sequence[str] | None, *, history: History | None) -> None:
        self.number = number
        self.targets = None if targets is None else list(targets)
        """The sites that were asked when it opened; the tree of the fold stands over them."""
        self.asked = None if targets is None else set(targets)
        """The sites of the round, those that joined it included; None where anyone may come."""
        self.num_answered = 0
        self.num_counted = 0
        self.sizes: dict[str, float] = {}
        """How many steps or examples each counted result stands for, by its site's own word."""
        self._refused: list[tuple[str, str]] = []
        self._history = history
        if history is not None:
            history.round_opened(number, list(targets or ()))

    def counted(self, site: str, result: Shareable) -> None:
        """A result is part of the aggregate."""
        self.num_counted += 1
        facts = facts_of(result)
        self.sizes[site] = facts.num_steps
        if self._history is not None:
            self._history.result_counted(self.number, site, weight=facts.num_steps)
            for name, value in facts.initial_metrics.items():
                self._history.scalar(self.number, site, name=name, value=value)

    def refused(self, site: str, reason: str) -> None:
        """A result is not part of the aggregate."""
        self._refused.append((site, reason))
        if self._history is not None:
            self._history.result_refused(self.number, site, reason=reason)

    def closed(self, enough: str | None = None) -> None:
        """The round's model is committed.

        Args:
            enough: Why no further round begins, if somebody has had enough.
        """
        if self._history is not None:
            self._history.round_closed(self.number)
            if enough is not None:
                self._history.ended_early(self.number, reason=enough)

    def shortfall(self, needed: int | None = None) -> str | None:
        """One line on why this round is not enough; None if it is.

        Args:
            needed: How many results must count; None: one of each site that was asked.
        """
        of = "" if self.asked is None else f" of {len(self.asked)}"
        line = f"round {self.number}: {self.num_counted}{of} results counted"
        if needed is None:
            needed = len(self.asked or ())
        else:
            line += f", {needed} needed"
        if self.num_counted >= needed:
            return None
        shown = [f"{site}: {reason}" for site, reason in self._refused[:_SHOWN]]
        if len(self._refused) > _SHOWN:
            shown.append(f"{len(self._refused) - _SHOWN} more refused")
        return ": ".join((line, "; ".join(shown))) if shown else line
