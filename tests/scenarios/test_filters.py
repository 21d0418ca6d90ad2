"""Filters at the four positions of a whole federation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.apis.controller_spec import Task, TaskCompletionStatus
from hansa.apis.dxo import from_shareable
from hansa.apis.filter import Filter
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.filters.exclude_vars import ExcludeVars
from hansa.jobs import Component, Job
from hansa.runtime.run import RunStatus
from scenarios.federations import (
    Adds,
    Echo,
    Flow,
    Silent,
    ask,
    averaging,
    executor,
    filter_of,
    flow,
    make_job,
    simulate,
    weights,
)

POSITIONS = ("server data", "client data", "client result", "server result")


class Times(Filter):
    """Multiplies the weights, in place."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        for value in from_shareable(shareable).data.values():
            np.multiply(value, self.factor, out=value)
        return shareable


class Plus(Filter):
    """Adds to the weights, in place."""

    def __init__(self, number: float) -> None:
        super().__init__()
        self.number = number

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        for value in from_shareable(shareable).data.values():
            np.add(value, self.number, out=value)
        return shareable


@pytest.mark.parametrize("position", POSITIONS)
def test_a_chain_at_each_position_two_of_one_class_with_different_arguments(tmp_path: Path, position: str) -> None:
    # (5 + 1) * 2 + 10 = 22, whatever the position, since the executor echoes
    seen: list[float] = []
    got: dict[str, Shareable] = {}

    def echo(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        seen.append(float(from_shareable(data).data["w"][0]))
        return data

    chain = [Component(Plus, number=1.0), Component(Times, factor=2.0), Component(Plus, number=10.0)]
    job = make_job(
        [flow(lambda c, s, ctx: got.update(ask(c, ctx, weights(w=[5.0]))))],
        executor(echo),
        filters={position: chain},
    )
    run = simulate(job, 3, home=tmp_path)
    assert run.problems == []
    assert [from_shareable(result).data["w"].tolist() for result in got.values()] == [[22.0]] * 3
    assert seen == ([22.0] if position.endswith("data") else [5.0]) * 3


@pytest.mark.parametrize("size", [1, 100_000], ids=["in the envelope", "in a blob"])
def test_a_server_filter_that_writes_in_place_starts_from_the_same_data_for_each_site(
    tmp_path: Path, size: int
) -> None:
    message = weights(w=np.ones(size))
    seen: list[float] = []

    def note(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        seen.append(float(from_shareable(data).data["w"][0]))
        return Shareable()

    def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        for _ in range(2):
            ask(controller, ctx, message)

    filters = {"server data": [Component(Times, factor=3.0)]}
    simulate(make_job([flow(rounds)], executor(note), filters=filters), 3, home=tmp_path)
    assert seen == [3.0] * 6
    assert from_shareable(message).data["w"][0] == 1.0


def with_filters(job: Job, position: str, *filters: Component) -> Job:
    """FedAvg with a chain at the server."""
    config = dict(job.apps["app"].server or {})
    paths = [{"path": str(f.target), "args": dict(f.args)} for f in filters]
    config[f"task_{position}_filters"] = [{"tasks": ["train"], "filters": paths}]
    app = type(job.apps["app"])(config, job.apps["app"].client, job.apps["app"].files, "app", checked=True)
    return Job(job.name, {"app": app}, classes={**job.classes, "scenarios.Times": Times})


def test_a_server_filter_does_not_change_the_global_model(tmp_path: Path) -> None:
    # sites get 3 * w and send it back: round 1 gives 3, round 2 gives 9; if the filter wrote into the model, more
    job = averaging(Echo, rounds=2, model={"w": np.ones(2, np.float32)})
    job = with_filters(job, "data", Component("scenarios.Times", factor=3.0))
    assert simulate(job, 4, home=tmp_path).model["w"].tolist() == [9.0, 9.0]


def test_exclude_vars_on_the_server_deletes_nothing_from_the_global_model(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Looks(Adds):
        def execute(self, name: str, data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            seen.append(list(from_shareable(data).data))
            return super().execute(name, data, ctx, signal)

    model = {"body": np.zeros(1, np.float32), "head": np.full(1, 8, np.float32)}
    job = averaging(Looks, rounds=2, model=model, names="subset")
    path = f"{ExcludeVars.__module__}.ExcludeVars"
    run = simulate(with_filters(job, "data", Component(path, exclude_vars=["head"])), 2, home=tmp_path)
    assert seen == [["body"]] * 4
    assert run.status is RunStatus.COMPLETED
    # each round adds the mean of 1 and 2; the head, which never travelled, is where it was
    assert run.model["body"].tolist() == [3.0]
    if "head" in run.model:  # InTime averages what the sites sent; full weights replace the model (FLARE2.md 5.8)
        assert run.model["head"].tolist() == [8.0]


def test_exclude_vars_on_results_keeps_them_at_the_site(tmp_path: Path) -> None:
    got: dict[str, Shareable] = {}
    job = make_job(
        [flow(lambda c, s, ctx: got.update(ask(c, ctx, weights(a=[1.0], b=[2.0]))))],
        Echo,
        filters={"client result": [Component(ExcludeVars, exclude_vars="^b")]},
    )
    simulate(job, 1, home=tmp_path)
    assert list(from_shareable(got["site-1"]).data) == ["a"]


def refuses(data: Shareable, ctx: FLContext) -> None:
    raise PermissionError("not allowed here")


@pytest.mark.parametrize(
    ("position", "code"),
    [
        ("client data", ReturnCode.TASK_DATA_FILTER_ERROR),
        ("client result", ReturnCode.TASK_RESULT_FILTER_ERROR),
        ("server result", ReturnCode.TASK_RESULT_FILTER_ERROR),
    ],
)
def test_a_filter_that_raises_costs_the_result_and_says_why(tmp_path: Path, position: str, code: str) -> None:
    got: dict[str, Shareable] = {}
    job = make_job([flow(lambda c, s, ctx: got.update(ask(c, ctx)))], Echo, filters={position: [filter_of(refuses)]})
    run = simulate(job, 2, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert [result.get_return_code() for result in got.values()] == [code] * 2
    for site, result in got.items():
        assert "PermissionError: not allowed here (test_filters.py:" in result.get_header("__error__")
        assert result.get_peer_prop("__identity_name__", site) == site
    where = "server" if position.startswith("server") else "site-1"
    assert run.problems[0].site == where


def test_a_data_filter_of_the_server_that_raises_cancels_the_task(tmp_path: Path) -> None:
    ends: list[Any] = []

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        task = Task("train", Shareable(), task_done_cb=lambda task, fl_ctx: ends.append(task.completion_status))
        controller.broadcast_and_wait(task, ctx, ["site-1", "site-2"], 2, 0, signal)
        ends.append(task.completion_status)

    reached: list[str] = []

    def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
        reached.append(ctx.get_identity_name())
        return data

    job = make_job([flow(once)], executor(work), filters={"server data": [filter_of(refuses)]})
    run = simulate(job, 2, home=tmp_path)
    assert reached == []
    assert len(ends) == 2
    assert all(end in (TaskCompletionStatus.CANCELLED, TaskCompletionStatus.ERROR) for end in ends)
    assert "PermissionError" in run.problems[0].cause


@pytest.mark.parametrize("position", POSITIONS)
def test_a_filter_that_returns_no_message_is_named(tmp_path: Path, position: str) -> None:
    class Forgets(Filter):
        def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
            return None  # type: ignore[return-value]

    def once(controller: Flow, signal: Signal, ctx: FLContext) -> None:
        ask(controller, ctx)

    run = simulate(make_job([flow(once)], Silent, filters={position: [Forgets]}), 1, home=tmp_path)
    assert "filter Forgets returned NoneType, not a Shareable" in run.problems[0].cause


def test_a_result_filter_may_write_though_the_executor_only_reads(tmp_path: Path) -> None:
    got: dict[str, Shareable] = {}

    class ReadsOnly(Echo):
        writes_input = False

    job = make_job(
        [flow(lambda c, s, ctx: got.update(ask(c, ctx, weights(w=np.ones(100_000)))))],
        ReadsOnly,
        filters={"client result": [Component(Times, factor=2.0)]},
    )
    run = simulate(job, 2, home=tmp_path)
    assert run.problems == []
    assert [from_shareable(result).data["w"][0] for result in got.values()] == [2.0, 2.0]


def test_noise_of_a_site_filter_depends_on_the_seed_alone(tmp_path: Path) -> None:
    def noise(data: Shareable, ctx: FLContext) -> None:
        from_shareable(data).data["w"] += np.random.normal() + random.random()

    def values(seed: int) -> list[float]:
        got: dict[str, Shareable] = {}
        job = make_job(
            [flow(lambda c, s, ctx: got.update(ask(c, ctx, weights(w=[0.0]))))],
            Echo,
            filters={"client result": [filter_of(noise)]},
        )
        simulate(job, 3, home=tmp_path, seed=seed)
        return [float(from_shareable(got[site]).data["w"][0]) for site in sorted(got)]

    first = values(1)
    assert len(set(first)) == 3
    assert values(1) == first
    assert values(2) != first


def test_noise_of_a_server_filter_does_not_depend_on_what_the_sites_draw(tmp_path: Path) -> None:
    def drawn(num_draws_at_sites: int, seed: int = 0) -> list[float]:
        noise: list[float] = []

        def work(data: Shareable, ctx: FLContext, signal: Signal) -> Shareable:
            for _ in range(num_draws_at_sites):
                random.random()
            return data

        chain = [filter_of(lambda data, ctx: noise.append(random.random()))]
        job = make_job([flow(lambda c, s, ctx: ask(c, ctx))], executor(work), filters={"server result": chain})
        simulate(job, 3, home=tmp_path, seed=seed)
        return noise

    assert len(set(drawn(0))) == 3
    assert drawn(0) == drawn(5)
    assert drawn(0, seed=1) != drawn(0)
