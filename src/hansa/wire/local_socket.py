"""Where processes of one machine and user connect to each other: unix sockets, on Linux without a file.

Nothing large is imported here: programs that relay frames and never look into arrays use it, too.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import sys
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")
_MAX_PATH = 100  # a unix socket's path may have 104 bytes on some systems
_ABSTRACT = "@"


class LocalListener:
    """Where processes of this machine and user connect back.

    On Linux no file is made for it. Elsewhere it is a socket file in a folder of its own, which only this user may
    enter.

    Args:
        folder: Where to make that folder; the system's folder for temporary files if the path would be too long.
        abstract: Whether the address is a name instead of a file.
    """

    def __init__(self, folder: Path, *, abstract: bool = sys.platform == "linux") -> None:
        self._path = None if abstract else _socket_path(folder)
        self.sock = socket.socket(socket.AF_UNIX)
        """The listening socket, for an event loop that accepts by itself and then asks `is_ours`."""
        self.address = f"{_ABSTRACT}hansa-{secrets.token_hex(16)}" if self._path is None else str(self._path)
        """What `connect` takes; fit for a command line."""
        self.sock.bind(_native(self.address))
        self.sock.listen(128)

    def accept(self, pid: int | Collection[int] | None = None, timeout_s: float = 60.0) -> socket.socket:
        """Wait for a process; connections of other users and processes are closed.

        Args:
            pid: The process, or any of several, if the system can say who connects (`peer_pid`); None: any.
            timeout_s: How long to wait.

        Raises:
            TimeoutError: None of them came.
        """
        pids = {pid} if isinstance(pid, int) else pid
        deadline = time.monotonic() + timeout_s
        while (rest := deadline - time.monotonic()) > 0:
            self.sock.settimeout(rest)
            with suppress(TimeoutError):
                sock, _ = self.sock.accept()
                sock.settimeout(None)
                if is_ours(sock) and (pids is None or peer_pid(sock) in (*pids, None)):
                    return sock
                sock.close()
        raise TimeoutError(f"no process connected within {timeout_s:g} s")

    def close(self) -> None:
        """Take the address away; accepted connections stay."""
        self.sock.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()


def connect(address: str) -> socket.socket:
    """Connect to a listener of this user.

    Raises:
        OSError: Nobody listens there, or another user does.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(_native(address))
        if not is_ours(sock):
            raise PermissionError(f"{address} belongs to another user")
    except OSError:
        sock.close()
        raise
    return sock


def peer_pid(sock: socket.socket) -> int | None:
    """The process at the other end; None where the system does not say."""
    return None if sys.platform != "linux" else _credentials(sock)[0]


def is_ours(sock: socket.socket) -> bool:
    """Whether the process at the other end belongs to this user; what asyncio shows of a socket will do."""
    # Elsewhere the folder of the socket file keeps others out.
    return sys.platform != "linux" or _credentials(sock)[1] == os.getuid()


def _credentials(sock: socket.socket) -> tuple[int, int]:
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, uid


def _socket_path(folder: Path) -> Path:
    path = Path(tempfile.mkdtemp(prefix="hansa-", dir=folder)) / "socket"
    if len(os.fsencode(path)) > _MAX_PATH:
        path.parent.rmdir()
        path = Path(tempfile.mkdtemp(prefix="hansa-")) / "socket"
    return path


def _native(address: str) -> str:
    return "\0" + address[1:] if address.startswith(_ABSTRACT) else address
