"""`hansa simulate`: run a job folder over simulated sites in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hansa.cli.output import print_json
from hansa.errors import ConfigError


def simulate(
    folder: Annotated[Path, typer.Argument(help="A job folder, or a bare FLARE 2.0 app folder.", show_default=False)],
    num_sites: Annotated[int | None, typer.Option("-n", "--sites", help="How many sites: site-1, site-2, ...")] = None,
    site: Annotated[list[str] | None, typer.Option("--site", help="A site's name; may be given several times.")] = None,
    seed: Annotated[int, typer.Option(help="Where all randomness of the run comes from.")] = 0,
    home: Annotated[
        Path | None, typer.Option(help="The folder that keeps runs (default: $HANSA_HOME/runs, else ./runs).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Run a job over simulated sites in this process and keep its record."""
    from hansa.cli.show import print_run
    from hansa.runtime import simulator

    if num_sites is not None and site:
        raise ConfigError("give either -n or --site, not both", key="sites")
    if num_sites is None and not site:
        raise ConfigError("say how many sites with -n, or name them with --site", key="sites")
    run = simulator.simulate(folder, site or num_sites or 0, seed=seed, home=home)
    if as_json:
        print_json(run.summary())
    else:
        print_run(run)
