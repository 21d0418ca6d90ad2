"""The ten rules: what is left of a good run breaks none, and each thing that must not be breaks its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hansa.faults.checker import CEILINGS, RULES, check
from hansa.faults.evidence import Committed, Evidence, Received, recoveries
from hansa.faults.nemesis import Happened
from hansa.faults.plan import Fault, FaultKind
from hansa.jobs.incident import Incident, IncidentCode
from hansa.jobs.life import JobState, StateChange
from hansa.jobs.store import JobRecord
from hansa.runtime.history import RoundRecord

SITES = ("site-1", "site-2")
ROUNDS = 3
RECEIVED = [
    Received(f"0/train/{number + 1}", site, f"sha256:{number}{site}", 1, 10 * number + index)
    for number in range(ROUNDS)
    for index, site in enumerate(SITES)
]


def record(state: JobState = JobState.COMPLETED, reason: str | None = None) -> JobRecord:
    return JobRecord("0001-x", 1, "x", "admin", 0.0, (StateChange(state, 0.0, reason),))


GOOD = Evidence(
    happened=(),
    record=record(),
    rounds=[RoundRecord(number, list(SITES), dict.fromkeys(SITES, 1.0)) for number in range(ROUNDS)],
    received=RECEIVED,
    commits=[Committed(number, f"sha256:{number}", 1, 100 + number) for number in range(1, ROUNDS + 1)],
    model="sha256:m",
    expected="sha256:m",
    bystander=("sha256:b", "sha256:b"),
    uses={"memory_bytes": 1, "open_files": 1, "threads": 1},
)


def happened(kind: FaultKind, *where: str, point: str = "aggregate.mid", seconds: float = 0.0) -> Happened:
    return Happened(Fault(kind, where[0] if where else "all", point, 1, seconds), where)


def incident(code: IncidentCode, site: str | None = None) -> Incident:
    return Incident(1, 0.0, code.value, "x", "0001-x", site)


def without(round_number: int, site: str, **more: Any) -> list[RoundRecord]:
    rounds = [replace(each, counted=dict(each.counted)) for each in GOOD.rounds]
    del rounds[round_number].counted[site]
    rounds[round_number] = replace(rounds[round_number], **more)
    return rounds


def broken(evidence: Evidence) -> list[str]:
    return [violation.rule for violation in check(evidence)]


def test_a_good_run_breaks_no_rule() -> None:
    assert check(GOOD) == []
    assert len(RULES) == 10


BAD: dict[str, list[Evidence]] = {
    "no received result lost": [replace(GOOD, rounds=without(1, "site-2"))],
    "exactly one effect": [
        replace(GOOD, received=RECEIVED[:-1]),
        replace(
            GOOD,
            incidents=[incident(IncidentCode.RESULT_ALTERED, "site-1")],
            happened=[happened(FaultKind.KILL, "site-1")],
        ),
    ],
    "rounds only go forward": [
        replace(GOOD, commits=[*GOOD.commits, Committed(3, "sha256:other", 2, 200)]),
        replace(GOOD, commits=[Committed(1, "a", 2, 1), Committed(2, "b", 1, 2)]),
        replace(GOOD, rounds=[*GOOD.rounds[:2], GOOD.rounds[1]]),
    ],
    "equal outcome": [replace(GOOD, model="sha256:n"), replace(GOOD, model=None)],
    "everything ends": [
        replace(GOOD, record=record(JobState.RUNNING)),
        replace(GOOD, record=record(JobState.WAITING, "for ever")),
        replace(GOOD, record=record(JobState.FAILED, "it died")),
    ],
    "no orphans": [replace(GOOD, leftovers=["process 7 of site-1"])],
    "isolation": [replace(GOOD, bystander=("sha256:c", "sha256:b")), replace(GOOD, bystander=(None, "sha256:b"))],
    "bounded": [replace(GOOD, uses={**GOOD.uses, name: most + 1}) for name, most in CEILINGS.items()],
    "explained": [
        replace(GOOD, happened=[happened(FaultKind.KILL, "server")]),
        replace(GOOD, happened=[happened(FaultKind.KILL, "site-1's job")]),
        replace(GOOD, happened=[happened(FaultKind.CUT, "site-1")]),
        replace(GOOD, incidents=[incident(IncidentCode.SERVER_DIED)]),
        replace(
            GOOD,
            happened=[happened(FaultKind.KILL, "server's job")],
            incidents=[incident(IncidentCode.JOB_PROCESS_DIED)] * 2,
        ),
    ],
    "fails closed": [replace(GOOD, lets_strangers_in=True)],
}


@pytest.mark.parametrize(
    ("rule", "evidence"), [(rule, one) for rule, each in BAD.items() for one in each], ids=lambda value: str(value)[:24]
)
def test_what_must_not_be_breaks_its_rule(rule: str, evidence: Evidence) -> None:
    assert rule in broken(evidence)


def test_every_rule_has_something_that_breaks_it() -> None:
    assert BAD.keys() == RULES.keys()


def test_a_result_that_was_refused_with_a_reason_is_not_lost() -> None:
    assert broken(replace(GOOD, rounds=without(1, "site-2", refused={"site-2": ["late"]}))) == []


def test_each_fault_with_its_incident_is_explained() -> None:
    stories = [
        (happened(FaultKind.KILL, "server"), [incident(IncidentCode.SERVER_DIED)]),
        (happened(FaultKind.KILL, "server's job"), [incident(IncidentCode.JOB_PROCESS_DIED)]),
        (happened(FaultKind.KILL, "site-2"), [incident(IncidentCode.SITE_DISCONNECTED, "site-2")]),
        (happened(FaultKind.KILL, "site-2's job"), [incident(IncidentCode.SITE_PROCESS_DIED, "site-2")]),
        (happened(FaultKind.TERM, "server"), []),
        (happened(FaultKind.TERM, "site-1"), []),
        (happened(FaultKind.STOP, "server"), [incident(IncidentCode.SITE_DISCONNECTED, site) for site in SITES]),
        (happened(FaultKind.CUT, *SITES), [incident(IncidentCode.SITE_DISCONNECTED, site) for site in SITES]),
        (happened(FaultKind.CLOCK, "all"), []),
        (happened(FaultKind.KILL, "site-2's job", point="job.after_terminal"), []),
        (
            happened(FaultKind.DISK_FULL, "server", point="disk.journal"),
            [incident(IncidentCode.JOURNAL_UNWRITABLE)],
        ),
    ]
    for fault, incidents in stories:
        assert broken(replace(GOOD, happened=[fault], incidents=incidents)) == [], fault


def test_what_a_disk_has_lost_may_cost_the_model_but_only_if_it_was_said() -> None:
    flipped = replace(GOOD, happened=[happened(FaultKind.BIT_FLIP, "site-1")], model="sha256:n")
    disconnected = incident(IncidentCode.SITE_DISCONNECTED, "site-1")
    assert broken(replace(flipped, incidents=[disconnected])) == ["equal outcome"]
    assert broken(replace(flipped, incidents=[disconnected, incident(IncidentCode.SITE_DAMAGED, "site-1")])) == []


def test_how_long_a_recovery_took_is_until_the_next_result() -> None:
    at = [replace(each, at=100.0 + index) for index, each in enumerate(RECEIVED)]
    deaths = [replace(happened(FaultKind.KILL, "server"), mended_at=moment) for moment in (101.25, 104.5, 200.0)]
    assert recoveries(replace(GOOD, received=at, happened=deaths)) == [0.75, 0.5]
    clock = happened(FaultKind.CLOCK, "all")
    assert recoveries(replace(GOOD, received=at, happened=[*deaths, clock])) == []
