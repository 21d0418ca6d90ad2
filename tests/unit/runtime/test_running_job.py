"""A running job on the server: who gets what, who may say what, and how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from hansa.errors import ConfigError, EncodeError, StoreError
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import Outcome, Row
from hansa.jobs.life import JobState
from hansa.runtime.deployment import Deployment
from hansa.runtime.fork_server import ExitReport, OnExit, ProcessSpec
from hansa.runtime.home_process import MOST_DEATHS
from hansa.runtime.incidents import Incidents
from hansa.runtime.journal_writer import JournalWriter
from hansa.runtime.running_job import RunningJob, ServerRules
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.pipe import AsyncPipe, Pipe, PipeServer, connect_pipe

META = """{"name": "two", "min_clients": 1, "seed": 3, "deploy_map": {"app": ["@ALL"]}}"""
SERVER = """{"format_version": 2, "workflows": [
  {"id": "w", "path": "hansa.components.workflows.scatter_and_gather.ScatterAndGather"}]}"""
CLIENT = """{"format_version": 2, "executors": [{"tasks": ["train"], "executor": {"path": "trainer.Trainer"}}]}"""


RESULT = {"k": "result", "number": 1, "task_id": "0/train/1/a/1", "ended": None}


class Launcher:
    """Keeps what it should launch."""

    def __init__(self) -> None:
        self.launched: list[ProcessSpec] = []
        self.killed: list[str] = []

    async def attach(self, on_exit: OnExit) -> None: ...

    async def launch(self, spec: ProcessSpec) -> int:
        self.launched.append(spec)
        return 1

    def terminate(self, name: str, grace_s: float) -> None:
        self.killed.append(name)

    def kill(self, name: str) -> None:
        self.killed.append(name)

    async def close(self) -> None: ...


class Network:
    """Sites that take everything, but those that are not connected."""

    def __init__(self, *absent: str) -> None:
        self.absent = absent
        self.sent: list[tuple[str, Frame]] = []
        self.states: list[tuple[JobState | None, str | None]] = []
        self.incidents = Incidents(None)
        self.is_over = False
        self.refuses = ""

    def send(self, site: str, frame: Frame) -> bool:
        if site in self.absent:
            return False
        if self.refuses and frame.kind == "relay":
            raise EncodeError("", self.refuses)
        self.sent.append((site, frame))
        return True

    def changed(self, job: RunningJob, state: JobState | None, *, reason: str | None) -> None:
        self.states.append((state, reason))

    def over(self, job: RunningJob) -> None:
        self.is_over = True

    def kinds(self, site: str) -> list[str]:
        return [frame.kind for name, frame in self.sent if name == site]


class Stage:
    """A running job, its network, its launcher, and the other end of its pipe."""

    def __init__(self, folder: Path, *absent: str) -> None:
        self.folder = folder
        job = folder / "jobs" / "0007-two" / "job"
        files = {"meta.json": META, "app/custom/trainer.py": "X = 1\n"}
        files |= {"app/config/config_fed_server.json": SERVER, "app/config/config_fed_client.json": CLIENT}
        for name, text in files.items():
            (job / name).parent.mkdir(parents=True, exist_ok=True)
            (job / name).write_text(text, encoding="utf-8")
        self.network, self.launcher = Network(*absent), Launcher()
        self.pipes = PipeServer(folder / "sockets", self._called_back)
        self._deployment = deployment = Deployment(
            job.parent, job_id="0007-two", number=7, root=folder, tags={"a": ("x",)}
        )
        self.job = RunningJob(
            deployment, rules=ServerRules(folder), network=self.network, launcher=self.launcher, pipes=self.pipes
        )
        self.process: Pipe | None = None
        self.has_called_back = asyncio.Event()

    def keep(self, writer: JournalWriter) -> None:
        """Have the job keep a journal."""
        self.job = RunningJob(
            self._deployment,
            rules=ServerRules(self.folder),
            network=self.network,
            launcher=self.launcher,
            pipes=self.pipes,
            journal=writer,
        )

    def _called_back(self, pipe: AsyncPipe) -> None:
        assert pipe.name == self.job.process
        self.job.attach(pipe)
        self.has_called_back.set()

    async def begin(self, *sites: str) -> None:
        await self.pipes.start()
        await self.job.begin(sites, {"a": [1]})
        await self.call_back()

    async def call_back(self) -> None:
        (spec,) = self.launcher.launched
        self.process = await asyncio.to_thread(connect_pipe, spec.address, spec.token)
        await asyncio.wait_for(self.has_called_back.wait(), 10)

    async def heard(self) -> dict[str, Any]:
        """What the process hears next."""
        assert self.process is not None
        frame = await asyncio.to_thread(self.process.receive)
        assert frame is not None
        return frame[0]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.to_thread(lambda: None)


def play(stage: Stage, story: Callable[[Stage], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        try:
            await story(stage)
        finally:
            await stage.pipes.close()  # a thread that still waits to hear something hears the end
            if stage.process is not None:
                stage.process.close()

    asyncio.run(main())


def test_each_site_is_told_once_and_gets_its_app_without_what_is_the_servers(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("b", "a")
        frames = dict(stage.network.sent)
        assert stage.network.kinds("a") == stage.network.kinds("b") == ["launch"]
        assert frames["a"].head["gpus"] == [1]
        assert frames["b"].head["gpus"] is None
        assert frames["a"].head | {"gpus": None} == {
            "run_number": 7, "config_file": "app/config/config_fed_client.json", "num_sites": 2, "seed": 3,
            "threads": 1, "custom": True, "name": "two", "gpus": None, "stamp": "",
        }  # fmt: skip
        (app,) = frames["a"].blobs
        assert stage.job.at_sites.source_of("a", app.name).stat().st_size == app.size_bytes
        with pytest.raises(ConfigError, match="no blob 'other.zip' for a"):
            stage.job.at_sites.source_of("a", "other.zip")
        with pytest.raises(ConfigError, match="has nothing for c"):
            stage.job.at_sites.source_of("c", app.name)
        args = stage.launcher.launched[0].args
        assert (args["sites"], args["min_sites"], args["tags"]) == (["a", "b"], 1, {"a": ["x"], "b": []})
        assert args["policy"] == {"custom": False, "anything": False, "plugins": []}

    play(Stage(tmp_path), story)


def test_frames_go_where_they_should_and_say_who_sent_them(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a", "b")
        out = stage.job.paths.outgoing / "task-0.safetensors"
        out.write_bytes(b"tensors")
        blob = {"name": out.name, "path": str(out), "size": 7, "digest": "sha256:00"}
        head = {"k": "task", "to": ["a", "b", "c"], "each": {"a": {"number": 1}, "b": {"number": 2}}, "blobs": [blob]}
        stage.process.send(head, [b"envelope"])
        await stage.until(lambda: len(stage.network.sent) == 4)
        (name_a, to_a), (name_b, to_b) = stage.network.sent[2:]
        assert (name_a, to_a.head, name_b, to_b.head) == (
            "a",
            {"k": "task", "number": 1},
            "b",
            {"k": "task", "number": 2},
        )
        assert to_a.parts == to_b.parts == (b"envelope",)
        assert stage.job.at_sites.source_of("b", out.name) == out

        stage.job.at_sites.from_site("a", Frame("relay", stage.job.id, {**RESULT, "site": "b"}, (b"r",)))
        assert await stage.heard() == {**RESULT, "site": "a"}  # whatever it says of itself

    play(Stage(tmp_path), story)


def test_what_a_fast_site_says_waits_until_the_process_has_called_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.pipes.start()
        await stage.job.begin(["a"], {})
        stage.job.at_sites.from_site("a", Frame("relay", stage.job.id, {"k": "ready", "error": None}, (b"props",)))
        await stage.call_back()
        assert stage.process is not None
        frame = await asyncio.to_thread(stage.process.receive)
        assert frame == ({"k": "ready", "error": None, "site": "a"}, [b"props"])

    play(Stage(tmp_path), story)


def test_a_site_says_nothing_in_the_servers_place(tmp_path: Path, caplog: Any) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        for head in ({"k": "abort", "reason": "I want"}, {"k": "ended"}, {"k": "site_down", "site": "b"}):
            stage.job.at_sites.from_site("a", Frame("relay", stage.job.id, head))
        stage.job.at_sites.from_site("a", Frame("relay", stage.job.id, {"k": "started"}))
        assert await stage.heard() == {"k": "started", "site": "a"}
        assert caplog.text.count("a frame of a is refused") == 1

    play(Stage(tmp_path), story)


def test_a_result_without_its_blob_or_of_a_stranger_is_refused(tmp_path: Path, caplog: Any) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        ref = BlobRef("r-0.safetensors", 3, "sha256:00")
        result = Frame("relay", stage.job.id, RESULT, (), (ref,))
        stage.job.at_sites.from_site("a", result)
        stage.job.at_sites.from_site("mallory", Frame("relay", stage.job.id, {**RESULT, "number": 66}))
        with pytest.raises(ConfigError, match="takes nothing of mallory"):
            stage.job.at_sites.target_of("mallory", ref)
        target = stage.job.at_sites.target_of("a", ref)
        stage.job.at_sites.from_site("a", result)  # its blob is still on the way
        target.write_bytes(b"abc")
        stage.job.at_sites.from_site("a", result)
        heard = await stage.heard()  # none of the others got through
        assert heard["blobs"] == [{"name": ref.name, "path": str(target), "size": 3, "digest": "sha256:00"}]
        assert "it comes without its blob r-0.safetensors" in caplog.text
        assert "mallory, which takes no part" in caplog.text

    play(Stage(tmp_path), story)


def test_blobs_that_never_came_leave_room_for_others(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        there = stage.job.at_sites.target_of("a", BlobRef("there", 1, "sha256:00"))
        there.write_bytes(b"a")
        for number in range(200):  # each is refused afterwards, for want of room, say
            stage.job.at_sites.target_of("a", BlobRef(f"r-{number}", 3, "sha256:00"))
        for number in range(62):
            stage.job.at_sites.target_of("a", BlobRef(f"kept-{number}", 3, "sha256:00")).write_bytes(b"abc")
        stage.job.at_sites.target_of("a", BlobRef("last", 3, "sha256:00")).write_bytes(b"abc")
        with pytest.raises(ConfigError, match="64 blobs waiting"):
            stage.job.at_sites.target_of("a", BlobRef("more", 3, "sha256:00"))

    play(Stage(tmp_path), story)


def test_a_task_that_cannot_be_sent_counts_as_lost(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        assert stage.process is not None
        stage.network.refuses = "a frame of kind relay has 5000000 bytes"
        stage.process.send({"k": "task", "to": ["a"], "each": {"a": {"number": 4, "task_id": "t"}}}, [b"envelope"])
        cause = f"cannot encode the message: {stage.network.refuses}"
        assert await stage.heard() == {"k": "lost", "site": "a", "number": 4, "task_id": "t", "cause": cause}

    play(Stage(tmp_path), story)


def test_a_site_whose_process_dies_is_started_anew_but_not_for_ever(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a", "b")
        for death in range(1, MOST_DEATHS + 1):
            stage.job.at_sites.from_site(
                "a", Frame("exited", stage.job.id, {"how": "was killed by SIGKILL", "code": -9})
            )
            down = await stage.heard()
            assert down["k"] == "site_down"
            assert down["final"] is (death == MOST_DEATHS)
            if death < MOST_DEATHS:
                assert (await stage.heard())["k"] == "site_back"
        assert stage.network.kinds("a") == ["launch"] * MOST_DEATHS
        stage.job.at_sites.join("a")
        assert stage.network.kinds("a") == ["launch"] * MOST_DEATHS

    play(Stage(tmp_path), story)


def test_a_site_that_is_not_there_is_said_before_the_process_calls_back(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a", "b")
        assert await stage.heard() == {
            "k": "site_down", "site": "b", "reason": "it is not connected", "final": False,
        }  # fmt: skip

    play(Stage(tmp_path, "b"), story)


def test_the_end_is_said_once_and_ends_everything(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        stage.process.send({"k": "running"})
        stage.process.send({"k": "done", "status": "COMPLETED", "cause": None})
        await stage.until(lambda: len(stage.network.states) == 2)
        stage.job.abort("too late")
        stage.job.exited(ExitReport(0, 1.0, 0))
        assert stage.network.states == [(JobState.RUNNING, None), (JobState.COMPLETED, None)]
        assert stage.network.kinds("a") == ["launch", "stop"]
        assert stage.network.is_over
        assert not (stage.job.paths.folder / "blobs").exists()

    play(Stage(tmp_path), story)


def test_a_process_that_dies_without_a_word_fails_the_job(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        stage.job.paths.log.write_text("Traceback\nKeyError: 'x'\n\n")
        stage.job.exited(ExitReport(-9, 1.0, 0))
        cause = "its process on the server was killed by SIGKILL; the last line of its log: KeyError: 'x'"
        assert stage.network.states == [(JobState.FAILED, cause)]
        assert stage.network.is_over

    play(Stage(tmp_path), story)


def test_what_a_process_said_after_a_commit_counts_though_it_has_ended_before_that_was_durable(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        writer = JournalWriter(
            Journal.open(tmp_path / "journal.db", project="p"), lambda job, cause: pytest.fail(cause)
        )
        try:
            stage.keep(writer)
            await stage.begin("a")
            slow = asyncio.ensure_future(writer.call(lambda journal: threading.Event().wait(0.2)))
            stage.process.send({"k": "commit", "version": 1, "workflow": 0, "history_lines": 0, "m": {}}, [b"state"])
            stage.process.send({"k": "done", "status": "COMPLETED", "cause": None})
            await stage.until(lambda: stage.job.home.num_held == 1)
            stage.job.exited(ExitReport(0, 1.0, 0))
            assert stage.network.states == []
            await stage.until(lambda: stage.network.is_over)
            await slow
            assert stage.network.states == [(JobState.COMPLETED, None)]
            assert len(stage.launcher.launched) == 1
        finally:
            await writer.close()

    play(Stage(tmp_path), story)


def test_a_process_that_dies_is_started_anew_and_goes_on(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        writer = JournalWriter(
            Journal.open(tmp_path / "journal.db", project="p"), lambda job, cause: pytest.fail(cause)
        )
        try:
            stage.keep(writer)
            await stage.begin("a")
            for death in range(1, MOST_DEATHS):
                stage.job.exited(ExitReport(-9, 1.0, 0))
                await stage.until(lambda n=death: len(stage.launcher.launched) == n + 1)
                assert stage.launcher.launched[-1].args["recall"].endswith("run_7/recall.bin")
            stage.job.exited(ExitReport(-9, 1.0, 0))
            await stage.until(lambda: len(stage.launcher.launched) == MOST_DEATHS + 1)
            why = stage.launcher.launched[-1].args["gave_up"]
            assert why == "its process on the server was killed by SIGKILL"  # what comes now saves the last model
            stage.job.exited(ExitReport(-9, 1.0, 0))  # and may die as well
            waiting, failed = stage.network.states[0], stage.network.states[-1]
            assert waiting == (JobState.WAITING, "its process on the server was killed by SIGKILL; the job goes on")
            assert failed == (JobState.FAILED, "its process on the server was killed by SIGKILL")
            assert stage.network.kinds("a") == [*["launch"] * MOST_DEATHS, "stop"]
            await stage.job.gone.wait()
            assert stage.network.is_over
        finally:
            await writer.close()

    play(Stage(tmp_path), story)


class Filling(Journal):
    """A journal on a disk that is full for a while."""

    is_full = False

    def write(self, rows: Sequence[Row]) -> list[Outcome]:
        if self.is_full:
            raise StoreError("no space is left", disk_full=True)
        return super().write(rows)


def test_a_job_whose_commit_finds_no_room_waits_and_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        journal = Filling.open(tmp_path / "journal.db", project="p")
        writer = JournalWriter(journal, lambda job, error: stage.job.cannot_be_kept(error))
        try:
            stage.keep(writer)
            await stage.begin("a")
            journal.is_full = True
            stage.process.send({"k": "commit", "version": 1, "workflow": 0, "history_lines": 0, "m": {}}, [b"state"])
            stage.process.send({"k": "done", "status": "COMPLETED", "cause": None})
            await stage.until(lambda: bool(stage.launcher.killed))
            waiting = "the journal cannot be written: no space is left; the job goes on once it can be"
            assert stage.network.states == [(JobState.WAITING, waiting)]
            stage.job.exited(ExitReport(-9, 1.0, 0))
            journal.is_full = False
            await stage.until(lambda: len(stage.launcher.launched) == 2)
            (event,) = await writer.call(lambda journal: journal.events(job=stage.job.id))
            assert (event.code, event.text) == ("journal.unwritable", "the journal cannot be written: no space is left")
            assert not stage.network.is_over
        finally:
            await writer.close()

    play(Stage(tmp_path), story)


def test_results_that_nobody_asked_a_site_for_are_not_kept(tmp_path: Path) -> None:
    def says(stage: Stage, task_id: str, *, text: bytes = b"x") -> None:
        head = {
            "k": "result",
            "number": 1,
            "task_id": task_id,
            "ended": None,
            "m": {"tables": [], "with": [], "blobs": []},
        }
        stage.job.at_sites.from_site("a", Frame("relay", stage.job.id, head, (text,)))

    async def story(stage: Stage) -> None:
        writer = JournalWriter(
            Journal.open(tmp_path / "journal.db", project="p"), lambda job, cause: pytest.fail(cause)
        )
        try:
            stage.keep(writer)
            stage.network.incidents = Incidents(writer)
            await stage.begin("a", "b")
            stage.process.send({"k": "task", "to": ["a"], "each": {"a": {"number": 1, "task_id": "0/train/1/a/1"}}})
            await stage.until(lambda: "relay" in stage.network.kinds("a"))
            says(stage, "0/train/1/a/1")
            says(stage, "0/train/1/b/1")  # in another's place
            says(stage, "b")
            for number in range(1000):
                says(stage, f"0/x/{number}/a/1")
                says(stage, "0/train/1/a/1", text=b"%d" % number)
            replay = await writer.call(lambda journal: journal.replay(stage.job.id))
            events = await writer.call(lambda journal: journal.events(job=stage.job.id))
        finally:
            await writer.close()
        kept = [row.part for row in replay.results]
        assert kept[0] == "0/train/1/a/1"
        assert len(kept) == 65  # a server before this one may have given it some
        assert all(part.split("/")[3] == "a" for part in kept)
        assert [event.code for event in events] == ["result.altered"]

    play(Stage(tmp_path), story)


def test_a_job_that_rests_is_started_nowhere_when_its_processes_end(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        stage.job.at_sites.park()
        stage.job.park()
        exited = Frame("exited", stage.job.id, {"how": "was killed by SIGKILL", "code": -9})
        stage.job.at_sites.from_site("a", exited)
        stage.job.at_sites.join("a")
        assert stage.network.kinds("a") == ["launch", "park"]
        assert stage.launcher.killed == [stage.job.process]
        stage.job.exited(ExitReport(-9, 1.0, 0))
        assert stage.network.is_over
        assert stage.network.states == []
        assert (stage.job.paths.folder / "blobs").exists()

    play(Stage(tmp_path), story)


def test_an_abort_is_told_to_all_and_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    async def story(stage: Stage) -> None:
        await stage.begin("a")
        stage.job.abort("aborted by me", grace_s=0.01)
        stage.job.abort("aborted by you", grace_s=0.01)
        assert await stage.heard() == {"k": "abort", "reason": "aborted by me"}
        assert stage.network.kinds("a") == ["launch", "stop"]
        await stage.until(lambda: stage.launcher.killed)
        stage.process.send({"k": "done", "status": "FAILED", "cause": "because"})
        await stage.until(lambda: stage.network.states)
        stage.job.exited(ExitReport(0, 1.0, 0))
        assert stage.network.states == [(JobState.ABORTED, "aborted by me")]

    play(Stage(tmp_path), story)
