"""Job processes and their fork server, as real processes: how they start, and that nothing of them stays."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hansa.errors import RunError
from hansa.runtime.capped_log import MAX_BYTES
from hansa.runtime.environment import job_environment
from hansa.runtime.fork_server import ExitReport, ForkServer, ProcessSpec
from hansa.runtime.script_guard import parents_by_pid
from hansa.wire.pipe import AsyncPipe, PipeServer

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).resolve().parents[1]
PATIENCE_S = 30.0
T = TypeVar("T")


class Agent:
    """What an agent does with a fork server."""

    def __init__(self, folder: Path, forks: ForkServer | None = None) -> None:
        self.folder = folder
        self.forks = forks or ForkServer.start()
        self.pipes = PipeServer(folder, self.called_back)
        self.exits: asyncio.Queue[tuple[str, ExitReport]] = asyncio.Queue()
        self.said: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.open: dict[str, AsyncPipe] = {}

    def called_back(self, pipe: AsyncPipe) -> None:
        self.open[pipe.name] = pipe
        pipe.on_frame = lambda head, parts: self.said.put_nowait((pipe.name, head))

    def spec(self, do: str, *, name: str = "job", threads: int = 1, **args: Any) -> ProcessSpec:
        base = {**os.environ, "PYTHONPATH": str(PROGRAMS), "SECRET": "s"}
        self.pipes.expect(f"token of {name}", name)
        return ProcessSpec(
            name=name,
            entry="job_programs",
            address=self.pipes.address,
            token=f"token of {name}",
            folder=self.folder,
            log=self.folder / f"{name}.txt",
            environment=job_environment(base, poc=True, gpus=[], threads=threads),
            args={"do": do, **args},
        )

    async def launch(self, do: str, **options: Any) -> int:
        return await within(self.forks.launch(self.spec(do, **options)))

    async def heard(self) -> dict[str, Any]:
        return (await within(self.said.get()))[1]

    async def ended(self) -> ExitReport:
        return (await within(self.exits.get()))[1]

    def log(self, name: str = "job") -> str:
        return (self.folder / f"{name}.txt").read_text(encoding="utf-8")


@asynccontextmanager
async def agent_in(folder: Path) -> AsyncIterator[Agent]:
    agent = Agent(folder)
    await agent.pipes.start()
    await agent.forks.attach(lambda name, report: agent.exits.put_nowait((name, report)))
    try:
        yield agent
    finally:
        await within(agent.forks.close())
        await agent.pipes.close()


async def within(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, PATIENCE_S)


def run(test: Callable[[Agent], Awaitable[None]], folder: Path) -> None:
    async def whole() -> None:
        async with agent_in(folder) as agent:
            await test(agent)

    asyncio.run(whole())


def below(pid: int) -> set[int]:
    parents = parents_by_pid()
    found = {pid}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def gone(*pids: int) -> None:
    """Wait until these processes have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            process = os.pidfd_open(pid)
            ready, _, _ = select.select([process], [], [], PATIENCE_S)
            os.close(process)
            assert ready, f"process {pid} is still there"


# -- how a job process starts ------------------------------------------------------------------------------------------


def test_a_job_process_has_what_its_spec_says_and_nothing_else(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        (tmp_path / "job.txt").write_text("of the process before\n")
        spec = agent.spec("look", threads=2)
        pid = await within(agent.forks.launch(spec))
        found = await agent.heard()
        assert found["folder"] == str(tmp_path)
        assert found["environment"] == dict(spec.environment)
        assert "SECRET" not in found["environment"]
        assert found["environment"]["CUDA_VISIBLE_DEVICES"] == ""
        descriptors = {int(number): target for number, target in found["descriptors"].items()}
        assert [descriptors.pop(number) for number in range(3)] == [os.devnull, *[str(tmp_path / "job.txt")] * 2]
        assert [target.partition(":")[0] for target in descriptors.values()] == ["socket"]
        assert (found["argv"], found["empty entries"], found["is leader"]) == (["job_programs"], 0, True)
        assert (found["grpc"], found["threads of the parent's parent"]) == (False, 1)
        assert set(found["threads of libraries"]) <= {2}
        assert found["dispositions"] == [str(signal.default_int_handler), str(signal.SIG_DFL)]
        assert not found["blocked"]
        report = await agent.ended()
        assert (report.code, report.how) == (0, "ended with exit code 0")
        assert 0 < report.seconds < PATIENCE_S
        assert 10 << 20 < report.peak_rss_bytes < 1 << 30
        assert agent.log() == "of the process before\nprinted\nan error\n"
        gone(pid)

    run(test, tmp_path)


def test_no_two_processes_draw_the_same_numbers(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        drawn = []
        for name in ("a", "b"):
            await agent.launch("look", name=name)
            drawn += (await agent.heard())["drawn"]
        assert len(set(drawn)) == 4

    run(test, tmp_path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"log": "nowhere/log.txt"}, "job cannot be started: {}/nowhere/log.txt: No such file or directory"),
        ({"folder": "nowhere"}, "job cannot be started: there is no folder {}/nowhere"),
    ],
)
def test_a_process_that_cannot_be_started_is_refused_in_a_line(
    change: dict[str, str], text: str, tmp_path: Path
) -> None:
    async def test(agent: Agent) -> None:
        fields = agent.spec("wait").to_json()
        fields.update({key: str(tmp_path / value) for key, value in change.items()})
        with pytest.raises(RunError) as caught:
            await within(agent.forks.launch(ProcessSpec.from_json(fields)))
        assert str(caught.value) == text.format(tmp_path)
        await agent.launch("wait")  # the name is free, and the fork server as good as before
        with pytest.raises(RunError, match="^job cannot be started: it runs already$"):
            await agent.launch("wait")

    run(test, tmp_path)


def test_many_launches_leave_nothing_open(tmp_path: Path) -> None:
    def open_in(pid: int | str) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    async def test(agent: Agent) -> None:
        await agent.launch("look")
        await agent.ended()
        before = [open_in("self"), open_in(agent.forks.pid)]
        for _ in range(10):
            await asyncio.gather(agent.launch("leak", name="a"), agent.launch("wait", name="b"))
            agent.forks.kill("b")
            assert {(await within(agent.exits.get()))[0] for _ in range(2)} == {"a", "b"}
        assert [open_in("self"), open_in(agent.forks.pid)] == before
        assert not below(agent.forks.pid)

    run(test, tmp_path)


# -- how it ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("do", "args", "code", "log"),
    [
        ("leave", {"code": 0}, 0, ""),
        ("leave", {"code": 3}, 3, ""),
        ("stop", {"with_": 4}, 4, ""),
        ("stop", {"with_": "in words"}, 1, "in words\n"),
        ("fail", {}, 1, "ValueError: the job is bad\n"),
        ("end_in_order", {}, 0, "a thread\nat the end\n"),
        ("no_such", {}, 1, "KeyError: 'no_such'\n"),
    ],
)
def test_an_end_is_reported_as_it_was(do: str, args: dict[str, Any], code: int, log: str, tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.launch(do, **args)
        report = await agent.ended()
        assert (report.code, report.how) == (code, f"ended with exit code {code}")
        assert agent.log().endswith(log)
        assert bool(log) == bool(agent.log())

    run(test, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_is_killed_is_noticed(number: signal.Signals, tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        pid = await agent.launch("wait")
        os.kill(pid, number)
        report = await agent.ended()
        assert (report.code, report.how) == (-number, f"was killed by {number.name}")

    run(test, tmp_path)


def test_who_drains_on_sigterm_says_how_it_ended(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.launch("drain")
        await agent.heard()
        agent.forks.terminate("job", PATIENCE_S)
        assert (await agent.ended()).code == 7
        agent.forks.terminate("job", 0.0)  # there is none
        agent.forks.kill("nobody")
        await agent.launch("wait")
        agent.forks.terminate("job", PATIENCE_S)  # it may not have come to its program yet
        assert (await agent.ended()).how == "was killed by SIGTERM"

    run(test, tmp_path)


@pytest.mark.parametrize("end", ["leave", "kill", "deaf", "close", "kill the keeper", "kill the fork server"])
def test_whatever_a_job_has_started_ends_with_it(end: str, tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        pid = await agent.launch("spawn", then=end)
        await agent.launch("wait", name="other")
        said = [await agent.heard(), await agent.heard()]
        found = next(each for each in said if "pids" in each)
        assert len(found["pids"]) == 4
        if end == "kill":
            agent.forks.kill("job")
        elif end == "deaf":
            agent.forks.terminate("job", 0.1)
        elif end == "close":
            await within(agent.forks.close())
        elif end == "kill the keeper":
            os.kill(found["keeper"], signal.SIGKILL)
        elif end == "kill the fork server":
            os.kill(agent.forks.pid, signal.SIGKILL)
        names = {}
        for _ in range(2 if end in ("close", "kill the fork server") else 1):
            name, report = await within(agent.exits.get())
            names[name] = report.code
        assert names.pop("job") == (0 if end == "leave" else -signal.SIGKILL)
        assert all(code == -signal.SIGKILL for code in names.values())
        if end == "kill the fork server":
            gone(pid, *found["pids"])
            await asyncio.gather(
                agent.launch("look"), agent.launch("look", name="other")
            )  # there is a new one, and one
            assert [(await agent.heard())["grpc"] for _ in range(2)] == [False] * 2
            return
        for each in (pid, *found["pids"]):  # they were gone before their end was reported
            with pytest.raises(ProcessLookupError):
                os.kill(each, 0)
        if end != "close":
            agent.open["other"].send({"k": "go on"})  # the other job has noticed nothing
            assert below(agent.forks.pid)
            assert agent.exits.empty()

    run(test, tmp_path)


def test_processes_that_hand_over_and_end_are_caught_in_between(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.launch("hop")
        await agent.heard()
        agent.forks.kill("job")
        assert (await agent.ended()).code == -signal.SIGKILL
        assert not below(agent.forks.pid)

    run(test, tmp_path)


def test_a_log_without_end_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    async def test(agent: Agent) -> None:
        await agent.launch("print_much", megabytes=(MAX_BYTES >> 20) + 20)
        assert (await agent.ended()).code == 0
        lines = agent.log().splitlines()
        assert len(agent.log()) < MAX_BYTES
        assert (lines[0], lines[-1]) == ("the first line", "the last line")
        cuts = [line for line in lines if line.startswith("[hansa]")]
        assert cuts
        assert {len(line) for line in lines[1:-1] if line not in cuts} == {999}

    run(test, tmp_path)


# -- the agent ---------------------------------------------------------------------------------------------------------

AGENT = """
import sys
sys.path.insert(0, sys.argv[1])
from hansa.runtime.fork_server import ForkServer
forks = ForkServer.start()
assert not {"numpy", "grpc"} & set(sys.modules)
import asyncio, json
from pathlib import Path
from acceptance.test_fork_server import Agent
async def serve():
    agent = Agent(Path(sys.argv[2]), forks)
    await agent.pipes.start()
    await forks.attach(lambda name, report: None)
    pid = await agent.launch("spawn", then="deaf")
    found = await agent.heard()
    print(json.dumps([forks.pid, pid, found["keeper"], *found["pids"]]), flush=True)
    await asyncio.get_running_loop().create_future()
asyncio.run(serve())
"""


@pytest.mark.parametrize("whom", ["agent", "fork server"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_an_agent_or_its_fork_server(whom: str, number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", AGENT, str(PROGRAMS), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        try:
            assert agent.stdout is not None
            pids = json.loads(agent.stdout.readline())
            os.kill(agent.pid if whom == "agent" else pids[0], number)
            gone(*pids)
            if whom == "fork server":
                assert agent.poll() is None
        finally:
            agent.kill()


def test_an_agent_that_ends_before_it_attached_leaves_nothing(tmp_path: Path) -> None:
    code = "from hansa.runtime.fork_server import ForkServer; print(ForkServer.start().pid)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    gone(int(found.stdout))
    assert not found.stderr

    async def close() -> int:
        forks = ForkServer.start()
        await forks.close()
        return forks.pid

    pid = asyncio.run(close())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
