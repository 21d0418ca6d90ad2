"""What is kept of a run while it runs: its folder with record, history, problems and model."""

from __future__ import annotations

import json
import logging
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

import hansa
from hansa import tensors
from hansa.apis.app_constant import AppConstants
from hansa.apis.engine import RoundKey
from hansa.errors import RunError
from hansa.jobs.job import Job
from hansa.jobs.job_digest import digest
from hansa.runtime import user_code
from hansa.runtime.history import RunHistory
from hansa.runtime.later import LaterWriter
from hansa.runtime.outbox import Sent
from hansa.runtime.participants import SERVER
from hansa.runtime.run import Problem, Run, RunStatus, Timings
from hansa.runtime.run_folder import HISTORY, MODEL, PROBLEMS, REPORT, STATISTICS, RunFolder, read_lines
from hansa.runtime.server_side import ServerSide
from hansa.runtime.workflow_progress import Progress

_logger = logging.getLogger("hansa.run")


class RunRecord:
    """Writes a run down; any thread.

    Args:
        folder: Where.
        config: What is run.
        clock: Seconds that deadlines go by.
        most_rounds: How many rounds of its history stay in memory; None: all, as whoever called may read them.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: dict[str, Any],  # Any: JSON
        *,
        clock: Callable[[], float],
        most_rounds: int | None = None,
    ) -> None:
        self._folder = folder
        self.writer = LaterWriter(self._write_failed)
        self.on_panic: Callable[[str], None] = lambda reason: None
        self.on_line: Callable[[], None] = lambda: None
        """Called when lines of the history have reached the folder."""
        history = RunHistory(self._keep_line, now=time.perf_counter, clock=clock, most_rounds=most_rounds)
        self.run = Run(folder.path.name, folder.path, RunStatus.RUNNING, history, Timings(0.0, 0.0, 0.0), config=config)

    def resume(self, num_lines: int) -> None:
        """Go on with the history of a run that was interrupted; what it had after `num_lines` lines comes again."""
        self._folder.mend(HISTORY)
        history = self.run.history
        for line in read_lines(self._folder.path / HISTORY):
            history.add_line(line)
        if history.num_lines < num_lines:
            _logger.warning("%d lines of the history were lost with the machine", num_lines - history.num_lines)
        elif history.num_lines > num_lines:
            line = {"resumed": {"lines": num_lines}}
            history.add_line(line)
            self._folder.append(HISTORY, line)
        history.forget_lines()

    def flush(self) -> None:
        """Bring the history to disk."""
        self._folder.flush()

    def write(self, sent: Mapping[str, Sent]) -> None:
        """Write the run's record as it stands.

        Args:
            sent: What has left the server and each site.
        """
        run = self.run
        self._folder.write_record(
            {
                "status": run.status.value,
                "cause": run.cause,
                "config": run.config,
                "timings": run.timings.as_dict(),
                "outboxes": {name: vars(each) for name, each in sent.items()},
            }
        )

    def failed(self, mishap: user_code.Mishap, failure: user_code.Failure) -> None:
        """User code raised: keep it with the run and log it."""
        problem = Problem(mishap.site, mishap.where, failure.cause)
        self.run.problems.append(problem)
        with suppress(OSError):  # a full disk; it must not end the thread that has to report it
            self._folder.append(PROBLEMS, vars(problem))
        _logger.error("%s\n%s", problem, failure.detail)

    def end(self, server: ServerSide) -> None:
        """The workflows and END_RUN are over: what is left of the history, and the model, go into the folder."""
        self.run.history.finish()
        self.writer.finish_writes()
        kept = user_code.call(self._keep_model, server)  # whatever a workflow calls a model, the run is over and well
        if isinstance(kept, user_code.Failure):
            self.failed(user_code.Mishap(SERVER, "global model"), kept)
        kept = user_code.call(self._keep_statistics, server)
        if isinstance(kept, user_code.Failure):
            self.failed(user_code.Mishap(SERVER, "statistics"), kept)

    def _keep_statistics(self, server: ServerSide) -> None:
        with server.engine.new_context() as fl_ctx:
            statistics = fl_ctx.get_prop(RoundKey.STATISTICS)
        if isinstance(statistics, dict):
            from hansa.runtime.statistics_report import write_report

            text = json.dumps(statistics, ensure_ascii=False, allow_nan=False, indent=1)
            (self._folder.path / STATISTICS).write_text(text + "\n", encoding="utf-8")
            write_report(statistics, self._folder.path / REPORT, title=str(self.run.config.get("job", "")))

    def _keep_model(self, server: ServerSide) -> None:
        try:
            self.keep_weights(_global_model(server))
        except OSError as error:
            server.outcome.failures.append(RunError(f"cannot write the global model: {error.strerror}"))
            raise

    def keep_weights(self, model: dict[str, np.ndarray[Any, Any]]) -> None:  # Any: tensors of every dtype
        """Write the global model, if there is one.

        Raises:
            OSError: The disk does not take it.
        """
        self.run._model = model
        if model:
            tensors.write(self._folder.path / MODEL, model, on_refusal=self._folder.on_refusal)
            self._folder.on_taken()

    def _keep_line(self, line: dict[str, Any]) -> None:  # Any: JSON
        self._folder.append_later(HISTORY, line)
        self.writer.write_later("the history", self._flush)

    def _flush(self) -> None:
        self._folder.flush()
        self.on_line()

    def _write_failed(self, what: str, failure: user_code.Failure) -> None:
        self.failed(user_code.Mishap(SERVER, f"writing {what}"), failure)
        self.on_panic(f"cannot write {what}: {failure.cause}")


def _global_model(server: ServerSide) -> dict[str, np.ndarray[Any, Any]]:  # Any: tensors of every dtype
    with server.engine.new_context() as fl_ctx:
        return _weights_in(fl_ctx.get_prop(AppConstants.GLOBAL_MODEL))


def weights_of(progress: Progress) -> dict[str, np.ndarray[Any, Any]]:  # Any: as above
    """The global model of a commit, by name; empty if there is none."""
    key = AppConstants.GLOBAL_MODEL
    return _weights_in(progress.private.get(key, progress.public.get(key)))


def _weights_in(model: object) -> dict[str, np.ndarray[Any, Any]]:  # Any: as above
    weights = model.get("weights") if isinstance(model, dict) else None
    if not isinstance(weights, dict):
        return {}
    return {str(name): np.asarray(value) for name, value in weights.items()}


def config_of(job: Job, names: Sequence[str], *, seed: int, workers: int, threads: int) -> dict[str, Any]:  # Any: JSON
    """What the record says of what is run."""
    return {
        "job": job.name,
        "job_digest": digest(job),
        "sites": list(names),
        "seed": seed,
        "workers": workers,
        "threads_per_site": threads,
    }


def versions() -> dict[str, str]:
    """What the record says of the software."""
    return {
        "hansa": hansa.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": sys.platform,
    }


def verdict(server: ServerSide, history: RunHistory) -> tuple[RunStatus, str | None]:
    """How a run ended, and why, once its workflows are over."""
    outcome = server.outcome
    if outcome.failures:
        return RunStatus.FAILED, str(outcome.failures[0])
    if outcome.stopped_because is not None:
        return RunStatus.ABORTED, outcome.stopped_because
    early = history.early_end
    return RunStatus.COMPLETED, None if early is None else f"ended after round {early[0]}: {early[1]}"
