"""One MLflow run, written by a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

from hansa.errors import MissingExtra

_MOST_PER_REQUEST = 1000
"""MLflow takes no more metrics at once."""


class Point(NamedTuple):
    """One value of a metric."""

    name: str
    value: float
    time_ms: int
    step: int


@dataclass(frozen=True)
class TrackedRun:
    """What MLflow is told of a run when it begins.

    Attributes:
        uri: The address of the tracking server, or of a folder.
        experiment: The experiment, made if need be.
        name: The run's name.
        params: Its parameters.
    """

    uri: str
    experiment: str
    name: str
    params: Mapping[str, str]


class MLflowSender:
    """Sends a run to MLflow, in the order of the calls; no call but `close` waits.

    The first failure is told, once, and ends the sending.

    Args:
        run: The run; it begins at once.
        warn: Told in one line what failed; called by the thread, or by `close`.
    """

    def __init__(self, run: TrackedRun, *, warn: Callable[[str], None]) -> None:
        self._run = run
        self._warn = warn
        self._todo: SimpleQueue[Sequence[Point] | str] = SimpleQueue()  # points, or the run's last status
        self._told = threading.Lock()  # taken by who tells of a failure, and never given back
        self._thread = threading.Thread(target=self._work, name="hansa-mlflow", daemon=True)
        self._thread.start()

    def send(self, points: Sequence[Point]) -> None:
        """Send points soon."""
        self._todo.put(points)

    def close(self, status: str, *, wait_s: float) -> None:
        """End the run.

        Args:
            status: MLflow's word for how it ended: FINISHED, FAILED or KILLED.
            wait_s: How long to wait for what is under way, in seconds; then the thread is left behind.
        """
        self._todo.put(status)
        self._thread.join(wait_s)
        if self._thread.is_alive():
            self._tell(f"does not answer; after {wait_s:g} s what is not sent yet is left out")

    def _work(self) -> None:
        mlflow = check_installed()
        try:
            self._send_all(mlflow)
        except (mlflow.exceptions.MlflowException, OSError, ValueError) as error:
            first = str(error).strip().partition("\n")[0]
            self._tell(f"{first or type(error).__name__}; no more is sent there")

    def _send_all(self, mlflow: Any) -> None:  # Any: a module that may be missing
        client = mlflow.MlflowClient(tracking_uri=self._run.uri)
        run_id = self._begin(client, mlflow)
        while not isinstance(points := self._todo.get(), str):
            for start in range(0, len(points), _MOST_PER_REQUEST):
                batch = [mlflow.entities.Metric(*point) for point in points[start : start + _MOST_PER_REQUEST]]
                client.log_batch(run_id, metrics=batch)
        client.set_terminated(run_id, status=points)

    def _begin(self, client: Any, mlflow: Any) -> str:  # Any: as above
        experiment = client.get_experiment_by_name(self._run.experiment)
        if experiment is None:
            experiment_id = client.create_experiment(self._run.experiment)
        else:
            experiment_id = experiment.experiment_id
        run_id = str(client.create_run(experiment_id, run_name=self._run.name).info.run_id)
        client.log_batch(run_id, params=[mlflow.entities.Param(*item) for item in self._run.params.items()])
        return run_id

    def _tell(self, text: str) -> None:
        if self._told.acquire(blocking=False):
            self._warn(text)


def check_installed() -> Any:  # Any: a module that may be missing
    """MLflow, which tells its makers nothing from here, and which may write to a folder.

    Raises:
        MissingExtra: It is not installed.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # Newer versions refuse folders unless told to take them; without one, mlflow-skinny could only write to a server.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    try:
        import mlflow.entities
        import mlflow.exceptions
    except ImportError:
        raise MissingExtra("MLflowReceiver", extra="mlflow") from None
    return mlflow
