"""The parent of a script: `python -I -S script_guard.py PROGRAM ARG ...`; ends as the program does.

Its standard input is a pipe whose other end only the site's process holds. When that end is gone, however the process
ended, the guard ends its whole process group: a script that computes would not notice by itself.

After `--tell` its standard input is a socket: the guard says there how the program ended, in decimal as
`subprocess.Popen.returncode`, and once the other end is closed ends its process group, too.
"""

import os
import resource
import select
import signal
import sys


def main() -> None:
    """Start the program, and wait for its end or that of the site's process."""
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
            os.killpg(0, signal.SIGKILL)
        os.read(ended, 4096)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            if tells:
                end_all(code)
            end_as(code)


def end_all(code: int) -> None:
    """Say how the program ended, wait for the other end to take it in, and leave nothing of what it started."""
    try:
        os.write(0, b"%d" % code)
        select.select([0], [], [])  # a launcher above must not see how this ends
    finally:
        os.killpg(0, signal.SIGKILL)


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
