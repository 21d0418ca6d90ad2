"""Jobs and sites of a federation as people read them in a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hansa.cli.output import plain
from hansa.jobs.life import JobState
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord

if TYPE_CHECKING:
    from hansa.admin.remote_run import RemoteRun

_STYLE = {
    JobState.COMPLETED: "green",
    JobState.FAILED: "red",
    JobState.ABORTED: "yellow",
    JobState.WAITING: "yellow",
    JobState.RUNNING: "cyan",
}
_MOST_PROBLEMS = 5
_WIDE = 240


def print_jobs(records: Sequence[JobRecord]) -> None:
    """A table of jobs."""
    table = _table(("job", "state", "sites", "round", "submitted", "took", "by", "reason"))
    now = time.time()
    for record in records:
        table.add_row(
            _safe(record.id),
            f"[{_STYLE.get(record.state, 'default')}]{record.state.value}[/]",
            str(len(record.sites)) if record.sites else "",
            _rounds(record),
            _ago(now - record.submitted_at),
            _took(record, now),
            _safe(record.submitter),
            _safe(record.reason or ""),
        )
    _print(table)


def print_sites(views: Sequence[SiteView]) -> None:
    """A table of sites."""
    table = _table(("site", "org", "state", "since", "jobs", "GPUs free", "memory", "cores", "tags", "note"))
    now = time.time()
    for view in views:
        table.add_row(
            _safe(view.name),
            _safe(view.org),
            "[green]connected[/]" if view.connected else "[red]away[/]",
            "" if view.since is None else _ago(now - view.since),
            _safe(", ".join(view.jobs)) + ("" if view.max_jobs is None else f" ({len(view.jobs)}/{view.max_jobs})"),
            f"{len(view.free_gpus)}/{len(view.gpus)}" if view.gpus else "",
            "" if view.memory_mb is None else f"{view.memory_mb:g} MB",
            "" if view.cpus is None else f"{view.cpus:g}",
            _safe(", ".join(view.tags)),
            _safe(view.note or ""),
        )
    _print(table)


def print_outcome(run: RemoteRun) -> None:
    """How a job that was followed has ended."""
    facts, record = run.summary(), run.record
    console = Console(highlight=False)
    console.print(f"[bold]{_safe(record.id)}[/]  [{_STYLE.get(record.state, 'default')}]{record.state.value}[/]")
    took = "" if facts["seconds"] is None else f" in {facts['seconds']:.2f} s"
    console.print(f"job {plain(record.name)}, {len(record.sites)} sites, {facts['rounds']} rounds{took}", markup=False)
    for name, value in sorted(facts["metrics"].items()):
        console.print(f"{plain(name)} {value:.4f}", markup=False)
    for problem in run.problems[:_MOST_PROBLEMS]:
        console.print(f"problem: {plain(str(problem))}", style="yellow", markup=False, soft_wrap=True)
    if len(run.problems) > _MOST_PROBLEMS:
        console.print(f"... and {len(run.problems) - _MOST_PROBLEMS} more", style="yellow")
    console.print(f"model, history and log: hansa download {record.id}", markup=False, soft_wrap=True)


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        # names that are cut off cannot be typed again: the last column gives way
        table.add_column(column, no_wrap=column != columns[-1])
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    # for a pipe there is no edge to cut at
    (console if console.is_terminal else Console(highlight=False, width=_WIDE)).print(table)


def _rounds(record: JobRecord) -> str:
    if record.round is None:
        return ""
    begun = record.round + 1  # rounds are counted from 0, as in logs
    return f"{begun}/{record.num_rounds}" if record.num_rounds is not None else str(begun)


def _took(record: JobRecord, now: float) -> str:
    if record.started_at is None:
        return ""
    return _span((record.ended_at or now) - record.started_at)


def _ago(seconds: float) -> str:
    return f"{_span(seconds)} ago"


def _span(seconds: float) -> str:
    """A span of time to the two figures that matter; clocks that differ a little make none that is negative."""
    seconds = max(0.0, seconds)
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} d"


def _safe(text: str) -> str:
    return escape(plain(text))
