"""The examples energy, manufacturing, text and imaging in 3-D, as their READMEs type them, at reduced size."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from field_parts import data_folder, ran, refused
from hansa.runtime.run import Run
from source_code import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = ("energy", "manufacturing", "text", "imaging3d")


def summary_of(told: dict[str, Any]) -> dict[str, float]:
    return {name: values["mean"] for name, values in told["summary"].items()}


def is_png(file: Path) -> bool:
    return file.read_bytes()[:4] == b"\x89PNG" and file.stat().st_size > 10_000


def check_files(out: Path, told: dict[str, Any], *figures: str) -> Run:
    """The files of an example, and the run behind its federated number."""
    assert json.loads((out / "gain.json").read_text()) == told
    assert told["verdict"] in (out / "gain.md").read_text()
    assert all(is_png(out / name) for name in ("gain.png", *figures))
    (run,) = (out / "runs").iterdir()
    return Run.load(run)


def test_energy(tmp_path: Path) -> None:
    data, is_real = data_folder(tmp_path)
    told, said = ran("energy", "--data", data, out=tmp_path / "energy")
    run = check_files(tmp_path / "energy", told, "well.png", "penalty/gain.png")
    found = summary_of(told)
    assert "penalty score" in said
    assert run.statistics["datasets"]["train"]["features"]["GR"]["count"] > 5_000
    if is_real:
        assert len(told["seeds"][0]["alone"]) == 8
        # More than half of the rows are shale; and an area with one well knows little of the others.
        assert 0.55 < found["federated"] < found["pooled"] + 0.05 < 0.9
        assert found["federated"] > found["mean site alone"]


def test_manufacturing_has_the_same_model_in_processes(tmp_path: Path) -> None:
    data, is_real = data_folder(tmp_path)
    told, said = ran("manufacturing", "--poc", "--data", data, out=tmp_path / "manufacturing")
    assert re.search(r"simulator and POC have the same model, to the bit: sha256:[0-9a-f]{64}", said)
    out = tmp_path / "manufacturing"
    digests = [Run.load(run).model_digest for run in (out / "runs").iterdir()]
    assert len(digests) == 2
    assert digests[0] == digests[1] is not None
    found = summary_of(told)
    assert told["higher_is_better"] is False
    assert is_png(out / "life.png")
    if is_real:
        assert 12 < found["federated"] < found["mean site alone"]
        assert found["pooled"] < 35  # a constant guess: 41.9


def test_text(tmp_path: Path) -> None:
    data, is_real = data_folder(tmp_path)
    told, _ = ran("text", "--data", data, out=tmp_path / "text")
    run = check_files(tmp_path / "text", told)
    found = summary_of(told)
    if is_real:
        # The most frequent character, the space, is 17 % of the text.
        assert 0.2 < found["mean site alone"] + 0.05 < found["federated"] < 0.6
        assert len(run.config["sites"]) > 400
    assert all(len(each.counted) == 6 for each in run.history.rounds)
    assert len((tmp_path / "text" / "sample.txt").read_text()) > 400


def test_imaging(tmp_path: Path) -> None:
    told, _ = ran("imaging3d", out=tmp_path / "imaging3d")
    run = check_files(tmp_path / "imaging3d", told, "slices.png")
    found = summary_of(told)
    assert "SYNTHETIC" in told["title"]
    assert found["pooled"] > found["mean site alone"]
    assert found["pooled"] > 0.5
    scores = [metrics["scanner-1"]["dice"] for metrics in (each.metrics for each in run.history.rounds)]
    assert scores[-1] > scores[0]  # of the received model: it learns


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert refused("energy", "--quick", "--out", tmp_path / "out") == (
        "error: --data: say where the data are: --data FOLDER, or HANSA_DATA"
    )
    assert "there is no such file; --data is the folder above cmapss" in refused(
        "manufacturing", "--data", tmp_path, "--out", tmp_path / "out"
    )
    assert "must be at least 1, not 0" in refused("text", "--data", tmp_path, "--seeds", 0, "--out", tmp_path / "out")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_readme_types_what_is_run(example: str) -> None:
    readme = (ROOT / "examples" / example / "README.md").read_text()
    data = "" if example == "imaging3d" else " --data FOLDER"
    assert f"python examples/{example}/run.py{data} --quick --poc" in readme
    assert f"docs/field-{example}.md" in readme
    files = set(re.findall(r"^\| `(\w+\.py)`", readme, re.MULTILINE))
    assert files == {file.name for file in (ROOT / "examples" / example).glob("*.py")}
