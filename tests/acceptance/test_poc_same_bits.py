"""The same job in the simulator and in a federation of processes of their own: the same model, to the bit."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import hansa
from hansa.jobs import Component, Job, fed_avg
from hansa.runtime.run import RunStatus
from poc_parts import BIG, PATIENCE_S, Federation, done, poc_up, trains
from poc_torch_jobs import Descends, Line
from script_jobs import script, scripted
from source_code import ROOT

pytestmark = pytest.mark.slow

SITES = 3
FLARE_TRAINER = ROOT / "tests" / "scenarios" / "flare_torch" / "trainer"


@pytest.fixture(scope="module")
def poc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with poc_up(tmp_path_factory.mktemp("bits") / "poc", "-n", SITES) as made:
        yield made


def both(poc: Federation, job: Job | Path, home: Path, *, seed: int = 0) -> tuple[str | None, str | None]:
    """The digests of the simulator's model and of the federation's."""
    simulated = hansa.simulate(job, SITES, workers=0, home=home, seed=seed, progress=False)
    run = poc.session.submit(job).wait(PATIENCE_S)
    assert run.status is RunStatus.COMPLETED
    assert run.problems == simulated.problems == []
    rounds = [(each.targets, each.counted, each.refused) for each in run.history.rounds]
    assert rounds == [(each.targets, each.counted, each.refused) for each in simulated.history.rounds]
    return simulated.model_digest, run.model_digest


def test_numpy_with_state_at_the_sites(poc: Federation, tmp_path: Path) -> None:
    here, there = both(poc, trains(rounds=3), tmp_path)
    assert here == there
    assert re.fullmatch("sha256:[0-9a-f]{64}", str(here))


def test_a_model_that_travels_in_files(poc: Federation, tmp_path: Path) -> None:
    here, there = both(poc, trains(rounds=2, model=BIG), tmp_path)
    assert here == there
    left = [path for path in poc.folder.rglob("blobs/*/*") if path.is_file()]
    assert left == []


def test_another_seed_gives_another_model(poc: Federation, tmp_path: Path) -> None:
    seeded = both(poc, trains(seed=7), tmp_path, seed=7)
    assert seeded[0] == seeded[1] != both(poc, trains(), tmp_path)[1]


def test_a_script(poc: Federation, tmp_path: Path) -> None:
    here, there = both(poc, scripted(tmp_path, script(), rounds=2), tmp_path)
    assert here == there is not None


def test_torch_with_momentum_at_the_sites(poc: Federation, tmp_path: Path) -> None:
    torch.manual_seed(0)
    job = fed_avg(Line(), executor=Component(Descends), rounds=3, params_type="diff", name="line")
    here, there = both(poc, job, tmp_path)
    assert here == there is not None


def test_a_flare_folder_as_it_is(poc: Federation, tmp_path: Path) -> None:
    here, there = both(poc, FLARE_TRAINER, tmp_path)
    assert here == there is not None


def test_the_command_line_says_the_same(poc: Federation, tmp_path: Path) -> None:
    trains(rounds=2).save(tmp_path / "job")
    here = json.loads(done("simulate", tmp_path / "job", "-n", SITES, "-w", 0, "--home", tmp_path / "runs", "--json"))
    done("submit", tmp_path / "job", "--poc", poc.folder, "--follow")
    there = json.loads(done("download", "last", "--poc", poc.folder, "-o", tmp_path / "there", "--json"))
    assert here["model_digest"] == there["model_digest"] is not None
