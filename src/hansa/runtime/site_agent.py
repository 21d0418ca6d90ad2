"""The program that represents a site: it dials out to the server, starts jobs here, and passes on what they say.

It never runs a job's code and never looks into a tensor: each job has a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hansa.errors import MAY_PASS, ConfigError, HansaError
from hansa.jobs.plugins import warn_of_missing
from hansa.provision.kit import Kit
from hansa.runtime.app_gate import AppGate
from hansa.runtime.fork_server import ExitReport, ForkServer
from hansa.runtime.housekeeping import Housekeeping, sweep_runs
from hansa.runtime.log_tail import last_lines
from hansa.runtime.relay import RELAY
from hansa.runtime.removal import FORGET, forget, held_runs
from hansa.runtime.run_paths import RunPaths, left_behind
from hansa.runtime.site_job import END_GRACE_S, SiteJob, SiteRules, held
from hansa.wire.frames import Frame
from hansa.wire.net_client import SiteClient
from hansa.wire.net_options import Tls
from hansa.wire.pipe import AsyncPipe, PipeServer

_HELLO_KEYS = ("tags", "max_jobs", "gpus", "memory_mb", "cpus", "allow_custom_code")

_DISK_PAUSE_S = 2.0
"""After how long a job is started that the disk had no room for."""

_logger = logging.getLogger("hansa.site")


class SiteAgent:
    """One site's agent.

    Args:
        kit: Who this is, and where the server is.
        forks: Where job processes come from.
        on_connected: Called once, when the server has welcomed this site for the first time.
    """

    def __init__(self, kit: Kit, forks: ForkServer, *, on_connected: Callable[[], None] = lambda: None) -> None:
        self._kit = kit
        self._forks = forks
        self._on_connected = on_connected
        self._jobs: dict[str, SiteJob] = {}
        self._left = left_behind(kit.folder, kit.identity.name)  # by an agent before this one
        self._later: dict[str, asyncio.TimerHandle] = {}  # jobs that the disk has no room for yet
        self._pipes = PipeServer(kit.folder / "sockets", self._called_back)
        settings = kit.settings
        self._rules = SiteRules(
            kit.identity.name,
            kit.folder,
            poc=bool(settings.get("poc")),
            allow_custom_code=bool(settings.get("allow_custom_code")),
            plugins=tuple(settings.get("plugins", ())),
            disk=Housekeeping.of(settings),
            gate=AppGate(settings.get("app_validator")),
        )
        self._client = SiteClient(
            Tls(kit.ca, kit.certificate, kit.key),
            kit.server_address,
            hello=self._hello,
            handlers=self,
        )
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            ConfigError: The server refuses this site for good; the line says why.
        """
        warn_of_missing(self._rules.plugins, _logger)
        await self._sweep()
        await self._pipes.start()
        await self._forks.attach(self._exited)
        try:
            await self._client.run()
        finally:
            await self._pipes.close()

    async def stop(self, grace_s: float) -> None:
        """Leave: jobs get a while to end, then nothing of them is left."""
        for job in list(self._jobs.values()):
            job.park(self._forks)
        self._client.send(Frame("leaving"))
        await self._client.stop()
        await self._forks.close()

    def _hello(self) -> dict[str, Any]:  # Any: JSON
        settings = {key: self._kit.settings[key] for key in _HELLO_KEYS if key in self._kit.settings}
        settings.setdefault("gpus", num_gpus())
        runs = held_runs(self._kit.folder, self._rules.name)
        return {"settings": settings, "jobs": sorted({*held(self._jobs), *self._left}), "runs": runs}

    # -- the network's handlers --------------------------------------------------------------------------------

    def connected(self, *, resumed: bool) -> None:
        """The server has welcomed this site."""
        _logger.info("connected to %s", self._kit.server_address)
        self._on_connected()

    def disconnected(self, reason: str) -> None:
        """The connection is gone; it is made anew meanwhile."""
        _logger.warning("not connected to the server: %s", reason)

    def frame(self, frame: Frame) -> None:
        """A frame of the server."""
        job = self._jobs.get(frame.job)
        if frame.kind == RELAY:
            if job is not None:
                job.take(frame)
        elif frame.kind == "launch":
            self._begin(self._launch(frame))
        elif frame.kind == "stop":
            if (later := self._later.pop(frame.job, None)) is not None:
                later.cancel()
            if (left := self._left.pop(frame.job, None)) is not None:
                left.drop_blobs()
            if job is not None:
                job.stop(self._forks, grace_s=min(float(frame.head.get("grace_s", END_GRACE_S)), END_GRACE_S))
        elif frame.kind == FORGET:
            self._begin(self._forget(frame))
        elif frame.kind == "park":
            if job is not None:
                self._left[job.id] = job.paths
                job.park(self._forks)
        elif frame.kind == "ask":
            self._begin(self._answer(frame))

    # -- jobs --------------------------------------------------------------------------------------------------

    async def _launch(self, frame: Frame) -> None:
        job = self._jobs.get(frame.job)
        self._left.pop(frame.job, None)
        self._later.pop(frame.job, None)
        if job is not None:  # it runs, or is being started
            job.present()
            return
        try:
            limit = self._kit.settings.get("max_jobs")
            if limit is not None and len(self._jobs) >= int(limit):
                raise ConfigError(f"this site runs at most {limit} jobs at a time")
            job = SiteJob(frame.job, dict(frame.head), rules=self._rules, uplink=self._client, on_over=self._over)
            self._jobs[frame.job] = job
            await job.launch(frame.blobs[0], launcher=self._forks, pipes=self._pipes)
        except (HansaError, OSError, LookupError, ValueError) as error:
            if (failed := self._jobs.pop(frame.job, None)) is not None:
                self._left[frame.job] = failed.paths
            if isinstance(error, OSError) and error.errno in MAY_PASS:
                _logger.warning("job %s cannot be started here yet: %s", frame.job, error)
                self._later[frame.job] = asyncio.get_running_loop().call_later(_DISK_PAUSE_S, self.frame, frame)
                return
            reason = str(error) if isinstance(error, HansaError) else f"{type(error).__name__}: {error}"
            _logger.error("job %s cannot be started here: %s", frame.job, reason)
            self._client.send(Frame("launch_failed", frame.job, {"reason": reason}))
            return
        _logger.info("job %s is started", frame.job)
        self._client.send(Frame("launched", frame.job))

    async def _forget(self, frame: Frame) -> None:
        number = frame.head.get("run_number")
        if frame.job not in self._jobs and isinstance(number, int):
            self._left.pop(frame.job, None)
            paths = RunPaths(self._kit.folder, number, self._rules.name)
            await asyncio.to_thread(forget, paths, frame.job, str(frame.head.get("stamp")))

    async def _sweep(self) -> None:
        """Delete what is older than the site keeps it."""
        if self._rules.disk.keep_s is not None:
            busy = {*self._jobs, *self._left}
            await asyncio.to_thread(sweep_runs, self._kit.folder, self._rules.name, rules=self._rules.disk, busy=busy)

    def _over(self, job: SiteJob) -> None:
        if self._jobs.get(job.id) is job:
            del self._jobs[job.id]
        if job.paths.kept.is_dir():  # it has died, and may go on, or the server may say that it is over
            self._left[job.id] = job.paths
        self._begin(self._sweep())

    def _called_back(self, pipe: AsyncPipe) -> None:
        for job in self._jobs.values():
            if job.process == pipe.name:
                job.attach(pipe)
                return
        pipe.close()

    def _exited(self, process: str, report: ExitReport) -> None:
        for job in list(self._jobs.values()):
            if job.process == process:
                job.exited(report)

    # -- what the server may ask -------------------------------------------------------------------------------

    async def _answer(self, frame: Frame) -> None:
        head = frame.head
        reply: dict[str, Any] = {"number": head.get("number")}
        try:
            if head.get("name") != "logs":
                raise ConfigError(f"a site does not answer {head.get('name')!r}")
            args = head["args"]
            paths = RunPaths(self._kit.folder, int(args["run_number"]), self._rules.name)
            reply["text"] = await asyncio.to_thread(last_lines, paths.log, int(args.get("lines", 100)))
        except (HansaError, OSError, LookupError, TypeError, ValueError) as error:
            reply["error"] = str(error)
        self._client.send(Frame("answer", frame.job, reply))

    def _begin(self, work: Any) -> None:  # Any: a coroutine
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def num_gpus() -> int:
    """How many NVIDIA devices this machine shows, or as many as `CUDA_VISIBLE_DEVICES` names."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))
