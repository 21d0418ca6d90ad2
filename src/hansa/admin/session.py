"""`hansa.connect`: an admin's session with a federation, for programs and for the `hansa` command."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hansa.admin.async_run import AsyncRemoteRun, Patience
from hansa.admin.link import AdminLink, open_link
from hansa.admin.portal import Portal
from hansa.admin.remote_run import RemoteRun
from hansa.admin.results import packed
from hansa.jobs.incident import Incident
from hansa.jobs.job import Job
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord

if TYPE_CHECKING:
    from hansa.provision.kit import Kit

KitFolder = str | os.PathLike[str]


def connect(kit: KitFolder, *, home: str | os.PathLike[str] | None = None) -> Session:
    """Open a session with a federation. The connection is made by the first call.

    Args:
        kit: The folder of an admin's startup kit.
        home: The folder that keeps downloaded runs; `$HANSA_HOME/runs` or `./runs` if None.

    Raises:
        ConfigError: It is no admin's kit, or something is wrong with it.
    """
    loaded = _load(kit)
    return Session(lambda: open_link(loaded), home=home)


def connect_async(kit: KitFolder, *, home: str | os.PathLike[str] | None = None) -> AsyncSession:
    """The same for programs with an event loop of their own; to be called on it."""
    return AsyncSession(open_link(_load(kit)), home=home)


def _load(kit: KitFolder) -> Kit:
    from hansa.provision.identity import Role
    from hansa.provision.kit import Kit

    return Kit.load(Path(kit), Role.ADMIN)


class AsyncSession:
    """An admin's session; all of it on one event loop.

    Args:
        link: The connection.
        home: The folder that keeps downloaded runs.
        patience: How to bear a connection that breaks while a job is followed.
    """

    def __init__(
        self,
        link: AdminLink,
        *,
        home: str | os.PathLike[str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._link = link
        self._home = home
        self._patience = patience
        self._runs: list[AsyncRemoteRun] = []

    async def submit(self, job: Job | str | os.PathLike[str]) -> AsyncRemoteRun:
        """Bring a job to the federation.

        Args:
            job: The job, or the folder of one.

        Returns:
            The job there; it starts when its turn comes and its sites have room.

        Raises:
            ConfigError: The job has a mistake, here or by the server's rules; nothing is left there.
            HansaError: The server cannot be reached, and why.
        """
        with ExitStack() as cleanup:
            ref, archive = await asyncio.to_thread(cleanup.enter_context, packed(job))
            await self._link.upload("", ref, path=archive)
            answer = await self._link.call("submit", {"blob": ref.name})
        return await self.run(answer["job"])

    async def resubmit(self, job: str, *, from_round: int | None = None) -> AsyncRemoteRun:
        """Submit a job of the federation that is over once more, as a new one.

        The new job begins with what the server's components and workflows knew before that round of the old one; its
        sites begin anew. `RemoteRun.begins_with` says with which round.

        Args:
            job: Its id, the beginning of it, its number, its name, or `last`.
            from_round: The round that the new job does first; None: the one after the last that was kept, or the
                first one where none was.

        Raises:
            ConfigError: The job is not over, or nothing is kept from which that round could begin.
            HansaError: What was kept is damaged, or the server cannot be reached.
        """
        answer = await self._link.call("resubmit", {"job": job, "from_round": from_round})
        run = await self.run(answer["job"])
        run.begins_with = answer["from_round"]
        return run

    async def remove(self, job: str) -> str:
        """Delete a job that is over: its folder and results at the server, and what its connected sites have of it.

        Returns:
            Its id.

        Raises:
            ConfigError: There is none, or several, or it is not over.
        """
        return str((await self._link.call("remove", {"job": job}))["job"])

    async def jobs(self) -> list[JobRecord]:
        """All jobs of the federation, oldest first."""
        answer = await self._link.call("jobs", {})
        return [JobRecord.from_dict(each) for each in answer["jobs"]]

    async def run(self, job: str) -> AsyncRemoteRun:
        """A job that was submitted before.

        Args:
            job: Its id, the beginning of it, its number, its name, or `last`.

        Raises:
            ConfigError: There is none, or several.
        """
        answer = await self._link.call("job", {"job": job})
        record = JobRecord.from_dict(answer["job"])
        made = AsyncRemoteRun(self._link, record, home=self._home, patience=self._patience)
        self._runs.append(made)
        return made

    async def sites(self) -> list[SiteView]:
        """The sites that the server knows, and how they stand."""
        answer = await self._link.call("sites", {})
        return [SiteView.from_dict(each) for each in answer["sites"]]

    async def incidents(self, *, since: int = 0, job: str | None = None) -> list[Incident]:
        """What went wrong on the federation, oldest first.

        Args:
            since: Only those after this number.
            job: Only those about this job.

        Raises:
            ConfigError: There is no such job; the server keeps no journal.
        """
        answer = await self._link.call("incidents", {"since": since, "job": job})
        return [Incident.from_dict(each) for each in answer["incidents"]]

    async def close(self) -> None:
        """Hang up; jobs go on."""
        runs, self._runs = self._runs, []
        for run in runs:
            await run.close()
        await self._link.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


class Session:
    """An admin's session, for programs without an event loop; `close` it, or use it in a `with` block.

    Args:
        open_link: Makes the connection; called on the session's own event loop.
        home: The folder that keeps downloaded runs.
        patience: How to bear a connection that breaks while a job is followed.
    """

    def __init__(
        self,
        open_link: Callable[[], AdminLink],
        *,
        home: str | os.PathLike[str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        async def opened() -> AsyncSession:
            return AsyncSession(open_link(), home=home, patience=patience)

        with ExitStack() as cleanup:
            self._portal = Portal()
            cleanup.callback(self._portal.close)
            self._session = self._portal.call(opened())
            cleanup.pop_all()
        atexit.register(self.close)  # a program may end without a word

    def submit(self, job: Job | str | os.PathLike[str]) -> RemoteRun:
        """Bring a job to the federation; see `AsyncSession.submit`."""
        return self._wrapped(self._session.submit(job))

    def resubmit(self, job: str, *, from_round: int | None = None) -> RemoteRun:
        """Submit a job that is over once more; see `AsyncSession.resubmit`."""
        return self._wrapped(self._session.resubmit(job, from_round=from_round))

    def remove(self, job: str) -> str:
        """Delete a job that is over; see `AsyncSession.remove`."""
        return self._portal.call(self._session.remove(job))

    def jobs(self) -> list[JobRecord]:
        """All jobs of the federation, oldest first."""
        return self._portal.call(self._session.jobs())

    def run(self, job: str) -> RemoteRun:
        """A job that was submitted before, by its id, the beginning of it, its number, its name, or `last`."""
        return self._wrapped(self._session.run(job))

    def sites(self) -> list[SiteView]:
        """The sites that the server knows, and how they stand."""
        return self._portal.call(self._session.sites())

    def incidents(self, *, since: int = 0, job: str | None = None) -> list[Incident]:
        """What went wrong on the federation, oldest first; see `AsyncSession.incidents`."""
        return self._portal.call(self._session.incidents(since=since, job=job))

    def _wrapped(self, work: Any) -> RemoteRun:  # Any: a coroutine of an AsyncRemoteRun
        return RemoteRun(self._portal.call(work), self._portal)

    def close(self) -> None:
        """Hang up; jobs go on. Again does nothing."""
        atexit.unregister(self.close)
        if not self._portal.is_closed:
            self._portal.call(self._session.close())
            self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
