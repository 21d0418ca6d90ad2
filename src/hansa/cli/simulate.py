"""`hansa simulate`: run a job folder over simulated sites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import print_json
from hansa.errors import ConfigError

if TYPE_CHECKING:
    from hansa.runtime.options import SimulatorOptions

_MB = 1 << 20


def simulate(
    folder: Annotated[
        Path | None, typer.Argument(help="A job folder, or a bare FLARE 2.0 app folder.", show_default=False)
    ] = None,
    num_sites: Annotated[int | None, typer.Option("-n", "--sites", help="How many sites: site-1, site-2, ...")] = None,
    site: Annotated[list[str] | None, typer.Option("--site", help="A site's name; may be given several times.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "-w",
            "--workers",
            min=0,
            show_default=False,
            help="How many processes hold the sites; 0: this one does. Default: $HANSA_WORKERS, else one per core.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Where all randomness of the run comes from (default: 0).")] = None,
    times: Annotated[
        Path | None, typer.Option(help="A JSON file with the simulated times of sites, for stragglers.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of numeric libraries for one site (default: the job's, else 1)."),
    ] = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(min=0, help="How many MB one process may pass on in memory; beyond it in files.", metavar="MB"),
    ] = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep after every N rounds what --resume needs (default: never)."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Go on with a run that was killed: its name, the beginning of it, its path, or 'last'."
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="The folder that keeps runs (default: $HANSA_HOME/runs, else ./runs).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a job over simulated sites, in processes of their own, and keep its record."""
    from hansa.cli.show import print_run
    from hansa.runtime import simulator

    if num_sites is not None and site:
        raise ConfigError("give either -n or --site, not both", key="sites")
    if resume is not None:
        given = {
            "folder": folder,
            "sites": simulator.site_names(site or num_sites or 0) if site or num_sites is not None else None,
            "workers": workers,
            "seed": seed,
            "threads_per_site": threads,
            "times": times,
            "memory_mb": memory_mb,
            "checkpoint_every": checkpoint_every,
        }
        run = simulator.resume(_resumable(resume, home, given), home=home)
    else:
        if folder is None:
            raise ConfigError("give a job folder, or a run to go on with (--resume)", key="folder")
        if num_sites is None and not site:
            raise ConfigError("say how many sites with -n, or name them with --site", key="sites")
        run = simulator.simulate(
            folder,
            site or num_sites or 0,
            workers=workers,
            seed=seed or 0,
            home=home,
            options=_options(times, threads, memory_mb),
            checkpoint_every=checkpoint_every,
        )
    if as_json:
        print_json({**run.summary(), "model_digest": run.model_digest})
    else:
        print_run(run)


def _resumable(name: str, home: Path | None, given: Mapping[str, object]) -> Path:
    """The folder of a run to go on with, if what was given on the command line is what it was started with."""
    from hansa.jobs.job import Job
    from hansa.jobs.job_digest import digest
    from hansa.runtime.run_folder import find_run, read_record, runs_home

    path = find_run(name, runs_home(home))
    config = read_record(path).get("config", {})
    for key, value in given.items():
        if value is None:
            continue
        if isinstance(value, Path) and key == "folder":
            job = Job.load(value)
            is_same = (job.name, digest(job)) == (config.get("job"), config.get("job_digest"))
        else:
            is_same = config.get(key) == value
        if not is_same:
            raise ConfigError(
                f"{path.name} goes on with what it was started with; leave this out" + _was(config, key), key=key
            )
    return path


def _was(config: Mapping[str, object], key: str) -> str:
    return f" (it was {config[key]})" if isinstance(config.get(key), int) else ""


def _options(times: Path | None, threads: int | None, memory_mb: int | None) -> SimulatorOptions:
    from hansa.runtime.options import SimulatorOptions
    from hansa.runtime.site_times import SiteTimes

    loaded = None if times is None else SiteTimes.load(times)
    if memory_mb is None:
        return SimulatorOptions(times=loaded, threads_per_site=threads)
    return SimulatorOptions(times=loaded, threads_per_site=threads, memory_bytes=memory_mb * _MB)
