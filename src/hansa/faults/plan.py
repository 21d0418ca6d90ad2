"""What will go wrong while a job runs: drawn from a seed, before anything happens."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hansa.failpoints import NAMES

SEEDS_PER_FEDERATION = 5
"""Neighbouring seeds share a federation: it lives through all of their faults."""

POINTS = tuple(name for name in NAMES if not name.startswith("checkpoint."))
"""The failpoints of a federation; the others are the simulator's."""

_POINTS_OF_ONE = ("submit.after_write", "job.before_launch", "job.before_terminal", "job.after_terminal")
"""Failpoints that a job reaches once."""
_IN_ROUNDS = tuple(name for name in POINTS if name not in _POINTS_OF_ONE)


class FaultKind(Enum):
    """What may happen."""

    KILL = "kill -9"
    STOP = "stop (SIGSTOP), later continue"
    TERM = "planned stop (SIGTERM)"
    POWER_CUT = "kill -9 of everything"
    CUT = "cut the connections"
    BLACKHOLE = "let nothing pass"
    REFUSE = "refuse new connections, cut the others"
    SLOW = "slow the connections"
    CORRUPT = "flip a bit on the way"
    DISK_FULL = "fill the disk (ENOSPC)"
    IO_ERROR = "break the disk (EIO)"
    BIT_FLIP = "flip a bit in a file that was kept"
    CLOCK = "step the wall clock"


_OF_PROCESSES = (FaultKind.KILL, FaultKind.STOP, FaultKind.TERM)
_OF_LINKS = (FaultKind.CUT, FaultKind.BLACKHOLE, FaultKind.REFUSE, FaultKind.SLOW, FaultKind.CORRUPT)
_OF_DISKS = (FaultKind.DISK_FULL, FaultKind.IO_ERROR)
DISK_POINTS = ("disk.journal", "disk.kept", "disk.blob", "disk.tensors")
"""Where a disk may fail: the server's journal; what a site keeps; a blob that comes; a tensor that is laid out."""

_WEIGHTS = {
    FaultKind.KILL: 10,
    FaultKind.STOP: 3,
    FaultKind.TERM: 2,
    FaultKind.POWER_CUT: 2,
    FaultKind.CUT: 3,
    FaultKind.BLACKHOLE: 2,
    FaultKind.REFUSE: 1,
    FaultKind.SLOW: 1,
    FaultKind.CORRUPT: 2,
    FaultKind.DISK_FULL: 3,
    FaultKind.IO_ERROR: 2,
    FaultKind.BIT_FLIP: 2,
    FaultKind.CLOCK: 1,
}
_CLOCK_STEPS_S = (-86_400, -3_600, 3_600, 86_400)


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: What.
        target: To whom: `server`, `site-2`, `server's job`, `site-2's job`, `all`; of a link, the site at its end.
        point: The failpoint at which it happens.
        nth: The how many-th time that any one process reaches it.
        seconds: How long it lasts: until who was killed is started again, until a link is whole.
        step_s: How far a clock is stepped.
    """

    kind: FaultKind
    target: str
    point: str
    nth: int
    seconds: float
    step_s: int = 0

    def __str__(self) -> str:
        lasts = f" for {self.seconds:.1f} s" if self.seconds else ""
        by = f" by {self.step_s:+d} s" if self.step_s else ""
        return f"{self.kind.value}{by}: {self.target}, at {self.point} ({self.nth}){lasts}"


@dataclass(frozen=True)
class Plan:
    """All that goes wrong while a job runs.

    Attributes:
        seed: What it is drawn from.
        sites: Who takes part.
        faults: In their order.
        has_bystander: Whether a second job runs beside, which none of it may touch.
        recipe: How the job learns: `momentum` or `scaffold`; for the job that comes with Hansa.
    """

    seed: int
    sites: tuple[str, ...]
    faults: tuple[Fault, ...]
    has_bystander: bool
    recipe: str


def draw(seed: int, *, sites: tuple[int, int] = (3, 8), faults: tuple[int, int] = (1, 4), rounds: int = 8) -> Plan:
    """The plan of a seed; the same one each time.

    Args:
        seed: What it is drawn from.
        sites: How many sites, from and to.
        faults: How many faults, from and to.
        rounds: How many rounds the job has.
    """
    number = random.Random(f"federation {seed // SEEDS_PER_FEDERATION}").randint(*sites)
    names = tuple(f"site-{index}" for index in range(1, number + 1))
    chance = random.Random(f"plan {seed}")
    drawn = sorted((_draw_fault(chance, names, rounds) for _ in range(chance.randint(*faults))), key=_when)
    return Plan(seed, names, tuple(drawn), chance.random() < 1 / 3, chance.choice(("momentum", "scaffold")))


def _draw_fault(chance: random.Random, sites: Sequence[str], rounds: int) -> Fault:
    kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    point = chance.choice(POINTS)
    target, seconds, step_s = "all", chance.uniform(0.0, 1.5), 0
    if kind in _OF_PROCESSES:
        target = chance.choice(("server", "server's job", chance.choice(sites), f"{chance.choice(sites)}'s job"))
        if target.endswith("job") and kind is FaultKind.TERM:
            target = target.removesuffix("'s job")
    elif kind in _OF_LINKS or kind is FaultKind.CLOCK:
        target = chance.choice((*sites, "all"))
    elif kind in _OF_DISKS:
        point, target = chance.choice(DISK_POINTS), "who gets there"
        seconds = chance.choice((0.0, seconds))
    elif kind is FaultKind.BIT_FLIP:
        point, target = chance.choice(_IN_ROUNDS), chance.choice((*sites, "server"))
    if kind is FaultKind.CLOCK:
        step_s = chance.choice(_CLOCK_STEPS_S)
    if kind is FaultKind.CUT:
        seconds = 0.0
    nth = 1 if point in _POINTS_OF_ONE else chance.randint(1, max(1, rounds - 2))
    return Fault(kind, target, point, nth, seconds, step_s)


def _when(fault: Fault) -> tuple[int, int]:
    """Faults of one process' life in the order in which they may come about; of the end last."""
    begins = ("submit.after_write", "job.before_launch")
    ends = ("job.before_terminal", "job.after_terminal")
    phase = 0 if fault.point in begins else 2 if fault.point in ends else 1
    return phase, begins.index(fault.point) if phase == 0 else ends.index(fault.point) if phase == 2 else fault.nth
