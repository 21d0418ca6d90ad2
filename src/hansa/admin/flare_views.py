"""How a federation stands, in the words and tables that scripts for FLARE's admin API read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.apis.fl_constant import MachineStatus
from hansa.jobs.life import JobState
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Problem

_RUNS = (JobState.RUNNING, JobState.WAITING, JobState.PAUSED)
_SERVER = "server"


def engine_status(job: JobRecord | None, *, starts: bool = False) -> str:
    """What FLARE says of a server that has this job.

    Args:
        job: The job; None: there is none.
        starts: Whether one is about to be submitted.
    """
    if job is None or job.state.is_over:
        return str((MachineStatus.STARTING if starts else MachineStatus.STOPPED).value)
    if job.abort is not None:
        return MachineStatus.STOPPING.value
    return str((MachineStatus.STARTED if job.state in _RUNS else MachineStatus.STARTING).value)


def job_line(job: JobRecord | None) -> str:
    """How a job stands, in a line."""
    if job is None:
        return "no app was started"
    return f"job {job.id} is {job.state.value}" + (f": {job.reason}" if job.reason else "")


def server_table(sites: Sequence[SiteView]) -> list[list[str]]:
    """The sites that are connected, as the table of `check_status server`; nobody has a token here."""
    rows = [[site.name, "-", "-" if site.since is None else time.ctime(site.since)] for site in sites if site.connected]
    return [["CLIENT", "TOKEN", "LAST CONNECT TIME"], *rows]


def client_table(
    job: JobRecord | None, sites: Sequence[SiteView], *, app: str, number: int | None, wanted: Sequence[str] | None
) -> list[list[str]]:
    """Sites and what they do in a job, as the table of `check_status client`.

    Args:
        job: The job; None: there is none.
        sites: What the server knows of sites.
        app: The app's name.
        number: The run's number.
        wanted: Only these sites; None: all that are connected, and all that take part.
    """
    status = engine_status(job)
    taking_part = set() if job is None else set(job.sites)
    names = [site.name for site in sites if site.connected or site.name in taking_part]
    rows = []
    for name in sorted(names) if wanted is None else wanted:
        # Until its sites are chosen a job may become the job of any of them.
        is_in = name in taking_part or not taking_part
        own = status if is_in else MachineStatus.STOPPED.value
        rows.append([name, app if is_in and job is not None else "?", str(number) if number else "?", own])
    return [["CLIENT", "APP_NAME", "RUN_NUMBER", "STATUS"], *rows]


def server_stats(
    job: JobRecord, history: RunHistory, *, number: int | None, workflow: str
) -> dict[str, dict[str, Any]]:  # Any: numbers, texts, and metrics
    """Figures of a job by group, as `show_stats server` has them."""
    metrics = {name: series[-1][1] for name in history.metric_names() if (series := history.series(name))}
    status = "done" if job.state.is_over else engine_status(job)
    return {
        "ServerRunner": {"run_number": number, "status": status, "workflow": workflow, "job": job_line(job)},
        workflow: {"current_round": job.round, "num_rounds": job.num_rounds, "metrics": metrics},
    }


def client_stats(
    job: JobRecord, *, number: int | None, wanted: Sequence[str]
) -> dict[str, dict[str, Any]]:  # Any: numbers and texts
    """The same of sites, as `show_stats client` has them."""
    stopped = MachineStatus.STOPPED.value
    return {
        name: {"ClientRunner": {"run_number": number, "status": engine_status(job) if name in job.sites else stopped}}
        for name in wanted
    }


def errors_at(problems: Sequence[Problem], site: str) -> dict[str, dict[str, str]]:
    """What went wrong at a participant: what was under way, and the last thing that went wrong there."""
    return {problem.where: {"ERROR": problem.cause} for problem in problems if problem.site == site}


def server_errors(job: JobRecord, problems: Sequence[Problem]) -> Mapping[str, dict[str, str]]:
    """What went wrong at the server, and why the job failed if it did."""
    failed = {"job": {"ERROR": job.reason or job_line(job)}} if job.state is JobState.FAILED else {}
    return {**errors_at(problems, _SERVER), **failed}
