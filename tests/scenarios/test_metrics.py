"""Reported numbers in whole runs: always in the history, once, and wherever else the job wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hansa
from hansa.apis.executor import Executor
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.widgets.convert_to_fed_event import ConvertToFedEvent
from hansa.components.widgets.history_receiver import HistoryReceiver
from hansa.components.widgets.mlflow_receiver import MLflowReceiver
from hansa.components.widgets.streaming import AnalyticsSender
from hansa.components.widgets.tb_receiver import TBAnalyticsReceiver
from hansa.jobs.component import Component
from hansa.jobs.job import Job
from hansa.runtime.comparison import group_runs, notes_on
from scenarios.federations import Adds, Flow, Part, ask, averaging, flow, make_job, number_of, simulate

ANALYTICS = "analytix_log_stats"


class Reports(Executor):
    """Reports its site's number, as `loss`."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        sender = fl_ctx.get_engine().get_component("AnalyticsSender")
        sender.add_scalar("loss", float(number_of(fl_ctx)), global_step=7)
        return shareable


class ReportsAndAdds(Adds):
    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        sender = fl_ctx.get_engine().get_component("analytic_sender")
        sender.add_scalar("loss", float(number_of(fl_ctx)))
        if number_of(fl_ctx) != 3:
            sender.add_scalar("accuracy", float("nan") if number_of(fl_ctx) == 1 else 0.5)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


def reporting(server: Sequence[Part] = (), events: Sequence[str] = (ANALYTICS,)) -> Job:
    """A job whose sites report; its server has only these parts."""
    converts = Component(ConvertToFedEvent, events_to_convert=list(events))
    asks: type[Flow] = flow(lambda self, signal, fl_ctx: ask(self, fl_ctx))
    return make_job([asks], Reports, server=server, client=[AnalyticsSender, converts])


def scalars(run: hansa.Run) -> list[tuple[str, str, float, int | None]]:
    return sorted((s.site, s.name, s.value, s.step) for s in run.history.scalars)


BOTH = [("site-1", "loss", 1.0, 7), ("site-2", "loss", 2.0, 7)]


def test_a_job_without_a_receiver_has_its_numbers_in_the_history(tmp_path: Path) -> None:
    run = simulate(reporting(), home=tmp_path)
    assert scalars(run) == scalars(hansa.Run.load(run.folder)) == BOTH


def test_a_job_that_lists_one_has_them_once(tmp_path: Path) -> None:
    assert scalars(simulate(reporting([HistoryReceiver]), home=tmp_path)) == BOTH
    run = simulate(averaging(ReportsAndAdds, rounds=2), 2, home=tmp_path)
    assert len([s for s in run.history.scalars if s.name == "loss"]) == 4


def test_a_job_may_choose_what_its_receiver_hears(tmp_path: Path) -> None:
    deaf = Component(HistoryReceiver, events=["something.else"])
    assert scalars(simulate(reporting([deaf]), home=tmp_path)) == []


def test_what_a_site_does_not_send_stays_there(tmp_path: Path) -> None:
    assert scalars(simulate(reporting(events=["something_else"]), home=tmp_path)) == []


def test_a_flare_folder_without_a_receiver_has_a_history(tmp_path: Path) -> None:
    folder = Path(__file__).parent / "flare_folders" / "bare_names"
    assert "Receiver" not in (folder / "config" / "config_fed_server.json").read_text()
    run = hansa.simulate(folder, 3, home=tmp_path, progress=False)
    assert run.history.series("steps", "site-3") == [(0, 5.0), (1, 5.0)]
    assert len([s for s in run.history.scalars if s.name == "steps"]) == 6


def test_tensorboard_and_mlflow_get_what_the_history_gets(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = (tmp_path / "tracking").as_uri()
    parts = [Component(TBAnalyticsReceiver, id="tb"), Component(MLflowReceiver, id="mlflow", tracking_uri=uri)]
    job = averaging(ReportsAndAdds, rounds=3, name="tracked", server_components=parts)
    run = simulate(job, 3, home=tmp_path, seed=5)
    assert run.history.series("loss") == [(0, 2.0), (1, 2.0), (2, 2.0)]

    [folder] = run.folder.rglob("tb_events")
    assert folder.parent.name == "run_1"
    assert sorted(path.name for path in folder.iterdir()) == ["site-1", "site-2", "site-3"]
    events = EventAccumulator(str(folder / "site-3"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == [3.0, 3.0, 3.0]

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tracked")
    assert experiment is not None
    [kept] = client.search_runs([experiment.experiment_id])
    assert kept.info.run_name == run.id
    assert kept.data.params == {
        "job": "tracked", "job_digest": run.config["job_digest"], "run": run.id, "seed": "5", "sites": "3"
    }  # fmt: skip
    history = client.get_metric_history(kept.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 2.0), (1, 2.0), (2, 2.0)]
    assert run.problems == []


def test_a_metric_with_gaps_costs_one_note_and_nothing_else(tmp_path: Path) -> None:
    run = simulate(averaging(ReportsAndAdds, rounds=2), 3, home=tmp_path)
    for kept in (run, hansa.Run.load(run.folder)):
        assert kept.history.series("accuracy") == [(0, 0.5), (1, 0.5)]
        assert notes_on(group_runs([kept]), "accuracy") == [
            (
                f"{run.id}: accuracy is NaN or infinite at site-1 (2 rounds), and not reported at site-3 (2 rounds); "
                "means are over the others"
            )
        ]
        assert kept.plot(tmp_path / "gaps.png").exists()
        assert kept.summary()["metrics"]["accuracy"] == 0.5


class OneOfSeveral(ReportsAndAdds):
    """The same reports from another class."""


@pytest.mark.parametrize(("change", "is_same"), [({}, True), ({"rounds": 3}, False), ({"part": OneOfSeveral}, False)])
def test_the_digest_tells_jobs_of_one_name_apart(tmp_path: Path, change: dict[str, object], is_same: bool) -> None:
    made: dict[str, object] = {"part": ReportsAndAdds, "rounds": 2, **change}
    other = averaging(made.pop("part"), **made, model={"w": [1.0]})  # type: ignore[arg-type]
    digests = [
        simulate(job, 3, home=tmp_path, seed=seed).config["job_digest"]
        for seed, job in enumerate((averaging(ReportsAndAdds, rounds=2, model={"w": [0.0]}), other))
    ]
    assert (digests[0] == digests[1]) is is_same
