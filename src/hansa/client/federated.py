"""A script as a site of a federation: the process that has the site gives it tasks over a local link."""

from __future__ import annotations

import os
import random
import sys
import threading
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from hansa.apis.script import FromScript, ScriptTask, ScriptVariable, ToScript
from hansa.client.model import FLModel, answer_of
from hansa.client.session import NOTHING_TO_ANSWER, not_answered
from hansa.tensors import Array
from hansa.wire.blobs import AllocatingSink
from hansa.wire.bundle import Bundle, Unbundler
from hansa.wire.codec import Encoder, TableCache, decode
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import connect
from hansa.wire.slots import SlotPool
from hansa.wire.tensor_forms import with_arrays, with_tensors

Frame = tuple[Any, list[Array]]  # Any: JSON


class Federated:
    """See `hansa.client.session.Session`.

    Args:
        address: Where the site's process listens.
        token: What it wants to hear first.

    Raises:
        RuntimeError: It listens no more: another process of this script was faster.
    """

    def __init__(self, address: str, token: str) -> None:
        try:
            sock = connect(address)
        except OSError as error:
            raise RuntimeError(
                "init() was called in a second process of this script; only one process, the first that calls it, "
                f"takes part in the federation ({error.strerror})"
            ) from None
        self._pool = SlotPool(quota_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
        self._link = LocalLink(sock, self._pool)
        os.register_at_fork(after_in_child=self._link.abandon)  # a copy has no part in it
        self._pid = os.getpid()
        self._known: set[str] = set()
        self._messages = Unbundler()
        self._tables = TableCache()
        self._inbox: SimpleQueue[Frame | None] = SimpleQueue()
        self._next: Frame | None = None
        self._is_waiting = False
        self._is_over = False
        self._round: int | None = None
        self._to_answer: ScriptTask | None = None
        self.asked: ScriptTask | None = None
        self._say(FromScript.HELLO, token=token)
        _seed(int(os.environ.get(ScriptVariable.SEED, "0")))
        threading.Thread(target=self._listen, name="hansa-script", daemon=True).start()

    def is_running(self) -> bool:
        """See `Session`."""
        self._wait("is_running()", None)
        return not self._is_over

    def receive(self, timeout: float | None = None) -> FLModel | None:
        """See `Session`."""
        self._wait("receive()", timeout)
        if self._next is None:
            return None
        (head, parts), self._next = self._next, None
        task = decode(self._messages.message(head["m"], parts), arrays="own", tables=self._tables)
        del parts
        _seed(task["seed"])
        change = with_tensors if "torch" in sys.modules else with_arrays
        self._round = task["current_round"]
        self.asked = self._to_answer = ScriptTask(task["asked"])
        return FLModel(
            params=change(task["params"]),
            params_type=task["params_type"],
            meta=change(task["meta"]),
            current_round=self._round,
            total_rounds=task["total_rounds"],
        )

    def send(self, model: FLModel) -> None:
        """See `Session`."""
        self._check_process()
        if self._to_answer is None:
            raise RuntimeError(NOTHING_TO_ANSWER)
        answer = with_arrays(answer_of(model, self._to_answer))
        message = Encoder(sink=AllocatingSink(self._pool.allocate)).encode(answer)
        bundle = Bundle(self._known)
        reference = bundle.add(message)
        self._say(FromScript.RESULT, bundle.parts(), m=reference)
        self._to_answer = None

    def log(self, name: str, value: float, *, step: int | None) -> None:
        """See `Session`."""
        self._check_process()
        self._say(FromScript.LOG, name=name, value=value, step=step)

    def info(self) -> dict[str, Any]:  # Any: texts and numbers
        """See `hansa.client.system_info`."""
        return {"site_name": os.environ.get(ScriptVariable.SITE), "alone": False}

    def _wait(self, call: str, timeout: float | None) -> None:
        """Until there is a task, or will be none."""
        self._check_process()
        if self._to_answer is not None:
            raise RuntimeError(not_answered(call, self._round))
        if self._is_over or self._next is not None:
            return
        if not self._is_waiting:
            self._is_waiting = True
            self._say(FromScript.READY)
        try:
            frame = self._inbox.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"no model came within {timeout:g} s") from None
        if frame is None:
            raise SystemExit("hansa: the federation is gone")
        self._is_waiting = False
        self._is_over = ToScript(frame[0]["k"]) is ToScript.END
        self._next = None if self._is_over else frame

    def _listen(self) -> None:
        """On a thread of its own: the link gives memory free only while somebody receives."""
        try:
            while (frame := self._link.receive()) is not None:
                self._inbox.put(frame)
                del frame
        finally:
            self._inbox.put(None)

    def _say(self, word: FromScript, parts: list[bytes | Array] | None = None, **head: Any) -> None:  # Any: JSON
        try:
            self._link.send({"k": word.value, **head}, parts or [])
        except ConnectionError:
            raise SystemExit("hansa: the federation is gone") from None

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise RuntimeError("only the process that called init() takes part in the federation; this is a copy of it")


def _seed(seed: int) -> None:
    """Seed `random`, NumPy's global generator, and torch if somebody has loaded it."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what scripts draw from
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)
