"""`RemoteRun`: a job on a federation, with the face of a `Run`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.admin.async_run import AsyncRemoteRun
from hansa.admin.portal import Portal
from hansa.errors import RunError
from hansa.jobs.life import JobState
from hansa.jobs.store import JobRecord
from hansa.runtime.cross_site import CrossSite, cross_site
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Problem, Run, RunStatus, Timings

if TYPE_CHECKING:
    import numpy as np


class RemoteRun:
    """A job on a federation: what `Run` has, and what can be done while it runs.

    While the job runs, `history` and `problems` grow; `model`, `config`, `timings` and figures come with its end, and
    fetch the run's record where that is not here yet.

    Args:
        run: The job.
        portal: Where its coroutines run.
    """

    def __init__(self, run: AsyncRemoteRun, portal: Portal) -> None:
        self._run = run
        self._portal = portal

    # -- how it stands -----------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The job's id on its server."""
        return self._run.id

    @property
    def begins_with(self) -> int | None:
        """The round that it begins with, of a run that `Session.resubmit` gave; None: at the beginning."""
        return self._run.begins_with

    @property
    def record(self) -> JobRecord:
        """The job as the server has it now."""
        if not self._run.state.is_over:
            self._portal.call(self._run.refresh())
        return self._run.record

    @property
    def state(self) -> JobState:
        """How the job stands now."""
        return self.record.state

    @property
    def status(self) -> RunStatus:
        """The same in the words of a run: RUNNING until it is over."""
        _ = self.record
        return self._run.status

    @property
    def cause(self) -> str | None:
        """Why it stands so: what it waits for, or what went wrong."""
        return self.record.reason

    @property
    def history(self) -> RunHistory:
        """Rounds, sites and metrics; grows while the job runs."""
        self._portal.call(self._run.caught_up())
        return self._run.history

    @property
    def problems(self) -> list[Problem]:
        """What user code raised, in order; grows while the job runs."""
        self._portal.call(self._run.caught_up())
        return self._run.problems

    # -- what a run has once it is over ------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where the record of the run lies on this machine."""
        return self._downloaded().folder

    @property
    def config(self) -> dict[str, Any]:  # Any: JSON
        """What was run: job, sites, seed, versions."""
        return self._downloaded().config

    @property
    def timings(self) -> Timings:
        """Where the time went."""
        return self._downloaded().timings

    @property
    def model(self) -> dict[str, np.ndarray[Any, Any]]:  # Any: tensors of every dtype
        """The global model: name to array; empty where the job has none."""
        return self._downloaded().model

    @property
    def model_digest(self) -> str | None:
        """SHA-256 of the global model; see `Run.model_digest`."""
        return self._downloaded().model_digest

    def state_dict(self) -> dict[str, Any]:  # Any: torch tensors
        """The global model as torch tensors; see `Run.state_dict`."""
        return self._downloaded().state_dict()

    @property
    def statistics(self) -> dict[str, Any]:  # Any: JSON
        """The federated statistics; see `Run.statistics`."""
        return self._downloaded().statistics

    def report(self, path: str | os.PathLike[str] | None = None) -> Path:
        """Show the federated statistics; see `Run.report`."""
        return self._downloaded().report(path)

    def plot(self, path: str | os.PathLike[str] | None = None, *, metric: str | None = None) -> Path:
        """Draw the metrics per round; see `Run.plot`."""
        return self._downloaded().plot(path, metric=metric)

    def cross_site(self, metric: str | None = None) -> CrossSite:
        """Every model on every site's data; see `Run.cross_site`."""
        return cross_site(self.history.evaluations, metric)

    def plot_cross_site(
        self, path: str | os.PathLike[str] | None = None, *, metric: str | None = None, lower: bool | None = None
    ) -> Path:
        """Draw the same; see `Run.plot_cross_site`."""
        return self._downloaded().plot_cross_site(path, metric=metric, lower=lower)

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """The job in a few plain values, for tables and `--json`; a run's own once it was downloaded."""
        self._portal.call(self._run.caught_up())
        found = self._run.summary()
        return found if self._run.run is None else {**found, **self._run.run.summary(), "id": self.id}

    def _downloaded(self) -> Run:
        if self._run.run is not None:
            return self._run.run
        if not self.state.is_over:
            raise RunError(f"job {self.id} is {self._run.state.value}; its record comes with its end, see wait()")
        return self.download()

    # -- while it runs -----------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> RemoteRun:
        """Wait until the job is over.

        Args:
            timeout: At most so many seconds; None: as long as it takes.

        Returns:
            This run.

        Raises:
            RunError: It failed; `error.folder` is where its record was downloaded to, where it has one.
            RunAborted: Somebody stopped it.
            TimeoutError: It is not over yet; it goes on.
        """
        self._portal.call(self._run.wait(timeout))
        return self

    def follow(self) -> Iterator[JobRecord]:
        """The job each time that something is new, be it its state, a round or a problem; ends with the job.

        Raises:
            HansaError: The server refuses, or was out of reach for too long.
        """
        return self._portal.iterate(self._run.follow())

    def abort(self, reason: str = "") -> None:
        """Have the job stopped; returns when the server has taken note.

        Raises:
            ConfigError: It is over already.
        """
        self._portal.call(self._run.abort(reason))

    def pause(self) -> None:
        """Have the job rest; see `AsyncRun.pause`.

        Raises:
            ConfigError: It does not run.
        """
        self._portal.call(self._run.pause())

    def resume(self) -> None:
        """Let the job go on after a `pause`.

        Raises:
            ConfigError: It is not paused.
        """
        self._portal.call(self._run.resume())

    def logs(self, site: str = "server", *, lines: int = 200) -> str:
        """The end of a participant's log of the job.

        Args:
            site: Whose: a site, or `server`.
            lines: How many lines.

        Raises:
            ConfigError: There is none, or the site does not answer.
        """
        return self._portal.call(self._run.logs(site, lines=lines))

    def download(self, folder: str | os.PathLike[str] | None = None) -> Run:
        """Fetch the record of the run: history, problems, log, model.

        Args:
            folder: Where to; a folder named by the job's id where runs are kept, if None.

        Raises:
            ConfigError: There is none yet, or the folder holds something else.
        """
        return self._portal.call(self._run.download(folder))

    def heed(self, on_trouble: Callable[[str | None], None]) -> None:
        """Be told in a line when the connection breaks while the job is followed, and with None when it is back.

        Args:
            on_trouble: Called on the session's own thread.
        """
        self._run.on_trouble = on_trouble

    def __repr__(self) -> str:
        return f"<RemoteRun {self.id} {self._run.state.value}>"
