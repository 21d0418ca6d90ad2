"""SCAFFOLD in whole federations: it reaches the best common point of unlike sites; federated averaging does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quadratics
from hansa.jobs import Component, Job, fed_avg, scaffold
from quadratics import MODEL, FedAvgSite, ScaffoldSite, distance, optimum
from worker_jobs import digest, simulate

SITES = 8
ALL = {number + 1: 1.0 for number in range(SITES)}
STEPS = {f"site-{number}": 1 + number % 3 for number in ALL}
BY_STEPS = {number: float(STEPS[f"site-{number}"]) for number in ALL}


BIG = {**MODEL, "w": np.zeros((20_000, 3))}
"""Too big for a frame: it travels in memory that processes share."""


def controlled(
    rounds: int, *, sampling: dict[str, Any] | None = None, model: dict[str, Any] = MODEL, **arguments: Any
) -> Job:
    options: Any = {"sampling": sampling} if sampling else {}
    return scaffold(model, executor=Component(ScaffoldSite, **arguments), rounds=rounds, **options)


def averaged(rounds: int, **arguments: Any) -> Job:
    return fed_avg(MODEL, executor=Component(FedAvgSite, **arguments), rounds=rounds, params_type="diff")


def test_scaffold_reaches_the_optimum_and_federated_averaging_stops_beside_it(tmp_path: Path) -> None:
    theirs = simulate(averaged(60), SITES, 0, tmp_path)
    ours = simulate(controlled(60), SITES, 0, tmp_path)
    assert distance(theirs.model, optimum(ALL)) > 1e-2
    assert distance(ours.model, optimum(ALL)) < 1e-6
    assert ours.model["seen"] == MODEL["seen"]
    assert [len(record.counted) for record in ours.history.rounds] == [SITES] * 60
    assert ours.problems == []


def test_the_weights_of_the_controls_say_whose_optimum_it_is(tmp_path: Path) -> None:
    run = simulate(controlled(60, steps=STEPS), SITES, 0, tmp_path)
    assert distance(run.model, optimum(BY_STEPS)) < 1e-6
    assert distance(run.model, optimum(ALL)) > 1e-2
    assert set(run.history.rounds[0].counted.values()) == {1.0, 2.0, 3.0}  # the history finds the steps inside


def test_a_draw_of_sites_gets_there_too(tmp_path: Path) -> None:
    run = simulate(controlled(400, sampling={"count": 4}), SITES, 0, tmp_path)
    assert [len(record.counted) for record in run.history.rounds] == [4] * 400
    assert distance(run.model, optimum(ALL)) < 1e-6


def test_model_and_controls_are_encoded_once_a_round(tmp_path: Path) -> None:
    run = simulate(controlled(3), SITES, 0, tmp_path)
    sent = json.loads((run.folder / "run.json").read_text())["outboxes"]
    assert sent["server"]["tensors_encoded"] == 3 * 2 * len(MODEL)  # not 3 rounds x sites x tensors
    assert sent["server"]["messages"] == 3 * SITES


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What one process makes of twelve rounds without any trouble."""
    return digest(simulate(controlled(12), SITES, 0, tmp_path_factory.mktemp("expected")))


@pytest.mark.slow
class TestWorkers:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_same_bits(self, tmp_path: Path, expected: str, workers: int) -> None:
        run = simulate(controlled(12), SITES, workers, tmp_path)
        assert digest(run) == expected
        sent = json.loads((run.folder / "run.json").read_text())["outboxes"]
        assert sent["server"]["tensors_encoded"] == 12 * 2 * len(MODEL)

    def test_models_in_shared_memory(self, tmp_path: Path) -> None:
        runs = [simulate(controlled(3, model=BIG), SITES, workers, tmp_path) for workers in (0, 2)]
        assert digest(runs[0]) == digest(runs[1])
        sent = json.loads((runs[1].folder / "run.json").read_text())["outboxes"]
        assert sent["server"]["tensors_encoded"] == 3 * 2 * len(BIG)

    def test_the_optimum(self, tmp_path: Path) -> None:
        assert distance(simulate(controlled(60), SITES, 2, tmp_path).model, optimum(ALL)) < 1e-6

    def test_the_controls_of_sites_survive_the_death_of_their_process(self, tmp_path: Path, expected: str) -> None:
        (tmp_path / "tried").mkdir()
        made = controlled(12, folder=str(tmp_path / "tried"), killed=["site-2", "site-7"])
        assert digest(simulate(made, SITES, 2, tmp_path / "home")) == expected
        assert len(list((tmp_path / "tried").iterdir())) == 12 * 2


def test_the_sites_differ() -> None:
    """Else there would be nothing to correct."""
    curvatures = [quadratics.loss_of(number)[0]["b"] for number in ALL]
    assert max(curvatures) > 2 * min(curvatures)
