"""Free TCP ports on this machine."""

from __future__ import annotations

import socket
from contextlib import ExitStack


def get_open_ports(number: int) -> list[int]:
    """Ports that nobody listens on, all different.

    Each is free at the time of the call; nothing keeps another process from taking it afterwards.

    Args:
        number: How many; at least 0.
    """
    with ExitStack() as held:  # all open at once, or the system may hand out the same port again
        sockets = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
