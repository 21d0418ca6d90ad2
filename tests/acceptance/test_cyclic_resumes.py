"""A simulation of workflows in a row that is killed and goes on: `--resume` ends with the bits of one left alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

import poc_jobs
from acceptance.test_simulator_survives import Simulation, ended
from hansa.jobs import Component, Job, cyclic, fed_avg
from poc_parts import MODEL

pytestmark = pytest.mark.slow


def begun_at_a_site() -> Job:
    """Federated averaging whose first model is a site's own; no model travels with the job."""
    job = fed_avg(MODEL, executor=Component(poc_jobs.Evaluates), rounds=3, params_type="diff")
    app = job.apps["app"]
    [persistor] = [part for part in app.server["components"] if part["id"] == "persistor"]
    persistor["args"] = {}
    first = "hansa.components.workflows.initialize_global_weights.InitializeGlobalWeights"
    app.server["workflows"].insert(0, {"id": "first", "path": first})
    app.client["executors"][0]["tasks"] = ["train", "get_weights"]
    return job


def in_turn() -> Job:
    return cyclic(
        MODEL, executor=Component(poc_jobs.Evaluates), rounds=3, params_type="diff", evaluate_across_sites=True
    )


@pytest.mark.parametrize("make", [begun_at_a_site, in_turn])
def test_killed_after_a_commit(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make().save(tmp_path / "job")
    digests = []
    for name, failpoints in (("alone", ""), ("killed", "commit.after_before_broadcast=kill@2")):
        (tmp_path / name).mkdir()
        simulation = Simulation(tmp_path / name)
        code, out, err = ended(simulation.begin(0, failpoints=failpoints))
        if not failpoints:
            assert code == 0, err
            digests.append(json.loads(out)["model_digest"])
            continue
        assert code == -signal.SIGKILL
        digests.append(simulation.resume()["model_digest"])
        assert simulation.rounds() == [0, 1, 2]
    assert digests[0] == digests[1] is not None
