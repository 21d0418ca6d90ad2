"""Starts the rank processes of the sites in this process, and leaves none of them behind."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hansa.apis.ranks import RankPlan
from hansa.jobs.class_policy import ClassPolicy
from hansa.runtime.guarded_process import environment_of
from hansa.runtime.rank_processes import RankProcesses, RankSite, RankStart
from hansa.wire.slots import SlotPool


class Ranks:
    """The rank processes of one process; a site's engine offers them as `hansa.apis.engine.RankHost`.

    Args:
        folder: Where a socket, and what does not fit into memory, may lie.
        threads: How many threads a rank's libraries may use.
        custom: The top-level modules of the job's own code.
        policy: The classes that the job may name; None: whatever can be imported.
        pool: Memory for what ranks are given; None: some of its own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        threads: int,
        custom: Collection[str],
        policy: ClassPolicy | None = None,
        pool: SlotPool | None = None,
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._custom = custom
        self._policy = policy or ClassPolicy.simulator()
        self._pool = pool
        self._owns_pool = pool is None
        self._started: list[RankProcesses] = []

    def start(self, engine: RankSite, plan: RankPlan, *, site: str, folder: Path) -> RankProcesses:
        """Start the ranks of a site.

        Args:
            engine: The site's engine: their events are fired there.
            plan: What they are made of.
            site: Its name.
            folder: Its workspace.

        Raises:
            RunError: The system cannot start them.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if self._pool is None:
            self._pool = SlotPool(self._folder)
        for gone in [ranks for ranks in self._started if not ranks.is_alive]:
            gone.kill()  # what is left of them
            self._started.remove(gone)
        build = {
            "site": site,
            "root": str(folder),
            "threads": self._threads,
            "custom": sorted(self._custom),
            "allow": list(self._policy.allow),
            "may_custom": self._policy.custom,
        }
        start = RankStart(plan, folder, environment_of(self._threads), build)
        self._started.append(RankProcesses(start, engine, pool=self._pool, folder=self._folder))
        return self._started[-1]

    def close(self) -> None:
        """End whatever runs still."""
        for ranks in self._started:
            ranks.kill()
        self._started.clear()
        if self._owns_pool and self._pool is not None:
            self._pool.close()
            self._pool = None
