"""`hansa runs`: look at what was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.output import print_json
from hansa.runtime import run_folder

app = typer.Typer(help="Look at runs: list, show, plot, rm.", no_args_is_help=True, rich_markup_mode=None)

Home = Annotated[
    Path | None, typer.Option("--home", help="The folder that keeps runs (default: $HANSA_HOME/runs, else ./runs).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[
    str, typer.Argument(help="A run's name, the beginning of it, its path, or 'last'.", show_default=False)
]


@app.command("list")
def list_runs(home: Home = None, as_json: Json = False) -> None:
    """List all runs, oldest first."""
    from hansa.cli.show import print_runs
    from hansa.runtime.run import Run

    kept = run_folder.runs_home(home)
    found = [Run.load(path) for path in run_folder.list_runs(kept)]
    if as_json:
        print_json([run.summary() for run in found])
    elif not found:
        typer.echo(f"no runs in {kept}")
    else:
        print_runs(found)


@app.command("show")
def show(name: Name, home: Home = None, as_json: Json = False) -> None:
    """Show one run: how it ended, its rounds, its problems, where the time went."""
    from dataclasses import asdict

    from hansa.cli.show import print_run
    from hansa.runtime.run import Run

    run = Run.load(run_folder.find_run(name, run_folder.runs_home(home)))
    if not as_json:
        print_run(run)
        return
    details = {
        **run.summary(),
        "config": run.config,
        "timings": run.timings.as_dict(),
        "rounds": [asdict(record) for record in run.history.rounds],
        "problem_list": [asdict(problem) for problem in run.problems],
    }
    print_json(details)


@app.command("plot")
def plot(
    names: Annotated[list[str], typer.Argument(help="One run, or several to lay over each other.", show_default=False)],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The PNG, SVG or PDF to write.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
    home: Home = None,
) -> None:
    """Draw the metrics per round of one run, or of several over each other."""
    from hansa.runtime.figures import plot_runs
    from hansa.runtime.run import Run

    kept = run_folder.runs_home(home)
    found = [Run.load(run_folder.find_run(name, kept)) for name in names]
    target = output or (found[0].folder / "curves.png" if len(found) == 1 else Path("curves.png"))
    typer.echo(str(plot_runs(found, target, metric=metric)))


@app.command("rm")
def remove(
    names: Annotated[list[str], typer.Argument(help="Runs to delete.", show_default=False)], home: Home = None
) -> None:
    """Delete runs with everything in their folders."""
    kept = run_folder.runs_home(home)
    for path in dict.fromkeys(run_folder.find_run(name, kept) for name in names):
        run_folder.remove_run(path)
        typer.echo(f"removed {path}")
