"""`hansa poc`: a server and sites on this machine, to try a federation."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import plain, print_json
from hansa.errors import ConfigError

if TYPE_CHECKING:
    from hansa.runtime.poc import Poc

app = typer.Typer(help="A server and sites on this machine, with real mutual TLS.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--dir", "-d", help="The folder of the proof of concept.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HERE = Path("poc")


@app.command()
def up(
    num_sites: Annotated[int | None, typer.Option("-n", "--sites", min=1, help="How many: site-1, site-2, ...")] = None,
    site: Annotated[list[str] | None, typer.Option("--site", help="A site's name; may be given several times.")] = None,
    folder: Folder = _HERE,
    as_json: AsJson = False,
) -> None:
    """Make startup kits, start a server and sites, and wait until all are connected."""
    from rich.console import Console

    from hansa.runtime.poc import Poc
    from hansa.runtime.simulator import site_names

    if num_sites is not None and site:
        raise ConfigError("give either -n or --site, not both", key="sites")
    names = site_names(site or num_sites or 2)
    poc = Poc(folder)
    began = time.perf_counter()
    seen: list[str] = []
    console = Console(stderr=True, highlight=False)
    with console.status(f"starting a server and {len(names)} sites") as line:

        def ready(name: str) -> None:
            seen.append(name)
            line.update(f"{len(seen)} of {len(names) + 1} are up")

        port = poc.up(names, on_ready=ready)
    seconds = time.perf_counter() - began
    if as_json:
        print_json({"folder": str(poc.folder), "port": port, "sites": names, "seconds": round(seconds, 3)})
        return
    flag = "--poc" if folder == _HERE else f"--poc {folder}"
    down = "" if folder == _HERE else f" --dir {folder}"
    typer.echo(f"A server on port {port} and {len(names)} sites are up in {poc.folder} ({seconds:.1f} s).\n")
    typer.echo("Try next:")
    typer.echo(f"  hansa submit JOB_FOLDER {flag} --follow")
    typer.echo(f"  hansa sites {flag}")
    typer.echo(f"  hansa poc logs{down}")
    typer.echo(f"  hansa poc down{down}")


@app.command()
def status(folder: Folder = _HERE, as_json: AsJson = False) -> None:
    """Show the server and the sites: do they run, are they connected."""
    from rich.console import Console
    from rich.table import Table

    from hansa.runtime.poc import Poc

    poc = Poc(folder)
    rows = _rows(poc)
    if as_json:
        print_json({"folder": str(poc.folder), "port": poc.port, "processes": rows})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("name", "process", "state", "jobs"):
        table.add_column(column)
    for row in rows:
        table.add_row(str(row["name"]), str(row["pid"]), str(row["state"]), ", ".join(row["jobs"]))  # type: ignore[arg-type]  # JSON
    Console(highlight=False).print(table)


def _rows(poc: Poc) -> list[dict[str, object]]:
    from hansa.admin.session import connect
    from hansa.errors import HansaError

    programs = poc.status()
    sites = {}
    if programs and programs[0].is_alive:
        try:
            with connect(poc.admin_kit) as session:
                sites = {site.name: site for site in session.sites()}
        except HansaError:
            sites = {}
    rows: list[dict[str, object]] = []
    for each in programs:
        view = sites.get(each.name)
        state = "ended"
        if each.is_alive:
            state = "running" if each.name == "server" else "connected" if view and view.connected else "not connected"
        rows.append(
            {"name": each.name, "pid": each.process.pid, "state": state, "jobs": list(view.jobs) if view else []}
        )
    return rows


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="Whose: 'server' or a site's name.")] = "server",
    folder: Folder = _HERE,
    num_lines: Annotated[int, typer.Option("-n", "--lines", min=1, help="How many lines from the end.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as more is written.")] = False,
) -> None:
    """Show what the server's program or a site's agent says; `hansa logs JOB` shows a job's own log."""
    import os
    import sys

    from hansa.runtime.log_tail import last_lines
    from hansa.runtime.poc import Poc

    poc = Poc(folder)
    known = [each.name for each in poc.status()]
    if name not in known:
        raise ConfigError(f"there is no {name!r}; there are {', '.join(known)}", key="name")
    file = poc.log_of(name)
    if follow:  # the system's own tool waits for a file as no loop of ours could
        sys.stdout.flush()
        os.execvp("tail", ["tail", "-n", str(num_lines), "-F", str(file)])
    for line in last_lines(file, num_lines).splitlines():
        typer.echo(plain(line))


@app.command()
def down(folder: Folder = _HERE) -> None:
    """End the server and the sites; their folders stay."""
    from hansa.runtime.poc import Poc

    ended = Poc(folder).down()
    typer.echo(f"ended: {', '.join(ended)}" if ended else "nothing ran")


@app.command()
def clean(folder: Folder = _HERE) -> None:
    """End everything and delete the folder."""
    from hansa.runtime.poc import Poc

    Poc(folder).clean()
    typer.echo(f"{folder} is gone")
