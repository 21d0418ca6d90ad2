"""A job as people read it in a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hansa.cli.output import plain
from hansa.jobs.job import Job
from hansa.jobs.overview import Part

_COLUMNS = ("where", "what", "id or tasks", "class", "arguments")
_WIDTH_OF_A_PIPE = 240


def print_job(job: Job, parts: Sequence[Part]) -> None:
    """Who runs which app, then one line per part."""
    console = Console(highlight=False)
    if not console.is_terminal:  # for a pipe there is no edge to cut at
        console = Console(highlight=False, width=_WIDTH_OF_A_PIPE)
    enough = "all sites of the run" if job.min_sites is None else f"at least {job.min_sites} sites"
    console.print(f"[bold]{_safe(job.name)}[/]  {enough}")
    for name, targets in job.deploy_map.items():
        console.print(f"app {plain(name)}: {plain(', '.join(targets))}", markup=False)
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    for part in parts:
        args = json.dumps(dict(part.args), ensure_ascii=False) if part.args else ""
        table.add_row(*map(_safe, (part.where, part.role, part.name, part.path, args)))
    console.print(table)


def _safe(text: str) -> str:
    """A text from elsewhere as it stands, where rich would read markup."""
    return escape(plain(text))
