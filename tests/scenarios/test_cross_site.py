"""Evaluation across sites in whole federations: the matrix, what is missing in it, its files, chaining, passing on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_bytes, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.workflows.cross_site_model_eval import CrossSiteModelEval
from hansa.components.workflows.global_model_eval import GlobalModelEval
from hansa.errors import ConfigError
from hansa.jobs import Component, Job, cross_site_eval, cyclic, fed_avg, fed_bn
from hansa.runtime.run import Run, RunStatus
from scenarios.federations import listener, number_of

MODEL = {"w": np.zeros(3, np.float32)}
SERVER = "SRV_global_model.safetensors"


class Site(Executor):
    """Adds its number, gives a model of its number, measures a model's mean times its number.

    Args:
        fails: What goes wrong: `submit_model/2`, or `validate/3/site-1` for the model of an owner.
    """

    def __init__(self, fails: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.fails = fails

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        number = number_of(fl_ctx)
        owner = shareable.get_header(AppConstants.MODEL_OWNER, "")
        if f"{task_name}/{number}{'/' if owner else ''}{owner}" in self.fails:
            raise ValueError("no luck")
        if task_name == "submit_model":
            assert shareable.get_header(AppConstants.SUBMIT_MODEL_NAME) == "best_model"
            return DXO(DataKind.WEIGHTS, {"w": np.full(3, number, np.float32)}).to_shareable()
        weights = from_shareable(shareable).data
        if task_name == "validate":
            return DXO(DataKind.METRICS, {"mean": float(weights["w"].mean()) * number, "n": 3}).to_shareable()
        new = {name: value + np.float32(number) for name, value in weights.items()}
        return DXO(DataKind.WEIGHTS, new, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()


def simulated(job: Job | Path, home: Path, sites: int = 3) -> Run:
    return hansa.simulate(job, sites, workers=0, home=home, progress=False)


def folder_of(run: Run) -> Path:
    return run.folder / "workspace" / "server" / "run_1" / "cross_site_val"


def test_a_training_is_followed_by_the_matrix(tmp_path: Path) -> None:
    run = simulated(fed_avg(MODEL, executor=Site, rounds=2, evaluate_across_sites=True), tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert run.model["w"].tolist() == [4, 4, 4]
    matrix = run.cross_site("mean")
    assert matrix.models == (SERVER, "site-1", "site-2", "site-3")
    assert matrix.sites == ("site-1", "site-2", "site-3")
    assert matrix.as_dict()[SERVER] == {"site-1": 4.0, "site-2": 8.0, "site-3": 12.0}
    assert matrix.as_dict()["site-3"] == {"site-1": 3.0, "site-2": 6.0, "site-3": 9.0}
    assert matrix.mean("site-2") == 4.0
    assert matrix.errors == {}
    assert Run.load(run.folder).cross_site().as_dict() == matrix.as_dict()


def test_the_files_are_flares(tmp_path: Path) -> None:
    run = simulated(fed_avg(MODEL, executor=Site, rounds=1, evaluate_across_sites=True), tmp_path, sites=2)
    folder = folder_of(run)
    assert sorted(path.name for path in (folder / "model_shareables").iterdir()) == [SERVER, "site-1", "site-2"]
    results = sorted(path.name for path in (folder / "result_shareables").iterdir())
    assert results == [f"{site}_{owner}" for site in ("site-1", "site-2") for owner in (SERVER, "site-1", "site-2")]
    assert from_bytes((folder / "model_shareables" / "site-2").read_bytes()).data["w"].tolist() == [2, 2, 2]
    assert from_bytes((folder / "result_shareables" / "site-1_site-2").read_bytes()).data["mean"] == 2.0
    report = json.loads((folder / "cross_val_results.json").read_text())
    assert report["site-2"]["site-1"] == {"mean": 2.0, "n": 3}


def test_what_is_missing_costs_a_line_and_the_rest_stands(tmp_path: Path) -> None:
    site = Component(Site, fails=["submit_model/2", "validate/3/site-1"])
    run = simulated(cross_site_eval({"w": np.ones(3)}, executor=site), tmp_path)
    assert run.status is RunStatus.COMPLETED
    matrix = run.cross_site("mean")
    assert matrix.as_dict() == {
        "SRV_model": {"site-1": 1.0, "site-2": 2.0, "site-3": 3.0},
        "site-1": {"site-1": 1.0, "site-2": 2.0, "site-3": None},
        "site-2": {"site-1": None, "site-2": None, "site-3": None},
        "site-3": {"site-1": 3.0, "site-2": 6.0, "site-3": 9.0},
    }
    assert set(matrix.errors) == {("site-2", ""), ("site-1", "site-3")}
    assert matrix.errors["site-2", ""].startswith("no model: EXECUTION_EXCEPTION ValueError: no luck")
    assert "\n" not in "".join(matrix.errors.values())
    assert matrix.mean("site-2") is None
    assert json.loads((folder_of(run) / "cross_val_results.json").read_text())["site-3"].keys() == {
        "SRV_model",
        "site-3",
    }


def test_only_the_global_models_after_a_cyclic_training(tmp_path: Path) -> None:
    run = simulated(cyclic(MODEL, executor=Site, rounds=2, order="fixed", evaluate_across_sites="global"), tmp_path)
    assert run.model["w"].tolist() == [12, 12, 12]
    assert run.cross_site("mean").as_dict() == {SERVER: {"site-1": 12.0, "site-2": 24.0, "site-3": 36.0}}
    assert [sorted(each.counted) for each in run.history.rounds] == [["site-1", "site-2", "site-3"]] * 2


def test_only_the_sites_models(tmp_path: Path) -> None:
    run = simulated(cross_site_eval(executor=Site), tmp_path, sites=2)
    assert run.cross_site("mean").as_dict() == {
        "site-1": {"site-1": 1.0, "site-2": 2.0},
        "site-2": {"site-1": 2.0, "site-2": 4.0},
    }


def test_a_folder_runs_as_the_job_does_and_workers_change_nothing(tmp_path: Path) -> None:
    job = cyclic(MODEL, executor=Site, rounds=1, evaluate_across_sites=True)
    here = simulated(job, tmp_path / "a")
    job.save(tmp_path / "job")
    there = hansa.simulate(tmp_path / "job", 3, workers=2, home=tmp_path / "b", progress=False)
    assert there.model_digest == here.model_digest
    assert there.cross_site().as_dict() == here.cross_site().as_dict()


def test_events_and_properties_are_flares(tmp_path: Path) -> None:
    seen: list[tuple[Any, ...]] = []

    def hears(event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.CROSS_VAL_INIT:
            path = fl_ctx.get_prop(AppConstants.CROSS_VAL_MODEL_PATH)
            seen.append(("init", Path(path).name, Path(path).exists()))
        elif event_type == AppEventType.RECEIVE_BEST_MODEL:
            seen.append(("model", fl_ctx.get_prop(AppConstants.RECEIVED_MODEL_OWNER)))
        elif event_type == AppEventType.SEND_MODEL_FOR_VALIDATION:
            client = fl_ctx.get_prop(AppConstants.DATA_CLIENT)
            seen.append(("send", fl_ctx.get_prop(AppConstants.MODEL_OWNER), client.name))
        elif event_type == AppEventType.VALIDATION_RESULT_RECEIVED:
            result = fl_ctx.get_prop(AppConstants.VALIDATION_RESULT)
            site = result.get_peer_prop(ReservedKey.IDENTITY_NAME, None)
            owner, data = (fl_ctx.get_prop(key) for key in (AppConstants.MODEL_OWNER, AppConstants.DATA_CLIENT))
            seen.append(("result", owner, data, site))

    job = cross_site_eval(executor=Site, server_components=[Component(listener(hears))])
    simulated(job, tmp_path, sites=1)
    assert seen == [
        ("init", "model_shareables", False),
        ("model", "site-1"),
        ("send", "site-1", "site-1"),
        ("result", "site-1", "site-1", "site-1"),
    ]


def test_a_model_is_encoded_once_however_many_sites_measure_it(tmp_path: Path) -> None:
    run = simulated(cross_site_eval({"w": np.ones(3)}, executor=Site, site_models=False), tmp_path, sites=6)
    assert len(run.cross_site().sites) == 6
    assert folder_of(run).joinpath("model_shareables", "SRV_model").exists()


def test_what_stays_at_its_site_is_not_submitted_and_is_put_back_for_a_measurement(tmp_path: Path) -> None:
    job = fed_bn(
        {"w": np.zeros(3, np.float32), "bn": np.zeros(1)}, executor=Site, local="bn", rounds=1,
        evaluate_across_sites=True,
    )  # fmt: skip
    client = job.server_app.client
    assert client["task_data_filters"][0]["tasks"] == ["train", "validate"]
    assert client["task_result_filters"][0]["tasks"] == ["train", "submit_model"]
    assert simulated(job, tmp_path).cross_site("mean").values[SERVER, "site-1"] == 2.0


def test_sites_that_are_named_and_do_not_come_are_not_waited_for_without_end(tmp_path: Path) -> None:
    job = cross_site_eval(executor=Site)
    workflow = job.apps["app"].server["workflows"][0]
    workflow["args"] = {"participating_clients": ["site-9", "site-1"], "wait_for_clients_timeout": 20}
    run = simulated(job, tmp_path)
    assert run.cross_site("mean").as_dict() == {"site-1": {"site-1": 1.0}}
    assert "site-9: not here within 20 s; it is left out" in (run.folder / "log.txt").read_text()


def test_a_locator_without_the_model_ends_the_run(tmp_path: Path) -> None:
    job = cross_site_eval({"w": np.ones(3)}, executor=Site)
    [locator] = [part for part in job.apps["app"].server["components"] if part["id"] == "model_locator"]
    locator["args"] = {"files": {"model": "gone.safetensors"}}
    with pytest.raises(hansa.errors.RunError, match="'model_locator' cannot find the model 'model'"):
        simulated(job, tmp_path)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"task_check_period": 1}, TypeError),
        ({"submit_model_timeout": 1.0}, TypeError),
        ({"validation_timeout": -1}, ValueError),
        ({"cross_val_dir": 3}, TypeError),
        ({"participating_clients": "site-1"}, TypeError),
    ],
)
def test_arguments_are_checked(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        CrossSiteModelEval(**given)


def test_an_evaluation_of_global_models_needs_a_locator() -> None:
    with pytest.raises(ValueError, match="model_locator_id"):
        GlobalModelEval()


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: cross_site_eval(executor=Site, site_models=False), "site_models"),
        (lambda: cross_site_eval(executor=Site, rounds=3), "rounds"),
        (lambda: fed_avg(MODEL, executor=Site, evaluate_across_sites="all"), "evaluate_across_sites"),
        (lambda: cyclic(MODEL, executor=Site, order="up"), "order"),
        (lambda: cyclic(MODEL, executor=Site, best_by="loss"), "best_by"),
        (lambda: cyclic(MODEL, executor=Site, site_s=0), "site_s"),
    ],
)
def test_recipes_refuse_what_cannot_be(make: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.key == key


def test_no_such_matrix(tmp_path: Path) -> None:
    run = simulated(fed_avg(MODEL, executor=Site, rounds=1), tmp_path)
    with pytest.raises(ConfigError, match="no model was measured across sites"):
        run.cross_site()
    run = simulated(cross_site_eval(executor=Site), tmp_path)
    with pytest.raises(ConfigError, match="no such metric was measured across sites; there are mean, n"):
        run.cross_site("loss")


class Leaves(Site):
    """Its site's part ends with the first model that it is to measure."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if task_name == "validate" and number_of(fl_ctx) == 2:
            self.system_panic("the disk is gone", fl_ctx)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


def test_a_site_that_is_gone_for_good_is_not_waited_for(tmp_path: Path) -> None:
    run = simulated(cross_site_eval(executor=Leaves), tmp_path)
    matrix = run.cross_site("mean")
    assert run.status is RunStatus.COMPLETED
    assert [matrix.values.get((owner, "site-2")) for owner in matrix.models] == [None] * 3
    assert matrix.as_dict()["site-2"] == {"site-1": 2.0, "site-2": None, "site-3": 6.0}
    assert matrix.errors["site-3", "site-2"] == "no result within 6000 s, or the site is gone"
    assert run.timings.virtual < 600


def test_a_training_goes_on_with_the_model_of_the_one_before(tmp_path: Path) -> None:
    job = cyclic(MODEL, executor=Site, rounds=1)
    server = job.apps["app"].server
    second = {"file_name": "second.safetensors", "best_file_name": "best_second.safetensors"}
    server["components"] += [
        {"id": "second", "path": "hansa.components.np_model.NPModelPersistor", "args": second},
        *[
            part
            for part in fed_avg(MODEL, executor=Site).apps["app"].server["components"]
            if part["id"] == "aggregator"
        ],
    ]
    flow = "hansa.components.workflows.scatter_and_gather.ScatterAndGather"
    args = {"min_clients": 3, "num_rounds": 1, "persistor_id": "second"}
    server["workflows"].append({"id": "then", "path": flow, "args": args})
    run = simulated(job, tmp_path)
    assert run.model["w"].tolist() == [8, 8, 8]  # 1 + 2 + 3 in turn, then the mean of + 1, + 2, + 3


def test_where_all_sites_are_needed_nobody_is_passed_over_for_being_late() -> None:
    def waits(job: Job) -> int:
        patience: int = job.apps["app"].server["workflows"][0]["args"]["task_assignment_timeout"]
        return patience

    assert waits(cyclic(MODEL, executor=Site)) == 0
    assert waits(cyclic(MODEL, executor=Site, min_sites=2)) == 10
    assert waits(cyclic(MODEL, executor=Site, wait_s=3)) == 3
