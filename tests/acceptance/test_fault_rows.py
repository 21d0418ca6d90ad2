"""Rows of the fault matrix, each by itself: real processes, real proxies, and the checker of `hansa faults`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hansa.faults.arena import Arena
from hansa.faults.campaign import Setting, Trial
from hansa.faults.plan import Fault, FaultKind, Plan
from hansa.jobs.incident import IncidentCode
from hansa.jobs.life import JobState

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
DAY_S = 86_400

ROWS: dict[str, tuple[Fault, ...]] = {
    "F3 power cut": (Fault(FaultKind.POWER_CUT, "all", "aggregate.mid", 4, 0.3),),
    "F3 power cut, twice": (
        Fault(FaultKind.POWER_CUT, "all", "commit.after_before_broadcast", 2, 0.0),
        Fault(FaultKind.POWER_CUT, "all", "result.after_persist_before_send", 2, 0.0),
    ),
    "F6 a cut while results come": (Fault(FaultKind.CUT, "all", "result.mid_stream", 4, 0.0),),
    "F6 a cut while results leave": (Fault(FaultKind.CUT, "site-2", "send.mid_stream", 2, 0.0),),
    "F7 half-open": (Fault(FaultKind.BLACKHOLE, "site-1", "train.mid", 2, 3.0),),
    "F8 slow": (Fault(FaultKind.SLOW, "all", "round.after_open", 2, 2.0),),
    "F12 a clock a day ahead": (Fault(FaultKind.CLOCK, "all", "task.after_recv", 2, 1.0, DAY_S),),
    "F13 a clock a day back": (Fault(FaultKind.CLOCK, "all", "submit.after_write", 1, 1.0, -DAY_S),),
    "F14 the journal's disk is full": (Fault(FaultKind.DISK_FULL, "who gets there", "disk.journal", 3, 1.0),),
    "F14 the server's disk is full": (Fault(FaultKind.DISK_FULL, "who gets there", "disk.blob", 3, 1.0),),
    "F14 no disk has room": (Fault(FaultKind.DISK_FULL, "who gets there", "disk.tensors", 2, 1.0),),
    "F14 the sites' disks are full": (Fault(FaultKind.DISK_FULL, "who gets there", "disk.kept", 2, 1.0),),
    "F15 a write to the journal fails": (Fault(FaultKind.IO_ERROR, "who gets there", "disk.journal", 4, 0.0),),
    "F15 a write of a tensor fails": (Fault(FaultKind.IO_ERROR, "who gets there", "disk.tensors", 4, 0.0),),
    "F15 a write of a result fails": (Fault(FaultKind.IO_ERROR, "who gets there", "disk.blob", 2, 0.0),),
    "F15 a write at a site fails": (Fault(FaultKind.IO_ERROR, "who gets there", "disk.kept", 3, 0.0),),
    "F16 what a site keeps": (Fault(FaultKind.BIT_FLIP, "site-3", "result.after_persist_before_send", 3, 0.0),),
    "F31 planned stops": (
        Fault(FaultKind.TERM, "server", "aggregate.mid", 4, 0.2),
        Fault(FaultKind.TERM, "site-1", "train.mid", 3, 0.2),
    ),
    "F33 the server pauses": (Fault(FaultKind.STOP, "server", "aggregate.mid", 4, 4.0),),
    "F37 nobody is let through": (Fault(FaultKind.REFUSE, "all", "task.after_recv", 3, 2.0),),
    "damage on the way": (Fault(FaultKind.CORRUPT, "all", "result.mid_stream", 3, 0.5),),
}


def test_a_commit_that_is_damaged_is_never_loaded(trial: Trial) -> None:
    fault = Fault(FaultKind.BIT_FLIP, "server", "commit.after_before_broadcast", 2, 0.0)
    verdict = trial.run(Plan(99, SITES, (fault,), has_bystander=False, recipe="momentum"))
    assert verdict.violations == []
    assert verdict.evidence is not None
    (each,) = verdict.evidence.happened
    assert "/kept/commit-" in each.note
    assert verdict.evidence.record.state is JobState.FAILED
    assert "is damaged: its digest is another one" in str(verdict.evidence.record.reason)
    assert IncidentCode.FILE_DAMAGED.value in [each.code for each in verdict.evidence.incidents]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    folder = tmp_path_factory.mktemp("rows")
    with Arena(folder / "arena", SITES) as arena:
        yield Trial(arena, Setting(folder))


@pytest.mark.parametrize("row", ROWS)
def test_a_row(trial: Trial, row: str) -> None:
    number = list(ROWS).index(row)
    recipe = "scaffold" if number % 2 else "momentum"
    verdict = trial.run(Plan(number, SITES, ROWS[row], has_bystander=number % 4 == 0, recipe=recipe))
    assert verdict.violations == []
    assert verdict.evidence is not None
    assert all(each.came_about for each in verdict.evidence.happened), verdict.evidence.happened
