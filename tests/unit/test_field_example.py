"""The command line that the examples of fields share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hansa.demos.field_example import Example, Options
from hansa.demos.gain import Gain
from hansa.errors import RunError

EXAMPLE = Example("rocks", about="Rocks.", rounds=9, quick_rounds=2)


def compare(options: Options) -> Gain:
    gain = Gain("Rocks", metric="accuracy")
    for seed in options.seeds:
        gain.add(seed=seed, alone={"a": 0.5}, federated=0.75, pooled=0.8)
    return gain


def test_a_comparison_leaves_table_and_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert EXAMPLE.main(compare, ["--data", str(tmp_path), "--seeds", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "| federated | 0.750 ± 0.000 |" in said
    assert "beats the mean site alone by 0.250 (better with 2 of 2 seeds)" in said
    assert said.splitlines()[-1] == str(out / "gain.png")
    assert sorted(file.name for file in out.iterdir()) == ["gain.json", "gain.md", "gain.png"]


def test_json_and_nothing_else_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert EXAMPLE.main(compare, ["--data", str(tmp_path), "--quick", "--json", "--out", str(tmp_path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "gain.json").read_text())
    assert len(told["seeds"]) == 1


def test_what_the_command_line_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANSA_DATA", "/data")
    usual = EXAMPLE.options([])
    assert usual == Options(Path("/data"), range(5), 9, quick=False, poc=False, out=Path("runs/rocks"), as_json=False)
    quick = EXAMPLE.options(["--quick", "--poc", "--data", "here"])
    assert (quick.data, quick.seeds, quick.rounds, quick.poc) == (Path("here"), range(1), 2, True)
    assert EXAMPLE.options(["--quick", "--rounds", "4", "--seeds", "3"]).seeds == range(3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seeds", "0", "--data", "."], "error: --seeds: must be at least 1, not 0"),
        (["--rounds", "-1", "--data", "."], "error: --rounds: must be at least 1, not -1"),
        ([], "error: --data: say where the data are: --data FOLDER, or HANSA_DATA"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HANSA_DATA", raising=False)
    assert EXAMPLE.main(compare, arguments) == 2
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_run_that_fails_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(options: Options) -> Gain:
        raise RunError("no data", site="a")

    assert EXAMPLE.main(fails, ["--data", ".", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: a: no data\n"


def test_an_example_without_files_needs_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    made = Example("made", about="Made up.", rounds=1, quick_rounds=1, reads_files=False)
    assert made.options([]).out == Path("runs/made")
    with pytest.raises(SystemExit):
        made.options(["--data", "here"])
    assert "unrecognized arguments" in capsys.readouterr().err
