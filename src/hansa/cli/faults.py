"""`hansa faults`: disturb a job on a federation on this machine, seed after seed, and check that nothing was lost."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import plain, print_json
from hansa.errors import ConfigError, RunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from hansa.faults.campaign import Verdict

_MOST_SITES = 32


def faults(
    job: Annotated[
        Path | None,
        typer.Argument(help="A job folder; without one, a small job that comes with Hansa.", show_default=False),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many seeds from 0 on, or which: 20, 7:9, 3,17.")] = "20",
    sites: Annotated[str, typer.Option("--sites", help="How many sites: 4, or from and to: 3:8.")] = "3:8",
    num_faults: Annotated[str, typer.Option("--faults", help="How many faults a seed has: 2, or 1:4.")] = "1:4",
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Rounds of the job that comes with Hansa.")] = 8,
    journal: Annotated[
        str | None, typer.Option("--journal", help="A URL of PostgreSQL for the server's journal.", show_default=False)
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", "-d", help="Where federations are set up (default: a temporary folder).")
    ] = None,
    virtual: Annotated[
        int, typer.Option("--virtual", min=0, help="So many seeds of the pure core in virtual time, and no processes.")
    ] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folders of all federations.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Kill, stop, cut, slow and fill what a job stands on while it runs, and check that nothing was lost."""
    from rich.console import Console

    from hansa.faults.campaign import Setting, run_campaign
    from hansa.jobs.job import Job

    if virtual:
        _run_virtual(virtual, as_json=as_json)
        return
    wanted = _seeds(seeds)
    with ExitStack() as cleanup:
        if folder is None:
            made = tempfile.TemporaryDirectory(prefix="hansa-faults-", ignore_cleanup_errors=True)
            folder = Path(made.name)
            if not keep:
                cleanup.enter_context(made)
        setting = Setting(
            folder,
            _span(sites, "sites", most=_MOST_SITES),
            _span(num_faults, "faults", most=100),
            rounds,
            None if job is None else Job.load(job),
            None if journal is None else lambda: journal,
            keep,
        )
        console = Console(stderr=True, highlight=False)
        verdicts: list[Verdict] = []
        with console.status("starting a federation") as line:
            for verdict in run_campaign(wanted, setting):
                verdicts.append(verdict)
                if not as_json:
                    _say(console, verdict)
                line.update(f"{len(verdicts)} of {len(wanted)} seeds")
        wrong = [each for each in verdicts if each.violations]
        if wrong and setting.folder.exists():
            cleanup.pop_all()  # what is wrong is looked at
    if as_json:
        print_json({"seeds": [each.as_dict() for each in verdicts], **_sum(verdicts)})
    else:
        _print_sum(verdicts)
    if wrong:
        raise RunError(f"{len(wanted)} seeds, {len(wrong)} with something wrong; see {setting.folder}")


def _run_virtual(number: int, *, as_json: bool) -> None:
    """Seeds in virtual time: a bar, a line for each that is wrong, and its trace."""
    import time

    from rich.console import Console
    from rich.progress import track

    from hansa.faults.virtual import run_seed

    console = Console(stderr=True, highlight=False)
    began = time.perf_counter()
    seeds = track(range(number), "seeds in virtual time", console=console, transient=True)
    outcomes = [run_seed(seed) for seed in seeds]
    wrong = [each for each in outcomes if each.problems]
    for each in wrong:
        console.print(f"seed {each.seed}: {'; '.join(each.faults)}", style="red", markup=False, soft_wrap=True)
        for line in (*each.problems, *each.trace):
            console.print(f"    {line}", markup=False, soft_wrap=True)
    total = {
        "num_seeds": number,
        "num_faults": sum(len(each.faults) for each in outcomes),
        "tasks_trained": sum(each.num_trained for each in outcomes),
        "seeds_wrong": len(wrong),
        "seconds": round(time.perf_counter() - began, 1),
    }
    if as_json:
        print_json(total)
    else:
        for name, value in total.items():
            typer.echo(f"{name.replace('_', ' ').removeprefix('num '):15} {value}")
    if wrong:
        raise RunError(f"{number} seeds in virtual time, {len(wrong)} with something wrong")


def _seeds(text: str) -> list[int]:
    try:
        if text.strip().isdecimal():
            found = list(range(int(text)))
        else:
            spans = [part.split(":") for part in text.split(",")]
            found = sorted({seed for span in spans for seed in range(int(span[0]), int(span[-1]) + 1)})
    except ValueError:
        found = []
    if not found or found[0] < 0:
        raise ConfigError(f"{text!r} says no seeds: give 20, 7:9, or 3,17", key="seeds")
    return found


def _span(text: str, key: str, *, most: int) -> tuple[int, int]:
    low, _, high = text.partition(":")
    try:
        found = int(low), int(high or low)
    except ValueError:
        raise ConfigError(f"must be a number, or from and to as in 3:8, not {text!r}", key=key) from None
    if not 1 <= found[0] <= found[1] <= most:
        raise ConfigError(f"must be within 1 and {most}, not {text!r}", key=key)
    return found


def _say(console: Console, verdict: Verdict) -> None:
    evidence = verdict.evidence
    mark = "[red]WRONG[/]" if verdict.violations else "[green]ok[/]"
    received = 0 if evidence is None else len(evidence.received)
    console.print(
        f"seed {verdict.plan.seed:4}  {mark}  {len(verdict.plan.sites)} sites, {verdict.plan.recipe}, "
        f"{received} results, {verdict.seconds:.1f} s"
    )
    happened = [] if evidence is None else evidence.happened
    for each in happened:
        did = f" ({plain(each.note)})" if each.note else ""
        style = "" if each.came_about else "dim"
        console.print(f"           {plain(str(each.fault))}{did}", style=style, markup=False, soft_wrap=True)
    for violation in verdict.violations:
        console.print(f"     {violation.rule}: {plain(violation.text)}", style="red", markup=False, soft_wrap=True)


def _sum(verdicts: Sequence[Verdict]) -> dict[str, object]:
    evidence = [each.evidence for each in verdicts if each.evidence is not None]
    rules = [violation.rule for each in verdicts for violation in each.violations]
    recovery = sorted(seconds for each in verdicts for seconds in each.recovery_s)
    return {
        "num_seeds": len(verdicts),
        "num_faults": sum(happened.came_about for each in evidence for happened in each.happened),
        "results_received": sum(len(each.received) for each in evidence),
        "results_lost": rules.count("no received result lost"),
        "models_unequal": rules.count("equal outcome"),
        "wedged": rules.count("everything ends"),
        "orphans": rules.count("no orphans"),
        "other_violations": sum(
            rule not in ("no received result lost", "equal outcome", "everything ends", "no orphans") for rule in rules
        ),
        "recovery_p50_s": _quantile(recovery, 0.5),
        "recovery_p99_s": _quantile(recovery, 0.99),
    }


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else None


def _print_sum(verdicts: Sequence[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in _sum(verdicts).items():
        table.add_row(name.replace("_", " ").removeprefix("num "), "" if value is None else str(value))
    Console(highlight=False).print(table)
