"""The examples hospitals, oncology and finance, as their READMEs type them, at reduced size."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from field_parts import modules_of, ran, refused
from hansa.runtime.run import Run
from source_code import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = ("hospitals", "oncology", "finance")


@pytest.fixture(scope="module")
def data() -> Path:
    folder = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "heart_disease").is_dir():
        pytest.fail(f"there are no data in {folder}: set HANSA_DATA")
    return folder


def means(told: dict[str, Any]) -> dict[str, float]:
    return {name: values["mean"] for name, values in told["summary"].items()}


def run_of(out: Path, told: dict[str, Any], *figures: str) -> Run:
    assert json.loads((out / "gain.json").read_text()) == told
    for name in ("gain.png", *figures):
        assert (out / name).read_bytes()[:4] == b"\x89PNG"
    return Run.load(min((out / "runs").iterdir()))


def test_hospitals_chain_statistics_training_and_evaluation(data: Path, tmp_path: Path) -> None:
    told, said = ran("hospitals", "--data", data, "--poc", out=tmp_path / "hospitals")
    run = run_of(tmp_path / "hospitals", told, "roc.png", "matrix.png")
    assert re.search(r"simulator and POC have the same model, to the bit: sha256:[0-9a-f]{64}", said)
    found = means(told)
    assert 0.84 < found["federated"] < 0.92
    assert found["federated"] > found["mean site alone"] + 0.02
    assert abs(found["pooled"] - found["federated"]) < 0.02
    features = run.statistics["datasets"]["train"]["features"]
    assert 500 < features["age"]["count"] < 700
    assert "switzerland" not in features["chol"]["by_site"]  # nobody has measured it there
    assert set(run.cross_site("auc").sites) == {"cleveland", "hungarian", "switzerland", "va"}
    assert "<title>" in (tmp_path / "hospitals" / "statistics.html").read_text()


def test_oncology_is_newtons_method_on_the_sum_of_the_regions(data: Path, tmp_path: Path) -> None:
    told, _ = ran("oncology", "--data", data, "--rounds", 8, out=tmp_path / "oncology")
    run = run_of(tmp_path / "oncology", told, "survival.png")
    found = means(told)
    assert 0.8 < found["federated"] < 0.9
    assert found["federated"] > found["mean site alone"] + 0.05
    with modules_of("oncology", "data", "model") as (reader, model):
        training, _ = reader.split(reader.load(data), 0)
        beta = np.zeros(reader.NUM_FEATURES)
        for _ in range(20):
            parts = [model.derivatives(beta, patients) for patients in training.values()]
            beta = model.step(beta, *(sum(part[number] for part in parts) for number in (0, 1)))
    np.testing.assert_allclose(run.model["beta"], beta, atol=1e-9)


def test_finance_asks_the_banks_scripts(data: Path, tmp_path: Path) -> None:
    told, _ = ran("finance", "--data", data, "--rounds", 4, out=tmp_path / "finance")
    run = run_of(tmp_path / "finance", told, "precision.png")
    found = means(told)
    assert 0.5 < found["federated"] < 0.9  # by chance: 0.0017
    assert abs(found["federated"] - found["pooled"]) < 0.25
    assert [len(record.counted) for record in run.history.rounds] == [5] * 4


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "--data is the folder above heart_disease" in refused(
        "hospitals", "--data", tmp_path, "--out", tmp_path / "out"
    )
    assert "--data is the folder above tcga_brca" in refused("oncology", "--data", tmp_path, "--out", tmp_path / "out")
    assert "--data is the folder above fraud_ulb" in refused("finance", "--data", tmp_path, "--out", tmp_path / "out")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_readme_types_what_is_run(example: str) -> None:
    readme = (ROOT / "examples" / example / "README.md").read_text()
    assert f"python examples/{example}/run.py --data FOLDER --quick --poc" in readme
    assert f"docs/field-{example}.md" in readme
    files = set(re.findall(r"^\| `(\w+\.py)`", readme, re.MULTILINE))
    assert files == {file.name for file in (ROOT / "examples" / example).glob("*.py")}
