"""The demo, the CIFAR-10 example and FLARE's, which want eight sites, over a server and eight sites as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hansa
from acceptance.cifar10_files import EXAMPLE, folder_with_images
from hansa.runtime.run import Run
from poc_parts import PATIENCE_S, Federation, command, done, environment, poc_up
from source_code import ROOT

pytestmark = pytest.mark.slow

SITES = 8
FLARE = ROOT / "tests" / "scenarios" / "flare_torch" / "cifar10"
"""Its code lies on the import path, as with FLARE, and not in the folders of its configs."""


@pytest.fixture(scope="module")
def poc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    path = os.pathsep.join([str(ROOT / "src"), str(FLARE)])
    with poc_up(tmp_path_factory.mktemp("eight") / "poc", "--sites", SITES, PYTHONPATH=path) as made:
        yield made


def test_the_demo_gives_the_simulators_model(poc: Federation, tmp_path: Path) -> None:
    options = ("--rounds", 5, "--home", tmp_path / "runs")
    told = json.loads(done("demo", "--poc", poc.folder, *options, "--json"))
    (pair,) = told["runs"]
    assert pair["simulated"]["model_digest"] == pair["federated"]["model_digest"] is not None
    assert pair["simulated"]["test_accuracy"] == pair["federated"]["test_accuracy"] > 0.5
    assert {Path(pair[where]["run"]).parent for where in ("simulated", "federated")} == {tmp_path / "runs"}


def test_the_demo_starts_sites_of_its_own(tmp_path: Path) -> None:
    ended = command("demo", "--poc", "--rounds", 2, "--home", tmp_path / "runs", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].split() == ["seed", "where", "test", "accuracy", "seconds", "model"]
    digests = [line.split()[-1] for line in lines[1:3]]
    assert digests[0] == digests[1]
    assert digests[0].startswith("sha256:")
    assert lines[-1] == "The same models, to the bit."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]  # the federation is gone


def test_a_flare_folder_whose_code_lies_elsewhere(
    poc: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FLARE))
    monkeypatch.delenv("CIFAR10_ROOT", raising=False)
    folder = FLARE / "configs" / "cifar10_scaffold"
    simulated = hansa.simulate(folder, SITES, workers=0, home=tmp_path, progress=False)
    run = poc.session.submit(folder).wait(PATIENCE_S)
    assert run.problems == []
    assert run.model_digest == simulated.model_digest is not None


def test_the_cifar10_example_runs_over_a_federation(poc: Federation, tmp_path: Path) -> None:
    images = folder_with_images(tmp_path)
    options = ["--preset", "cpu", "--data", images, "--rounds", 2, "--images", 400, "--only", "fedavg-0.1"]
    digests = []
    for where in (("--kit", poc.folder / "admin"), ("--workers", 0)):
        out = tmp_path / where[0].removeprefix("--")
        ended = subprocess.run(
            [str(word) for word in (sys.executable, EXAMPLE / "run.py", *options, "--out", out, *where)],
            env=environment(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES=""),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        (run,) = (out / "runs").iterdir()
        digests.append(Run.load(run).model_digest)
    assert digests[0] == digests[1] is not None
