"""`hansa plugins`: the packages installed here that add components."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hansa.cli.output import plain, print_json

_WIDE = 240


def plugins(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the packages installed here that add components, and what jobs may call these."""
    from hansa.jobs.plugins import GROUP, installed

    found = list(installed().values())
    if as_json:
        print_json([{**vars(each), "classes": dict(each.classes)} for each in found])
        return
    if not found:
        typer.echo(f"no plug-ins: no installed package has entry points {GROUP!r}")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("package", "version", "name", "class"):
        table.add_column(name, overflow="fold")
    for each in found:
        for name, path in sorted(each.classes.items()):
            table.add_row(*(escape(plain(cell)) for cell in (each.package, each.version, name, path)))
    Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE).print(table)
