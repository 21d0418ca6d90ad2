"""Thousands of fault seeds in virtual time: a server and sites as real code between virtual processes, links and disks.

Real are the server's side of a running job (`RunningJob` with all its parts: the sites' parts, what is held until a
commit is durable, the journal's rows in SQLite, restarts from a recall, ends) and what a site keeps (`KeptResults`).
Virtual are the processes, the event loop's time, the network (frames in order and once, as long as both ends live), the
journal's thread, and the training: a few numbers with a momentum. A seed gives the same run each time.
"""

from __future__ import annotations

import contextlib
import logging
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hansa.faults.sample_job import MomentumSite
from hansa.faults.virtual_loop import VirtualLoop, Wedged
from hansa.faults.virtual_parts import LINK_S, Nature
from hansa.faults.virtual_programs import JOB, NUMBER, Agent, Server
from hansa.jobs.component import Component
from hansa.jobs.journal import Journal
from hansa.jobs.life import JobState
from hansa.jobs.recipes import fed_avg
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.run_paths import RunPaths
from hansa.wire.frames import Frame

NUM_SITES, NUM_ROUNDS = 3, 4
BACK_S = (0.1, 1.5)
_PATIENCE_S = 600.0
_KINDS = ("server", "home", "site", "site job", "power", "link", "disk", "flip")


@dataclass(frozen=True)
class VirtualOutcome:
    """What has become of a seed.

    Attributes:
        seed: The seed.
        faults: What went wrong, and when in virtual time.
        num_trained: How many tasks were worked on.
        is_equal: Whether the model is the undisturbed one.
        problems: What must not be.
        trace: All that happened, for somebody who looks for the cause.
    """

    seed: int
    faults: tuple[str, ...]
    num_trained: int
    is_equal: bool
    problems: tuple[str, ...]
    trace: tuple[str, ...]


class World:
    """A federation, from its first job to that job's end.

    Args:
        folder: An empty one.
        seed: Where all delays and faults come from.
        num_faults: How many things go wrong.
        until_s: When the last of them may.
    """

    def __init__(self, folder: Path, seed: int, *, num_faults: int = 0, until_s: float = 0.0) -> None:
        self.folder = folder
        self.loop = VirtualLoop()
        self.trace: list[str] = []
        self.faults: list[str] = []
        self.num_trained: Counter[str] = Counter()
        self.num_kills = 0
        self.state = JobState.SUBMITTED
        self.model: str | None = None
        self.is_damaged = False
        self.problems: list[str] = []
        chance = random.Random(f"virtual {seed}")
        sites = tuple(f"site-{number}" for number in range(1, NUM_SITES + 1))
        self.nature = Nature(self.loop, chance, sites, NUM_ROUNDS, self.note)
        job = fed_avg({"w": [0.0]}, executor=Component(MomentumSite), rounds=NUM_ROUNDS, name="virtual")
        job.save(folder / "server" / "jobs" / JOB / "job")
        self._chance = chance
        self._plan = sorted((chance.uniform(0.0, until_s), chance.choice(_KINDS)) for _ in range(num_faults))
        self._journal = self._open()
        self.server: Server | None = None
        self.agents: dict[str, Agent] = {}

    def _open(self) -> Journal:
        return Journal.open(self.folder / "server" / "jobs" / "journal.db", project="virtual", now=lambda: 0.0)

    # -- the run -----------------------------------------------------------------------------------------------

    def play(self) -> float:
        """Let everything happen; returns when the job was over."""
        try:
            self.loop.run_until_complete(self._played())
        except Wedged:
            self.problems.append(f"wedged: the job is {self.state.value}")
        ended = self.loop.time()
        self._journal.close()
        self.loop.close()
        return ended

    async def _played(self) -> None:
        self.loop.life = 1  # this one is nobody's
        for at, kind in self._plan:
            self.loop.call_later(at, self._strike, kind)
        self.server = Server(self, self._journal)
        for name in self.nature.sites:
            self.agents[name] = Agent(self, name)
            self.server.sessions.add(name)
        await self.server.job.begin(self.nature.sites, {})
        over = self.loop.create_future()

        def look() -> None:
            if self.state.is_over and not self._left():
                over.set_result(None)
            elif self.loop.time() > _PATIENCE_S:
                left = ", ".join(self._left())
                self.problems.append(f"after {_PATIENCE_S:g} s the job is {self.state.value}; left: {left}")
                over.set_result(None)
            else:
                self.loop.call_later(0.5, look)

        look()
        await over

    def _left(self) -> list[str]:
        server = self.server
        is_up = server is None or server.is_dead or not server.job.is_over
        left = ["the job on the server"] if is_up else []
        left += [f"a process at {name}" for name, agent in self.agents.items() if agent.process or agent.is_starting]
        folders = [RunPaths(self.folder / name, NUMBER, name).kept for name in (*self.nature.sites, "server")]
        return left + [str(path.relative_to(self.folder)) for path in folders if path.exists()]

    def note(self, text: str) -> None:
        """Something has happened."""
        self.trace.append(f"{self.loop.time():9.3f}  {text}")

    def trained(self, task_id: str) -> None:
        """A site works on a task."""
        self.num_trained[task_id] += 1
        self.note(f"trains {task_id}")

    def state_is(self, state: JobState, reason: str | None) -> None:
        """The job stands so."""
        if self.state.is_over and state is not self.state:
            self.problems.append(f"a job that is {self.state.value} becomes {state.value}")
        self.state = state
        self.note(f"the job is {state.value}{f': {reason}' if reason else ''}")

    # -- the network -------------------------------------------------------------------------------------------

    def to_site(self, server: Server, site: str, *, frame: Frame) -> None:
        """Bring a frame to a site, after those before it."""
        agent = self.agents.get(site)

        def bring() -> None:
            if agent is not None and not (server.is_dead or agent.is_dead) and site in server.sessions:
                agent.hear(frame)

        self._in_order((id(server), id(agent)), bring)

    def to_server(self, agent: Agent, frame: Frame) -> None:
        """Bring a frame to the server, after those before it."""
        server = self.server
        if frame.head.get("k") == "damaged":
            self.is_damaged = True
        if server is None or server.is_dead or agent.name not in server.sessions:
            return

        def bring() -> None:
            if not (server.is_dead or agent.is_dead) and agent.name in server.sessions:
                server.job.at_sites.from_site(agent.name, frame)

        self._in_order((id(agent), id(server)), bring)

    def _in_order(self, way: tuple[int, int], bring: Callable[[], None]) -> None:
        ways: dict[tuple[int, int], float] = self.__dict__.setdefault("_ways", {})
        at = max(ways.get(way, 0.0), self.loop.time() + self._chance.uniform(*LINK_S))
        ways[way] = at + 1e-9
        self.loop.call_at(at, bring)

    def _connect(self, site: str) -> None:
        """A site's agent comes, or comes back with nothing of the session before."""
        server, agent = self.server, self.agents.get(site)
        if server is None or server.is_dead or agent is None or agent.is_dead or site in server.sessions:
            return
        server.sessions.add(site)
        self.note(f"{site} is connected")
        if self.state.is_over:
            server.send(site, Frame("stop", JOB, {"grace_s": 0.0}))
        else:
            server.job.at_sites.join(site)

    def _lose(self, site: str) -> None:
        server = self.server
        if server is not None and not server.is_dead and site in server.sessions:
            server.sessions.discard(site)
            server.job.at_sites.site_down(site, "no sign of life")

    # -- faults ------------------------------------------------------------------------------------------------

    def _strike(self, kind: str) -> None:
        site = self._chance.choice(self.nature.sites)
        self.faults.append(f"{self.loop.time():.3f} s: {kind}{f' {site}' if 'site' in kind or kind == 'flip' else ''}")
        self.note(f"FAULT {self.faults[-1]}")
        self.num_kills += kind in ("server", "home", "site", "site job", "link", "flip", "disk")
        match kind:
            case "server":
                self._kill_server()
            case "home":
                if self.server is not None and not self.server.is_dead and self.server.home is not None:
                    self.server.kill("home")
            case "site":
                self._kill_site(site)
            case "site job":
                self.agents[site].process_ended(-9)
            case "power":
                self.num_kills += len(self.nature.sites)
                for name in self.nature.sites:
                    self._kill_site(name)
                self._kill_server()
            case "link":
                self._lose(site)
                self.nature.later(BACK_S, lambda: self._connect(site))
            case "disk":
                self._fill_disk()
            case "flip":
                self._kill_site(site)
                self._flip(site)

    def _kill_server(self) -> None:
        server = self.server
        if server is None or server.is_dead:
            return
        server.is_dead = server.writer.is_dead = True
        self.loop.end_life(self.loop.life)
        self.loop.life += 1
        self._journal.close()
        self.nature.later(BACK_S, self._start_server)

    def _start_server(self) -> None:
        self._journal = self._open()
        self.note("the server is back")
        server = self.server = Server(self, self._journal)
        if self.state.is_over:
            self.loop.create_task(self._swept(server))
        else:
            self.loop.create_task(server.job.resume(self.nature.sites, {}))
        for site in self.nature.sites:
            self.nature.later(BACK_S, partial(self._connect, site))

    async def _swept(self, server: Server) -> None:
        from hansa.runtime.job_journal import sweep_up

        rounds = self.folder / "rounds"
        await sweep_up(JOB, server.job.paths, rounds=rounds, writer=cast("JournalWriter", server.writer))
        server.job.is_over = True

    def _kill_site(self, site: str) -> None:
        agent = self.agents[site]
        if agent.is_dead:
            return
        agent.die()
        self.note(f"{site} is dead")
        self.nature.later(BACK_S, lambda: self._start_site(site))

    def _start_site(self, site: str) -> None:
        self.agents[site] = Agent(self, site)
        self._lose(site)
        self._connect(site)

    def _fill_disk(self) -> None:
        server = self.server
        if server is not None and not server.is_dead:
            server.writer.is_full = True
            self.nature.later(BACK_S, lambda: setattr(server.writer, "is_full", False))

    def _flip(self, site: str) -> None:
        kept = RunPaths(self.folder / site, NUMBER, site).kept
        files = sorted(kept.glob("*.task")) if kept.is_dir() else []
        if files:
            content = bytearray(files[-1].read_bytes())
            content[self._chance.randrange(len(content))] ^= 1 << self._chance.randrange(8)
            files[-1].write_bytes(content)
            self.note(f"a bit of {files[-1].name} is flipped")


def run_seed(seed: int, kind: type[World] | None = None) -> VirtualOutcome:
    """Run a federation with the faults of a seed, and check what is left of it.

    Args:
        seed: The seed.
        kind: The world's class, for those who change it.
    """
    undisturbed, length_s = _undisturbed()
    num_faults = random.Random(f"number {seed}").randint(1, 4)
    with _world(kind or World, seed, num_faults=num_faults, until_s=1.3 * length_s) as world:
        world.play()
    problems = list(world.problems)
    is_equal = world.model == undisturbed
    if world.is_damaged:  # said: what a disk has lost may cost the job
        is_equal = world.model == undisturbed
    elif world.state is not JobState.COMPLETED:
        problems.append(f"the job is {world.state.value}")
    elif not is_equal:
        problems.append("the model is another one")
    again = sum(number - 1 for number in world.num_trained.values())
    if again > world.num_kills:
        problems.append(f"{again} tasks were worked on again, for {world.num_kills} kills")
    faults, trace = tuple(world.faults), tuple(world.trace)
    return VirtualOutcome(seed, faults, world.num_trained.total(), is_equal, tuple(problems), trace)


_KNOWN: dict[str, tuple[str | None, float]] = {}


def _undisturbed() -> tuple[str | None, float]:
    if not _KNOWN:
        with _world(World, 0) as world:
            length_s = world.play()
        assert world.state is JobState.COMPLETED, world.trace
        _KNOWN["it"] = world.model, length_s
    return _KNOWN["it"]


@contextlib.contextmanager
def _world(kind: type[World], seed: int, **more: Any) -> Iterator[World]:
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="hansa-virtual-", dir=memory if memory.is_dir() else None))
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield kind(folder, seed, **more)
    finally:
        logging.disable(level)
        shutil.rmtree(folder, ignore_errors=True)
