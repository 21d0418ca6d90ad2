"""One script's process: started, spoken to over a local link, and ended with all that it started."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hansa.apis.script import FromScript, ScriptSaid, ScriptVariable, ToScript
from hansa.apis.signal import Signal
from hansa.errors import DecodeError, RunError
from hansa.runtime.guarded_process import GuardedProcess
from hansa.tensors import Array
from hansa.wire.blobs import AllocatingSink
from hansa.wire.bundle import Bundle, Unbundler
from hansa.wire.codec import Encoder, TableCache, decode
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import LocalListener, connect
from hansa.wire.slots import SlotPool
from hansa.wire.tensor_forms import with_arrays

_LONG_S = 1e6


@dataclass(frozen=True)
class ScriptStart:
    """What a script's process is started with.

    Attributes:
        file: The script.
        args: Its command line.
        site: Whose it is.
        folder: Where it works; the site's log lies there, too.
        environment: What its environment has besides that of this process.
    """

    file: Path
    args: Sequence[str]
    site: str
    folder: Path
    environment: Mapping[str, str]


@dataclass(frozen=True)
class _Ended:
    """The process is gone, and this is how."""

    how: str


class ScriptProcess:
    """A script that runs; see `hansa.apis.script.RunningScript`.

    A thread of its own takes what it says, and ends with the process. A script that comes to its end ends all that it
    started.

    Args:
        start: What to start.
        pool: Memory for what it is given.
        folder: Where a socket may lie.

    Raises:
        RunError: The system cannot start it.
    """

    def __init__(self, start: ScriptStart, pool: SlotPool, *, folder: Path) -> None:
        self._pool = pool
        self._token = secrets.token_hex(16)
        self._inbox: SimpleQueue[ScriptSaid | _Ended | None] = SimpleQueue()  # None: look at the abort signal
        self._known: set[str] = set()
        self._tables = TableCache()
        self._messages = Unbundler()
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._link: LocalLink | None = None
        self._is_gone = False
        self._listener = LocalListener(folder)
        try:
            self._process = self._launch(start)
        except OSError as error:
            self._listener.close()
            raise RunError(f"the script cannot start: {error.strerror}") from error
        self._listening = threading.Thread(target=self._listen, name="hansa-script", daemon=True)
        self._process.begin()
        self._listening.start()

    @property
    def pid(self) -> int:
        """The process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """See `RunningScript`."""
        return self._process.exit_code

    @property
    def last_lines(self) -> list[str]:
        """See `RunningScript`."""
        return self._process.output.last_lines

    @property
    def num_copies(self) -> int:
        """How many parts of frames were copied once more on their way out; none, as they are encoded into slots."""
        return self._link.num_copies if self._link else 0

    def give(self, task: Mapping[str, Any]) -> None:  # Any: plain values and arrays
        """See `RunningScript`."""
        message = Encoder(sink=AllocatingSink(self._pool.allocate)).encode(with_arrays(dict(task)))
        bundle = Bundle(self._known)
        reference = bundle.add(message)
        self._send(ToScript.TASK, {"m": reference}, bundle.parts())

    def hear(self, abort: Signal, timeout_s: float | None = None) -> ScriptSaid | None:
        """See `RunningScript`."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s

        def look() -> None:
            self._inbox.put(None)

        abort.subscribe(look)
        try:
            while not abort.triggered:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                said = self._inbox.get(timeout=left)
                if isinstance(said, _Ended):
                    self._inbox.put(said)
                    raise RunError(said.how)
                if said is not None:
                    return said
            return None
        except Empty:
            raise TimeoutError(f"nothing was heard of the script within {timeout_s:g} s") from None
        finally:
            abort.unsubscribe(look)

    def end(self, timeout_s: float) -> str | None:
        """See `RunningScript`."""
        self._send(ToScript.END, {})
        is_late = not self._process.join(timeout_s)
        self.kill()
        if is_late:
            return f"did not finish within {timeout_s:g} s and was killed"
        return self._process.how_it_ended() if self._process.exit_code else None

    def kill(self) -> None:
        """See `RunningScript`."""
        self._process.kill()
        self._listening.join()
        if self._link is not None:  # only now: it gives memory free that the process could write to
            self._link.close()

    # -- the process ---------------------------------------------------------------------------------------------

    def _launch(self, start: ScriptStart) -> GuardedProcess:
        own = {
            ScriptVariable.ADDRESS: self._listener.address,
            ScriptVariable.TOKEN: self._token,
            ScriptVariable.SITE: start.site,
        }
        return GuardedProcess(
            [sys.executable, str(start.file), *start.args],
            folder=start.folder,
            environment={**start.environment, **own},
            on_end=self._wake,
        )

    def _wake(self) -> None:
        """The process is gone; nobody may wait for it."""
        with self._lock:
            self._is_gone = True
            sock = self._sock
        with suppress(OSError):  # nobody listens, or the connection is closed
            if sock is None:
                connect(self._listener.address).close()
            else:
                sock.shutdown(socket.SHUT_RD)  # what it has sent is still read

    # -- what it says --------------------------------------------------------------------------------------------

    def _send(self, word: ToScript, head: Mapping[str, Any], parts: Sequence[bytes | Array] = ()) -> None:  # Any: JSON
        if self._link is not None:
            with suppress(ConnectionError):  # its end is heard in its place
                self._link.send({"k": word.value, **head}, parts)

    def _listen(self) -> None:
        problem = None
        try:
            link = self._connected()
            while link is not None and (frame := link.receive()) is not None:
                self._inbox.put(self._read(*frame))
                del frame  # its arrays: their memory is wanted again while nothing comes
        except (DecodeError, KeyError, ValueError, TypeError) as error:  # another program, or a damaged one
            problem = f"has sent what cannot be read ({error})"
            self._process.end_group()
        self._process.join()
        self._inbox.put(_Ended(self._process.how_it_ended(problem)))

    def _connected(self) -> LocalLink | None:
        """Wait for the script's word; None if the process is gone before."""
        hello = {"k": FromScript.HELLO.value, "token": self._token}
        try:
            while True:
                sock = self._listener.accept(timeout_s=_LONG_S)
                link = LocalLink(sock, self._pool)
                with self._lock:
                    if not self._is_gone:
                        self._sock = sock
                frame = link.receive() if self._sock is sock else None
                if frame is not None and frame[0] == hello:
                    self._link = link
                    self._inbox.put(ScriptSaid(FromScript.HELLO, {}))
                    return link
                with self._lock:
                    self._sock = None
                    is_over = self._is_gone
                link.close()
                if is_over:
                    return None
        finally:
            self._listener.close()  # a second process of the script's hears at once that it has no part here

    def _read(self, head: Any, parts: list[Array]) -> ScriptSaid:  # Any: JSON
        word = FromScript(head["k"])
        if "m" not in head:
            return ScriptSaid(word, {key: value for key, value in head.items() if key != "k"})
        message = self._messages.message(head["m"], parts)
        return ScriptSaid(word, decode(message, arrays="own", tables=self._tables))
