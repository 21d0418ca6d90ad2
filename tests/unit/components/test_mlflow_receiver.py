"""What MLflow keeps of a run, and what a tracking server that fails costs."""

from __future__ import annotations

import builtins
import json
import logging
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hansa.apis.analytix import AnalyticsDataType
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.signal import Signal
from hansa.apis.workspace import Workspace
from hansa.components.widgets.convert_to_fed_event import ConvertToFedEvent
from hansa.components.widgets.fed_event import ClientFedEventRunner, ServerFedEventRunner
from hansa.components.widgets.mlflow_receiver import MLflowReceiver
from hansa.components.widgets.streaming import AnalyticsSender, create_analytic_dxo
from hansa.errors import MissingExtra
from hansa.runtime.history import RunHistory
from sides import Side

LOCAL = AppEventType.ANALYTIC_EVENT_TYPE
FACTS = {"run": "20261122-153045-digits", "job": "digits", "sites": ["site-1", "site-2"], "seed": 3, "workers": 0}


class Server(Side):
    """A server as the runtime's: with a workspace, a history, and facts about the run."""

    def __init__(self, handlers: list[Any], root: Path) -> None:
        super().__init__("digits", handlers)
        self.workspace = Workspace(str(root), "server", "config")
        self.history = RunHistory(now=lambda: 0.0)
        self.facts = FACTS

    def get_workspace(self) -> Workspace:
        return self.workspace


class Federation:
    """Two sites that report numbers, in rounds."""

    def __init__(self, receiver: MLflowReceiver, root: Path) -> None:
        self.senders = {name: AnalyticsSender() for name in FACTS["sites"]}
        self.server = Server([receiver, ServerFedEventRunner()], root)
        sites = [
            Side(name, [sender, ConvertToFedEvent([LOCAL]), ClientFedEventRunner()])
            for name, sender in self.senders.items()
        ]
        self.server.others = list(sites)
        for site in sites:
            site.others = [self.server]
        for side in (self.server, *sites):
            side.fire(EventType.START_RUN)

    def play(self, rounds: int, per_round: int = 1) -> None:
        """In round r site-1 reports r and site-2 reports r + 1, as `loss`, with their results 0.5 as `acc`."""
        for number in range(rounds):
            self.server.history.round_opened(number, list(self.senders))
            self.fire(AppEventType.ROUND_STARTED, number)
            for shift, (site, sender) in enumerate(self.senders.items()):
                for _ in range(per_round):
                    sender.add_scalar("loss", float(number + shift))
                    self.server.history.scalar(number, site, name="loss", value=float(number + shift))
                self.server.history.scalar(number, site, name="acc", value=0.5)
            self.fire(AppEventType.ROUND_DONE, number)

    def fire(self, event: str, number: int) -> None:
        self.server.fire(event, **{AppConstants.CURRENT_ROUND: number})

    def end(self) -> None:
        self.server.fire(EventType.END_RUN)


def kept(uri: str, experiment: str = "digits") -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """The one run of an experiment, and the values of its metrics by step."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    [run] = client.search_runs([found.experiment_id])
    metrics = {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in run.data.metrics
    }
    return run, metrics


def test_one_run_with_the_numbers_of_all_and_what_was_run(tmp_path: Path) -> None:
    federation = Federation(MLflowReceiver(), tmp_path)
    federation.play(2)
    federation.end()
    run, metrics = kept((tmp_path / "run_1" / "mlruns").as_uri())
    assert run.info.run_name == FACTS["run"]
    assert run.info.status == "FINISHED"
    assert run.data.params == {"job": "digits", "run": FACTS["run"], "seed": "3", "sites": "2"}
    assert metrics == {
        "loss": [(0, 0.5), (1, 1.5)],  # nobody has counted, so the plain mean of both
        "site-1/loss": [(0, 0.0), (1, 1.0)],
        "site-2/loss": [(0, 1.0), (1, 2.0)],
        "acc": [(0, 0.5), (1, 0.5)],
        "site-1/acc": [(0, 0.5), (1, 0.5)],
        "site-2/acc": [(0, 0.5), (1, 0.5)],
    }


def test_names_are_the_users_and_steps_are_the_records(tmp_path: Path) -> None:
    uri = (tmp_path / "elsewhere").as_uri()
    federation = Federation(MLflowReceiver(uri, "mine", run_name="first"), tmp_path)
    federation.fire(AppEventType.ROUND_STARTED, 5)
    federation.senders["site-1"].add_scalar("loss (train)", 1.0, global_step=70)
    federation.senders["site-1"].add_scalars("both", {"a": 1.0, "b": "no number"})
    federation.senders["site-1"].add_text("note", "passes")
    own = create_analytic_dxo("held_out", 0.9, AnalyticsDataType.SCALAR).to_shareable()
    federation.server.fire(LOCAL, **{FLContextKey.EVENT_DATA: own})
    federation.end()
    run, metrics = kept(uri, "mine")
    assert run.info.run_name == "first"
    assert metrics == {
        "site-1/loss _train_": [(70, 1.0)],
        "site-1/both/a": [(5, 1.0)],
        "held_out": [(5, 0.9)],  # the server's own is the global model's
    }


def test_the_environment_may_name_the_tracking_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = (tmp_path / "from-environment").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    federation = Federation(MLflowReceiver(), tmp_path)
    federation.end()
    assert kept(uri)[0].info.run_name == FACTS["run"]
    assert not (tmp_path / "run_1").exists()


@pytest.mark.parametrize(("event", "status"), [(EventType.FATAL_SYSTEM_ERROR, "FAILED"), (None, "KILLED")])
def test_how_the_run_ended(tmp_path: Path, event: str | None, status: str) -> None:
    federation = Federation(MLflowReceiver(), tmp_path)
    signal = Signal()
    signal.trigger("stopped")
    if event is not None:
        federation.server.fire(event, **{FLContextKey.EVENT_DATA: "broken"})
    federation.server.fire(EventType.END_RUN, **{FLContextKey.RUN_ABORT_SIGNAL: signal})
    assert kept((tmp_path / "run_1" / "mlruns").as_uri())[0].info.status == status


def test_nothing_is_told_to_mlflows_makers(tmp_path: Path) -> None:
    from mlflow.telemetry.utils import is_telemetry_disabled

    Federation(MLflowReceiver(), tmp_path).end()
    assert is_telemetry_disabled()


# For as long as the process lives: a thread that a test has left waiting would draw random pauses between its retries,
# and other tests hold the state of `random` fixed.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"

# -- a tracking server -------------------------------------------------------------------------------------------------


class Tracker(ThreadingHTTPServer):
    """Answers as an MLflow server does, keeps what it was asked, and may hang or refuse from some point on."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.open = threading.Event()
        self.open.set()
        self.refuses = ""

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def batches(self) -> list[int]:
        """How many metrics each request brought."""
        return [len(body["metrics"]) for path, body in self.asked if path == "log-batch" and body.get("metrics")]


class _Answers(BaseHTTPRequestHandler):
    server: Tracker

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        verb = self.path.partition("?")[0].rpartition("/")[2]
        self.server.open.wait(60)
        self.server.asked.append((verb, body))
        run = {"info": {"run_id": "r1", "run_uuid": "r1", "experiment_id": "7"}, "data": {}}
        answer = {"get-by-name": {"experiment": {"experiment_id": "7"}}, "create": {"run": run}}.get(verb, {})
        self.send_response(400 if verb == self.server.refuses else 200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    with Tracker() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.open.set()
        server.shutdown()
        thread.join()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name == "MLflowReceiver"]


def test_a_round_is_one_request_however_many_numbers_it_brings(
    tracker: Tracker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation(MLflowReceiver(tracker.uri), tmp_path)
    federation.play(2, per_round=100)
    federation.play(1, per_round=600)
    federation.end()
    # per round: 2 sites' losses, 2 sites' accuracies, 2 global values; MLflow takes 1000 at once
    assert tracker.batches() == [204, 204, 1000, 204]
    assert [verb for verb, _ in tracker.asked if verb != "log-batch"][-1] == "update"
    assert warnings_in(caplog) == []


def test_no_round_waits_for_a_server_that_hangs(
    tracker: Tracker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker.open.clear()
    federation = Federation(MLflowReceiver(tracker.uri, wait_s=0.05), tmp_path)
    federation.play(3)  # comes back although nothing was answered
    assert tracker.asked == []
    federation.end()
    [line] = warnings_in(caplog)
    assert "does not answer" in line
    assert tracker.uri in line


@pytest.mark.parametrize("verb", ["get-by-name", "create", "log-batch"])
def test_a_server_that_refuses_costs_one_warning(
    tracker: Tracker, tmp_path: Path, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    tracker.refuses = verb
    federation = Federation(MLflowReceiver(tracker.uri), tmp_path)
    federation.play(3)
    federation.end()
    [line] = warnings_in(caplog)
    assert "no more is sent there" in line
    assert [asked for asked, _ in tracker.asked].count(verb) == 1


def test_a_server_that_is_not_there_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation = Federation(MLflowReceiver("http://127.0.0.1:9"), tmp_path)
    federation.play(2)
    federation.end()
    assert len(warnings_in(caplog)) == 1


def test_without_mlflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("mlflow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"MLflowReceiver needs an optional package: .*hansa\[mlflow\]"):
        MLflowReceiver()
