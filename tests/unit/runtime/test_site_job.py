"""What a site does about frames that do not get through."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hansa.errors import ConfigError, HansaError, RunError
from hansa.runtime.relay import RELAY
from hansa.runtime.site_job import SiteJob, SiteRules
from hansa.wire.frames import BlobRef, Frame
from hansa.wire.pipe import AsyncPipe, PipeServer, connect_pipe

REF = BlobRef("model.safetensors", 3, "sha256:00")


class Uplink:
    """A way to a server that takes no blobs and gives none."""

    def __init__(self, trouble: HansaError | OSError) -> None:
        self.sent: asyncio.Queue[Frame] = asyncio.Queue()
        self.trouble = trouble

    def send(self, frame: Frame) -> None:
        self.sent.put_nowait(frame)

    async def upload(self, job: str, ref: BlobRef, *, path: Path) -> None:
        raise self.trouble

    async def download(self, job: str, ref: BlobRef, *, path: Path) -> None:
        raise self.trouble


def site_job(folder: Path, uplink: Uplink) -> SiteJob:
    return SiteJob("0001-j", {"run_number": 1}, rules=SiteRules("a", folder), uplink=uplink, on_over=lambda job: None)


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        (RunError("a transfer was interrupted too often"), "a transfer was interrupted too often"),
        (OSError(28, "No space left on device", "/data/x"), "No space left on device (/data/x)"),
    ],
    ids=["network", "disk"],
)
def test_a_task_whose_blob_cannot_be_fetched_is_answered(
    tmp_path: Path, trouble: HansaError | OSError, cause: str
) -> None:
    async def story() -> Frame:
        uplink = Uplink(trouble)
        job = site_job(tmp_path, uplink)
        job.take(Frame(RELAY, "0001-j", {"k": "task", "number": 4, "task_id": "t"}, (b"envelope",), (REF,)))
        return await asyncio.wait_for(uplink.sent.get(), 10)

    told = asyncio.run(story())
    assert (told.kind, told.job) == (RELAY, "0001-j")
    assert told.head == {
        "k": "lost", "number": 4, "task_id": "t", "cause": f"its task does not get through: {cause}",
    }  # fmt: skip


def test_a_result_whose_blob_is_refused_is_said_to_be_lost(tmp_path: Path) -> None:
    async def story() -> Frame:
        uplink = Uplink(ConfigError("the server has no room"))
        job = site_job(tmp_path, uplink)
        attached = asyncio.Event()

        def attach(pipe: AsyncPipe) -> None:
            job.attach(pipe)
            attached.set()

        pipes = PipeServer(tmp_path, attach)
        await pipes.start()
        pipes.expect("token", job.process)
        process = await asyncio.to_thread(connect_pipe, pipes.address, "token")
        await asyncio.wait_for(attached.wait(), 10)
        blob = {"name": REF.name, "path": str(tmp_path / REF.name), "size": 3, "digest": REF.digest}
        process.send({"k": "result", "number": 4, "task_id": "t", "blobs": [blob]}, [b"envelope"])
        told = await asyncio.wait_for(uplink.sent.get(), 10)
        await pipes.close()
        process.close()
        return told

    told = asyncio.run(story())
    assert told.head["k"] == "lost"
    assert told.head["cause"] == "its result does not get through: the server has no room"
