"""The program that coordinates: the network on one side, the jobs on the other.

It never runs a job's code and never looks into a tensor. Everything here happens on one event loop; threads only move
blobs, pack and unpack archives, and read logs.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError
from hansa.failpoints import wall_time
from hansa.jobs.incident import IncidentCode
from hansa.jobs.plugins import warn_of_missing
from hansa.jobs.site_view import SiteView
from hansa.provision.identity import identity_of
from hansa.provision.kit import Kit
from hansa.runtime.admin_desk import AdminDesk
from hansa.runtime.app_gate import AppGate
from hansa.runtime.asking import Asking
from hansa.runtime.fork_server import ForkServer
from hansa.runtime.housekeeping import Housekeeping
from hansa.runtime.job_office import JobOffice
from hansa.runtime.job_queue import limits_of
from hansa.runtime.job_results import results_file
from hansa.runtime.removal import forgotten
from hansa.runtime.running_job import RunningJob, ServerRules
from hansa.wire.frames import BlobRef, Frame, Peer
from hansa.wire.net_options import NetLimits, Tls
from hansa.wire.net_server import NetworkServer, SiteSession
from hansa.wire.net_sessions import NO_SIGN_OF_LIFE

STATE_FILE = "server.json"
"""Stands in the kit while its server runs."""

_ASK_S = 10.0
_SAY_AGAIN_S = 60.0
_NETWORK_GRACE_S = 0.5

_logger = logging.getLogger("hansa.server")


@dataclass(frozen=True)
class Commands:
    """What admins may say; `hansa.admin` has it.

    Attributes:
        dispatch: Carries out a command: (desk, peer, name, args) to an awaitable of JSON.
        watch: Carries out one that answers with a stream: the same to an async iterator of JSON.
    """

    dispatch: Callable[..., Any]  # Any: as it says
    watch: Callable[..., Any]  # Any: as it says


class ServerProcess:
    """The server of a federation.

    Args:
        kit: Who this is, and where it listens.
        forks: Where job processes come from.
        commands: What admins may say.
    """

    def __init__(self, kit: Kit, forks: ForkServer, *, commands: Commands) -> None:
        settings = kit.settings
        self._kit = kit
        self._forks = forks
        self._commands = commands
        rules = ServerRules(
            kit.folder,
            kit.identity.project,
            poc=bool(settings.get("poc")),
            allow_custom_code=bool(settings.get("allow_custom_code")),
            plugins=tuple(settings.get("plugins", ())),
            disk=Housekeeping.of(settings),
            gate=AppGate(settings.get("app_validator")),
        )
        self.jobs = JobOffice(rules, forks, send=self._send, tags_of=self._tags_of)
        self.desk = AdminDesk(kit.folder, self.jobs, sites=self)
        self._network = NetworkServer(
            Tls(kit.ca, kit.certificate, kit.key),
            identify=_peer,
            handlers=self,
            limits=NetLimits.of(settings),
            epoch=_next_epoch(kit.folder),
        )
        self._asking = Asking(self._send)
        self._seen: dict[str, SiteView] = {}
        self._no_room_at = -math.inf

    async def start(self) -> int:
        """Listen; returns the port.

        Raises:
            HansaError: The port is taken, or the jobs cannot be read.
        """
        warn_of_missing(self._kit.settings.get("plugins", ()), _logger)
        self.desk.open()
        await self.jobs.open()
        if (self._kit.folder / STATE_FILE).exists():  # else it was stopped in order, or is new
            self.jobs.incidents.note(IncidentCode.SERVER_DIED, "the server before this one ended without a word")
        await self._forks.attach(self.jobs.exited)
        everywhere = "::" if ":" in self._kit.server_host else "0.0.0.0"
        return await self._network.start(self._kit.settings.get("listen", everywhere), self._kit.server_port)

    async def stop(self, grace_s: float) -> None:
        """Take no more jobs, have those that run end, and leave nothing behind."""
        await self.jobs.close(grace_s)
        await self._network.stop(_NETWORK_GRACE_S)
        await self._forks.close()
        self.desk.close()

    # -- sites: what the network says --------------------------------------------------------------------------

    def site_joined(self, session: SiteSession) -> None:
        """A site has come, or came back after it was given up."""
        name = session.peer.name
        said = session.hello.get("settings")
        settings = dict(said) if isinstance(said, dict) else {}
        _logger.info("%s is connected (%s)", name, session.hello.get("software", "?"))
        self._seen[name] = _view(session, settings)
        for job_id in session.hello.get("jobs") or ():
            if not self.jobs.store.goes_on(str(job_id)):
                session.send(Frame("stop", str(job_id), {"reason": "the server knows no such job", "grace_s": 0.0}))
        for frame in forgotten(self.jobs, session.hello.get("runs")):
            session.send(frame)
        for job in list(self.jobs.running.values()):
            if name in job.sites:
                job.at_sites.join(name)
        self.jobs.site_up(name, settings)

    def site_disconnected(self, session: SiteSession) -> None:
        """Its connection is gone; it has a while to come back."""
        name = session.peer.name
        text = f"the connection to {name} is gone; it has a while to come back"
        self.jobs.incidents.note(IncidentCode.SITE_DISCONNECTED, text, site=name)
        self._note(session, connected=False, note="the connection is gone; it has a while to come back")

    def site_reconnected(self, session: SiteSession) -> None:
        """It is back, and nothing was lost."""
        self._note(session, connected=True)

    def site_left(self, session: SiteSession, reason: str) -> None:
        """A site is given up."""
        name = session.peer.name
        if reason.startswith(NO_SIGN_OF_LIFE):
            self.jobs.incidents.note(IncidentCode.SITE_GONE, f"{name} is given up: {reason}", site=name)
        else:
            _logger.warning("%s is gone: %s", name, reason)
        self._note(session, connected=False, note=reason)
        self.jobs.queue.site_down(name)
        self._asking.gone(name)
        for job in list(self.jobs.running.values()):
            job.at_sites.site_down(name, reason)

    def site_frame(self, session: SiteSession, frame: Frame) -> None:
        """A frame of a site."""
        name = session.peer.name
        if frame.kind == "answer":
            self._asking.answered(name, dict(frame.head))
        elif frame.kind == "leaving":
            session.close("it has left")
        elif (job := self.jobs.running.get(frame.job)) is not None:
            job.at_sites.from_site(name, frame)

    def alarm(self, text: str) -> None:
        """Something that a person should look at."""
        self.jobs.incidents.note(IncidentCode.IDENTITY_TWICE, text)

    def _note(self, session: SiteSession, *, connected: bool, note: str | None = None) -> None:
        view = self._seen.get(session.peer.name)
        if view is not None:
            self._seen[view.name] = replace(view, connected=connected, since=wall_time(), note=note)

    def _send(self, site: str, frame: Frame) -> bool:
        session = self._network.sessions.get(site)
        if session is None:
            return False
        session.send(frame)
        return True

    def _tags_of(self, site: str) -> tuple[str, ...]:
        view = self._seen.get(site)
        return () if view is None else view.tags

    # -- admins and blobs: what the network asks ---------------------------------------------------------------

    async def command(self, peer: Peer, name: str, *, args: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
        """An admin's command."""
        answer: dict[str, Any] = await self._commands.dispatch(self.desk, peer, name, args)
        return answer

    def watch(self, peer: Peer, name: str, *, args: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:  # Any: JSON
        """What an admin follows."""
        stream: AsyncIterator[dict[str, Any]] = self._commands.watch(self.desk, peer, name, args)
        return stream

    def upload_target(self, peer: Peer, job: str, *, ref: BlobRef) -> Path:
        """Where a blob of a peer goes; on a blob's thread."""
        if peer.role == "admin":
            return self.desk.place_of(peer, ref.name)
        return self._running(job).at_sites.target_of(peer.name, ref)

    def download_source(self, peer: Peer, job: str, *, name: str) -> Path:
        """Where a blob lies that a peer may fetch; on a blob's thread."""
        if peer.role == "admin":
            return results_file(self.jobs.store, job)
        return self._running(job).at_sites.source_of(peer.name, name)

    def no_room(self, text: str) -> None:
        """The disk does not take a blob of a site, which tries again, maybe often; noted once in a while."""
        now = time.monotonic()
        if now - self._no_room_at > _SAY_AGAIN_S:
            self.jobs.incidents.note(IncidentCode.SERVER_DISK, text)
        self._no_room_at = now

    def _running(self, job_id: str) -> RunningJob:
        running = self.jobs.running.get(job_id)
        if running is None:
            raise ConfigError(f"no job {job_id[:80]!r} runs here")
        return running

    # -- what the desk asks (hansa.runtime.admin_desk.Sites) ---------------------------------------------------

    def sites(self) -> list[SiteView]:
        """The sites that were seen since the server's start, by name."""
        queue = self.jobs.queue
        return [
            replace(view, jobs=queue.jobs_at(name), free_gpus=queue.free_gpus(name))
            for name, view in sorted(self._seen.items())
        ]

    async def site_log(self, site: str, number: int, *, lines: int) -> str:
        """The end of a site's log of a job.

        Raises:
            ConfigError: It is not connected, does not answer, or has none.
        """
        args = {"run_number": number, "lines": lines}
        answer = await self._asking.ask(site, "logs", args=args, timeout_s=_ASK_S)
        return str(answer.get("text", ""))


def _peer(pem: bytes) -> Peer:
    identity = identity_of(pem)
    return Peer(identity.project, identity.org, identity.name, identity.role.value)


def _view(session: SiteSession, settings: Mapping[str, Any]) -> SiteView:  # Any: JSON
    limits = limits_of(settings)
    return SiteView(
        name=session.peer.name,
        org=session.peer.org,
        since=wall_time(),
        tags=tuple(settings.get("tags") or ()),
        max_jobs=limits.max_jobs,
        gpus=limits.gpus,
        memory_mb=limits.memory_mb,
        cpus=limits.cpus,
        software=str(session.hello.get("software", "")),
    )


def _next_epoch(folder: Path) -> int:
    """How often a server was started here; a site can tell one from the one before."""
    file = folder / "epoch"
    try:
        epoch = int(file.read_text(encoding="ascii")) + 1
    except (FileNotFoundError, ValueError):
        epoch = 1
    temporary = folder / ".epoch.new"
    temporary.write_text(f"{epoch}\n", encoding="ascii")
    temporary.replace(file)
    return epoch
