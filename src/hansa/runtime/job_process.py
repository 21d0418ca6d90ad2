"""How a forked process becomes a job process, and how it ends."""

from __future__ import annotations

import atexit
import ctypes
import importlib
import os
import random
import signal
import sys
import threading
import traceback
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, Self

from hansa.runtime.environment import THREAD_VARIABLES

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_MOST_DESCRIPTORS = 1 << 16  # where the system does not list those that are open


def become(fields: dict[str, Any], *, log: int, parent: int) -> NoReturn:  # Any: JSON
    """Run a job process's program; never returns.

    Args:
        fields: The spec, as `ProcessSpec.to_json` gives it.
        log: The descriptor of its log.
        parent: The process that has forked this one; they end together.
    """
    with Leaving(in_order=True):
        os.setsid()
        _end_with(parent)
        os.dup2(log, 1)
        os.dup2(log, 2)
        close_all_but()
        _renew_streams()
        os.environ.clear()
        os.environ.update(fields["environment"])
        os.chdir(fields["folder"])
        _name_process(fields["name"])
        sys.argv[:] = [fields["entry"]]
        _add_to_path(fields["environment"].get("PYTHONPATH", ""))
        _seed_anew()
        _use_threads(int(fields["environment"].get(THREAD_VARIABLES[0], 1)))
        _reset_signals()
        from hansa.runtime.fork_server import ProcessSpec

        importlib.import_module(fields["entry"]).main(ProcessSpec.from_json(fields))
    raise AssertionError


class Leaving:
    """At the end of the block the process ends, with 0, or with what was raised; nothing below it on the stack runs.

    Args:
        in_order: Whether to wait for threads and to run what was registered for the end.
    """

    def __init__(self, *, in_order: bool = False) -> None:
        self._in_order = in_order

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, *trace: object) -> None:
        code = 0
        try:
            if isinstance(error, SystemExit):
                code = _exit_code(error.code)
            elif error is not None:
                code = 1
                traceback.print_exception(error)
            if self._in_order:
                getattr(threading, "_shutdown")()  # noqa: B009 - as multiprocessing ends its forked processes
                atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # a full disk; closed
                    stream.flush()
        finally:
            os._exit(code)


def _exit_code(code: object) -> int:
    if code is None or isinstance(code, int):
        return (code or 0) & 0xFF
    sys.stderr.write(f"{code}\n")
    return 1


def close_all_but(*kept: int) -> None:
    """Close every descriptor but the standard ones and these.

    The objects that own them must outlive the process, or they would close others of the same number: they do, since
    the stack of a forked process is never unwound.
    """
    if sys.platform == "linux":
        for descriptor in {int(entry.name) for entry in Path("/proc/self/fd").iterdir()} - {0, 1, 2, *kept}:
            with suppress(OSError):  # the one that listed them
                os.close(descriptor)
    else:
        edges = [2, *sorted(kept), _MOST_DESCRIPTORS]
        for low, high in pairwise(edges):
            os.closerange(low + 1, high)


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it was faster
            os._exit(1)


def _name_process(name: str) -> None:
    if sys.platform == "linux":  # what `top` shows
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def _renew_streams() -> None:
    """Streams without what was not written yet; what is printed reaches the log line by line."""
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _add_to_path(entries: str) -> None:
    # The working directory, which stands there in `python -m`, holds folders named like packages.
    sys.path[:] = [entry for entry in sys.path if entry]
    sys.path[0:0] = [entry for entry in entries.split(os.pathsep) if entry and entry not in sys.path]


def _seed_anew() -> None:
    """Forked processes must not draw the same numbers, should somebody draw before the job seeds its own."""
    random.seed()
    if "numpy" in sys.modules:
        import numpy as np

        np.random.seed()  # noqa: NPY002 - user code draws from it


def _use_threads(count: int) -> None:
    """NumPy was loaded with one thread, and heeds the environment no more."""
    if count != 1 and "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
