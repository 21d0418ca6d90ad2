"""`AsyncRemoteRun`: a job on a federation, followed over a connection that may break."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.admin.job_mirror import JobMirror
from hansa.admin.link import AdminLink
from hansa.admin.results import folder_for, unpacked
from hansa.errors import ConfigError, HansaError, RunAborted, RunError
from hansa.jobs.life import JobState
from hansa.jobs.store import JobRecord
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Problem, Run, RunStatus


@dataclass(frozen=True)
class Patience:
    """How a follower bears a connection that breaks.

    Attributes:
        first_s: The wait before the first try to come back; it doubles from try to try, with jitter.
        longest_s: The longest wait.
        give_up_s: Without a word of the server for so long, the follower gives up.
    """

    first_s: float = 0.2
    longest_s: float = 5.0
    give_up_s: float = 300.0


class AsyncRemoteRun:
    """A job on a federation. Made by a session; all of it on one event loop.

    Args:
        link: The connection.
        record: The job as it stood when this was made.
        home: The folder that keeps runs; `$HANSA_HOME/runs` or `./runs` if None.
        patience: How to bear a connection that breaks.
        on_trouble: Called with a line when the connection breaks, and with None when it is back.
    """

    def __init__(
        self,
        link: AdminLink,
        record: JobRecord,
        *,
        home: str | os.PathLike[str] | None = None,
        patience: Patience | None = None,
        on_trouble: Callable[[str | None], None] = lambda line: None,
    ) -> None:
        self.id = record.id
        self.on_trouble = on_trouble
        self.begins_with: int | None = None
        """The round that it begins with, where `resubmit` has made it; None: at the beginning."""
        self._link = link
        self._home = home
        self._patience = patience or Patience()
        self._mirror = JobMirror(record)
        self._feed: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._seen_state = False
        self._run: Run | None = None

    # -- how it stands -----------------------------------------------------------------------------------------

    @property
    def record(self) -> JobRecord:
        """The job as the server has told it last; newer where somebody follows or waits."""
        return self._mirror.record

    @property
    def state(self) -> JobState:
        """How the job stands, by `record`."""
        return self.record.state

    @property
    def status(self) -> RunStatus:
        """The same in the words of a run: RUNNING until it is over."""
        return self._mirror.status

    @property
    def cause(self) -> str | None:
        """Why it stands so: what it waits for, or what went wrong."""
        return self.record.reason

    @property
    def history(self) -> RunHistory:
        """Rounds, sites and metrics as far as they have come; complete once the job is over and was followed."""
        return self._mirror.history

    @property
    def problems(self) -> list[Problem]:
        """What user code raised, as far as it has come."""
        return self._mirror.problems

    @property
    def run(self) -> Run | None:
        """The downloaded record; None before `download`."""
        return self._run

    def summary(self) -> dict[str, Any]:  # Any: JSON
        """The job in a few plain values, for tables and `--json`."""
        return {**self._mirror.summary(), "folder": None if self._run is None else str(self._run.folder)}

    # -- following ---------------------------------------------------------------------------------------------

    async def caught_up(self) -> None:
        """Wait until everything that the server knows of the job has come.

        Raises:
            HansaError: The server cannot be reached, or refuses.
        """
        while not self._seen_state:
            await self._changed()

    async def follow(self) -> AsyncIterator[JobRecord]:
        """The job each time that something is new, be it its state, a round or a problem; ends with the job.

        Raises:
            HansaError: The server refuses, or was out of reach for too long.
        """
        shown = -1
        while True:
            if self._seen_state and self._mirror.version != shown:
                shown = self._mirror.version
                yield self.record  # whoever takes it may take its time: look again before waiting
            elif self._mirror.is_over and self._seen_state:
                return
            else:
                await self._changed()

    async def wait(self, timeout: float | None = None) -> None:
        """Wait until the job is over.

        Args:
            timeout: At most so many seconds; None: as long as it takes.

        Raises:
            RunError: It failed; `error.folder` is where its record was downloaded to, where it has one.
            RunAborted: Somebody stopped it.
            TimeoutError: It is not over yet; it goes on.
        """
        try:
            async with asyncio.timeout(timeout):
                async for _ in self.follow():
                    pass
        except TimeoutError:
            raise TimeoutError(f"job {self.id} is {self.state.value} after {timeout:g} s; it goes on") from None
        if self.state is JobState.COMPLETED:
            return
        kind = RunAborted if self.state is JobState.ABORTED else RunError
        error = kind(self.cause or f"job {self.id} is {self.state.value}")
        try:
            error.folder = str((await self.download()).folder)
        except HansaError:  # it may have none, or the server is gone; the cause is what matters
            error.folder = None
        raise error

    async def _changed(self) -> None:
        """Wait for something new; whoever waits first starts the feed."""
        if self._feed is None or self._feed.done():
            self._feed = asyncio.create_task(self._fed())
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait((news, self._feed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._feed.done():
            self._feed.result()  # its error, if it had one

    async def _fed(self) -> None:
        """Take in what the server sends, from one connection after the other, until the job is over."""
        loop = asyncio.get_running_loop()
        pause, heard_at, cut = self._patience.first_s, loop.time(), False
        while not (self._mirror.is_over and self._seen_state):
            try:
                async for message in self._link.watch("follow", {"job": self.id, "offsets": self._mirror.offsets}):
                    self._take(message)
                    if cut:
                        self.on_trouble(None)
                    pause, heard_at, cut = self._patience.first_s, loop.time(), False
                trouble = "the server has ended the stream"
            except ConfigError:
                raise  # a refusal: it would be the same again
            except HansaError as error:
                if loop.time() - heard_at > self._patience.give_up_s:
                    raise
                trouble = str(error)
            if self._mirror.is_over and self._seen_state:
                return
            if not cut:
                self.on_trouble(trouble)
            cut = True
            await _pause(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, self._patience.longest_s)

    def _take(self, message: dict[str, Any]) -> None:  # Any: JSON
        try:
            self._mirror.take(message)
        except (KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"the server says what this version does not understand: {error!r}") from error
        self._seen_state |= message.get("k") == "state"
        self._news.set()
        self._news = asyncio.Event()

    # -- acting ------------------------------------------------------------------------------------------------

    async def refresh(self) -> JobRecord:
        """Ask how the job stands."""
        answer = await self._link.call("job", {"job": self.id})
        self._mirror.record = JobRecord.from_dict(answer["job"])
        return self.record

    async def abort(self, reason: str = "") -> None:
        """Have the job stopped; returns when the server has taken note.

        Raises:
            ConfigError: It is over already.
        """
        await self._link.call("abort", {"job": self.id, "reason": reason})

    async def pause(self) -> None:
        """Have the job rest: its processes end, its progress is kept, and its sites are free for other jobs.

        Raises:
            ConfigError: It does not run.
        """
        await self._link.call("pause", {"job": self.id})

    async def resume(self) -> None:
        """Let the job go on after a `pause`, from its last commit; it waits for its turn as a new one does.

        Raises:
            ConfigError: It is not paused.
        """
        await self._link.call("resume", {"job": self.id})

    async def logs(self, site: str = "server", *, lines: int = 200) -> str:
        """The end of a participant's log of the job.

        Args:
            site: Whose: a site, or `server`.
            lines: How many lines.

        Raises:
            ConfigError: There is none, or the site does not answer.
        """
        answer = await self._link.call("logs", {"job": self.id, "site": site, "lines": lines})
        return str(answer["text"])

    async def download(self, folder: str | os.PathLike[str] | None = None) -> Run:
        """Fetch the record of the run: history, problems, log, model.

        Args:
            folder: Where to; a folder named by the job's id where runs are kept, if None.

        Raises:
            ConfigError: There is none yet, or the folder holds something else.
        """
        from hansa.wire.frames import BlobRef

        await self.refresh()
        target = folder_for(self.record, self._home) if folder is None else Path(folder).absolute()
        blob = (await self._link.call("results", {"job": self.id}))["blob"]
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as temporary:
                archive = Path(temporary, "results.zip")
                ref = BlobRef(blob["name"], blob["size"], blob["digest"])
                await self._link.download(self.id, ref, path=archive)
                await asyncio.to_thread(unpacked, archive, self.record, target)
        except OSError as error:
            raise ConfigError(f"cannot be written: {error.strerror}", file=str(target)) from None
        self._run = await asyncio.to_thread(Run.load, target)
        return self._run

    async def close(self) -> None:
        """Follow no more; the job goes on."""
        if self._feed is not None:
            self._feed.cancel()
            await asyncio.wait((self._feed,))
            self._feed = None


async def _pause(seconds: float) -> None:
    """Let time pass between two tries."""
    done = asyncio.get_running_loop().create_future()
    handle = asyncio.get_running_loop().call_later(seconds, done.set_result, None)
    try:
        await done
    finally:
        handle.cancel()
