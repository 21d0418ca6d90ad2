"""`fed_avg`: the job it makes, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa import tensors
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.learner_spec import Learner
from hansa.errors import ConfigError
from hansa.jobs import Component, Variable, fed_avg
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side, check_shape
from hansa.jobs.job import WEIGHTS, App, Job


class Plain(Executor):
    def execute(self, task_name: str, shareable: Any, fl_ctx: Any, abort_signal: Any) -> Any:
        return shareable


class Trainer(Plain):
    def __init__(self, lr: float, note: str = "", inner: object = None, sites: int = 0) -> None:
        super().__init__()
        self.args = (lr, note, inner, sites)


class MyLearner(Learner):
    pass


class Watcher(FLComponent):
    pass


MODEL = {"w": np.zeros((2, 3), dtype=np.float32)}


def client_of(job: Job, num_sites: int = 4) -> dict[str, Any]:
    return job.server_app.config(Side.CLIENT, num_sites=num_sites)


def server_of(job: Job, num_sites: int = 4) -> dict[str, Any]:
    return job.server_app.config(Side.SERVER, num_sites=num_sites)


def by_id(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {part["id"]: part.get("args", {}) for part in parts}


def test_the_job_has_the_right_shape_and_counts_all_sites_by_default() -> None:
    job = fed_avg(MODEL, executor=Plain, rounds=7)
    server, client = server_of(job), client_of(job)
    check_shape(server, Side.SERVER, None)
    check_shape(client, Side.CLIENT, None)
    assert server["workflows"][0]["args"] == {
        "min_clients": 4,
        "num_rounds": 7,
        "wait_time_after_min_received": 10,
        "min_counted": 4,
    }
    assert by_id(server["components"])["aggregator"] == {"expected_data_kind": "WEIGHTS", "names": "exact"}
    assert by_id(server["components"])["persistor"] == {"source": "initial_model.safetensors"}
    assert (job.name, job.min_sites) == ("fed_avg", None)


def test_limits_and_kind_go_where_they_act() -> None:
    job = fed_avg(MODEL, executor=Plain, min_sites=3, wait_s=0, params_type="diff", name="x")
    server = server_of(job)
    args = server["workflows"][0]["args"]
    assert (args["min_clients"], args["min_counted"], args["wait_time_after_min_received"]) == (3, 3, 0)
    assert by_id(server["components"])["aggregator"] == {"expected_data_kind": "WEIGHT_DIFF", "names": "exact"}
    assert (job.name, job.min_sites) == ("x", 3)


def test_a_deadline_goes_to_the_workflow_and_is_waited_for() -> None:
    def args(**options: Any) -> dict[str, Any]:
        job = fed_avg(MODEL, executor=Plain, min_sites=2, **options)
        return dict(job.apps["app"].server["workflows"][0]["args"])

    assert (args(round_s=600)["train_timeout"], args(round_s=600)["wait_time_after_min_received"]) == (600, 600)
    assert args(round_s=600, wait_s=5)["wait_time_after_min_received"] == 5
    assert "train_timeout" not in args(round_s=0)
    assert args()["wait_time_after_min_received"] == 10


def test_a_rule_takes_the_place_of_the_mean() -> None:
    def aggregator(**options: Any) -> tuple[str, dict[str, Any]]:
        server = fed_avg(MODEL, executor=Plain, **options).apps["app"].server
        (part,) = [part for part in server["components"] if part["id"] == "aggregator"]
        return part["path"].rpartition(".")[2], part["args"]

    assert aggregator(rule="krum", params_type="diff") == (
        "RobustAggregator",
        {"expected_data_kind": "WEIGHT_DIFF", "names": "exact", "rule": "krum"},
    )
    args = aggregator(rule={"rule": "median", "mixing": "nnm", "num_bad": 2})[1]
    assert (args["rule"], args["mixing"], args["num_bad"]) == ("median", "nnm", 2)
    assert aggregator(aggregator=Component("acme.Own", x=1)) == ("Own", {"x": 1})


def test_a_sampling_goes_to_the_workflow() -> None:
    job = fed_avg(MODEL, executor=Plain, sampling={"tag": "icu", "count": 3})
    args = server_of(job)["workflows"][0]["args"]
    assert args["sampling"] == {"tag": "icu", "count": 3}
    check_shape(server_of(job), Side.SERVER, None)


def test_names_go_to_the_aggregator_and_filters_may_leave_some_out() -> None:
    def names(**options: Any) -> object:
        return by_id(server_of(fed_avg(MODEL, executor=Plain, **options))["components"])["aggregator"]["names"]

    filters = [Component("hansa.components.filters.exclude_vars.ExcludeVars", exclude_vars=["head"])]
    assert names(result_filters=filters) == "subset"
    assert names(result_filters=[]) == "exact"
    kept = by_id(server_of(fed_avg(MODEL, executor=Plain, result_filters=filters))["components"])
    assert kept["shareable_generator"] == {"keep_missing": True}  # the model must not lose what results leave out
    assert names(result_filters=filters, names="any") == "any"


def test_more_parts_come_after_the_recipes_own() -> None:
    job = fed_avg(
        MODEL,
        executor=Plain,
        server_components=[Component(Watcher), Component(Watcher, id="again")],
        client_components=[Component(Watcher, id="mine")],
        result_filters=[Component("hansa.components.filters.exclude_vars.ExcludeVars", exclude_vars=["head"])],
    )
    assert list(by_id(server_of(job)["components"]))[-2:] == ["Watcher", "again"]
    client = client_of(job)
    assert list(by_id(client["components"])) == ["analytic_sender", "event_to_fed", "mine"]
    (chain,) = client["task_result_filters"]
    assert chain["tasks"] == ["train"]
    assert chain["filters"][0]["args"] == {"exclude_vars": ["head"]}


def test_arguments_reach_the_constructor_as_they_are() -> None:
    # Braces stand for themselves; only a Variable is filled in when the job runs.
    part = Component(Trainer, lr=0.5, note="{w}{{", inner=Component(Watcher), sites=Variable("num_sites"))
    job = fed_avg(MODEL, executor=part)
    builder = Builder(ClassPolicy.simulator(), known=job.classes)
    config = client_of(job, num_sites=9)["executors"][0]["executor"]
    trainer: Any = builder.component(config)
    lr, note, inner, sites = trainer.args
    assert (lr, note, sites) == (0.5, "{w}{{", 9)
    assert isinstance(inner, Watcher)


def test_classes_of_functions_run_here_and_say_that_they_cannot_travel(tmp_path: Any) -> None:
    def make(value: int) -> type[Plain]:
        class Local(Plain):
            number = value

        return Local

    one, two = make(1), make(2)
    job = fed_avg(MODEL, executor=one, client_components=[Component(two, id="two")])
    assert list(job.classes.values()) == [one, two]  # two paths, although both have the same name
    with pytest.raises(ConfigError, match="Local is defined inside a function and cannot travel; move it"):
        job.save(tmp_path / "job")
    assert not (tmp_path / "job").exists()


def test_the_model_is_copied_and_keeps_its_types() -> None:
    weights = {"w": np.ones(2, dtype=np.float16), "n": np.array(3), "list": [1.0, 2.0]}
    job = fed_avg(weights, executor=Plain)
    np.asarray(weights["w"])[:] = 7
    kept: Any = job.server_app.files[WEIGHTS]
    assert {name: (array.dtype.name, array.shape) for name, array in kept.items()} == {
        "w": ("float16", (2,)),
        "n": ("int64", ()),
        "list": ("float64", (2,)),
    }
    assert kept["w"].tolist() == [1, 1]


def test_torch_tensors_become_arrays() -> None:
    import torch

    layer = torch.nn.Linear(2, 1)
    kept: Any = fed_avg(dict(layer.named_parameters()), executor=Plain).server_app.files[WEIGHTS]
    assert kept["weight"].shape == (1, 2)
    assert isinstance(kept["weight"], np.ndarray)


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        ({"rounds": 0}, "rounds", "at least 1, not 0"),
        ({"rounds": 2.0}, "rounds", "whole number"),
        ({"rounds": True}, "rounds", "whole number"),
        ({"min_sites": 0}, "min_sites", "at least 1"),
        ({"wait_s": -1}, "wait_s", "at least 0"),
        ({"names": "all"}, "names", "must be 'any', 'subset' or 'exact', not 'all'"),
        ({"rule": "mode"}, "rule", "must be one of median, trimmed_mean, krum"),
        ({"rule": {"num_bad": 2}}, "rule", "must name the rule"),
        ({"rule": "median", "aggregator": Plain}, "rule", "give a rule or an aggregator, not both"),
        ({"sampling": 0.1}, "sampling", "must be an object such as {'fraction': 0.1}, not 0.1"),
        ({"sampling": {"fraction": 1.5}}, "sampling.fraction", "at most 1, not 1.5"),
        ({"params_type": "half"}, "params_type", "'full' or 'diff', not 'half'"),
        ({"name": ""}, "name", "not empty"),
        ({"round": 3}, "round", "no such argument"),
        ({"wait": 3}, "wait", "did you mean 'wait_s'?"),
        ({"model": {}}, "model", "has no weights"),
        ({"model": [1.0]}, "model", "must be a torch module or a dict of arrays by name"),
        ({"model": {"w": object()}}, "model.w", "weights are numbers, not object"),
        ({"model": {"w": ["a"]}}, "model.w", "weights are numbers, not <U1"),
        ({"model": {"w": [[1], [2, 3]]}}, "model.w", "is no array"),
        ({"model": {1: [1.0]}}, "model", "the names of weights are texts, not 1"),
        ({"executor": "parts.Trainer"}, "executor", "give an Executor, a Learner or a Component"),
        ({"model": {"w": [1.0, float("nan")]}}, "model.w", "has NaN or Inf"),
        ({"model": {"__metadata__": [1.0]}}, "model", "no tensor can be called '__metadata__'"),
        ({"server_components": FLComponent}, "server_components", "must be a list of Components"),
        ({"result_filters": Component(FLComponent)}, "result_filters", "must be a list of Components"),
        ({"executor": Plain()}, "executor", "give the class, not an instance of Plain; every site makes its own"),
        ({"executor": Watcher}, "executor", "must be an Executor or a Learner, and Watcher is neither"),
        ({"executor": Trainer}, "executor", "Trainer needs the argument 'lr': Component(Trainer, lr=...)"),
        ({"executor": Component(Trainer, lrr=1)}, "executor.lrr", "no argument 'lrr'; did you mean 'lr'?"),
        ({"executor": Component(Trainer, lr=np.ones(1))}, "executor.lr", "a job cannot carry a ndarray"),
        ({"executor": Component(Trainer, lr=float("nan"))}, "executor.lr", "nan is no number"),
        ({"executor": Component(Trainer, lr=1, inner={1: 2})}, "executor.inner", "the keys of a dict must be texts"),
        ({"executor": Component(Trainer, lr=1, inner=[Component(Watcher)])}, "executor.inner[0]", "not part of a list"),
        ({"server_components": [Watcher]}, "server_components[0]", "must be a Component"),
        ({"server_components": [Component(Watcher, id="history")]}, "components[5].id", "'history' is taken"),
    ],
)
def test_bad_arguments_are_named(changes: dict[str, Any], key: str, says: str) -> None:
    given: dict[str, Any] = {"model": MODEL, "executor": Plain, **changes}
    with pytest.raises(ConfigError) as caught:
        fed_avg(given.pop("model"), **given)
    assert caught.value.key == key
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_component_is_a_class_or_a_path() -> None:
    with pytest.raises(ConfigError, match="give the class, not an instance of Watcher"):
        Component(Watcher())  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(ConfigError, match="'Trainer' is not a path like"):
        Component("Trainer")


def test_a_job_by_hand_is_checked_when_it_runs() -> None:
    job = Job("mine", {"app": App(server={"format_version": 2}, client={}, origin="mine")})
    with pytest.raises(ConfigError, match=r"mine/config/config_fed_server.json: workflows: missing key"):
        job.check()


def test_the_shipped_parts_take_what_the_recipe_gives_them() -> None:
    job = fed_avg(MODEL, executor=Plain)
    builder = Builder(ClassPolicy.production(), known=job.classes)
    server, client = builder.server(server_of(job)), builder.client(client_of(job))
    assert [type(handler).__name__ for handler in server.handlers] == [
        "InTimeAccumulateWeightedAggregator",
        "FullModelShareableGenerator",
        "NPModelPersistor",
        "IntimeModelSelectionHandler",
        "HistoryReceiver",
        "ScatterAndGather",
    ]
    assert [type(handler).__name__ for handler in client.handlers] == ["Plain", "AnalyticsSender", "ConvertToFedEvent"]
    assert [name for name, _ in server.workflows] == ["scatter_and_gather"]
    assert isinstance(client.executors["train"], Plain)


def test_the_recipe_loads_no_pydantic() -> None:
    # It costs a tenth of a second, and a config that Hansa wrote itself needs no check of its shape.
    code = """
import sys
from hansa.apis.executor import Executor
from hansa.jobs import fed_avg
from hansa.jobs.build import Builder
fed_avg({"w": [1.0]}, executor=type("E", (Executor,), {"execute": None}))
assert "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(Path(tensors.__file__).parents[1])})
