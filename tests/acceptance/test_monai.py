"""Sites whose only code is a `ClientAlgo` of MONAI. In processes of their own, since importing MONAI takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from poc_parts import environment
from source_code import ROOT

pytestmark = pytest.mark.slow

Out = dict[str, dict[str, Any]]

PROGRAM = """
import json, sys
from pathlib import Path
import torch

import hansa
from hansa.errors import RunError
from hansa.jobs import Component, cross_site_eval, fed_avg
import monai_parts as parts

PATH = "hansa.components.monai.client_algo_executor.ClientAlgoExecutor"
out = {}

def ran(name, job):
    diary = Path(f"{name}.txt")
    try:
        run = hansa.simulate(job, 2, workers=0, progress=False, home=name)
        out[name] = {"digest": run.model_digest, "status": run.status.value}
        out[name]["metrics"] = [each.metrics for each in run.history.rounds]
        out[name]["counted"] = [list(each.counted) for each in run.history.rounds]
    except RunError as error:
        run, out[name] = None, {"error": str(error)}
    out[name]["diary"] = sorted(diary.read_text().splitlines()) if diary.exists() else []
    return run

def trains(name, algo=parts.SquareAlgo, rounds=2, **more):
    torch.manual_seed(0)
    options = {key: more.pop(key) for key in list(more) if key in ("params_type", "evaluate_across_sites")}
    part = Component(algo, id="algo", diary=f"{name}.txt", **more)
    executor = Component(PATH, client_algo_id="algo")
    options |= {"rounds": rounds, "best_by": "dice"}
    return fed_avg(parts.network(), executor=executor, client_components=[part], **options)

ran("full", trains("full", rounds=6))
ran("diff", trains("diff", rounds=6, weight_type="diff", params_type="diff"))
ran("across", trains("across", evaluate_across_sites=True))
ran("silent", trains("silent", algo=parts.TrainsOnly))
ran("fails", trains("fails", fails_in="initialize"))
ran("untyped", trains("untyped", weight_type="none"))
ran("nobody", fed_avg(parts.network(), executor=Component(PATH, client_algo_id="algo"), rounds=1))
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Out:
    folder = tmp_path_factory.mktemp("monai")
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        env={**environment(OMP_NUM_THREADS="1"), "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    found: Out = json.loads(ended.stdout.splitlines()[-1])
    return found


def test_a_site_with_a_client_algo_needs_no_other_code(out: Out) -> None:
    told = out["full"]
    assert told["status"] == "COMPLETED"
    assert told["counted"] == [["site-1", "site-2"]] * 6
    scores = [metrics[site]["dice"] for metrics in told["metrics"] for site in ("site-1", "site-2")]
    assert all(set(metrics[site]) == {"dice"} for metrics in told["metrics"] for site in metrics)  # numbers only
    assert scores[-1] > 2 * scores[0]
    for site in ("site-1", "site-2"):
        rounds = [f"{site} {what} {number}" for number in range(6) for what in ("evaluate", "get_weights()", "train")]
        assert sorted([*rounds, f"{site} initialize -", f"{site} finalize -"]) == [
            line for line in told["diary"] if line.startswith(site)
        ]


def test_differences_teach_the_same(out: Out) -> None:
    assert out["diff"]["status"] == "COMPLETED"
    for whole, part in zip(out["full"]["metrics"], out["diff"]["metrics"], strict=True):
        assert {site: value["dice"] for site, value in part.items()} == pytest.approx(
            {site: value["dice"] for site, value in whole.items()}, abs=1e-3
        )


def test_its_models_are_measured_across_sites(out: Out) -> None:
    told = out["across"]
    assert told["status"] == "COMPLETED"
    assert "site-1 get_weights(fl_best_model) -" in told["diary"]
    # The global model, the best one, and those of both sites.
    assert told["diary"].count("site-2 evaluate -") == 4


def test_an_algo_need_not_evaluate(out: Out) -> None:
    assert out["silent"]["metrics"] == [{}, {}]
    assert out["silent"]["digest"] == out["across"]["digest"]  # and it trains as if it did


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fails", "site-1: EXECUTION_EXCEPTION ValueError: cannot initialize (monai_parts.py:"),
        ("untyped", "get_weights() must say in weight_type whether it returns WEIGHTS or WEIGHT_DIFF"),
        ("nobody", "component 'algo' must be a ClientAlgo of MONAI, but there is none"),
    ],
)
def test_a_mistake_is_one_line(out: Out, name: str, line: str) -> None:
    error = out[name]["error"]
    assert line in error
    assert "\n" not in error
