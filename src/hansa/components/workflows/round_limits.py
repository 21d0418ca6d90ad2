"""How many rounds a training has, and when one of them is over."""

from __future__ import annotations

from typing import NamedTuple, Self

from hansa.components.workflows.checks import check_ints


class RoundLimits(NamedTuple):
    """What FLARE's arguments of a training say; times in whole seconds."""

    min_clients: int
    """How many answers are enough."""
    num_rounds: int
    start_round: int
    """The number of the first."""
    grace: int
    """What the others get once enough have answered: `wait_time_after_min_received`."""
    timeout: int
    """When a round ends whoever has answered: `train_timeout`; 0 for never."""
    min_counted: int
    """How many results must count."""

    @property
    def end(self) -> int:
        """The number after the last round's."""
        return self.start_round + self.num_rounds

    def checked(self) -> Self:
        """The same.

        Raises:
            TypeError: A number is no int; a float is none.
            ValueError: It is too small.
        """
        check_ints(min_clients=self.min_clients, at_least=1)
        check_ints(num_rounds=self.num_rounds, start_round=self.start_round, train_timeout=self.timeout)
        check_ints(wait_time_after_min_received=self.grace, min_counted=self.min_counted)
        return self
