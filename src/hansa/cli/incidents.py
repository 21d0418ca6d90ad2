"""`hansa incidents`: what went wrong on a federation, and was dealt with."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.federation import Json, KitOption, PocOption, session_for
from hansa.cli.output import plain, print_json

if TYPE_CHECKING:
    from hansa.jobs.incident import Incident

_WIDE = 240


def incidents(
    job: Annotated[str | None, typer.Option("--job", help="Only those about this job.", show_default=False)] = None,
    since: Annotated[int, typer.Option("--since", min=0, help="Only those after this number.")] = 0,
    kit: KitOption = None,
    poc: PocOption = None,
    as_json: Json = False,
) -> None:
    """List what went wrong on a federation, oldest first: deaths of processes, lost connections, full disks."""
    with session_for(kit, poc) as session:
        found = session.incidents(since=since, job=job)
    if as_json:
        print_json([each.as_dict() for each in found])
    elif not found:
        typer.echo("no incidents")
    else:
        _print(found)


def _print(found: Sequence[Incident]) -> None:
    import time

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("no", "when", "code", "job", "site", "what happened"):
        table.add_column(name, overflow="fold")
    for each in found:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.at))
        cells = (str(each.number), when, each.code, each.job or "", each.site or "", each.text)
        table.add_row(*(escape(plain(cell)) for cell in cells))
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE).print(table)
