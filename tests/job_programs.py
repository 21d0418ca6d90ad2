"""What job processes do in tests of the fork server; `args["do"]` says which. Each tells the agent when it is at it."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from hansa.runtime.fork_server import ProcessSpec
from hansa.wire.pipe import Pipe, connect_pipe


def main(spec: ProcessSpec) -> None:
    pipe = connect_pipe(spec.address, spec.token)
    globals()[spec.args["do"]](pipe, **{key: value for key, value in spec.args.items() if key != "do"})


def wait(pipe: Pipe) -> None:
    pipe.send({"pid": os.getpid()})
    while pipe.receive():
        pass


def look(pipe: Pipe) -> None:
    """What a job process finds around it."""
    from threadpoolctl import threadpool_info

    print("printed")
    print("an error", file=sys.stderr)
    found: dict[str, Any] = {
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "descriptors": {int(name): os.readlink(f"/proc/self/fd/{name}") for name in listed("/proc/self/fd")},
        "argv": sys.argv,
        "empty entries": sys.path.count(""),
        "is leader": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "grpc": "grpc" in sys.modules,
        "threads of the parent's parent": len(os.listdir(f"/proc/{parent_of(os.getppid())}/task")),
        "threads of libraries": [library["num_threads"] for library in threadpool_info()],
        "drawn": [random.random(), float(np.random.random())],
        "dispositions": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    pipe.send(found)


def listed(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if os.path.lexists(f"{folder}/{name}")]


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def leave(pipe: Pipe, code: int) -> None:
    os._exit(code)


def stop(pipe: Pipe, with_: Any) -> None:
    sys.exit(with_)


def fail(pipe: Pipe) -> None:
    raise ValueError("the job is bad")


def end_in_order(pipe: Pipe) -> None:
    """A thread and a function that must be waited for and called at the end."""
    import atexit

    atexit.register(print, "at the end")
    go = threading.Event()
    threading.Thread(target=lambda: (go.wait(), print("a thread"))).start()
    threading.current_thread()
    go.set()


def spawn(pipe: Pipe, then: str) -> None:
    """Start what is hard to find: in a group, in a session, behind a parent that has ended, deaf to signals."""
    reader, writer = os.pipe()
    for make in (lambda: None, lambda: os.setpgid(0, 0), os.setsid, daemon):
        if os.fork():
            continue
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        make()
        os.write(writer, f"{os.getpid()}\n".encode())
        wait_for_ever()
    text = b""
    while text.count(b"\n") < 4:
        text += os.read(reader, 100)
    pipe.send({"pids": [int(pid) for pid in text.split()], "keeper": os.getppid()})
    if then == "leave":
        os._exit(0)
    if then == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wait_for_ever()


def hop(pipe: Pipe) -> None:
    """Start processes that hand over to a child in a session of its own and end, again and again."""
    for _ in range(2):
        if not os.fork():
            pipe._sock.close()
            end = time.monotonic() + 30
            while time.monotonic() < end:
                if os.fork():
                    os._exit(0)
                os.setsid()
            os._exit(0)
    pipe.send({})
    wait_for_ever()


def daemon() -> None:
    os.setsid()
    if os.fork():
        os._exit(0)


def wait_for_ever() -> None:
    while True:
        signal.pause()


def drain(pipe: Pipe) -> None:
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    pipe.send({"pid": os.getpid()})
    told.wait(30)
    sys.exit(7)


def print_much(pipe: Pipe, megabytes: int) -> None:
    print("the first line")
    line = "x" * 999 + "\n"
    for _ in range(megabytes):
        sys.stdout.write(line * 1000)
    print("the last line")


def leak(pipe: Pipe) -> None:
    pipe.send({"kept": [os.dup(0) for _ in range(200)]})
