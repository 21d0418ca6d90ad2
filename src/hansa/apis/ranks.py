"""The rank processes of one site, as the executor sees them that runs on several processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class RankVariable:
    """How a rank process learns where it belongs; variables of its environment."""

    ADDRESS = "HANSA_RANK_ADDRESS"
    """Where to connect to."""
    LIFE = "HANSA_RANK_LIFE"
    """Where its guard connects to."""
    TOKEN = "HANSA_RANK_TOKEN"
    """What to say first there."""
    RANK = "HANSA_RANK"
    """Its rank, where the command starts one process; else `FOUND_IN` say it."""
    FOUND_IN = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
    """Where the usual launchers tell a process its rank, in the order in which they are looked at."""


@dataclass(frozen=True)
class RankPlan:
    """What rank processes are made of.

    Attributes:
        command: The command line that is given `-m hansa.runtime.rank`.
        starts_all: Whether the command starts all ranks; else it is started once for each.
        num_ranks: How many there are.
        components: Their components, as `{id, path | name, args?}`.
        executor_id: Which of these executes.
        start_timeout_s: How long they may take from their start until all have built their components.
    """

    command: Sequence[str]
    starts_all: bool
    num_ranks: int
    components: Sequence[Mapping[str, Any]]  # Any: JSON
    executor_id: str
    start_timeout_s: float


class RunningRanks(Protocol):
    """The rank processes of a site. Once they have failed they are gone, and each call but `kill` raises RunError."""

    @property
    def is_alive(self) -> bool:
        """Whether all are there."""
        ...

    @property
    def last_lines(self) -> list[str]:
        """The last lines that they printed, a few."""
        ...

    def wait_until_ready(self, seed: int, abort: Signal) -> bool:
        """Wait until all have built their components; False if `abort` was triggered.

        Args:
            seed: The seed of what they draw meanwhile, the same in each.
            abort: Ends the wait.

        Raises:
            RunError: One is gone, cannot build them, or the time is up; nothing is left of any.
        """
        ...

    def restore(self, states: Mapping[str, Any]) -> None:  # Any: what components keep
        """Give each rank's components back what `states` took."""
        ...

    def states(self) -> Mapping[str, Any]:  # Any: what components keep
        """What the stateful components of each rank keep, by the rank in decimal."""
        ...

    def tell(self, event_type: str, fl_ctx: FLContext) -> None:
        """Fire an event of the site at the components of all ranks.

        It returns when all have heard it, unless a task is under way: then the event is only on its way.

        Raises:
            RunError: One is gone.
        """
        ...

    def execute(
        self, task_name: str, shareable: Shareable, *, fl_ctx: FLContext, abort: Signal, seed: int
    ) -> Shareable | None:
        """Have every rank execute a task.

        Args:
            task_name: Which.
            shareable: What came with it.
            fl_ctx: The context of this task.
            abort: Passed on to them.
            seed: From it follow the seeds of what they draw, for each rank another.

        Returns:
            The result of rank 0; None if `abort` was triggered.

        Raises:
            RunError: One is gone, or its executor raised.
            EncodeError: Something in the task has no form on the wire.
        """
        ...

    def end(self, timeout_s: float) -> str | None:
        """Let them finish, and leave nothing of them; how it went wrong, None if it did not."""
        ...

    def kill(self) -> None:
        """End them and all that they have started."""
        ...
