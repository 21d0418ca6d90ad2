"""The beginning of a rank process: `python -m hansa.runtime.rank`, started by an executor's command.

It becomes the guard of a process of its own, which is the rank: when the site's process ends, or wants the rank to end,
the guard ends the rank with all that it started, wherever a launcher has put it. Nothing large is imported here.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from hansa.apis.ranks import RankVariable
from hansa.runtime import script_guard

_SIDE = "hansa.runtime.rank_side"


def own_rank() -> int:
    """The rank of this process, by its environment; 0 where nobody says."""
    names = (RankVariable.RANK, *RankVariable.FOUND_IN)
    return int(next((os.environ[name] for name in names if name in os.environ), "0"))


def main() -> NoReturn:
    """Connect the guard to the site's process, and become it."""
    address = os.environ.get(RankVariable.LIFE)
    if address is None:
        raise SystemExit(f"{_SIDE}: only a MultiProcessExecutor starts this")
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # else the guard would end others, too
    life = socket.socket(socket.AF_UNIX)
    try:
        life.connect("\0" + address[1:] if address.startswith("@") else address)
        life.sendall(f"hansa-life {os.environ[RankVariable.TOKEN]} {own_rank()}".encode())
    except OSError:
        raise SystemExit("the site's process is gone") from None
    os.dup2(life.fileno(), 0)
    guard = [sys.executable, "-I", "-S", str(Path(script_guard.__file__)), "--tell"]
    os.execv(sys.executable, [*guard, sys.executable, "-m", _SIDE])


if __name__ == "__main__":
    main()
