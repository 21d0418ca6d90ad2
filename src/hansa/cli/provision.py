"""`hansa provision`: make the startup kits of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import plain, print_json
from hansa.errors import ConfigError

if TYPE_CHECKING:
    from hansa.provision.project import Project
    from hansa.provision.provisioner import Provisioned

_FILE = Path("project.yml")
_HERE = Path()


def provision(
    project: Annotated[Path, typer.Argument(help="The project file, as FLARE 2.0 has it.")] = _FILE,
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Where the project's folder is made.", show_default="here")
    ] = _HERE,
    generate: Annotated[
        bool, typer.Option("--generate", help="Write a sample project file, and nothing else.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a startup kit for everybody who takes part in a federation."""
    if generate:
        _generate(project, as_json=as_json)
        return
    from hansa.provision.project import read_project
    from hansa.provision.provisioner import provision as make

    read = read_project(project)
    made = make(read, workspace)
    if as_json:
        print_json(_facts(read, made))
    else:
        _print(read, made)


def _generate(file: Path, *, as_json: bool) -> None:
    from hansa.provision.sample import SAMPLE

    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(SAMPLE)
    except FileExistsError:
        raise ConfigError("is there already, and is not overwritten; name another file", file=str(file)) from None
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(file)) from None
    if as_json:
        print_json({"file": str(file)})
        return
    typer.echo(f"A sample is in {plain(str(file))}. Change its names, then:")
    typer.echo("  hansa provision" + ("" if file == _FILE else f" {plain(str(file))}"))


def _facts(project: Project, made: Provisioned) -> dict[str, object]:
    return {
        "project": project.name,
        "folder": str(made.folder),
        "new_authority": made.is_new,
        "server": {"host": project.server.hosts[0], "port": project.server.port, "names": project.server.hosts},
        "kits": [
            {"name": each.name, "type": each.role.value, "org": each.org, "folder": str(made.kits[each.name])}
            for each in project.participants
        ],
        "ignored": project.ignored,
    }


def _print(project: Project, made: Provisioned) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from hansa.provision.identity import Role

    starts = {
        Role.SERVER: "startup/start.sh, on the server",
        Role.CLIENT: "startup/start.sh, at the site",
        Role.ADMIN: "hansa sites --kit .",
    }
    table = Table(box=None, pad_edge=False)
    for column in ("kit", "type", "org", "then, in the kit"):
        table.add_column(column, no_wrap=True)
    for each in project.participants:
        table.add_row(escape(each.name), each.role.value, escape(each.org), starts[each.role])
    console = Console(highlight=False)
    typer.echo(f"{len(project.participants)} startup kits are in {plain(str(made.folder))}\n")
    console.print(table, soft_wrap=True)
    state = plain(str(made.folder.parent / "state"))
    typer.echo(f"\nThe server is reached at {project.server.hosts[0]}, port {project.server.port}.")
    for line in project.ignored:
        typer.secho(f"ignored for now: {plain(line)}", fg=typer.colors.YELLOW)
    typer.echo("\nNext:")
    typer.echo("  Bring each kit to its owner, and to nobody else, by a way you trust: the key in it is the identity.")
    typer.echo("  startup/readme.txt in each says how it is started, and what it needs of the network.")
    if made.is_new:
        typer.echo(f"  Back up {state} and keep it to yourself: with it, kits of this project can be made.")
    else:
        typer.echo(f"  The authority is the one in {state}: kits of earlier runs stay good until they expire.")
