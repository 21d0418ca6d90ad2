"""`hansa runs`: look at what was run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import print_json
from hansa.errors import ConfigError
from hansa.runtime import run_folder

if TYPE_CHECKING:
    from hansa.runtime.comparison import Grouping
    from hansa.runtime.run import Run

app = typer.Typer(help="Look at runs: list, show, compare, plot, rm.", no_args_is_help=True, rich_markup_mode=None)

Home = Annotated[
    Path | None, typer.Option("--home", help="The folder that keeps runs (default: $HANSA_HOME/runs, else ./runs).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Group = Annotated[
    bool | None,
    typer.Option(
        "--group-by-job/--no-group",
        help="Runs of one job's name are repetitions / no two are "
        "(default: those of one job with the same configs, code and sites).",
        show_default=False,
    ),
]
Lower = Annotated[
    bool | None,
    typer.Option(
        "--lower/--higher", help="Lower / higher is better (default: guessed from the name).", show_default=False
    ),
]
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
        "model_digest": run.model_digest,
        "config": run.config,
        "timings": run.timings.as_dict(),
        "rounds": [asdict(record) for record in run.history.rounds],
        "cross_site": [asdict(each) for each in run.history.evaluations],
        "problem_list": [asdict(problem) for problem in run.problems],
    }
    print_json(details)


@app.command("plot")
def plot(
    names: Annotated[list[str], typer.Argument(help="One run, or several to lay over each other.", show_default=False)],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The PNG, SVG or PDF to write.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            help="What to call a curve; once per run (the same label makes one curve of several runs) or per curve."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Above the picture.")] = None,
    group: Group = None,
    lower: Lower = None,
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Draw each model on each site's data, after an evaluation across sites.")
    ] = False,
    home: Home = None,
) -> None:
    """Draw the metrics per round of one run, or of several over each other; repetitions share a curve."""
    from hansa.runtime.figures import FigureOptions, plot_runs

    found = _load(names, home)
    if matrix:
        if len(found) > 1:
            raise ConfigError("one run at a time has a matrix", key="matrix")
        typer.echo(str(found[0].plot_cross_site(output, metric=metric, lower=lower)))
        return
    target = output or (found[0].folder / "curves.png" if len(found) == 1 else Path("curves.png"))
    options = FigureOptions(tuple(label or ()), title, _grouping(group), lower)
    typer.echo(str(plot_runs(found, target, metric=metric, options=options)))


@app.command("compare")
def compare(
    names: Annotated[list[str], typer.Argument(help="The runs.", show_default=False)],
    metric: Annotated[str | None, typer.Option(help="Compare by this metric.")] = None,
    group: Group = None,
    lower: Lower = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Compare runs by a metric of the global model: best and last value, mean and spread over seeds."""
    from hansa.cli.comparison_table import as_rows, print_comparison
    from hansa.runtime import comparison

    found = _load(names, home)
    if metric is not None:
        comparison.check_metric(found, metric)
    chosen = metric or comparison.main_metric(found)
    is_lower = comparison.is_lower_better(chosen) if lower is None else lower
    groups = comparison.group_runs(found, grouping=_grouping(group))
    rows = as_rows(groups, chosen, lower=is_lower)
    notes = comparison.notes_on(groups, chosen)
    if as_json:
        print_json({"metric": chosen, "lower_is_better": is_lower, "rows": rows, "notes": notes})
        return
    others = [name for name in comparison.metric_names(found) if name != chosen]
    print_comparison(rows, chosen, lower=is_lower, others=others, notes=notes)


def _load(names: list[str], home: Path | None) -> list[Run]:
    from hansa.runtime.run import Run

    kept = run_folder.runs_home(home)
    return [Run.load(run_folder.find_run(name, kept)) for name in names]


def _grouping(by_job: bool | None) -> Grouping:
    from hansa.runtime.comparison import Grouping

    if by_job is None:
        return Grouping.CONFIG
    return Grouping.JOB if by_job else Grouping.NONE


@app.command("rm")
def remove(
    names: Annotated[list[str], typer.Argument(help="Runs to delete.", show_default=False)], home: Home = None
) -> None:
    """Delete runs with everything in their folders."""
    kept = run_folder.runs_home(home)
    for path in dict.fromkeys(run_folder.find_run(name, kept) for name in names):
        run_folder.remove_run(path)
        typer.echo(f"removed {path}")
