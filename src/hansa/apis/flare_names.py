"""The public names of FLARE 2.0, and what has become of each: a frozen table.

`flare_names.json` beside this file holds all 190 names that programs may import from FLARE 2.0.19, by module: bases,
signatures of constructors, methods and functions, values of constants. A name is either *done*, `to` says where it
is in Hansa (`module:Name`), with the same positional order, defaults and values; or *owed*, with the title of the
work that brings it. Under `also` stand names that programs take from modules which only import them.

Old paths in job configs are resolved here, and a test holds Hansa to the table. The file is read at the first call.
`python -m hansa.apis.flare_names` prints the count, with `--markdown` the page of the documentation that shows it all.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from functools import cache
from importlib import resources
from typing import Any, NamedTuple


class FlareName(NamedTuple):
    """One public name of FLARE 2.0."""

    path: str
    """Its dotted path there, such as `nvflare.apis.dxo.DXO`."""
    to: str | None
    """Where it is in Hansa, `module:Name`; None while it is owed."""
    owed: str | None
    """The title of the work that brings it; None once it is done."""
    spec: dict[str, Any]  # Any: straight from the JSON file
    """Its shape: `bases`, `init`, `methods`, `constants` of a class, `function` (a signature), `value`, ..."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def is_class(self) -> bool:
        """Whether it is a class, not a function or a value (a package's re-export is a class)."""
        return not {"function", "value"} & self.spec.keys()


def names() -> tuple[FlareName, ...]:
    """The whole table, in its own order."""
    return tuple(_table().values())


def targets() -> dict[str, str]:
    """Where each name that is done now lives: `{"nvflare.apis.dxo.DXO": "hansa.apis.dxo:DXO", ...}`."""
    return {row.path: row.to for row in names() if row.to is not None}


def resolve(path: str) -> str | None:
    """The Hansa path of a FLARE path.

    Args:
        path: A dotted path, such as `nvflare.apis.dxo.DXO`.

    Returns:
        The dotted path here, such as `hansa.apis.dxo.DXO`; None for a name that is owed or no public name at all.
    """
    row = _table().get(path)
    target = row.to if row is not None else _also().get(path)
    return target.replace(":", ".") if target is not None else None


def by_name(bare: str) -> list[str]:
    """The Hansa paths of the classes that FLARE has under a bare name, as job configs give it in `name`.

    Args:
        bare: A class name, such as `ScatterAndGather`.

    Returns:
        Dotted paths, each once; more than one if the name is ambiguous, none if it is owed or unknown.
    """
    found = [row.to for row in names() if row.name == bare and row.is_class and row.to is not None]
    return [target.replace(":", ".") for target in dict.fromkeys(found)]


def owed(path: str) -> str | None:
    """The title of the work that brings a name, given by its dotted path or bare; None if it is done or unknown."""
    row = _table().get(path)
    if row is not None:
        return row.owed
    return next((row.owed for row in names() if row.name == path and row.owed is not None), None)


def also() -> dict[str, str]:
    """Names that FLARE's modules offer because they import them, by path, with their places in Hansa."""
    return dict(_also())


@cache
def _file() -> dict[str, Any]:
    text = resources.files("hansa.apis").joinpath("flare_names.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


@cache
def _table() -> dict[str, FlareName]:
    rows = {}
    for module, members in _file()["names"].items():
        for name, row in members.items():
            spec = {key: value for key, value in row.items() if key not in ("to", "owed")}
            path = f"{module}.{name}"
            rows[path] = FlareName(path, row.get("to"), row.get("owed"), spec)
    return rows


@cache
def _also() -> dict[str, str]:
    return {
        f"{module}.{name}": target for module, members in _file()["also"].items() for name, target in members.items()
    }


def count_lines() -> list[str]:
    """How many names are done, how many owed and by what: one line each."""
    return [_count(), *(f"{number:4d}  {title}" for title, number in _debts().most_common())]


def page_lines() -> list[str]:
    """The page `docs/flare-names.md`: every name, package by package, with its place here or what brings it."""
    owed_table = ["", "| names | come with |", "| ---: | --- |"]
    owed_table += [f"| {number} | {title} |" for title, number in _debts().most_common()]
    packages = dict.fromkeys(_package(row.path) for row in names())
    return [
        "# Names of FLARE 2.0",
        "",
        "<!-- Made by `python -m hansa.apis.flare_names --markdown`; do not edit. -->",
        "",
        "Where each public name of FLARE 2.0.19 is in Hansa. Code that imports it by its old name finds the same",
        "object (see [](flare-job-folders.md)), and so does a job's config: by its path or, a class, by its bare name.",
        "",
        f"{_count().capitalize()}.",
        *(owed_table if _debts() else ()),
        *(line for package in packages for line in _section(package)),
        "",
        "## Names that modules only pass on",
        "",
        "| in FLARE 2.0 | in Hansa |",
        "| --- | --- |",
        *(f"| `{path}` | `{target.replace(':', '.')}` |" for path, target in _also().items()),
    ]


def _debts() -> Counter[str]:
    return Counter(row.owed for row in names() if row.owed is not None)


def _count() -> str:
    debts = _debts().total()
    return f"done {len(names()) - debts} of {len(names())}, owed {debts}"


def _section(package: str) -> list[str]:
    rows = [row for row in names() if _package(row.path) == package]
    return ["", f"## {package}", "", "| in FLARE 2.0 | in Hansa |", "| --- | --- |", *map(_table_row, rows)]


def _table_row(row: FlareName) -> str:
    place = f"`{row.to.replace(':', '.')}`" if row.to is not None else f"not yet; comes with *{row.owed}*"
    return f"| `{row.path}` | {place} |"


def _package(path: str) -> str:
    """The package that a section is about: `nvflare.apis`, or `nvflare.app_common.pt`."""
    steps = path.split(".")[:-1]
    return ".".join(steps[: 3 if steps[1] == "app_common" and len(steps) > 3 else 2])


if __name__ == "__main__":
    print("\n".join(page_lines() if "--markdown" in sys.argv[1:] else count_lines()))
