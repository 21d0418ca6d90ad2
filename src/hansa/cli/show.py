"""Runs as people read them in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hansa.cli.output import plain
from hansa.runtime.cross_site import metrics_of, model_label
from hansa.runtime.run import Run, RunStatus

_MAX_ROUNDS = 12
_MAX_SITES = 12
_MODEL_WIDTH, _CELL_WIDTH = 36, 9
_MAX_PROBLEMS = 5
_MAX_FEATURES = 30
_STYLE = {RunStatus.COMPLETED: "green", RunStatus.FAILED: "red", RunStatus.ABORTED: "yellow"}


def _safe(text: str) -> str:
    """A text from elsewhere as it stands, where rich would read markup."""
    return escape(plain(text))


def print_runs(runs: Sequence[Run]) -> None:
    """A table of runs."""
    table = Table(box=None, pad_edge=False)
    needed = {"run": max(len(run.id) for run in runs), "status": max(len(run.status.value) for run in runs)}
    for column in ("run", "status", "sites", "rounds", "refused", "seconds", "metric"):
        # a name that is cut off cannot be typed again, so the metric gives way first
        table.add_column(
            column,
            justify="left" if column in ("run", "status", "metric") else "right",
            no_wrap=True,
            min_width=needed.get(column, 0 if column == "metric" else len(column)),
        )
    for run in runs:
        facts = run.summary()
        metric = ", ".join(f"{name} {value:.4f}" for name, value in sorted(facts["metrics"].items(), reverse=True))
        status = f"[{_STYLE.get(run.status, 'default')}]{run.status.value}[/]"
        sites = str(len(facts["sites"] or ()))
        table.add_row(
            _safe(run.id),
            status,
            sites,
            str(facts["rounds"]),
            str(facts["refused"]),
            f"{facts['seconds']:.2f}",
            _safe(metric),
        )
    console = Console(highlight=False)
    if not console.is_terminal:  # for a pipe there is no edge to cut at
        console = Console(highlight=False, width=240)
    console.print(table)


def print_run(run: Run) -> None:
    """One run: its end, its rounds, its problems and where the time went."""
    console = Console(highlight=False)
    style = _STYLE.get(run.status, "default")
    sites = run.config.get("sites") or []
    console.print(f"[bold]{_safe(run.id)}[/]  [{style}]{run.status.value}[/]", markup=True)
    if run.cause:
        console.print(plain(run.cause), style=style, markup=False)
    console.print(
        f"job {plain(str(run.config.get('job')))}, {len(sites)} sites, seed {run.config.get('seed')}, "
        f"{len(run.history.rounds)} rounds in {run.timings.total:.2f} s"
        + (f" ({run.timings.virtual:.1f} s on the virtual clock)" if "times" in run.config else ""),
        markup=False,
    )
    if run.history.rounds:
        console.print(_rounds_table(run))
    if run.history.evaluations:
        _print_matrix(console, run)
    if statistics := run.statistics:
        _print_statistics(console, statistics)
    _print_refusals(console, run)
    _print_problems(console, run)
    if run.timings.phases:
        console.print(_times(run))
    console.print(f"kept in {run.folder}", markup=False, soft_wrap=True)


def _rounds_table(run: Run) -> Table:
    metrics = run.history.metric_names()[:4]
    table = Table(box=None, pad_edge=False)
    is_timed = "times" in run.config
    columns = ("round", "asked", "counted", "refused", *map(_safe, metrics), "ms", *(["virtual s"] if is_timed else []))
    for column in columns:
        table.add_column(column, justify="right")
    series = {name: dict(run.history.series(name)) for name in metrics}
    rounds = run.history.rounds
    shown = rounds if len(rounds) <= _MAX_ROUNDS else [*rounds[:2], *rounds[2 - _MAX_ROUNDS :]]
    for position, record in enumerate(shown):
        if len(shown) < len(rounds) and position == 2:
            table.add_row("...")
        values = [f"{series[m][record.number]:.4f}" if record.number in series[m] else "" for m in metrics]
        took = f"{record.seconds * 1e3:.1f}" if record.seconds is not None else ""
        refused = str(len(record.refused)) if record.refused else ""
        virtual = [f"{record.virtual_seconds or 0.0:.1f}"] if is_timed else []
        asked, counted = str(len(record.targets)), str(len(record.counted))
        table.add_row(str(record.number), asked, counted, refused, *values, took, *virtual)
    return table


def _print_matrix(console: Console, run: Run) -> None:
    """Models by sites; of many sites only the first, and the mean over all."""
    matrix = run.cross_site()
    others = [name for name in metrics_of(run.history.evaluations) if name != matrix.metric]
    more = f" (also measured: {plain(', '.join(others))})" if others else ""
    console.print(f"{plain(matrix.metric or 'nothing')} of each model on each site's data{more}", markup=False)
    table = Table(box=None, pad_edge=False)
    fits = max(2, (console.width - _MODEL_WIDTH) // _CELL_WIDTH) if console.is_terminal else _MAX_SITES
    shown = matrix.sites[:fits]
    for column in ("model", *shown, *(["..."] if len(shown) < len(matrix.sites) else []), "mean"):
        table.add_column(_safe(column), justify="left" if column == "model" else "right", no_wrap=True)
    for model in matrix.models:
        cells = [_number(matrix.values.get((model, site))) for site in shown]
        if len(shown) < len(matrix.sites):
            cells.append("")
        table.add_row(_safe(model_label(model)), *cells, _number(matrix.mean(model)))
    wide = console if console.is_terminal else Console(highlight=False, width=240)  # a pipe has no edge to cut at
    wide.print(table)
    lines = [
        f"not measured: {model_label(model)} on {site}: {error}" if site else f"not measured: {model}: {error}"
        for (model, site), error in sorted(matrix.errors.items())
    ]
    _print_counted(console, lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _print_statistics(console: Console, statistics: dict[str, Any]) -> None:  # Any: JSON
    for name, dataset in statistics["datasets"].items():
        by_site = dataset["rows_by_site"]
        console.print(f"statistics of {plain(name)}: {dataset['rows']} rows of {len(by_site)} sites", markup=False)
        table = Table(box=None, pad_edge=False)
        table.add_column("feature", overflow="fold")  # gives way to the numbers
        for column in ("count", "missing", "mean", "sd", "min*", "median", "max*"):
            table.add_column(column, justify="right", no_wrap=True)
        features = list(dataset["features"].items())
        for feature, entry in features[:_MAX_FEATURES]:
            median = entry.get("quantiles", {}).get("0.5", {}).get("value")
            numbers = (entry["mean"], entry["sd"], entry.get("min"), median, entry.get("max"))
            shown = ["" if number is None else f"{number:.4g}" for number in numbers]
            table.add_row(_safe(feature), str(entry["count"]), str(entry["missing"]), *shown)
        console.print(table)
        if len(features) > _MAX_FEATURES:
            console.print(f"... and {len(features) - _MAX_FEATURES} more features")
    console.print("* of a range that the sites have widened at random", style="dim")
    _print_counted(console, (f"note: {note}" for note in statistics["notes"]))


def _print_refusals(console: Console, run: Run) -> None:
    reasons = (
        f"refused: {site}: {reason}"
        for record in run.history.rounds
        for site, given in record.refused.items()
        for reason in given
    )
    _print_counted(console, reasons)


def _print_problems(console: Console, run: Run) -> None:
    refused = " ".join(reason for r in run.history.rounds for given in r.refused.values() for reason in given)
    refused += " ".join(each.error for each in run.history.evaluations if each.error is not None)
    # what a refusal names already need not be said twice
    _print_counted(console, (f"problem: {p}" for p in run.problems if p.cause not in refused))


def _print_counted(console: Console, lines: Iterable[str]) -> None:
    counts = Counter(map(plain, lines))
    for line, times in counts.most_common(_MAX_PROBLEMS):
        console.print(line if times == 1 else f"{line} ({times} times)", style="yellow", markup=False, soft_wrap=True)
    if len(counts) > _MAX_PROBLEMS:
        console.print(f"... and {len(counts) - _MAX_PROBLEMS} more, see the run's folder", style="yellow")


def _times(run: Run) -> str:
    total = run.timings.run or 1.0
    phases = sorted(run.timings.phases.items(), key=lambda item: -item[1])
    parts = [f"{name} {seconds / total:.0%}" for name, seconds in phases if seconds / total >= 0.01]
    return f"time: start {run.timings.start:.2f} s, run {run.timings.run:.2f} s ({', '.join(parts)})"
