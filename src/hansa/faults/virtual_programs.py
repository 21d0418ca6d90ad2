"""The programs of a virtual federation: the server's, with the real side of a running job, and the sites' agents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from hansa.faults.virtual_parts import START_S, Parts, VirtualHome, VirtualSite, VirtualWriter
from hansa.jobs.journal import Journal
from hansa.jobs.life import JobState
from hansa.runtime.deployment import Deployment
from hansa.runtime.file_blobs import Head
from hansa.runtime.fork_server import ExitReport, JobLauncher, ProcessSpec
from hansa.runtime.incidents import Incidents
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.relay import RELAY, to_network
from hansa.runtime.run_paths import RunPaths
from hansa.runtime.running_job import RunningJob, ServerRules
from hansa.wire.frames import Frame
from hansa.wire.pipe import AsyncPipe, PipeServer

if TYPE_CHECKING:
    from hansa.faults.virtual import World

JOB, NUMBER = "0001-virtual", 1


class _Pipe:
    """What the server process says to its job's process."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.on_frame: Callable[[Head, list[bytes]], None] = lambda head, parts: None
        self.send: Callable[[Head, Parts], None] = lambda head, parts: None


class _Pipes:
    address = "@virtual"

    def expect(self, token: str, name: str) -> None:
        """Nobody else calls here."""


class Server:
    """One life of the server process: it has the job, and dies with all that it had in memory."""

    def __init__(self, world: World, journal: Journal) -> None:
        self.world = world
        self.is_dead = False
        self.sessions: set[str] = set()
        self.home: VirtualHome | None = None
        self.home_life = 0
        self.writer = VirtualWriter(journal, world.nature, on_failure=lambda _, error: self.job.cannot_be_kept(error))
        self.incidents = Incidents(None)
        writer = cast("JournalWriter", self.writer)
        folder = world.folder / "server"
        deployment = Deployment(folder / "jobs" / JOB, job_id=JOB, number=NUMBER, root=folder, tags={})
        self.job = RunningJob(
            deployment,
            rules=ServerRules(folder),
            network=self,
            launcher=cast("JobLauncher", self),
            pipes=cast("PipeServer", _Pipes()),
            journal=writer,
        )

    # -- what the job asks of the server process (Network, JobLauncher) ----------------------------------------

    def send(self, site: str, frame: Frame) -> bool:
        """Bring a frame to a site."""
        if site not in self.sessions:
            return False
        self.world.to_site(self, site, frame=frame)
        return True

    def changed(self, job: RunningJob, state: JobState | None, *, reason: str | None) -> None:
        """The job's state has changed."""
        if state is not None and not self.is_dead:
            self.world.state_is(state, reason)

    def over(self, job: RunningJob) -> None:
        """Nothing of it runs here any more."""
        if not self.is_dead:
            self.world.note("nothing of the job runs on the server any more")

    async def launch(self, spec: ProcessSpec) -> int:
        """Start the job's process."""
        self.home_life += 1
        life, pipe = self.home_life, _Pipe(spec.name)

        def start() -> None:
            if self.is_dead or life != self.home_life:
                return
            self.world.note(f"the job's process starts{' again' if spec.args['recall'] else ''}")
            self.home = home = VirtualHome(
                self.world.nature,
                lambda head, parts: self._heard(life, pipe, head, parts),
                end=lambda code: self._ended(life, code),
                recall=spec.args["recall"],
                folder=self.world.folder,
            )
            pipe.send = partial(self._to_home, home)
            self.job.attach(cast("AsyncPipe", pipe))

        self.world.nature.later(START_S, start)
        return 1

    def kill(self, name: str) -> None:
        """End the job's process."""
        if not self.is_dead:
            self._ended(self.home_life, -9)

    def _to_home(self, home: VirtualHome, head: Head, parts: Parts = ()) -> None:
        self.world.nature.loop.call_soon(lambda: home.hear(head, parts) if self.home is home else None)

    def _heard(self, life: int, pipe: _Pipe, head: Head, parts: Parts) -> None:
        if not self.is_dead and life == self.home_life and self.home is not None:
            if head["k"] == "done":
                self.world.model = head.get("model")
            pipe.on_frame(dict(head), list(parts))

    def _ended(self, life: int, code: int) -> None:
        if self.is_dead or life != self.home_life:
            return
        self.home_life += 1
        self.home = None
        self.world.note(f"the job's process ends ({code})")
        self.world.nature.loop.call_soon(self._exited, ExitReport(code, 1.0, 0))

    def _exited(self, report: ExitReport) -> None:
        if not self.is_dead:
            self.job.exited(report)


class Agent:
    """One life of a site's agent, with the job's process there."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.process: VirtualSite | None = None
        self.is_starting = False
        self.paths = RunPaths(world.folder / name, NUMBER, name)

    def hear(self, frame: Frame) -> None:
        """A frame of the server."""
        match frame.kind:
            case "launch" if self.process is not None:
                self.process.ready()
            case "launch" if not self.is_starting:
                self.is_starting = True
                self.world.nature.later(START_S, self._start)
            case "stop":
                self.is_starting = False
                self._end_process()
                self.paths.drop_blobs()
            case _ if frame.kind == RELAY and self.process is not None:
                self.process.hear(dict(frame.head), frame.parts)

    def _start(self) -> None:
        if self.is_dead or not self.is_starting:
            return
        self.is_starting = False
        self.paths.make()
        self.world.note(f"{self.name}: the job's process starts")
        self.say(Frame("launched", JOB))
        self.process = None
        made: list[VirtualSite] = []
        process = VirtualSite(
            self.name,
            self.world.nature,
            self.paths.kept,
            lambda head, parts: self._said(made, head, parts),
            self.process_ended,
            self.world.trained,
        )
        made.append(process)
        self.process = process

    def _said(self, made: list[VirtualSite], head: Head, parts: Parts) -> None:
        if not self.is_dead and (not made or made[0] is self.process):
            self.say(to_network(JOB, head, parts)[0])

    def process_ended(self, code: int) -> None:
        """The job's process has ended."""
        if self.process is not None and not self.is_dead:
            self._end_process()
            self.world.note(f"{self.name}: the job's process ends ({code})")
            how = "has ended" if code == 0 else "was killed by SIGKILL"
            self.say(Frame("exited", JOB, {"how": how, "code": code, "expected": code == 0}))

    def _end_process(self) -> None:
        if self.process is not None:
            self.process.is_dead = True
            self.process = None

    def say(self, frame: Frame) -> None:
        """Tell the server something."""
        self.world.to_server(self, frame)

    def die(self) -> None:
        """With its process."""
        self.is_dead = True
        self._end_process()
