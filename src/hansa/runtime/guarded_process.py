"""A program that runs under a guard: started, its output taken, and ended with all that it started."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hansa.runtime import script_guard
from hansa.runtime.environment import THREAD_VARIABLES
from hansa.runtime.script_output import ScriptOutput

GUARD = Path(script_guard.__file__)
_SOURCE = str(Path(__file__).resolve().parents[2])
_INSTALLED = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
_READ_BYTES = 1 << 16
_OUTPUT_S = 2.0
"""How long what a program printed may take to come in after its end; somebody else may hold the pipe."""


class GuardedProcess:
    """A program in a process group of its own, which its guard ends when this process is gone.

    Two threads belong to it, and end with it: one takes what it prints, one waits for its end. A program that comes to
    its end ends all that it started.

    Args:
        command: The program and its command line.
        folder: Where it works; its output goes into `log.txt` there.
        environment: What its environment has besides that of this process.
        on_end: Called once, on a thread of its own, when nothing of it is left and its output is in.

    Raises:
        OSError: The system cannot start it.
    """

    def __init__(
        self, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], on_end: Callable[[], None]
    ) -> None:
        self._on_end = on_end
        self._lock = threading.Lock()
        self._is_gone = False
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD), *command],
            stdin=subprocess.PIPE,  # the guard's sign of life of this process; the program itself has none
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},  # else the last words of the killed are lost
            start_new_session=True,
        )
        self.output = ScriptOutput(folder / "log.txt")
        self._enough, self._no_more = os.pipe()
        self._printing = threading.Thread(target=self._take_output, name="hansa-output", daemon=True)
        self._watching = threading.Thread(target=self._watch, name="hansa-watch", daemon=True)

    def begin(self) -> None:
        """Take its output and wait for its end from now on; `on_end` is not called before."""
        self._printing.start()
        self._watching.start()

    @property
    def pid(self) -> int:
        """The process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As `subprocess.Popen.returncode`; None while it is there."""
        return self._process.returncode if self._is_gone else None

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False if the time is up."""
        self._watching.join(timeout_s)
        return not self._watching.is_alive()

    def kill(self) -> None:
        """End its process group, and return when nothing of it is left."""
        self.end_group()
        self._watching.join()
        self._printing.join()

    def end_group(self) -> None:
        """End its process group; who is called does not wait."""
        with self._lock:  # once it is waited for, its number may be somebody else's
            if self._process.returncode is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def how_it_ended(self, problem: str | None = None) -> str:
        """In words, with the last that it printed; `problem` in place of the exit code."""
        said = self.output.summary()
        how = problem or how_ended(self._process.returncode)
        return f"{how}: {said}" if said else f"{how} and has printed nothing"

    def _watch(self) -> None:
        """Wait for its end; then nothing of what it started may be left, nor anybody wait for it."""
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)  # not reaped: its number stays taken
        self.end_group()
        with self._lock:
            self._process.wait()
            self._is_gone = True
        self._printing.join(_OUTPUT_S)
        os.close(self._no_more)
        self._on_end()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _take_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, selectors.DefaultSelector() as ready:
            for each in (stream, self._enough):
                ready.register(each, selectors.EVENT_READ)
            while any(key.fileobj is stream for key, _ in ready.select()):
                data = os.read(stream.fileno(), _READ_BYTES)
                if not data:
                    break
                self.output.feed(data)
        self.output.close()
        os.close(self._enough)


def how_ended(code: int) -> str:
    """An exit code in words; below 0 it is a signal."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def environment_of(threads: int) -> dict[str, str]:
    """What a program needs in its environment to find Hansa, and to use so many threads."""
    environment = dict.fromkeys(THREAD_VARIABLES, str(threads))
    if _SOURCE not in _INSTALLED:  # else every Python finds it, and in this place it would come before the library
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (_SOURCE, os.environ.get("PYTHONPATH"))))
    return environment
