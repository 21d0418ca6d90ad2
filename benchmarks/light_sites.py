"""Many sites in one process: each has its own connection and certificate, and answers a job itself.

    python benchmarks/light_sites.py KIT ...

Says `connected` when all of them are, then reads lines and ends with its input.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hansa.apis.dxo import DXO, DataKind, MetaKey
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.provision.kit import Kit
from hansa.runtime.file_blobs import Unpacking
from hansa.runtime.relay import RELAY
from hansa.wire.codec import Encoder, decode
from hansa.wire.frames import Frame
from hansa.wire.net_client import SiteClient
from hansa.wire.net_options import Tls

_ANSWERS = {"start": "started", "end": "ended"}


def _packed(value: object) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    message = Encoder().encode(value)
    tables = list(message.tables)
    return {"tables": tables, "with": tables, "blobs": []}, (message.envelope, *message.tables.values())


NOTHING = _packed({})
WEIGHTS = {"w": np.ones(10, np.float32)}


def _result(task: Shareable, head: dict[str, Any], site: str) -> Shareable:
    result = DXO(DataKind.WEIGHTS, WEIGHTS, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()
    result.set_header(ReservedHeaderKey.TASK_NAME, head["name"])
    result.set_header(ReservedHeaderKey.TASK_ID, head["task_id"])
    result.set_cookie_jar(task.get_cookie_jar())
    result.set_peer_props({ReservedKey.IDENTITY_NAME: site})
    return result


class LightSite:
    """An agent without processes.

    Args:
        kit: Who it is.
        on_connected: Called when it is.
    """

    def __init__(self, kit: Kit, on_connected: asyncio.Semaphore) -> None:
        self._on_connected = on_connected
        self._name = kit.identity.name
        self._unpacking = Unpacking()
        self.client = SiteClient(
            Tls(kit.ca, kit.certificate, kit.key),
            f"{kit.server_host}:{kit.server_port}",
            hello=lambda: {"settings": {}, "jobs": []},
            handlers=self,
        )

    def connected(self, *, resumed: bool) -> None:
        self._on_connected.release()

    def disconnected(self, reason: str) -> None:
        print(f"disconnected: {reason}", file=sys.stderr)

    def frame(self, frame: Frame) -> None:
        if frame.kind == "launch":
            self.client.send(Frame("launched", frame.job))
            self._say(frame, {"k": "ready", "error": None}, NOTHING)
        elif frame.kind == "stop":
            self.client.send(Frame("exited", frame.job, {"how": "ended", "code": 0, "expected": True}))
        elif frame.kind == RELAY:
            self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        kind = frame.head["k"]
        if kind == "task":
            head = {"k": "result", "number": frame.head["number"], "task_id": frame.head["task_id"], "ended": None}
            task = decode(self._unpacking.message(frame.head, frame.parts))
            self._say(frame, head, _packed(_result(task, frame.head, self._name)))
        elif kind in _ANSWERS:
            self.client.send(Frame(RELAY, frame.job, {"k": _ANSWERS[kind], "sent": [0, 0, 0]}))

    def _say(self, frame: Frame, head: dict[str, Any], packed: tuple[dict[str, Any], tuple[bytes, ...]]) -> None:
        message, parts = packed
        self.client.send(Frame(RELAY, frame.job, {**head, "m": message}, parts))


async def _main(kits: list[Path]) -> None:
    connected = asyncio.Semaphore(0)
    sites = [LightSite(Kit.load(kit), connected) for kit in kits]
    async with asyncio.TaskGroup() as group:
        for site in sites:
            group.create_task(site.client.run())
        for _ in sites:
            await connected.acquire()
        print("connected", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for site in sites:
            await site.client.stop()


if __name__ == "__main__":
    asyncio.run(_main([Path(kit) for kit in sys.argv[1:]]))
