"""What must hold after every fault, and whether it does: a small model of what may happen, against what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from hansa.faults.evidence import Evidence
from hansa.faults.nemesis import Happened
from hansa.faults.plan import FaultKind
from hansa.jobs.incident import IncidentCode
from hansa.jobs.life import JobState

CEILINGS: Mapping[str, int] = {"memory_bytes": 400 << 20, "open_files": 400, "threads": 120}
"""What the server's program may use, whatever has happened."""
_LINK = (FaultKind.CUT, FaultKind.BLACKHOLE, FaultKind.REFUSE, FaultKind.SLOW, FaultKind.CORRUPT)
_DISK = (FaultKind.DISK_FULL, FaultKind.IO_ERROR)
_OF_DISK: Mapping[str, IncidentCode] = {
    "disk.journal": IncidentCode.JOURNAL_UNWRITABLE,
    "disk.blob": IncidentCode.SERVER_DISK,
    "disk.tensors": IncidentCode.SERVER_DISK,
    "disk.kept": IncidentCode.SITE_DISK,
}
_AT_THE_END = ("job.before_terminal", "job.after_terminal")
_MOST_TRIES = 20


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    Attributes:
        rule: Which of the ten rules is broken.
        text: How.
    """

    rule: str
    text: str


def check(evidence: Evidence) -> list[Violation]:
    """All that is wrong; empty if nothing is."""
    return [Violation(rule, text) for rule, find in RULES.items() for text in find(evidence)]


def may_differ(evidence: Evidence) -> bool:
    """Whether the model may be another one: a disk has lost what nothing but itself leads to again, and it was said."""
    codes = {each.code for each in evidence.incidents}
    damaged = {IncidentCode.SITE_DAMAGED.value, IncidentCode.FILE_DAMAGED.value}
    return bool(codes & damaged) and any(each.fault.kind is FaultKind.BIT_FLIP for each in evidence.happened)


def no_received_result_lost(evidence: Evidence) -> Iterator[str]:
    """A result that was made durable is counted in its round, or the round's record says why it was refused."""
    for task, number in _rounds_of_tasks(evidence).items():
        record = evidence.rounds[number]
        for each in (each for each in evidence.received if each.task == task):
            if each.site not in record.counted and each.site not in record.refused:
                yield f"round {record.number} does not say what became of {each.site}'s result of {task}"


def exactly_one_effect(evidence: Evidence) -> Iterator[str]:
    """A site counts once in a round, for a result that was received; no result was there twice with other bytes."""
    may_be_unwritten = any(_costs_rows(each) for each in evidence.happened)
    # A commit that covers results may be durable where they alone are not.
    tasks = {} if may_be_unwritten else _rounds_of_tasks(evidence)
    for task, number in tasks.items():
        record = evidence.rounds[number]
        received = {each.site for each in evidence.received if each.task == task}
        for site in sorted(record.counted.keys() - received):
            yield f"round {record.number} counts a result of {site} that is not in the journal ({task})"
    for each in evidence.incidents:
        if each.code == IncidentCode.RESULT_ALTERED.value:
            yield f"a task was answered twice with different bytes: {each.text}"


def rounds_only_go_forward(evidence: Evidence) -> Iterator[str]:
    """Commits and rounds are numbered upwards, each once."""
    for one, other in pairwise(evidence.commits):
        if other.version <= one.version or other.epoch < one.epoch:
            yield f"version {other.version} (epoch {other.epoch}) was committed after {one.version} (epoch {one.epoch})"
    numbers = [each.number for each in evidence.rounds]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))) if numbers else False:
        yield f"the rounds are numbered {numbers}"


def equal_outcome(evidence: Evidence) -> Iterator[str]:
    """The final model is that of the undisturbed run, bit for bit."""
    is_complete = evidence.record.state is JobState.COMPLETED
    if (
        is_complete
        and evidence.expected is not None
        and evidence.model != evidence.expected
        and not may_differ(evidence)
    ):
        yield f"the model is {evidence.model}, that of the undisturbed run {evidence.expected}"


def everything_ends(evidence: Evidence) -> Iterator[str]:
    """The job is over; and, since nothing has happened that it could not survive, completed."""
    record = evidence.record
    if not record.state.is_over or (record.state is not JobState.COMPLETED and not may_differ(evidence)):
        yield f"the job is {record.state.value}: {record.reason}"


def no_orphans(evidence: Evidence) -> Iterator[str]:
    """No process, no temporary file of the job is left."""
    yield from (f"left behind: {each}" for each in evidence.leftovers)


def isolation(evidence: Evidence) -> Iterator[str]:
    """The job beside has its own model."""
    # A flipped bit may have been its own.
    beside = None if may_differ(evidence) else evidence.bystander
    if beside is not None and beside[0] != beside[1]:
        yield f"the job beside has the model {beside[0]}, and should have {beside[1]}"


def bounded(evidence: Evidence) -> Iterator[str]:
    """The server's program uses no more than it may."""
    for name, most in CEILINGS.items():
        if evidence.uses.get(name, 0) > most:
            yield f"the server uses {name} {evidence.uses[name]}, {most} at most"


def explained(evidence: Evidence) -> Iterator[str]:
    """Each fault has its incident, and there are no incidents without a fault."""
    num_jobs = 1 if evidence.bystander is None else 2
    # A process that is killed while it is being ended, since nothing could be kept, is no incident.
    is_resting = any(each.came_about and each.fault.point == "disk.journal" for each in evidence.happened)
    causes = [cause for each in evidence.happened for cause in _incidents_of(each, num_jobs, is_resting=is_resting)]
    seen = Counter((each.code, each.site or "") for each in evidence.incidents)
    for code, about in dict.fromkeys((cause.code.value, cause.site) for cause in causes if cause.least):
        least = sum(cause.least for cause in causes if (cause.code.value, cause.site) == (code, about))
        if seen[code, about] < least:
            yield f"{least} incidents {code} were to be expected{_of(about)}, {seen[code, about]} were noted"
    for (code, about), number in seen.items():
        most = sum(cause.most for cause in causes if cause.code.value == code and cause.site in (about, "*"))
        if number > most:
            yield f"{number} incidents {code} were noted{_of(about)}, for {most} causes"


def fails_closed(evidence: Evidence) -> Iterator[str]:
    """Who has no certificate is refused, as before."""
    if evidence.lets_strangers_in:
        yield "the server answers somebody without a certificate"


RULES: Mapping[str, Callable[[Evidence], Iterator[str]]] = {
    "no received result lost": no_received_result_lost,
    "exactly one effect": exactly_one_effect,
    "rounds only go forward": rounds_only_go_forward,
    "equal outcome": equal_outcome,
    "everything ends": everything_ends,
    "no orphans": no_orphans,
    "isolation": isolation,
    "bounded": bounded,
    "explained": explained,
    "fails closed": fails_closed,
}
"""The rules, by name; each gives a line for each way in which it is broken."""


def _rounds_of_tasks(evidence: Evidence) -> dict[str, int]:
    """The index of the round that each task belongs to, where each posting of the one task that there is is a round."""
    if evidence.record.state is not JobState.COMPLETED:
        return {}
    tasks = {each.task for each in evidence.received}
    names = {task.rpartition("/")[0] for task in tasks}
    postings = {task: int(task.rpartition("/")[2]) - 1 for task in tasks}
    is_one_a_round = len(names) == 1 and max(postings.values()) < len(evidence.rounds)
    return postings if is_one_a_round else {}


@dataclass(frozen=True)
class _Cause:
    """Incidents that a fault must have, and may have; of a site, of the server (empty), or of any one (`*`)."""

    code: IncidentCode
    site: str
    least: int
    most: int


def _incidents_of(each: Happened, num_jobs: int, *, is_resting: bool) -> Iterator[_Cause]:
    fault, kind = each.fault, each.fault.kind
    if not each.came_about:
        return
    for where in each.where:
        yield from _incidents_at(where, each, is_resting=is_resting)
    if kind is FaultKind.POWER_CUT:
        yield _Cause(IncidentCode.SERVER_DIED, "", 1, 1)
    elif kind is FaultKind.BIT_FLIP:
        yield _Cause(IncidentCode.FILE_DAMAGED, "", 0, 1)
    elif kind in _DISK:
        most = (_MOST_TRIES if fault.seconds else 1) * num_jobs  # each job that has to wait says so
        yield _Cause(_OF_DISK[fault.point], "", 0, most)
        yield _Cause(IncidentCode.SITE_DISK, "*", 0, most)


def _incidents_at(where: str, each: Happened, *, is_resting: bool) -> Iterator[_Cause]:
    kind = each.fault.kind
    is_noted = each.fault.point not in _AT_THE_END
    if kind is FaultKind.KILL and where == "server's job":
        yield _Cause(IncidentCode.JOB_PROCESS_DIED, "", is_noted and not is_resting, 1)
    elif kind is FaultKind.KILL and where.endswith("'s job"):
        yield _Cause(IncidentCode.SITE_PROCESS_DIED, where.removesuffix("'s job"), is_noted, 1)
    elif kind in (FaultKind.KILL, FaultKind.BIT_FLIP) and where == "server":
        yield _Cause(IncidentCode.SERVER_DIED, "", 1, 1)
    elif kind in (FaultKind.KILL, FaultKind.BIT_FLIP):
        yield _Cause(IncidentCode.SITE_DISCONNECTED, where, 1, 1)
        yield _Cause(IncidentCode.SITE_DAMAGED, where, 0, 1)
    elif kind is FaultKind.STOP:
        yield _Cause(IncidentCode.SITE_DISCONNECTED, "*" if where == "server" else where, 0, 1)
    elif kind in _LINK:
        most = _MOST_TRIES if kind is FaultKind.CORRUPT else 3  # a bit of each new connection is flipped
        yield _Cause(IncidentCode.SITE_DISCONNECTED, where, kind is FaultKind.CUT, most)


def _costs_rows(each: Happened) -> bool:
    """Whether the server may have lost rows that were on their way, and of which no site was told."""
    hits_server = each.fault.kind is FaultKind.POWER_CUT or "server" in each.where
    return hits_server or each.fault.point == "disk.journal"


def _of(site: str) -> str:
    return f" of {site}" if site else ""
