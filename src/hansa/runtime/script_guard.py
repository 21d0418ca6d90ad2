"""The parent of a script: `python -I -S script_guard.py PROGRAM ARG ...`; ends as the program does.

Its standard input is a pipe whose other end only the site's process holds. When that end is gone, however the process
ended, the guard ends its whole process group: a script that computes would not notice by itself. On Linux it also ends
whatever the program has started in groups of their own, as `torchrun` does with its processes.

After `--tell` its standard input is a socket: the guard says there how the program ended, in decimal as
`subprocess.Popen.returncode`, and once the other end is closed ends its process group, too.
"""

import ctypes
import os
import resource
import select
import signal
import sys
from contextlib import suppress

_LOOK_S = 0.002
_MOST_LOOKS = 500


def main() -> None:
    """Start the program, and wait for its end or that of the site's process."""
    adopt()
    ended, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    tells = sys.argv[1] == "--tell"
    command = sys.argv[2:] if tells else sys.argv[1:]
    pid = os.posix_spawn(
        command[0], command, os.environ, file_actions=[nothing], setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
    )
    while True:
        readable, _, _ = select.select([0, ended], [], [])
        if 0 in readable:
            end_all()
        os.read(ended, 4096)
        done, status = -1, 0
        while done not in (0, pid):  # the others are orphans that it has started
            done, status = os.waitpid(-1, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if tells:
                try:
                    os.write(0, b"%d" % code)
                    select.select([0], [], [])  # a launcher above must not see how this ends
                finally:
                    end_all()
            end_below()
            end_as(code)


def adopt() -> None:
    """From now on be the parent of whatever the program has started and left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def end_all() -> None:
    """Leave nothing of what the program has started, nor of this process."""
    try:
        end_below()
    finally:
        os.killpg(0, signal.SIGKILL)


def end_below() -> None:
    """End all processes below this one."""
    for _ in range(_MOST_LOOKS if sys.platform == "linux" else 0):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        parents = parents_by_pid()
        below = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in below} - below:
            below |= more
        if len(below) == 1:
            return
        for pid in below - {os.getpid()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        select.select([], [], [], _LOOK_S)


def parents_by_pid() -> dict[int, int]:
    """The parent of every process, also of one that is over: others may still be below it while its threads end."""
    parents = {}
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdecimal()]
    for pid in pids:
        with suppress(OSError):  # gone meanwhile
            file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
            with suppress(OSError):
                parents[pid] = int(os.read(file, 4096).rpartition(b")")[2].split()[1])
            os.close(file)
    return parents


def end_as(code: int) -> None:
    """End with an exit code, or below 0 by that signal."""
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core file is enough
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code % 256)


if __name__ == "__main__":
    main()
