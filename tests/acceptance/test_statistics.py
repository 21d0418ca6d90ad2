"""Federated statistics as a user gets them: from a job folder by the command line, after a kill, in a federation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.components.csv_statistics_source import CsvStatisticsSource
from hansa.jobs import Component, fed_statistics
from hansa.runtime.run import Run
from poc_parts import PATIENCE_S, Federation, poc_up
from source_code import PACKAGE, ROOT

pytestmark = pytest.mark.slow

RANGES = {"age": [0, 120], "weight": [0, 200]}
"""Given, so that no noise is in the result, and all of it can be compared."""


def write_tables(folder: Path) -> dict[str, Any]:
    tables = {}
    for site in (1, 2):
        rng = np.random.default_rng(site)
        age, weight, sick = rng.normal(60, 9, 200).round(1), rng.normal(70, 9, 200).round(1), rng.integers(0, 2, 200)
        tables[f"site-{site}"] = np.stack([age, weight])
        lines = [f"{a},{w if i % 9 else '?'},{s}" for i, (a, w, s) in enumerate(zip(age, weight, sick, strict=True))]
        (folder / f"site-{site}.csv").write_text("\n".join(("age,weight,sick", *lines)) + "\n")
    return tables


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("statistics")
    write_tables(folder)
    source = Component(CsvStatisticsSource, path=f"{folder}/$SITE.csv", label="sick")
    fed_statistics(source, ranges=RANGES).save(folder / "job")
    return folder


def command(home: Path, *arguments: str, failpoints: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HANSA_HOME": str(home), "PYTHONPATH": str(PACKAGE.parent)}
    environment["HANSA_FAILPOINTS"] = failpoints
    whole = [sys.executable, "-m", "hansa.cli.main", *arguments]
    return subprocess.run(whole, env=environment, cwd=home, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def simulated(home: Path) -> dict[str, Any]:
    done = command(home, "simulate", str(home / "job"), "-n", "2")
    assert done.returncode == 0, done.stderr
    assert "statistics of train: 400 rows of 2 sites" in done.stdout
    shown = command(home, "runs", "show", "last").stdout
    assert next(line for line in shown.splitlines() if line.startswith("weight")).split()[:3] == ["weight", "354", "46"]
    [folder] = (home / "runs").iterdir()
    assert (folder / "statistics.html").exists()
    return Run.load(folder).statistics


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(home: Path, simulated: dict[str, Any]) -> None:
    other = home / "killed"
    other.mkdir()
    start = ("simulate", str(home / "job"), "-n", "2", "-w", "0", "--checkpoint-every", "1")
    # After the first task's commit; and then, in the run that goes on, once more after the last.
    killed = command(other, *start, failpoints="commit.after_before_broadcast=kill@1")
    assert killed.returncode == -signal.SIGKILL
    done = command(other, "simulate", "--resume", "last")
    assert done.returncode == 0, done.stderr
    [folder] = (other / "runs").iterdir()
    assert json.dumps(Run.load(folder).statistics) == json.dumps(simulated)


@pytest.fixture(scope="module")
def poc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with poc_up(tmp_path_factory.mktemp("python") / "poc", "-n", 2) as made:
        yield made


def test_a_federation_tells_the_same_and_its_sites_keep_their_own_floor(
    poc: Federation, home: Path, simulated: dict[str, Any], tmp_path: Path
) -> None:
    with hansa.connect(poc.kit("admin"), home=tmp_path / "runs") as session:
        run = session.submit(home / "job").wait(PATIENCE_S)
        assert json.dumps(run.statistics) == json.dumps(simulated)
        assert run.report().read_text(encoding="utf-8").startswith("<!doctype html>")
        local = poc.kit("site-2") / "local"
        local.mkdir(exist_ok=True)
        (local / "statistics.json").write_text('{"min_count": 150}')
        strict = session.submit(home / "job").wait(PATIENCE_S).statistics
        assert strict["min_count"] == {"site-1": 10, "site-2": 150}
        train = strict["datasets"]["train"]
        assert all(list(train["by_label"][label]["age"]["by_site"]) == ["site-1"] for label in "01")
        assert train["features"]["age"]["histogram"]["sites_that_hide"] != [0] * 20


HOSPITALS = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"), "heart_disease")
COLUMNS = "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,diagnosis"


@pytest.mark.parametrize("folder", [HOSPITALS] if HOSPITALS.is_dir() else [])
def test_four_hospitals(folder: Path, tmp_path: Path) -> None:
    ages = []
    sites = ["cleveland", "hungarian", "switzerland", "va"]
    for site in sites:
        text = (folder / f"processed.{site}.data").read_text()
        (tmp_path / f"{site}.csv").write_text(f"{COLUMNS}\n{text}")
        ages += [float(line.partition(",")[0]) for line in text.split()]
    source = Component(CsvStatisticsSource, path=f"{tmp_path}/$SITE.csv", label="diagnosis")
    run = hansa.simulate(fed_statistics(source), sites, home=tmp_path / "runs", progress=False)
    train = run.statistics["datasets"]["train"]
    assert train["rows"] == 920
    np.testing.assert_allclose(train["features"]["age"]["mean"], np.mean(ages), rtol=1e-12)
    notes = "\n".join(run.statistics["notes"])
    assert "switzerland: 'chol' in 'train' is the same in all rows" in notes  # 0, which means unknown
    assert "hungarian: too few values of" in notes
