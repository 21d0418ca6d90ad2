"""One job at one site, as the site's agent sees it: its files, its process, and what goes to and fro."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from hansa.errors import ConfigError, DecodeError, EncodeError, HansaError
from hansa.jobs.archive import unpack
from hansa.runtime.app_gate import AppGate
from hansa.runtime.environment import job_environment
from hansa.runtime.fork_server import ExitReport, JobLauncher, ProcessSpec
from hansa.runtime.housekeeping import DiskWatch, Housekeeping
from hansa.runtime.relay import RELAY, Head, from_network, to_network
from hansa.runtime.run_paths import RunPaths
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.pipe import AsyncPipe, PipeServer

ENTRY = "hansa.runtime.job_site"
END_GRACE_S = 5.0
"""How long a job's process may take to leave once its job is over."""

_logger = logging.getLogger("hansa.site")


class Uplink(Protocol):
    """The way to the server; `hansa.wire.net_client.SiteClient` is one."""

    def send(self, frame: Frame) -> None:
        """Bring a frame to the server, once, after all that were sent before."""
        ...

    async def upload(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Bring a blob to the server."""
        ...

    async def download(self, job: str, ref: BlobRef, *, path: Path) -> None:
        """Fetch a blob from the server; it appears whole or not at all."""
        ...


@dataclass(frozen=True)
class SiteRules:
    """What the site's kit says of jobs; it wins over whatever the server or the job wants.

    Attributes:
        name: The site.
        root: Its workspace root.
        poc: Whether all of this runs on one machine, to try it.
        allow_custom_code: Whether a job may bring code of its own.
        plugins: Packages whose classes a job may name, besides Hansa's own components.
        disk: What a job may take of the disk, and for how long.
    """

    name: str
    root: Path
    poc: bool = False
    allow_custom_code: bool = False
    plugins: Sequence[str] = ()
    disk: Housekeeping = field(default_factory=Housekeeping)
    gate: AppGate = field(default_factory=AppGate)

    def policy(self) -> dict[str, Any]:  # Any: JSON
        """What classes a job may name here, for its process."""
        return {"custom": self.allow_custom_code, "anything": self.poc, "plugins": list(self.plugins)}


class SiteJob:
    """A job at this site.

    Args:
        job_id: The job.
        head: What the server says of it.
        rules: The site's own.
        uplink: The way to the server.
        on_over: Called when nothing of it runs here any more.
    """

    def __init__(
        self, job_id: str, head: Head, *, rules: SiteRules, uplink: Uplink, on_over: Callable[[SiteJob], None]
    ) -> None:
        self.id = job_id
        self.process = f"{job_id}@{rules.name}"
        self.number = int(head["run_number"])
        self.paths = RunPaths(rules.root, self.number, rules.name)
        self.is_running = False
        self._head = head
        self._rules = rules
        self._uplink = uplink
        self._on_over = on_over
        self._pipe: AsyncPipe | None = None
        self._ready: Frame | None = None
        self._transfers: set[asyncio.Task[None]] = set()
        self._uploads: dict[str, asyncio.Future[None]] = {}
        self._is_told_to_end = False
        self._is_starting = False
        self._gave_up = False
        self._watch: DiskWatch | None = None

    # -- the process -------------------------------------------------------------------------------------------

    async def launch(self, app: BlobRef, *, launcher: JobLauncher, pipes: PipeServer) -> None:
        """Fetch the app and start the job's process.

        Raises:
            HansaError: The site does not run such a job, the app is not what it should be, or the system refuses.
            OSError: The disk.
        """
        self._is_starting = True
        try:
            await self._launch(app, launcher=launcher, pipes=pipes)
        finally:
            self._is_starting = False
        if self._is_told_to_end and self.is_running:  # meanwhile
            launcher.kill(self.process)
        elif self._is_told_to_end:
            self._over()

    async def _launch(self, app: BlobRef, *, launcher: JobLauncher, pipes: PipeServer) -> None:
        if self._head.get("custom") and not self._rules.allow_custom_code:
            raise ConfigError("the job brings code of its own, which this site does not allow (allow_custom_code)")
        self.paths.make()
        self.paths.claim(self.id, str(self._head.get("stamp", "")))
        if not self.paths.app.exists():  # else the process is started anew
            archive, staging = self.paths.folder / "app.zip", self.paths.folder / ".app"
            await self._uplink.download(self.id, app, path=archive)
            shutil.rmtree(staging, ignore_errors=True)  # of an agent that died meanwhile
            await asyncio.to_thread(unpack, archive, staging)
            await asyncio.to_thread(self._rules.gate.check, [staging])
            staging.rename(self.paths.app)
            archive.unlink()
        if self._is_told_to_end:
            return
        token = secrets.token_urlsafe(32)
        pipes.expect(token, self.process)
        threads = int(self._head.get("threads", 1))
        gpus = self._head.get("gpus")
        await launcher.launch(
            ProcessSpec(
                name=self.process,
                entry=ENTRY,
                address=pipes.address,
                token=token,
                folder=self._rules.root,
                log=self.paths.log,
                environment=job_environment(os.environ, poc=self._rules.poc, gpus=gpus, threads=threads),
                args=self._args(),
            )
        )
        self.is_running = True
        self._watch = DiskWatch(
            [self.paths.folder], self._rules.disk.job_bytes, exceeded=partial(self._over_quota, launcher)
        )
        self._watch.start()

    def _over_quota(self, launcher: JobLauncher, how: str) -> None:
        """It takes more of the disk than the site gives it: it has no part here any more."""
        _logger.error("job %s is ended here: %s", self.id, how)
        self._uplink.send(Frame("over_quota", self.id, {"reason": how}))
        self._gave_up = self._is_told_to_end = True
        self._stop_transfers()
        self._end(launcher)

    def _args(self) -> dict[str, Any]:  # Any: JSON
        return {
            "job_id": self.id,
            "run_number": self.number,
            "name": self._rules.name,
            "workspace": str(self._rules.root),
            "app_folder": str(self.paths.app),
            "config_file": self._head["config_file"],
            "num_sites": self._head["num_sites"],
            "seed": self._head["seed"],
            "threads": self._head.get("threads", 1),
            "policy": self._rules.policy(),
        }

    def attach(self, pipe: AsyncPipe) -> None:
        """The job's process has called back."""
        self._pipe = pipe
        pipe.on_frame = self._from_process
        pipe.on_close = self._pipe_closed

    def exited(self, report: ExitReport) -> None:
        """The job's process has ended."""
        self.is_running = False
        self._pipe = None
        if self._watch is not None:
            self._watch.stop()
        if self._gave_up:  # the server knows
            self._over()
            return
        expected = self._is_told_to_end and report.code == 0
        self._uplink.send(Frame("exited", self.id, {"how": report.how, "code": report.code, "expected": expected}))
        if not expected:
            _logger.warning("job %s: its process %s", self.id, report.how)
        if self._is_told_to_end:
            self._over()
        else:  # the job may go on, with what its process has kept: the next one brings it
            self._stop_transfers()
            self._on_over(self)

    def park(self, launcher: JobLauncher) -> None:
        """The agent leaves: the process ends, and what it has kept stays for when the agent is back."""
        self._stop_transfers()
        if self.is_running:
            launcher.kill(self.process)

    def stop(self, launcher: JobLauncher, *, grace_s: float) -> None:
        """The job is over: its process may leave by itself for a while, and is then made to."""
        self._is_told_to_end = True
        self._stop_transfers()
        if self._is_starting:
            return  # seen to at its end
        if not self.is_running:
            self._over()
        elif grace_s > 0:
            asyncio.get_running_loop().call_later(grace_s, self._end, launcher)
        else:
            launcher.kill(self.process)

    def _stop_transfers(self) -> None:
        for transfer in (*self._transfers, *self._uploads.values()):
            transfer.cancel()

    def _end(self, launcher: JobLauncher) -> None:
        if self.is_running:
            launcher.kill(self.process)

    def _over(self) -> None:
        self.paths.drop_blobs()
        self._on_over(self)

    # -- what goes to and fro ----------------------------------------------------------------------------------

    def present(self) -> None:
        """Say again that the process is ready, to a server that has lost sight of this site."""
        if self._ready is not None:
            self._uplink.send(self._ready)

    def take(self, frame: Frame) -> None:
        """Pass a frame of the server's on to the process, once its blobs are here."""
        if frame.head.get("k") == "end":
            self._is_told_to_end = True
        try:
            head = from_network(frame, self.paths.incoming)
        except DecodeError as error:
            _logger.warning("job %s: a frame of the server is dropped: %s", self.id, error)
            return
        if frame.blobs:
            self._begin(self._fetch(frame, head), head)
        else:
            self._to_process(head, frame.parts)

    async def _fetch(self, frame: Frame, head: Head) -> None:
        for ref in frame.blobs:
            await self._uplink.download(self.id, ref, path=self.paths.incoming / ref.name)
        self._to_process(head, frame.parts)

    def _to_process(self, head: Head, parts: Sequence[bytes]) -> None:
        if self._pipe is not None:
            self._pipe.send(head, parts)

    def _from_process(self, head: Head, parts: list[bytes]) -> None:
        try:
            frame, files = to_network(self.id, head, parts)
        except DecodeError as error:
            _logger.warning("job %s: %s", self.id, error)
            return
        if head.get("k") == "ready":
            self._ready = frame
        if frame.blobs:
            self._begin(self._bring(frame, files), head)
        else:
            self._send(frame)

    async def _bring(self, frame: Frame, files: Sequence[Path]) -> None:
        for ref, path in zip(frame.blobs, files, strict=True):
            await self._upload(ref, path)
        self._send(frame)

    async def _upload(self, ref: BlobRef, path: Path) -> None:
        """Bring a blob to the server; where that is under way, since a result is asked for again, wait for it."""
        under_way = self._uploads.get(ref.name)
        if under_way is None:
            under_way = asyncio.ensure_future(self._uplink.upload(self.id, ref, path=path))
            self._uploads[ref.name] = under_way
            under_way.add_done_callback(lambda _: self._uploads.pop(ref.name, None))
        await asyncio.shield(under_way)

    def _send(self, frame: Frame) -> None:
        try:
            self._uplink.send(frame)
        except EncodeError as error:
            self._lost(frame.head, str(error))

    def _begin(self, work: Any, head: Head) -> None:  # Any: a coroutine
        transfer: asyncio.Task[None] = asyncio.get_running_loop().create_task(self._guarded(work, head))
        self._transfers.add(transfer)
        transfer.add_done_callback(self._transfers.discard)

    async def _guarded(self, work: Any, head: Head) -> None:  # Any: a coroutine
        try:
            await work
        except HansaError as error:
            self._lost(head, str(error))
        except OSError as error:
            self._lost(head, f"{error.strerror} ({error.filename})")

    def _lost(self, head: Mapping[str, Any], cause: str) -> None:  # Any: JSON
        """A frame does not get through; a round must not wait for the answer to it."""
        kind = str(head.get("k"))
        _logger.error("job %s: a %s does not get through: %s", self.id, kind, cause)
        if kind in ("task", "result"):
            told = {"number": head.get("number"), "task_id": head.get("task_id")}
            cause = f"its {kind} does not get through: {cause}"
            self._uplink.send(Frame(RELAY, self.id, {"k": "lost", **told, "cause": cause}))

    def _pipe_closed(self) -> None:
        self._pipe = None


def held(jobs: Mapping[str, SiteJob]) -> list[str]:
    """The jobs that have a process here."""
    return sorted(job.id for job in jobs.values() if job.is_running)
