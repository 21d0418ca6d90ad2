"""A federation in memory for the tests of `hansa.admin` and its verbs: jobs that do as told, and a link to it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from hansa.admin.commands import dispatch, watch
from hansa.errors import ConfigError, HansaError, RunError
from hansa.jobs.archive import pack, unpack
from hansa.jobs.job import App, Job
from hansa.jobs.life import JobState
from hansa.jobs.site_view import SiteView
from hansa.jobs.store import JobRecord, JobStore
from hansa.runtime.run_folder import HISTORY, PROBLEMS, RunFolder
from hansa.wire.frames import BlobRef, Peer

Json = dict[str, Any]
ADMIN = Peer("poc", "org", "ada@x.org", "admin")
SERVER = {"format_version": 2, "workflows": [{"path": "parts.Flow"}]}
CLIENT = {"format_version": 2, "executors": [{"tasks": ["train"], "executor": {"path": "parts.Trainer"}}]}


def digits(**meta: Any) -> Job:
    return Job("digits", {"app": App(server=SERVER, client=CLIENT, files={"custom/parts.py": b"X = 1\n"})}, meta=meta)


def round_line(number: int, **metrics: float) -> Json:
    return {
        "round": {
            "number": number,
            "targets": ["site-1", "site-2"],
            "counted": {"site-1": 1.0, "site-2": 1.0},
            "refused": {},
            "metrics": {"server": metrics},
            "seconds": 0.5,
            "virtual_seconds": None,
        }
    }


class MemoryFederation:
    """Implements `hansa.admin.commands.Federation`; tests play the jobs' parts. On one event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = JobStore(folder / "jobs")
        self.store.open()
        self.uploads = folder / "uploads"
        self.uploads.mkdir()
        self.views = [
            SiteView("site-1", "org", since=1.0, tags=("gpu",)),
            SiteView("site-2", connected=False, note="gone"),
        ]
        self.log_lines = ["one", "two", "three"]
        self.asked: list[tuple[str, Json]] = []
        self._news = asyncio.Event()

    # -- what commands act on ----------------------------------------------------------------------------------

    async def submit(self, peer: Peer, blob: str) -> str:
        staged = self.folder / "staged"
        archive = self.uploads / blob
        try:
            unpack(archive, staged)
            job = Job.load(staged)
            if "refused" in job.meta.get("tags", ()):
                raise ConfigError("the server takes no such job", file="digits/meta.json", key="tags")
            return self.store.new_job(staged, job, submitter=peer.name).id
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(staged, ignore_errors=True)

    async def resubmit(self, peer: Peer, job_id: str, *, first_round: int | None) -> tuple[str, int | None]:
        record = self.store.get(job_id)
        if not record.state.is_over:
            raise ConfigError(f"job {job_id} is not over: it is {record.state.value}")
        staged = self.folder / "staged"
        shutil.copytree(self.store.folder(job_id) / "job", staged)
        return self.store.new_job(staged, Job.load(staged), submitter=peer.name).id, first_round

    def jobs(self) -> list[JobRecord]:
        return self.store.list()

    def job(self, job_id: str) -> JobRecord:
        return self.store.get(job_id)

    def view(self, record: JobRecord) -> Json:
        return record.as_dict()

    def abort(self, job_id: str, reason: str, *, by: str) -> None:
        if self.store.get(job_id).state.is_over:
            raise ConfigError(f"job {job_id} is over")
        self.now(job_id, JobState.ABORTED, f"aborted by {by}" + (f": {reason}" if reason else ""))

    async def remove(self, job_id: str, *, by: str) -> None:
        self.store.remove(job_id)

    def sites(self) -> list[SiteView]:
        return self.views

    async def logs(self, job_id: str, site: str, *, lines: int) -> str:
        if site not in ("server", "site-1"):
            raise ConfigError(f"there is no site {site!r}")
        return "".join(f"{site}: {line}\n" for line in self.log_lines[-lines:])

    async def results(self, job_id: str) -> Path:
        run = self.store.folder(job_id) / "run"
        if not (run / "run.json").exists():
            raise ConfigError(f"job {job_id} has no results")
        return pack(run, self.store.folder(job_id) / "results.zip")

    async def follow(self, job_id: str, offsets: Mapping[str, int]) -> AsyncIterator[Json]:
        at = dict(offsets)
        while True:
            news = self._news
            for name in (HISTORY, PROBLEMS):
                file = self.store.folder(job_id) / "run" / name
                data = file.read_bytes()[at.get(name, 0) :] if file.exists() else b""
                if data:
                    at[name] = at.get(name, 0) + len(data)
                    lines = [json.loads(line) for line in data.splitlines()]
                    yield {"k": "lines", "file": name, "lines": lines, "offset": at[name]}
            record = self.store.get(job_id)
            yield {"k": "state", **record.as_dict()}
            if record.state.is_over:
                return
            await news.wait()

    # -- what tests have a job do ------------------------------------------------------------------------------

    def now(self, job_id: str, *states: JobState | str | None) -> None:
        """The job goes through these states; a text is the reason of the one before it."""
        for position, state in enumerate(states):
            if isinstance(state, JobState):
                follows = states[position + 1] if position + 1 < len(states) else None
                self.store.update(job_id, state, reason=follows if isinstance(follows, str) else None)
        self.wake()

    def start(self, job_id: str, *, rounds: int = 2) -> None:
        """Its processes run."""
        self.store.update(job_id, JobState.SCHEDULED, sites=["site-1", "site-2"])
        self.store.progress(job_id, 0, num_rounds=rounds)
        self.now(job_id, JobState.DEPLOYING, JobState.RUNNING)

    def write(self, job_id: str, file: str, *lines: Json) -> None:
        """It writes into its record."""
        folder = RunFolder(self.store.folder(job_id) / "run")
        for line in lines:
            folder.append(file, line)
        folder.close()
        self.wake()

    def record(self, job_id: str, status: str = "COMPLETED", **files: bytes) -> None:
        """It writes down how it ended."""
        run = RunFolder(self.store.folder(job_id) / "run")
        run.write_record({"status": status, "config": {"job": "digits", "sites": ["site-1", "site-2"], "seed": 0}})
        for name, content in files.items():
            (run.path / name.replace("_", ".")).write_bytes(content)

    def play(self, job_id: str) -> None:
        """The whole of a job that completes, with two rounds."""
        self.start(job_id)
        self.write(job_id, HISTORY, round_line(0, accuracy=0.5), round_line(1, accuracy=0.75))
        self.record(job_id)
        self.now(job_id, JobState.COMPLETED)

    def wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


class MemoryLink:
    """Implements `hansa.admin.link.AdminLink` over a federation in memory; tests may cut it.

    Args:
        federation: What is at the other end.
        peer: Who is at this end.
        cut_after: Streams break after so many messages, each one more than the one before; None: never.
    """

    def __init__(self, federation: MemoryFederation, *, peer: Peer = ADMIN, cut_after: int | None = None) -> None:
        self.federation = federation
        self.peer = peer
        self.cut_after = cut_after
        self.is_down = False
        self.num_streams = 0
        self.closed = False
        self.loop = asyncio.get_running_loop()

    def act(self, do: Callable[..., object], *args: Any, **named: Any) -> None:
        """Have something done at the other end, from a test that has no event loop."""

        async def acting() -> None:
            do(*args, **named)

        asyncio.run_coroutine_threadsafe(acting(), self.loop).result(10)

    async def call(self, name: str, args: Mapping[str, Any]) -> Json:
        self._check()
        self.federation.asked.append((name, dict(args)))
        answer = await dispatch(self.federation, self.peer, name, json.loads(json.dumps(dict(args))))
        return json.loads(json.dumps(answer))  # type: ignore[no-any-return]

    async def watch(self, name: str, args: Mapping[str, Any]) -> AsyncIterator[Json]:
        self._check()
        self.num_streams += 1
        sent = 0
        async for message in watch(self.federation, self.peer, name, json.loads(json.dumps(dict(args)))):
            if self.cut_after is not None and sent >= self.cut_after:
                raise RunError("the connection to the server is gone")
            sent += 1
            yield json.loads(json.dumps(message))

    async def upload(self, job: str, ref: BlobRef, *, path: Path) -> None:
        self._check()
        shutil.copyfile(path, self.federation.uploads / ref.name)

    async def download(self, job: str, ref: BlobRef, *, path: Path) -> None:
        self._check()
        shutil.copyfile(self.federation.store.folder(job) / ref.name, path)

    async def close(self) -> None:
        self.closed = True

    def _check(self) -> None:
        if self.is_down:
            raise HansaError("there is no server at localhost:1")
