"""One worker as its parent sees it: the process, the link, what is under way there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hansa.errors import RunError
from hansa.runtime.assignments import Assignment, TaskBody
from hansa.runtime.environment import MALLOC
from hansa.runtime.pulse import SIZE_BYTES, Pulse
from hansa.runtime.user_code import Failure, Mishap
from hansa.runtime.worker_words import ToWorker
from hansa.tensors import Array
from hansa.wire.bundle import Bundle, Unbundler
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import LocalListener, peer_pid
from hansa.wire.message import Message
from hansa.wire.slots import SlotPool

Frame = tuple[dict[str, Any], list[Array]]  # Any: JSON
OnFrame = Callable[["WorkerProcess", Frame | None], None]
"""Told of each frame, and with None of the end of the connection; on the worker's own reading thread."""

CONNECT_S = 60.0
_LOOK_S = 0.2


def accept_all(
    workers: Sequence[WorkerProcess], listener: LocalListener
) -> Iterator[tuple[WorkerProcess, socket.socket]]:
    """Wait until processes have connected back, in whatever order.

    Raises:
        RunError: One ended before, or took too long.
    """
    waiting = {worker.pid: worker for worker in workers}
    deadline = time.monotonic() + CONNECT_S
    while waiting:
        try:
            sock = listener.accept(set(waiting), timeout_s=_LOOK_S)
        except TimeoutError:
            for worker in waiting.values():
                if not worker.is_up():
                    raise RunError(f"worker {worker.number} cannot start: {worker.how_it_ended()}") from None
            if time.monotonic() > deadline:
                number = next(iter(waiting.values())).number
                raise RunError(f"worker {number} cannot start: no sign of it in {CONNECT_S:g} s") from None
            continue
        pid = peer_pid(sock)
        yield waiting.pop(pid if pid is not None else next(iter(waiting))), sock


class WorkerProcess:
    """Starts a process and talks to it.

    Args:
        number: Which of the workers.
        names: The sites that live there.
        folder: The run's folder.
    """

    def __init__(self, number: int, names: list[str], *, folder: Path) -> None:
        self.number = number
        self.names = names
        self.outstanding: dict[int, Assignment] = {}
        self.body: TaskBody | None = None
        self.messages = Unbundler()
        self.killed_because: str | None = None
        self.is_gone = False
        self._folder = folder
        self._known: set[str] = set()
        self._process: subprocess.Popen[bytes]
        self._link: LocalLink | None = None
        self.pulse = Pulse(np.zeros(SIZE_BYTES, np.uint8))

    @property
    def log_file(self) -> Path:
        """What the process itself prints."""
        return self._folder / "workers" / f"worker-{self.number}.txt"

    def launch(self, address: str, environment: Mapping[str, str], *, memory_bytes: int) -> None:
        """Start the process.

        Args:
            address: Where it connects to.
            environment: What its environment has besides.
            memory_bytes: How much its memory files may take.

        Raises:
            RunError: The system cannot.
        """
        self.log_file.parent.mkdir(exist_ok=True)
        source = str(Path(__file__).resolve().parents[2])
        environ = {**MALLOC, **os.environ, **environment}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
        try:
            with self.log_file.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "hansa.runtime.worker", address, str(self._folder), str(memory_bytes)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environ,
                    start_new_session=True,  # the keyboard's interrupt is the parent's affair
                )
        except OSError as error:
            raise RunError(f"worker {self.number} cannot start: {error.strerror}") from error

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def is_up(self) -> bool:
        """Whether the process is there still."""
        return self._process.poll() is None

    def connect(self, sock: socket.socket, pool: SlotPool, *, on_frame: OnFrame) -> None:
        """The process has connected back."""
        try:
            self._pulse_memory = pool.allocate(SIZE_BYTES)
        except RunError:
            sock.close()
            raise
        self._pulse_memory[:] = 0
        self.pulse = Pulse(self._pulse_memory)
        self._link = LocalLink(sock, pool)
        self._threads = [
            threading.Thread(target=target, args=args, name=f"hansa-worker-{self.number}", daemon=True)
            for target, args in ((self._read, (self._link, on_frame)), (self._watch, (sock,)))
        ]
        for thread in self._threads:
            thread.start()

    def send(
        self, word: ToWorker, head: Mapping[str, Any], *, message: Message | None = None, array: Array | None = None
    ) -> None:  # Any: JSON
        """Send a frame; to a worker that is gone nothing is sent."""
        bundle = Bundle(self._known)
        reference = None if message is None else bundle.add(message)
        if array is not None:
            bundle.add_array(array)
        if self._link is None:  # on its way up
            return
        with suppress(ConnectionError):
            self._link.send({"k": word.value, "m": reference, **head}, bundle.parts())

    def send_build(self, word: ToWorker, head: Mapping[str, Any]) -> None:  # Any: JSON
        """Send what it needs to make its sites, and the memory of its pulse."""
        self.send(word, head, array=self._pulse_memory)

    def send_start(self, states: Mapping[str, Message]) -> None:
        """Have its sites begin, with what their components knew in processes before this one."""
        for site in self.names:
            if site in states:
                self.send(ToWorker.STATE, {"site": site}, message=states[site])
        self.send(ToWorker.START, {})

    def release(self) -> None:
        """Tell it which memory is free again."""
        if self._link is not None:
            self._link.flush_releases()

    def kill(self, because: str | None = None) -> None:
        """End the process and all that it started."""
        if self.killed_because is None:
            self.killed_because = because
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if it goes on."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self, timeout_s: float = 0.0) -> None:
        """End it, after a while, and leave nothing of it."""
        if hasattr(self, "_process"):
            if timeout_s:
                self.wait(timeout_s)
            self.kill()
            self._process.wait()
        if self._link is not None:  # only now: it gives memory free that the process could write to
            self._link.close()
            for thread in self._threads:
                thread.join()

    def how_it_ended(self) -> str:
        """Why the process is gone, in a few words."""
        if self.killed_because is not None:
            return self.killed_because
        code = self._process.wait()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        lines = self.log_file.read_text(errors="replace").strip().splitlines() if self.log_file.exists() else []
        said = f": {lines[-1]}" if code and lines else ""
        return f"ended with exit code {code}{said}"

    @property
    def is_connected(self) -> bool:
        """Whether it hears what it is told."""
        return self._link is not None and not self.is_gone

    def mishap(self, where: str) -> tuple[Mishap, Failure]:
        """That the process is gone, as a problem of its sites."""
        cause = f"its process {self.how_it_ended()}"
        sites = " to ".join(dict.fromkeys((self.names[0], self.names[-1])))
        return Mishap(sites, where), Failure(RunError(cause), cause, "")

    def _watch(self, sock: socket.socket) -> None:
        """End the connection of a process that has ended; a copy of it that user code forked would hold it open."""
        with suppress(ChildProcessError):  # somebody was faster
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # not reaped: its number stays taken
            self.kill()
        with suppress(OSError):  # closed
            sock.shutdown(socket.SHUT_RD)  # what it has sent is still read

    def _read(self, link: LocalLink, on_frame: OnFrame) -> None:
        try:
            while (frame := link.receive()) is not None:
                on_frame(self, frame)
                del frame  # its arrays: their memory may be used again while nothing comes
        finally:
            self.is_gone = True
            on_frame(self, None)
