"""The session behind FLARE's admin API: found by the paths that FLARE takes, opened by `login`."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hansa.admin.async_run import AsyncRemoteRun
from hansa.admin.flare_response import APIStatus, NotDone
from hansa.admin.link import AdminLink
from hansa.admin.portal import Portal
from hansa.admin.session import AsyncSession
from hansa.errors import ConfigError, HansaError
from hansa.jobs.job import Job
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord

if TYPE_CHECKING:
    from hansa.provision.kit import Kit

T = TypeVar("T")
_STARTUP = "startup"


def kit_folder(certificates: list[str], folders: list[str]) -> Path:
    """The admin's kit that paths lead to.

    Args:
        certificates: Files of the kit; empty texts are passed over.
        folders: Folders in the kit, looked at where no certificate is named; the same.

    Raises:
        ConfigError: They lead to none, or to several.
    """
    named = [path for path in certificates if path] or [path for path in folders if path]
    found = set()
    for path in named:
        above = Path(path).absolute().parent
        found.add(above.parent if above.name == _STARTUP else above)
    if len(found) != 1 or not (next(iter(found)) / _STARTUP).is_dir():
        where = ", ".join(sorted(map(str, found))) or "no path was given"
        raise ConfigError(
            f"an admin is who its startup kit says: name files of one kit's folder {_STARTUP}, "
            f"or an upload_dir beside it ({where})",
            key="ca_cert, client_cert, client_key",
        )
    return found.pop()


class FlareLine:
    """An admin's session for callers without an event loop.

    Args:
        kit: The folder of the admin's kit.
        open_link: Makes the connection.
    """

    def __init__(self, kit: Path, open_link: Callable[[Kit], AdminLink]) -> None:
        self._kit = kit
        self._open_link = open_link
        self._portal: Portal | None = None
        self._session: AsyncSession | None = None
        self.admin = ""
        """Who is logged in, by the kit."""

    def login(self, username: str) -> None:
        """Open the session, and see that the server answers.

        Args:
            username: Who the kit is of, or the part before the `@`.

        Raises:
            KitError: Something is wrong with the kit.
            NotDone: It is the kit of somebody else.
            HansaError: The server cannot be reached, or refuses.
        """
        from hansa.provision.identity import Role
        from hansa.provision.kit import Kit

        kit = Kit.load(self._kit, Role.ADMIN)
        if username not in (kit.identity.name, kit.identity.name.partition("@")[0]):
            raise NotDone(
                APIStatus.ERROR_AUTHENTICATION,
                f"{self._kit} is the kit of {kit.identity.name!r}, not of {username!r}: log in as who the kit is of",
            )
        self.close()

        async def opened() -> AsyncSession:
            return AsyncSession(self._open_link(kit))

        self._portal = Portal()
        atexit.register(self.close)  # a script may end without a word
        try:
            self._session = self._portal.call(opened())
            self._portal.call(self._session.sites())
        except HansaError:
            self.close()
            raise
        self.admin = kit.identity.name

    def close(self) -> None:
        """Log out; jobs go on."""
        atexit.unregister(self.close)
        if self._portal is not None:
            if self._session is not None:
                self._portal.call(self._session.close())
            self._portal.close()
        self._portal = self._session = None
        self.admin = ""

    def sites(self) -> list[SiteView]:
        """The sites that the server knows."""
        return self._call(self._opened().sites())

    def jobs(self) -> list[JobRecord]:
        """This admin's jobs, oldest first."""
        return [job for job in self._call(self._opened().jobs()) if job.submitter == self.admin]

    def submit(self, job: Job) -> AsyncRemoteRun:
        """Bring a job to the federation."""
        return self._call(self._opened().submit(job))

    def run(self, job: str) -> AsyncRemoteRun:
        """A job that was submitted before."""
        return self._call(self._opened().run(job))

    def refreshed(self, run: AsyncRemoteRun) -> JobRecord:
        """How a job stands now."""
        return run.record if run.state.is_over else self._call(run.refresh())

    def caught_up(self, run: AsyncRemoteRun) -> AsyncRemoteRun:
        """A job with what the server knows of its rounds and problems."""
        self._call(run.caught_up())
        return run

    def abort(self, run: AsyncRemoteRun) -> None:
        """Have a job stopped."""
        self._call(run.abort())

    def log(self, run: AsyncRemoteRun, target: str, *, lines: int) -> str:
        """The end of a participant's log of a job."""
        return self._call(run.logs(target, lines=lines))

    def pause(self, seconds: float, *, until: AsyncRemoteRun | None) -> None:
        """Let time pass, or less of it: a job that ends meanwhile ends the pause."""
        if self._portal is None:
            threading.Event().wait(seconds)
        else:
            self._portal.call(_pause(seconds, until))

    def _opened(self) -> AsyncSession:
        if self._session is None:
            raise NotDone(APIStatus.ERROR_AUTHENTICATION, "nobody is logged in: call login(username) first")
        return self._session

    def _call(self, work: Coroutine[Any, Any, T]) -> T:  # Any: as asyncio has it
        if self._portal is None:
            work.close()
            raise NotDone(APIStatus.ERROR_AUTHENTICATION, "nobody is logged in: call login(username) first")
        return self._portal.call(work)


async def _pause(seconds: float, run: AsyncRemoteRun | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            if run is not None and not run.state.is_over:
                with suppress(HansaError):  # the next look at the server says the same
                    async for _ in run.follow():
                        pass
                    return
            await asyncio.Event().wait()
