"""`hansa job`, called as the command calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hansa.cli.main import main
from source_code import ROOT

FOLDERS = ROOT / "tests" / "scenarios" / "flare_folders"


class Said:
    """What a command printed, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
        with pytest.raises(SystemExit) as left:
            main(["job", *arguments])
        self.code = left.value.code
        self.out, self.err = capsys.readouterr()


def test_create_show_validate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "mine"
    made = Said(capsys, "create", str(folder), "--template", "learner", "--rounds", "3")
    assert (made.code, made.err) == (0, "")
    assert f"{folder}/app/custom/learner.py\n" in made.out
    assert made.out.endswith(f"run it: hansa simulate {folder} -n 8\n")
    assert Said(capsys, "validate", str(folder)).out == "mine: 10 parts are in order\n"
    assert Said(capsys, "validate", str(folder), "--build").out == "mine: 10 parts can be built\n"

    shown = json.loads(Said(capsys, "show", str(folder), "-n", "4", "--json").out)
    assert (shown["job"], shown["deploy_map"], shown["min_clients"]) == ("mine", {"app": ["@ALL"]}, None)
    assert shown["parts"][0]["args"]["min_clients"] == 4
    assert shown["files"] == {"app": ["config/initial_model.safetensors", "custom/learner.py"]}


def test_show_is_a_table_without_cut_cells(capsys: pytest.CaptureFixture[str]) -> None:
    said = Said(capsys, "show", str(FOLDERS / "failing_site"))
    lines = said.out.splitlines()
    assert lines[:3] == ["failing_site  at least 2 sites", "app app: @ALL", "app app_broken: site-2"]
    rows = [line.split() for line in lines[4:]]
    assert rows[0][:4] == [
        "server",
        "workflow",
        "scatter_and_gather",
        "hansa.components.workflows.scatter_and_gather.ScatterAndGather",
    ]
    assert rows[-1] == ["site-2", "executor", "train", "broken_adder.BrokenAdder"]


def test_a_folder_that_holds_something_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    said = Said(capsys, "create", str(tmp_path))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"hansa: {tmp_path}: is there already; nothing was written\n"


def test_a_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = Said(capsys, "create", str(tmp_path / "mine"))
    config = tmp_path / "mine/app/config/config_fed_client.json"
    config.write_text(config.read_text().replace('"lr"', '"rate"'))
    said = Said(capsys, "validate", str(tmp_path / "mine"))
    assert (said.code, said.out) == (2, "")
    assert said.err == f"hansa: {config}: executors[0].executor.args.rate: Trainer takes no argument 'rate'\n"
