"""The docs say what is true: their code runs, and every event, config key, verb and error is on its page."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import fault_matrix
import hansa.errors
from hansa.apis.app_event_type import AppEventType
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import ReturnCode
from hansa.jobs.incident import IncidentCode
from source_code import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES_OF_THE_FIRST_EXAMPLE = 20

_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>\w+): (?P<name>[\w./-]+) -->\n+)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass
class Program:
    """The blocks of a page that bear one name, put together; what each of them prints, where the page says so."""

    page: Path
    name: str
    blocks: list[str] = field(default_factory=list)
    printed: str = ""


def programs(page: Path) -> list[Program]:
    found: dict[str, Program] = {}
    last: Program | None = None
    for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["kind"] == "python" and block["mark"] == "run":
            last = found.setdefault(block["name"], Program(page, block["name"]))
            last.blocks.append(block["text"])
        elif block["kind"] == "text" and last is not None:
            last.printed += block["text"]
            last = None
        else:
            last = None
    return list(found.values())


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows with their names."""
    for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["mark"] == "file":
            target = folder / block["name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block["text"], encoding="utf-8")


def all_programs() -> Iterator[Program]:
    for page in PAGES:
        yield from programs(page)


def python(*arguments: str, folder: Path) -> str:
    """What a Python process prints; it runs in a folder of its own and must not write a word to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONWARNINGS": "error"}
    environment.pop("HANSA_HOME", None)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, "\n".join(done.stderr.splitlines()[-15:])
    return done.stdout


@pytest.mark.parametrize("program", list(all_programs()), ids=lambda program: f"{program.page.stem}-{program.name}")
def test_code_on_the_page_runs_and_prints_what_the_page_says(program: Program, tmp_path: Path) -> None:
    write_files(program.page, tmp_path)
    script = tmp_path / f"{program.name}.py"
    script.write_text("\n".join(program.blocks), encoding="utf-8")
    assert python(script.name, folder=tmp_path) == program.printed


def test_the_readme_opens_with_a_short_run_and_its_output() -> None:
    first = programs(README)[0]
    assert len([line for line in first.blocks[0].splitlines() if line.strip()]) <= MOST_LINES_OF_THE_FIRST_EXAMPLE
    assert first.printed


def test_the_workflow_page_makes_a_job_that_runs(tmp_path: Path) -> None:
    page = ROOT / "docs" / "write-a-workflow.md"
    write_files(page, tmp_path)
    app = tmp_path / "mean_job" / "app"
    (app / "custom").mkdir()
    (app / "custom" / "federated_mean.py").write_text(programs(page)[0].blocks[0], encoding="utf-8")
    python("-m", "hansa.cli.main", "simulate", str(app), "--sites", "8", folder=tmp_path)
    log = next((tmp_path / "runs").glob("*/log.txt")).read_text(encoding="utf-8")
    assert "mean of 8 sites: 4.500" in log  # (1 + 2 + ... + 8) / 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_on_the_page_can_be_parsed(page: Path) -> None:
    for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["kind"] == "python":
            ast.parse(block["text"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if not (page.parent / target).exists()]


def rows(page: str) -> dict[str, str]:
    """First cell, without its backticks, to the whole row, of every table on a page."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return {match[1]: line for line in lines if (match := re.match(r"\| `([^`]+)`", line))}


@pytest.mark.parametrize("events", [EventType, AppEventType])
def test_every_event_is_on_its_page_with_its_value(events: type) -> None:
    listed = rows("events.md")
    members = {name: value for name, value in vars(events).items() if name.isupper()}
    assert members
    assert not [name for name, value in members.items() if f"| `{value}` |" not in listed.get(name, "")]


def test_the_page_of_events_lists_nothing_else() -> None:
    assert set(rows("events.md")) == {
        name for events in (EventType, AppEventType) for name in vars(events) if name.isupper()
    }


def test_every_config_key_is_on_its_page() -> None:
    from hansa.jobs import shapes

    listed = (ROOT / "docs" / "config-reference.md").read_text(encoding="utf-8")
    models = [
        model for model in vars(shapes).values() if isinstance(model, type) and issubclass(model, shapes.BaseModel)
    ]
    keys = {key for model in models for key in model.model_fields}
    assert {"format_version", "workflows", "executors"} <= keys
    assert not [key for key in sorted(keys) if f"`{key}`" not in listed]


def test_every_error_is_on_its_page() -> None:
    shown = rows("errors.md")
    errors = {name for name, found in vars(hansa.errors).items() if isinstance(found, type)}
    assert errors - {"HansaError", "CodecError"} <= set(shown)  # these two are never raised themselves
    codes = {name for row in shown for name in row.replace("`", "").split(", ")} - errors
    assert not [code for code in codes if not hasattr(ReturnCode, code)]


def test_every_verb_and_option_is_on_its_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    seen = []
    todo = [[]]
    while todo:
        verb = todo.pop()
        text = python("-m", "hansa.cli.main", *verb, "--help", folder=tmp_path)
        commands = re.search(r"^Commands:\n((?:  .*\n)*)", text, re.MULTILINE)
        inner = re.findall(r"^  ([a-z][\w-]*)", commands[1], re.MULTILINE) if commands else []
        todo += [[*verb, name] for name in inner]
        if not inner:
            seen.append(" ".join(verb))
            assert f"`hansa {' '.join(verb)}" in page
        for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE):
            assert option == "--help" or f"`{option}`" in page, f"hansa {' '.join(verb)} {option}"
    assert "demo" in seen


def test_the_fault_matrix_is_on_its_page_and_its_tests_are_there() -> None:
    assert fault_matrix.missing() == []
    assert fault_matrix.table() in fault_matrix.PAGE.read_text(encoding="utf-8")


def test_every_incident_is_on_its_page() -> None:
    page = fault_matrix.PAGE.read_text(encoding="utf-8")
    for code in IncidentCode:
        assert f"`{code.value}`" in page
