"""Trainings in torch that are cut off and go on: optimizers at the sites, generators at the server, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

import hansa
from checkpoint_parts import StopsOnce
from checkpoint_torch_parts import Descends, DrawsInTorch, Net
from hansa.errors import RunError
from hansa.jobs import Job, fed_avg
from hansa.runtime.run import Run
from source_code import ROOT

FOLDER = ROOT / "tests" / "scenarios" / "torch_folders" / "fed_opt"


def drawing() -> Job:
    job = fed_avg(Net(), executor=Descends, rounds=4, params_type="diff")
    for part in job.apps["app"].server["components"]:
        if part["id"] == "shareable_generator":
            part.update(path=f"{DrawsInTorch.__module__}.DrawsInTorch", args={})
    return job


def both(job: Job, home: Path, *, sites: int, workers: int, number: int) -> tuple[Run, Run]:
    """The run undisturbed; and cut off, and gone on with."""
    marker = home / "stopped"
    stop = {"id": "stop", "path": f"{StopsOnce.__module__}.StopsOnce", "args": {"file": str(marker), "number": number}}
    job.apps["app"].server["components"].append(stop)
    options = {"workers": workers, "progress": False}
    with pytest.raises(RunError, match="cut off"):
        hansa.simulate(job, sites, home=home / "resumed", checkpoint_every=1, **options)
    assert marker.exists()
    return (
        hansa.simulate(job, sites, home=home / "undisturbed", **options),
        hansa.resume("last", home=home / "resumed", progress=False),
    )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_momentum_at_the_sites_and_draws_at_the_server(tmp_path: Path, workers: int) -> None:
    one, other = both(drawing(), tmp_path, sites=3, workers=workers, number=2)
    assert one.model_digest == other.model_digest is not None
    assert len(other.history.rounds) == 4


@pytest.mark.parametrize("number", [1, 2])
def test_an_optimizer_of_torch_at_the_server(tmp_path: Path, number: int) -> None:
    one, other = both(Job.load(FOLDER), tmp_path, sites=3, workers=0, number=number)
    assert one.model_digest == other.model_digest is not None
    files = [sorted(run.folder.glob("workspace/server/run_1/app_server/*model*")) for run in (one, other)]
    assert files[0]
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    for mine, its in zip(*files, strict=True):
        assert mine.read_bytes() == its.read_bytes(), mine.name
