"""Seed after seed: a job on a federation, a plan of faults, and a verdict."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from hansa.errors import HansaError, RunError
from hansa.faults.arena import SERVER, Arena, pause
from hansa.faults.checker import Violation, check
from hansa.faults.evidence import Evidence, gather, last_incident, read_record, recoveries
from hansa.faults.nemesis import Nemesis
from hansa.faults.plan import SEEDS_PER_FEDERATION, Plan, draw
from hansa.faults.sample_job import sample_job
from hansa.jobs.job import Job
from hansa.jobs.store import STATE

PATIENCE_S = 120.0
"""How long a job may go on once nothing disturbs it any more."""
_LOOK_S = 0.02
_AGAIN_S = 0.2
_BYSTANDER = ("momentum", 1)


@dataclass(frozen=True)
class Setting:
    """What a campaign runs.

    Attributes:
        folder: Where federations are set up; each is deleted unless something is wrong.
        sites: How many sites, from and to.
        faults: How many faults a seed has, from and to.
        rounds: How many rounds the job has that comes with Hansa.
        job: The user's own job, in its place.
        journal: A URL of PostgreSQL; None: SQLite.
        keep: Whether to keep all federations' folders.
    """

    folder: Path
    sites: tuple[int, int] = (3, 8)
    faults: tuple[int, int] = (1, 4)
    rounds: int = 8
    job: Job | None = None
    journal: Callable[[], str] | None = None
    keep: bool = False


@dataclass(frozen=True)
class Verdict:
    """What has become of a seed.

    Attributes:
        plan: What was to happen.
        evidence: What is left; None where the federation itself did not come up again.
        violations: What is wrong.
        seconds: How long it took.
        recovery_s: For each fault, how long it was until the server had another result.
        folder: Where its federation lies, if that was kept.
    """

    plan: Plan
    evidence: Evidence | None
    violations: Sequence[Violation]
    seconds: float
    recovery_s: Sequence[float] = ()
    folder: Path | None = None

    @property
    def num_lost(self) -> int:
        """Results that were received and not accounted for."""
        return sum(each.rule == "no received result lost" for each in self.violations)

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data."""
        evidence = self.evidence
        return {
            "seed": self.plan.seed,
            "sites": len(self.plan.sites),
            "faults": [str(each) for each in self.plan.faults],
            "came_about": [] if evidence is None else [str(e.fault) for e in evidence.happened if e.came_about],
            "state": None if evidence is None else evidence.record.state.value,
            "results_received": 0 if evidence is None else len(evidence.received),
            "lost": self.num_lost,
            "incidents": [] if evidence is None else [each.as_dict() for each in evidence.incidents],
            "violations": [{"rule": each.rule, "text": each.text} for each in self.violations],
            "seconds": round(self.seconds, 3),
            "recovery_s": [round(each, 3) for each in self.recovery_s],
            "folder": None if self.folder is None else str(self.folder),
        }


def run_campaign(seeds: Sequence[int], setting: Setting) -> Iterator[Verdict]:
    """Run seeds; those of one federation share it, as long as nothing is wrong with it.

    Yields:
        The verdict on each.

    Raises:
        HansaError: A federation does not start, or a job does not run even when nothing disturbs it.
    """
    for _, group in groupby(sorted(seeds), key=lambda seed: seed // SEEDS_PER_FEDERATION):
        plans = [draw(seed, sites=setting.sites, faults=setting.faults, rounds=setting.rounds) for seed in group]
        while plans:
            done = 0
            for verdict in _in_one_federation(plans, setting):
                done += 1
                yield verdict
            plans = plans[done:]


def _in_one_federation(plans: Sequence[Plan], setting: Setting) -> Iterator[Verdict]:
    """Verdicts until something is wrong, or all plans are done."""
    folder = setting.folder / f"seed-{plans[0].seed}"
    is_wrong = False
    try:
        journal = None if setting.journal is None else setting.journal()
        with Arena(folder, plans[0].sites, journal=journal, seed=plans[0].seed) as arena:
            trial = Trial(arena, setting)
            for plan in plans:
                verdict = trial.run(plan)
                is_wrong = bool(verdict.violations)
                yield replace(verdict, folder=folder if is_wrong or setting.keep else None)
                if is_wrong:
                    return
    finally:
        if not is_wrong and not setting.keep:
            shutil.rmtree(folder, ignore_errors=True)


class Trial:
    """Runs jobs on one federation.

    Args:
        arena: The federation.
        setting: What is run.
    """

    def __init__(self, arena: Arena, setting: Setting) -> None:
        self._arena = arena
        self._setting = setting
        self._digests: dict[tuple[str, int], str | None] = {}

    def run(self, plan: Plan) -> Verdict:
        """Run the job under a plan's faults."""
        began = time.monotonic()
        arena = self._arena
        expected = self._undisturbed(plan.recipe, 0)
        beside = self._undisturbed(*_BYSTANDER) if plan.has_bystander else None
        since = last_incident(arena)
        seen = set(self._jobs())
        if plan.has_bystander:
            arena.session.submit(self._job(*_BYSTANDER))
        submitting = threading.Thread(target=self._submit, args=(plan, seen))
        nemesis = Nemesis(arena, plan, job_is_over=lambda: self._is_over(plan, seen), begin=submitting.start)
        problem, jobs = None, list[str]()
        try:
            nemesis.play()
            jobs = self._await(plan, seen)
            submitting.join(PATIENCE_S)
        except RunError as error:
            problem = str(error)
        if problem is not None or not jobs:
            text = problem or "the job was submitted, and is not there"
            return Verdict(plan, None, [Violation("everything ends", text)], time.monotonic() - began)
        evidence = gather(arena, jobs[-1], happened=nemesis.happened, expected=expected, since=since)
        if plan.has_bystander:
            model = self._digest_of(jobs[0])
            evidence = replace(evidence, bystander=(model, beside))
        missing = arena.until_connected()
        violations = check(evidence)
        violations += [Violation("everything ends", f"{site} does not come back") for site in missing]
        return Verdict(plan, evidence, violations, time.monotonic() - began, recoveries(evidence))

    def _job(self, recipe: str, seed: int) -> Job:
        """What is submitted: it waits for all sites, since with fewer of them it would have another model."""
        job = self._setting.job
        if job is None or seed != 0:
            job = sample_job(recipe, rounds=self._setting.rounds, seed=seed, name=f"{recipe}-{seed}")
        return replace(job, meta={"mandatory_clients": list(self._arena.sites), **job.meta})

    def _undisturbed(self, recipe: str, seed: int) -> str | None:
        """The model's digest where nothing happens; of a job that gives another one each time None."""
        if self._setting.job is not None and seed == 0:
            recipe = "own"
        if (recipe, seed) not in self._digests:
            again = 2 if recipe == "own" else 1
            runs = [self._arena.session.submit(self._job(recipe, seed)).wait(PATIENCE_S) for _ in range(again)]
            digests = {run.model_digest for run in runs}
            self._digests[recipe, seed] = digests.pop() if len(digests) == 1 else None
        return self._digests[recipe, seed]

    def _submit(self, plan: Plan, seen: set[str]) -> None:
        until = time.monotonic() + PATIENCE_S
        while len(self._new(seen)) < _num_jobs(plan) and time.monotonic() < until:
            try:
                self._arena.session.submit(self._job(plan.recipe, 0))
            except HansaError:  # the server was killed over it, and may have it all the same
                pause(_AGAIN_S)

    def _jobs(self) -> list[str]:
        found = (path.parent.name for path in (self._arena.kit(SERVER) / "jobs").glob(f"*/{STATE}"))
        return sorted(name for name in found if not name.startswith("."))

    def _new(self, seen: set[str]) -> list[str]:
        return [job for job in self._jobs() if job not in seen]

    def _is_over(self, plan: Plan, seen: set[str]) -> bool:
        """Whether all jobs of a plan are over."""
        jobs = self._new(seen)
        folder = self._arena.kit(SERVER) / "jobs"
        return len(jobs) == _num_jobs(plan) and all(read_record(folder / job).state.is_over for job in jobs)

    def _await(self, plan: Plan, seen: set[str]) -> list[str]:
        """Wait until the jobs are over, or should be; returns them, oldest first."""
        until = time.monotonic() + PATIENCE_S
        while not self._is_over(plan, seen) and time.monotonic() < until:
            pause(_LOOK_S)
        return self._new(seen)

    def _digest_of(self, job: str) -> str | None:
        from hansa.runtime.run import Run

        folder = self._arena.kit(SERVER) / "jobs" / job / "run"
        return Run.load(folder).model_digest if (folder / "run.json").exists() else None


def _num_jobs(plan: Plan) -> int:
    return 1 + plan.has_bystander
