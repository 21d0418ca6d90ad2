"""`hansa demo`: eight sites train one model on handwritten digits; a table, a figure, a JSON."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.output import print_json


def demo(
    seeds: Annotated[
        int | None, typer.Option(min=1, max=50, help="How many seeds (default: 5; with --poc 1).", show_default=False)
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1000, help="Rounds of the federation.")] = 40,
    home: Annotated[
        Path | None, typer.Option(help="The folder that keeps runs (default: $HANSA_HOME/runs, else ./runs).")
    ] = None,
    poc: Annotated[
        Path | None,
        typer.Option(
            "--poc",
            help="Run it in the simulator and over a server and sites as processes: those that 'hansa poc up' has "
            "started in this folder (default: ./poc), or, if there are none, some of its own.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Eight sites train one model on handwritten digits: alone, federated and pooled, over several seeds."""
    from hansa.demos import digits_report
    from hansa.runtime.run_folder import runs_home

    digits_report.check_extras()
    kept = runs_home(home)
    if poc is not None:
        from hansa.cli.demo_poc import demo_on_poc

        demo_on_poc(poc, range(seeds or 1), rounds=rounds, home=kept, as_json=as_json)
    else:
        _compare(seeds or 5, rounds, kept=kept, as_json=as_json)


def _compare(seeds: int, rounds: int, *, kept: Path, as_json: bool) -> None:
    from hansa.demos import digits_report

    say = (
        (lambda seed: None)
        if as_json
        else (lambda seed: typer.echo(f"seed {seed}: 8 sites, {rounds} rounds ...", err=True))
    )
    report = digits_report.compare(range(seeds), rounds=rounds, home=kept, on_seed=say)
    folder = kept / "demo-digits"
    folder.mkdir(parents=True, exist_ok=True)
    digits_report.write_json(report, folder / "digits.json")
    digits_report.draw(report, folder / "digits.png")
    if as_json:
        print_json({**report.as_dict(), "figure": str(folder / "digits.png")})
        return
    _print(report, folder)


def _print(report: object, folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from hansa.demos.digits_report import Report

    assert isinstance(report, Report)
    console = Console(highlight=False)
    console.print("Accuracy on test images that no site has seen\n")
    table = Table(box=None, pad_edge=False)
    table.add_column("who trains")
    table.add_column("mean", justify="right")
    table.add_column(f"sd ({len(report.seeds)} seeds)", justify="right")
    for who, mean, sd in report.rows():
        style = "bold green" if who == "federated" else None
        table.add_row(who, f"{mean:.3f}", f"{sd:.3f}", style=style)
    console.print(table)
    console.print(
        "\nEach site knows only some of the digits, so alone it fails on the others; together they come near"
        " the model that would need all images in one place, and no image has left its site.",
        soft_wrap=True,
    )
    runs = f"{'hansa' if shutil.which('hansa') else sys.argv[0]} runs"  # `make demo` does not activate its environment
    console.print(
        f"Try next: `{runs} show last`, `{runs} plot last`, and docs/write-an-executor.md for your own data.",
        soft_wrap=True,
    )
    console.print(f"\nfigure  {folder / 'digits.png'}", soft_wrap=True)
    console.print(f"numbers {folder / 'digits.json'}", soft_wrap=True)
    console.print(f"took    {report.seconds:.1f} s")
