"""A script that trains, gives its own model and measures others': as a cyclic job with an evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hansa
from hansa.jobs import cyclic
from hansa.runtime.run import RunStatus

pytestmark = pytest.mark.slow

SCRIPT = """
import numpy as np
import hansa.client as flare

flare.init()
site = int(flare.system_info()["site_name"].rpartition("-")[2])
best = None
while flare.is_running():
    incoming = flare.receive()
    if flare.is_submit_model():
        flare.send(flare.FLModel(params=best))
        continue
    distance = float(np.abs(incoming.params["w"] - site).mean())
    if flare.is_evaluate():
        flare.send(flare.FLModel(metrics={"distance": distance}))
        continue
    best = {"w": (incoming.params["w"] + site) / 2}
    flare.send(flare.FLModel(params=best, metrics={"distance": distance}, num_steps=3))
"""


def test_a_script_does_all_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(SCRIPT)
    job = cyclic({"w": np.zeros(4)}, script="train.py", rounds=1, order="fixed", evaluate_across_sites=True)
    run = hansa.simulate(job, 2, workers=1, home=tmp_path / "runs", progress=False)
    assert run.status is RunStatus.COMPLETED
    assert run.model["w"].tolist() == [1.25] * 4  # ((0 + 1) / 2 + 2) / 2
    assert run.cross_site("distance").as_dict() == {
        "SRV_global_model.safetensors": {"site-1": 0.25, "site-2": 0.75},
        "site-1": {"site-1": 0.5, "site-2": 1.5},
        "site-2": {"site-1": 0.25, "site-2": 0.75},
    }
    # What was measured afterwards is none of the last round's metrics.
    assert run.history.rounds[0].metrics == {"site-1": {"distance": 1.0}, "site-2": {"distance": 1.5}}
