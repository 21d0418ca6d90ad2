"""Simulations that are cut off in the midst of a round and go on: the same bits as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import checkpoint_parts
import hansa
import quadratics
from checkpoint_parts import DrawsModels, DrawsTasks, Fails, Hears, Leaves, Light, Remembers, StopsOnce, Tells
from hansa.apis.app_event_type import AppEventType
from hansa.errors import RunError
from hansa.jobs import Component, Job, fed_avg, fed_bn, fed_opt, scaffold
from hansa.jobs.job import App
from hansa.runtime.run import Run, RunStatus

MODEL = {"w": np.linspace(-1, 1, 33, dtype=np.float32).reshape(3, 11), "b": np.float64(0.5)}
BIG = {"w": np.zeros((100, 1000), np.float32), "v": np.ones(30_000)}
ROUNDS = 5


def add(job: Job, part: type, side: str = "server", **arguments: Any) -> None:
    """One more component on the server."""
    path = f"{checkpoint_parts.__name__}.{part.__name__}"
    getattr(job.apps["app"], side)["components"].append({"id": part.__name__, "path": path, "args": arguments})


def averaging(part: type = Remembers, *, model: dict[str, Any] = MODEL, **options: Any) -> Job:
    return fed_avg(model, executor=part, rounds=ROUNDS, params_type="diff", **options)


def with_server_optimizer() -> Job:
    return fed_opt(MODEL, executor=Remembers, rounds=ROUNDS, optimizer="adam", params_type="diff")


def with_luck_at_the_server() -> Job:
    job = averaging()
    server = job.apps["app"].server
    for part in server["components"]:
        if part["id"] == "shareable_generator":
            part.update(path="checkpoint_parts.DrawsModels", args={})
    server["task_data_filters"] = [{"tasks": ["train"], "filters": [{"path": "checkpoint_parts.DrawsTasks"}]}]
    assert DrawsModels.__name__ in str(server)
    assert DrawsTasks.__name__ in str(server)
    return job


def with_events_between_tasks() -> Job:
    job = averaging(Hears, sampling={"fraction": 0.5})
    add(job, Tells)
    return job


def with_large_tensors() -> Job:
    return averaging(model=BIG)


JOBS = [averaging, with_server_optimizer, with_luck_at_the_server, with_events_between_tasks, with_large_tensors]


def simulate(job: Job, sites: int, workers: int, home: Path, **options: Any) -> Run:
    return hansa.simulate(job, sites, workers=workers, home=home, progress=False, **options)


def both(job: Job, home: Path, *, sites: int = 7, workers: int = 0, every: int = 1, **stop: Any) -> tuple[Run, Run]:
    """The run undisturbed; and cut off, and gone on with."""
    marker = home / "stopped"
    marker.touch()
    add(job, StopsOnce, file=str(marker), **stop)
    undisturbed = simulate(job, sites, workers, home / "undisturbed")
    marker.unlink()
    with pytest.raises(RunError, match="cut off"):
        simulate(job, sites, workers, home / "resumed", checkpoint_every=every)
    assert marker.exists()
    return undisturbed, hansa.resume("last", home=home / "resumed", progress=False)


def rounds_of(run: Run) -> list[Any]:
    return [(r.number, r.targets, r.counted, r.refused, r.metrics) for r in run.history.rounds]


def check_same(one: Run, other: Run) -> None:
    assert other.status is RunStatus.COMPLETED
    assert other.cause == one.cause
    assert one.model_digest == other.model_digest is not None
    assert rounds_of(one) == rounds_of(other) == rounds_of(Run.load(other.folder))
    assert not (other.folder / "checkpoint").exists()
    best = [sorted(run.folder.glob("workspace/server/run_1/app_server/*best*")) for run in (one, other)]
    assert [path.name for path in best[0]] == [path.name for path in best[1]]
    for mine, its in zip(*best, strict=True):
        assert mine.read_bytes() == its.read_bytes(), mine.name


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", JOBS)
def test_a_run_that_was_cut_off_goes_on_with_the_same_bits(tmp_path: Path, make: Any, workers: int) -> None:
    check_same(*both(make(), tmp_path, workers=workers, number=2))


@pytest.mark.parametrize("at", [AppEventType.ROUND_STARTED, AppEventType.BEFORE_AGGREGATION, AppEventType.ROUND_DONE])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_wherever_it_is_cut_off(tmp_path: Path, at: str, number: int) -> None:
    check_same(*both(with_server_optimizer(), tmp_path, at=at, number=number))


def test_a_run_that_is_cut_off_again_and_again(tmp_path: Path) -> None:
    marker = tmp_path / "stopped"
    job = with_server_optimizer()
    add(job, StopsOnce, file=str(marker), number=3)
    with pytest.raises(RunError, match="cut off"):
        simulate(job, 5, 0, tmp_path, checkpoint_every=1)
    for _ in range(2):
        marker.unlink()
        with pytest.raises(RunError, match="cut off"):
            hansa.resume("last", home=tmp_path, progress=False)
    run = hansa.resume("last", home=tmp_path, progress=False)
    check_same(simulate(job, 5, 0, tmp_path / "undisturbed"), run)
    assert [each.number for each in run.history.rounds] == list(range(ROUNDS))


def test_what_was_not_kept_is_done_again(tmp_path: Path) -> None:
    # After rounds 1 and 3 a checkpoint; cut off in round 3, so rounds 2 and 3 come again.
    one, other = both(averaging(), tmp_path, every=2, number=3)
    check_same(one, other)
    lines = (other.folder / "history.jsonl").read_text().splitlines()
    assert json.loads(next(line for line in lines if "resumed" in line)) == {"resumed": {"lines": 2}}
    assert sum('"round"' in line and '"number": 2' in line for line in lines) == 2


def with_sampling() -> Job:
    return averaging(sampling={"fraction": 0.1})


def of_two_apps() -> Job:
    """The first ten sites remember, the others do not."""
    job = averaging()
    first = [f"site-{number + 1}" for number in range(10)]
    light = averaging(Light).apps["app"]
    app = job.apps["app"]
    return dataclasses.replace(
        job,
        apps={
            "app": App(app.server, app.client, app.files, checked=True),
            "light": App(None, light.client, checked=True),
        },
        deploy_map={"app": ("server", *first), "light": ("@ALL",)},
        classes={**job.classes, f"{checkpoint_parts.__name__}.Light": Light},
    )


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_many_sites_of_which_each_round_asks_some(tmp_path: Path, workers: int) -> None:
    check_same(*both(with_sampling(), tmp_path, sites=100, workers=workers))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_thousand_sites_of_which_ten_remember(tmp_path: Path, workers: int) -> None:
    check_same(*both(of_two_apps(), tmp_path, sites=1000, workers=workers))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_scaffold_keeps_its_controls(tmp_path: Path, workers: int) -> None:
    job = scaffold(quadratics.MODEL, executor=quadratics.ScaffoldSite, rounds=ROUNDS, sampling={"fraction": 0.5})
    check_same(*both(job, tmp_path, workers=workers))


def test_tensors_that_stay_at_their_site(tmp_path: Path) -> None:
    check_same(*both(fed_bn(MODEL, executor=Remembers, rounds=ROUNDS, local=["b"], params_type="diff"), tmp_path))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_training_that_ends_early_ends_in_the_same_round(tmp_path: Path, number: int) -> None:
    job = averaging(Component(Remembers, worse_from=2))
    path = "hansa.components.handlers.early_stopping.EarlyStopping"
    job.apps["app"].server["components"].append({"id": "stopping", "path": path, "args": {"patience": 2}})
    one, other = both(job, tmp_path, number=number)
    check_same(one, other)
    assert one.cause is not None
    assert one.cause.startswith("ended after round 3: ")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_site_whose_part_is_over_stays_away(tmp_path: Path, workers: int) -> None:
    job = averaging(Component(Leaves, number=1, site="site-2"), min_sites=1)
    one, other = both(job, tmp_path, workers=workers, number=3)
    check_same(one, other)
    assert [len(each.counted) for each in other.history.rounds] == [7, 6, 6, 6, 6]


@pytest.mark.parametrize("number", [3, 10, 11])
def test_several_workflows(tmp_path: Path, number: int) -> None:
    # Rounds 0 to 4 of the first, 10 to 12 of the second; in round 10 the last commit is the first one's.
    job = averaging()
    flows = job.apps["app"].server["workflows"]
    flows.append({**flows[0], "id": "second", "args": {**flows[0]["args"], "start_round": 10, "num_rounds": 3}})
    one, other = both(job, tmp_path, number=number)
    check_same(one, other)
    assert [each.number for each in other.history.rounds] == [0, 1, 2, 3, 4, 10, 11, 12]


def test_problems_and_refusals_of_before_are_not_forgotten(tmp_path: Path) -> None:
    job = averaging(Component(Fails, numbers=[0, 1, 4], site="site-2"), min_sites=1)
    one, other = both(job, tmp_path, number=3)
    check_same(one, other)
    assert [str(each) for each in other.problems] == [str(each) for each in Run.load(other.folder).problems]
    assert sum("no luck" in each.cause for each in one.problems) == 3
    assert sum("no luck" in each.cause for each in other.problems) == 3
