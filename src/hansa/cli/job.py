"""`hansa job`: make a job folder, see what runs where in it, check it without running it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import plain, print_json

if TYPE_CHECKING:
    from hansa.jobs.job import Job

app = typer.Typer(help="Work with job folders: create, show, validate.", no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path, typer.Argument(help="A job folder, or a bare FLARE 2.0 app folder.", show_default=False)]
Sites = Annotated[
    int | None,
    typer.Option("-n", "--sites", min=1, help="How many sites a run would have (default: what the job needs, or 8)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("create")
def create(
    folder: Annotated[Path, typer.Argument(help="The folder to make; its name is the job's.", show_default=False)],
    template: Annotated[
        str, typer.Option("-t", "--template", help="What it does: fed_avg_numpy, learner or workflow.")
    ] = "fed_avg_numpy",
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds it has.")] = 5,
) -> None:
    """Make a job folder that runs as it is; replace its code by yours."""
    from hansa.errors import ConfigError
    from hansa.jobs.new_job import new_job

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("is there already; nothing was written", file=str(folder))
    new_job(folder.resolve().name, template=template, rounds=rounds).save(folder)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        typer.echo(str(path))
    typer.echo(f"run it: hansa simulate {folder} -n 8")


@app.command("show")
def show(folder: Folder, num_sites: Sites = None, as_json: Json = False) -> None:
    """Show what runs where: every part of a job, its class and its arguments."""
    from hansa.cli.show_job import print_job
    from hansa.jobs.job import Job
    from hansa.jobs.overview import parts_of

    job = Job.load(folder)
    parts = parts_of(job, num_sites=num_sites or _enough(job))
    if not as_json:
        print_job(job, parts)
        return
    facts = {
        "job": job.name,
        "min_clients": job.min_sites,
        "deploy_map": {name: list(targets) for name, targets in job.deploy_map.items()},
        "parts": [part.as_dict() for part in parts],
        "files": {name: sorted(app.files) for name, app in job.apps.items()},
    }
    print_json(facts)


@app.command("validate")
def validate(
    folder: Folder,
    num_sites: Sites = None,
    build: Annotated[bool, typer.Option("--build", help="Build every part, too: this runs constructors.")] = False,
) -> None:
    """Check a job without running it: configs, classes, arguments, the syntax of its code."""
    from hansa.jobs.job import Job
    from hansa.jobs.job_check import check_build, check_job
    from hansa.jobs.overview import parts_of

    job = Job.load(folder)
    sites = num_sites or _enough(job)
    check_job(job, num_sites=sites)
    if build:
        check_build(job, num_sites=sites)
    number = len(parts_of(job, num_sites=sites))
    typer.echo(f"{plain(job.name)}: {number} parts {'can be built' if build else 'are in order'}")


def _enough(job: Job) -> int:
    return max(job.min_sites or 0, 8)
