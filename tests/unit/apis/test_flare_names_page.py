"""The page with all of FLARE's names is what the table gives, and leads to things that are there."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module

from hansa.apis import flare_names
from source_code import ROOT

PAGE = ROOT / "docs" / "flare-names.md"
ROW = re.compile(r"\| `(nvflare\.[\w.]+)` \| (.+) \|")


def test_the_page_is_what_the_command_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hansa.apis.flare_names", "--markdown"], capture_output=True, text=True, check=True
    )
    assert PAGE.read_text(encoding="utf-8") == done.stdout, (
        "make the page anew: python -m hansa.apis.flare_names --markdown > docs/flare-names.md"
    )


def test_the_page_has_every_name_once_with_its_place() -> None:
    rows = [match.groups() for match in map(ROW.fullmatch, PAGE.read_text(encoding="utf-8").splitlines()) if match]
    assert sorted(path for path, _ in rows) == sorted([row.path for row in flare_names.names()] + [*flare_names.also()])
    for path, place in rows:
        title = flare_names.owed(path)
        if title is not None:
            assert place == f"not yet; comes with *{title}*"
            continue
        module, _, name = place.strip("`").rpartition(".")
        assert hasattr(import_module(module), name), place


def test_the_command_alone_prints_the_count() -> None:
    done = subprocess.run([sys.executable, "-m", "hansa.apis.flare_names"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == flare_names.count_lines()
    assert done.stdout.startswith("done ")
