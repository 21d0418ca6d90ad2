"""The algorithms in whole federations: FedOpt, FedBN, FedProx, Ditto, and settings that travel with the tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from algorithm_parts import Descends, Squares
from hansa.algorithms import fed_opt as rules
from hansa.algorithms.schedules import from_config, value_at
from hansa.apis.dxo import DataKind, from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import ConfigError
from hansa.jobs import Component, Job, ditto, fed_avg, fed_bn, fed_opt, fed_prox
from hansa.runtime.run import RunStatus
from scenarios.federations import Adds, executor, simulate
from worker_jobs import digest
from worker_jobs import simulate as simulate_with
from worker_parts import Noisy

MODEL = {"w": np.zeros(2, np.float32), "steps": np.array(3)}
SCHEDULE = {"schedule": "linear", "initial": 0.4, "final": 0.1, "rounds": 3}


# -- FedOpt -----------------------------------------------------------------------------------------------------------


def expected(optimizer: str, num_rounds: int, rates: list[float], **arguments: Any) -> list[float]:
    """What comes of w where the sites' mean difference is 2 in every round (sites 1 to 3 add their numbers)."""
    rule, state = rules.make_rule(optimizer, **arguments), rules.init()
    w = np.zeros(2, np.float32)
    for number in range(num_rounds):
        updates, state = rules.step(rule, state, {"w": np.full(2, 2, np.float32)}, learning_rate=rates[number])
        w = w + updates["w"]
    return [float(value) for value in w]


@pytest.mark.parametrize("optimizer", rules.OPTIMIZERS)
def test_fed_opt_moves_by_the_optimizer_and_what_is_no_float_by_the_mean(tmp_path: Path, optimizer: str) -> None:
    arguments = {"momentum": 0.9} if optimizer == "sgd" else {"epsilon": 0.01}
    job = fed_opt(
        MODEL, executor=Adds, rounds=3, optimizer=optimizer, server_learning_rate=0.1, optimizer_args=arguments
    )
    run = simulate(job, 3, home=tmp_path)
    assert run.model["w"].tolist() == pytest.approx(expected(optimizer, 3, [0.1] * 3, **arguments), rel=1e-6)
    assert run.model["w"].dtype == np.float32
    assert run.model["steps"] == 3 + 3 * 2
    assert run.model["steps"].dtype == MODEL["steps"].dtype


def test_fed_opt_in_a_job_folder_with_a_schedule_and_buffers(tmp_path: Path) -> None:
    model = {"w": np.zeros(2, np.float32), "bn.running_mean": np.zeros(1, np.float32)}
    fed_opt(
        model,
        executor=Adds,
        rounds=3,
        optimizer="adam",
        server_learning_rate=SCHEDULE,
        optimizer_args={"beta_1": 0.5},
        buffers="running_",
    ).save(tmp_path / "job")
    [config] = (tmp_path / "job").rglob("config_fed_server.json")
    [part] = [each for each in json.loads(config.read_text())["components"] if each["id"] == "shareable_generator"]
    assert part["args"]["schedule"] == SCHEDULE  # plain JSON
    rates = [value_at(from_config(SCHEDULE, key="schedule"), number) for number in range(3)]
    assert rates == pytest.approx([0.4, 0.3, 0.2])
    run = hansa.simulate(str(tmp_path / "job"), 3, home=tmp_path, progress=False)
    assert run.model["w"].tolist() == pytest.approx(expected("adam", 3, rates, beta_1=0.5), rel=1e-6)
    assert run.model["bn.running_mean"].tolist() == [6.0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"optimizer": "adamw"}, "there is no optimizer 'adamw'; known are sgd, adam, yogi, adagrad"),
        ({"schedule": {"schedule": "wave"}}, "schedule.schedule: there is no schedule 'wave'; known are constant, "),
        ({"optimizer": "adam", "momentum": 0.5}, "optimizer 'adam' takes no argument 'momentum'; it takes beta_1, "),
        ({"train_settings": {"lr": {"schedule": "cosine"}}}, "train_settings.lr.initial is missing"),
    ],
)
def test_a_wrong_argument_is_one_line_that_names_it(tmp_path: Path, arguments: dict[str, Any], text: str) -> None:
    job = fed_opt(MODEL, executor=Adds)
    part_of(job)["args"] = arguments
    with pytest.raises(ConfigError) as caught:
        simulate(job, home=tmp_path)
    assert text in str(caught.value)
    assert "shareable_generator" in str(caught.value) or "components[1]" in str(caught.value)
    assert "\n" not in str(caught.value)


def part_of(job: Job) -> dict[str, Any]:
    """The config of the shareable generator."""
    config: Any = job.server_app.server
    [part] = [each for each in config["components"] if each["id"] == "shareable_generator"]
    found: dict[str, Any] = part
    return found


@pytest.mark.slow
def test_fed_opt_gives_the_same_bits_with_worker_processes(tmp_path: Path) -> None:
    def run(workers: int) -> str:
        return digest(
            simulate_with(fed_opt({"w": np.zeros(33, np.float32)}, executor=Noisy, rounds=3), 5, workers, tmp_path)
        )

    assert run(2) == run(0)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_reach_the_sites_by_round_and_cost_no_encoding(tmp_path: Path) -> None:
    seen: list[tuple[float, float]] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        seen.append((data.get_header("learning_rate"), data.get_header("fed_prox_mu")))
        return from_shareable(data).to_shareable()

    settings = {"learning_rate": {"schedule": "exponential", "initial": 1.0, "factor": 0.5}, "fed_prox_mu": 0.1}
    runs = [
        simulate(fed_avg(MODEL, executor=executor(work), rounds=3, **options), 4, home=tmp_path)
        for options in ({"settings": settings}, {})
    ]
    assert seen == [(1.0, 0.1)] * 4 + [(0.5, 0.1)] * 4 + [(0.25, 0.1)] * 4 + [(None, None)] * 12
    sent = [json.loads((run.folder / "run.json").read_text())["outboxes"]["server"] for run in runs]
    assert [each["tensors_encoded"] for each in sent] == [3 * len(MODEL)] * 2
    assert [each["messages"] for each in sent] == [3 * 4] * 2


# -- FedBN ------------------------------------------------------------------------------------------------------------

NET = {"w": np.zeros(1), "bn.mean": np.zeros(1), "bn.steps": np.array(0)}
# In round r site k's own mean is r k, so w grows by the mean of (r k)^2. Of sites 1 and 2 that is 2.5 r^2, and after
# three rounds 2.5 (1 + 4 + 9) = 35. Averaged means would be 1.5 (r - 1) + k instead: 2.5 + (6.25 + 12.25) / 2 +
# (16 + 25) / 2 = 32.25.
ALONE, AVERAGED = 35.0, 32.25


@pytest.mark.parametrize("params_type", ["full", "diff"])
def test_fed_bn_lets_every_site_go_on_with_its_own(tmp_path: Path, params_type: str) -> None:
    kind = {"full": DataKind.WEIGHTS, "diff": DataKind.WEIGHT_DIFF}[params_type]
    options: Any = {"executor": Component(Squares, kind=kind), "rounds": 3, "params_type": params_type}
    assert simulate(fed_avg(NET, **options), home=tmp_path).model["w"].tolist() == [AVERAGED]
    run = simulate(fed_bn(NET, local="^bn", **options), home=tmp_path)
    assert run.problems == []
    assert run.model["w"].tolist() == [ALONE]
    # Nothing local has left a site: whatever the global model has of it, it has had from the beginning.
    assert run.model.get("bn.mean", np.zeros(1)).tolist() == [0.0]
    assert run.model.get("bn.steps", 0) == 0


def test_a_site_that_is_asked_late_begins_with_the_initial_models(tmp_path: Path) -> None:
    # Of four sites one is drawn in each of twelve rounds; all of them find the local tensors in their first task.
    job = fed_bn(NET, local=["bn.mean", "bn.steps"], executor=Squares, rounds=12, sampling={"count": 1})
    run = simulate(job, 4, home=tmp_path)
    assert run.problems == []
    rounds = [record.counted for record in run.history.rounds]
    visits: dict[str, int] = {}
    total = 0
    for counted in rounds:
        [site] = counted
        visits[site] = visits.get(site, 0) + 1
        total += (visits[site] * int(site[-1])) ** 2
    assert len(visits) > 1
    assert run.model["w"].tolist() == [total]
    assert run.model["bn.mean"].tolist() == [0.0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF])
def test_a_sites_own_tensors_survive_the_death_of_its_process(tmp_path: Path, kind: str) -> None:
    (tmp_path / "tried").mkdir()
    killing = Component(Squares, kind=kind, folder=str(tmp_path / "tried"), kills=["site-2"])
    params_type: Any = {DataKind.WEIGHTS: "full", DataKind.WEIGHT_DIFF: "diff"}[kind]
    job = fed_bn(NET, local="^bn", executor=killing, rounds=3, params_type=params_type)
    run = simulate_with(job, 2, 2, tmp_path / "home")
    assert len(list((tmp_path / "tried").iterdir())) == 3  # once in each round
    assert run.model["w"].tolist() == [ALONE]
    assert run.problems == []


def test_a_name_that_no_tensor_has_costs_the_task_before_anything_leaves(tmp_path: Path) -> None:
    with pytest.raises(hansa.errors.RunError, match="there is no tensor 'bn.maen' to keep at this site"):
        simulate(fed_bn(NET, local=["bn.maen"], executor=Squares, rounds=1), home=tmp_path)


# -- FedProx and Ditto ------------------------------------------------------------------------------------------------


def descent(curvature: float, optimum: float, start: float, num_steps: int) -> float:
    """Where gradient descent in steps of 0.05 on a quadratic gets to."""
    return optimum + (start - optimum) * (1 - 0.05 * curvature) ** num_steps


def test_fed_prox_gets_its_mu_with_the_task_and_rests_where_the_arithmetic_says(tmp_path: Path) -> None:
    # Site k has a = b = k: with the term its curvature is k + mu and its optimum (k^2 + mu x) / (k + mu).
    def round_of(x: float, mu: float) -> float:
        moved = [descent(k + mu, (k * k + mu * x) / (k + mu), x, Descends.NUM_STEPS) for k in (1, 2, 3)]
        return sum(moved) / 3

    for mu in (0.0, 2.0):
        x = 0.0
        for _ in range(60):
            x = round_of(x, mu)
        run = simulate(fed_prox({"w": np.zeros(1)}, executor=Descends, rounds=60, mu=mu), 3, home=tmp_path)
        assert run.model["w"].tolist() == pytest.approx([x], abs=1e-9)


def test_ditto_trains_a_personal_model_that_never_leaves_its_site(tmp_path: Path) -> None:
    job = ditto({"w": np.zeros(1)}, executor=Descends, rounds=40, ditto_lambda=1.0)
    run = simulate(job, 2, home=tmp_path)
    w = float(run.model["w"][0])
    last = {site: values[-1] for site, values in personal_values(run).items()}
    # (k + 1) v = k^2 + w at rest
    assert last == pytest.approx({f"site-{k}": (k * k + w) / (k + 1) for k in (1, 2)}, abs=1e-3)
    assert run.status is RunStatus.COMPLETED
    assert list(run.model) == ["w"]


def personal_values(run: Any) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for scalar in run.history.scalars:
        if scalar.name == "personal":
            found.setdefault(scalar.site, []).append(scalar.value)
    return found
