"""A server and sites in network namespaces of their own, with a proxy between them (Linux).

    server 10.99.0.2 ---- 10.99.0.1 middle 10.99.1.1 ---- 10.99.1.2 site-1
                                           10.99.2.1 ---- 10.99.2.2 site-2

The middle is what a firewall with NAT is for its sites: they may dial out to it, nobody can dial them, and nothing is
forwarded; a proxy that runs there is the only way through. Everybody knows the server as 10.99.9.9: for the sites that
is the middle, in the server's own namespace the server itself.

All of it hangs on one process, the keeper, whose own mounts hold the names of the namespaces; who is not root gets a
user namespace, too. When its input ends, however this program ended, the keeper ends what runs in the namespaces.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from hansa.faults.tcp_proxy import Address
from source_code import PACKAGE

SERVER = "server"
MIDDLE = "middle"
KNOWN_AS = "10.99.9.9"
"""The server's address in everybody's eyes."""
SERVER_BEHIND = "10.99.0.2"
"""Its address as the middle sees it."""
PORT = 8002
_DEADLINE_S = 20.0
_END_S = 10.0


class NamespaceError(Exception):
    """A command that sets up the network has failed; says which, and what it said."""


_KEEPER = """
mount -t tmpfs none /run && mkdir /run/netns && echo ready || exit 1
cat >/dev/null
for file in /run/netns/*; do ip netns pids "${file##*/}" | xargs -r kill -KILL; done
"""


@dataclass
class Network:
    """The namespaces, while it is entered; whatever runs in them then ends with it.

    Attributes:
        num_sites: How many sites there are.
        started: All programs that were started here.
    """

    num_sites: int = 2
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    _keeper: subprocess.Popen[str] | None = None

    @property
    def places(self) -> list[str]:
        """The names of the namespaces: server, middle, site-1, ..."""
        return [SERVER, MIDDLE, *(f"site-{number}" for number in range(1, self.num_sites + 1))]

    def __enter__(self) -> Self:
        self._keeper = _keeper()
        try:
            self._set_up()
        except BaseException:
            self._tear_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()

    def command(self, place: str, *command: str) -> list[str]:
        """The command that runs a command in a namespace ("": the keeper's); the process is the command's own."""
        assert self._keeper is not None
        inside = ["--user", "--preserve-credentials"] if os.geteuid() else []
        keeper = ["nsenter", f"--target={self._keeper.pid}", "--mount", "--net", *inside, f"--wd={Path.cwd()}"]
        return [*keeper, "ip", "netns", "exec", place, *command] if place else [*keeper, *command]

    def start(
        self,
        place: str,
        *command: str,
        stderr: IO[str] | None = None,
        environment: Mapping[str, str] | None = None,
        **more: Any,  # Any: what Popen takes
    ) -> subprocess.Popen[str]:
        """Start a program in a namespace; its output is a pipe."""
        process = subprocess.Popen(
            self.command(place, *command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=None if environment is None else {**os.environ, **environment},
            **more,
        )
        self.started.append(process)
        return process

    def run(self, place: str, *command: str, timeout_s: float = _DEADLINE_S) -> str:
        """Run a program in a namespace to its end; returns what it printed.

        Raises:
            subprocess.CalledProcessError: It ended with another exit code than 0.
        """
        done = subprocess.run(
            self.command(place, *command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def start_proxy(self, *options: str, to: Address = (SERVER_BEHIND, PORT)) -> subprocess.Popen[str]:
        """Start the proxy in the middle, and wait until it listens; in the end it prints what it saw."""
        program = str(PACKAGE / "faults" / "tcp_proxy.py")
        where = ("--listen", f"{KNOWN_AS}:{PORT}", "--to", f"{to[0]}:{to[1]}")
        proxy = self.start(MIDDLE, sys.executable, program, *where, *options)
        assert proxy.stdout is not None
        if not proxy.stdout.readline():
            raise NamespaceError(f"the proxy ended with exit code {proxy.wait(_END_S)}")
        return proxy

    def _ip(self, *arguments: str) -> None:
        try:
            self.run("", "ip", *arguments)
        except subprocess.CalledProcessError as error:
            raise NamespaceError(f"`ip {' '.join(arguments)}`: {error.stderr.strip()}") from None

    def _set_up(self) -> None:
        for place in self.places:
            self._ip("netns", "add", place)
            self._ip("-n", place, "link", "set", "lo", "up")
        for number, place in enumerate(name for name in self.places if name != MIDDLE):
            self._connect(place, f"10.99.{number}")
        for place in (SERVER, MIDDLE):
            self._ip("-n", place, "addr", "add", f"{KNOWN_AS}/32", "dev", "lo")
        if self.run(MIDDLE, "cat", "/proc/sys/net/ipv4/ip_forward").strip() != "0":
            raise NamespaceError("a new namespace forwards packets, so its sites could be dialled")

    def _connect(self, place: str, net: str) -> None:
        """A cable between a namespace and the middle, which is the way to everything."""
        own, middle = place, MIDDLE
        self._ip("-n", middle, "link", "add", place, "type", "veth", "peer", "name", "middle", "netns", own)
        for name, device, last in ((middle, place, 1), (own, "middle", 2)):
            self._ip("-n", name, "addr", "add", f"{net}.{last}/24", "dev", device)
            self._ip("-n", name, "link", "set", device, "up")
        self._ip("-n", own, "route", "add", "default", "via", f"{net}.1")

    def _tear_down(self) -> None:
        assert self._keeper is not None
        self._keeper.communicate(timeout=_DEADLINE_S)
        for process in self.started:
            process.wait(_END_S)
            if process.stdout is not None:
                process.stdout.close()


def _keeper() -> subprocess.Popen[str]:
    as_root = ["--user", "--map-root-user"] if os.geteuid() else []
    try:
        keeper = subprocess.Popen(
            ["unshare", *as_root, "--net", "--mount", "sh", "-c", _KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError:
        raise NamespaceError("there is no `unshare` command (util-linux)") from None
    assert keeper.stdout is not None
    if keeper.stdout.readline() != "ready\n":
        raise NamespaceError(f"network namespaces cannot be made here: {keeper.communicate(timeout=_END_S)[1].strip()}")
    return keeper
