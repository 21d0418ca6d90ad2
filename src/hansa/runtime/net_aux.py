"""Aux requests between the server's job process and the sites', which may never be answered."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

from hansa.apis.fl_constant import ReservedTopic, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.errors import DecodeError
from hansa.runtime.memory_link import End, received, request_message
from hansa.wire.message import Message

LONGEST_WAIT_S = 3600.0

Send = Callable[[int, Message, float], None]
"""Sends a request with its number and its timeout."""
SendToSites = Callable[[dict[str, int], Message, float], None]
"""Sends a request to sites, each with a number of its own."""


class Replies:
    """Requests that wait for their replies; any thread."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[str, SimpleQueue[Message | None]]] = {}
        self._number = 0
        self._lock = threading.Lock()

    def open(self, peer: str) -> tuple[int, SimpleQueue[Message | None]]:
        """A number for a request to a peer, and where its reply will be."""
        with self._lock:
            self._number += 1
            box: SimpleQueue[Message | None] = SimpleQueue()
            self._waiting[self._number] = peer, box
            return self._number, box

    def close(self, number: int) -> None:
        """Nobody waits for this reply any more."""
        with self._lock:
            self._waiting.pop(number, None)

    def came(self, peer: str, number: int, *, reply: Message | None) -> None:
        """A reply is here, if it is of whom was asked; None: there is none."""
        with self._lock:
            asked, box = self._waiting.get(number, (None, None))
            if box is None or asked != peer:
                return
            del self._waiting[number]
        box.put(reply)

    def gone(self, peer: str) -> None:
        """A peer will not reply any more."""
        with self._lock:
            lost = [number for number, (asked, _) in self._waiting.items() if asked == peer]
        for number in lost:
            self.came(peer, number, reply=None)

    def take(self, number: int, box: SimpleQueue[Message | None], *, until: float) -> Shareable:
        """The reply; COMMUNICATION_ERROR where none comes in time, or it cannot be read."""
        try:
            message = box.get(timeout=max(0.0, until - time.monotonic()))
            return make_reply(ReturnCode.COMMUNICATION_ERROR) if message is None else received(message)
        except (Empty, DecodeError):
            return make_reply(ReturnCode.COMMUNICATION_ERROR)
        finally:
            self.close(number)


class SitesAsk:
    """The server's way to sites that are elsewhere; implements `hansa.runtime.engines.PatientLink`.

    Args:
        send: Sends a request to sites.
        abort_task: Stops the task under way at a site.
        is_there: Whether a site would hear.
    """

    def __init__(
        self, send: SendToSites, *, abort_task: Callable[[str], None], is_there: Callable[[str], bool]
    ) -> None:
        self.replies = Replies()
        self.server: End | None = None
        self._send = send
        self._abort_task = abort_task
        self._is_there = is_there

    def ask_server(
        self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext, timeout_s: float
    ) -> Shareable:
        """Sites have their own way."""
        return make_reply(ReturnCode.COMMUNICATION_ERROR)

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Sites have their own way."""
        return make_reply(ReturnCode.COMMUNICATION_ERROR)

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Ask one site and wait for as long as it takes."""
        return self.ask_sites([site], topic, request=request, fl_ctx=fl_ctx, timeout_s=LONGEST_WAIT_S)[site]

    def ask_sites(
        self, sites: Sequence[str], topic: str, *, request: Shareable, fl_ctx: FLContext, timeout_s: float
    ) -> dict[str, Shareable]:
        """See `PatientLink`."""
        there = [site for site in sites if self.server is not None and self._is_there(site)]
        found = {site: make_reply(ReturnCode.COMMUNICATION_ERROR) for site in sites}
        if topic == ReservedTopic.ABORT_ASK:
            for site in there:
                self._abort_task(site)
                found[site] = make_reply(ReturnCode.OK)
            return found
        if not there:
            return found
        assert self.server is not None
        message = request_message(self.server, topic, request, fl_ctx)
        if timeout_s <= 0:
            self._send(dict.fromkeys(there, 0), message, 0.0)
            return {**found, **{site: make_reply(ReturnCode.OK) for site in there}}
        opened = {site: self.replies.open(site) for site in there}
        self._send({site: number for site, (number, _) in opened.items()}, message, timeout_s)
        until = time.monotonic() + min(timeout_s, LONGEST_WAIT_S)
        for site in there:
            if not self._is_there(site):  # it left before it could be noticed who waits for it
                self.replies.gone(site)
            found[site] = self.replies.take(*opened[site], until=until)
        return found


class ServerAsk:
    """A site's way to the server; implements `hansa.runtime.engines.PatientLink`.

    Args:
        send: Sends a request.
        find: This site's end.
    """

    def __init__(self, send: Send, find: Callable[[str], End]) -> None:
        self.replies = Replies()
        self._send = send
        self._find = find

    def ask_server(
        self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext, timeout_s: float
    ) -> Shareable:
        """See `PatientLink`."""
        message = request_message(self._find(site), topic, request, fl_ctx)
        if timeout_s <= 0:
            self._send(0, message, 0.0)
            return make_reply(ReturnCode.OK)
        number, box = self.replies.open(PEER)
        self._send(number, message, timeout_s)
        return self.replies.take(number, box, until=time.monotonic() + min(timeout_s, LONGEST_WAIT_S))

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Ask the server and wait for as long as it takes."""
        return self.ask_server(site, topic, request=request, fl_ctx=fl_ctx, timeout_s=LONGEST_WAIT_S)

    def ask_sites(
        self, sites: Sequence[str], topic: str, *, request: Shareable, fl_ctx: FLContext, timeout_s: float
    ) -> dict[str, Shareable]:
        """Sites do not ask each other."""
        return {site: make_reply(ReturnCode.COMMUNICATION_ERROR) for site in sites}

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Sites do not ask each other."""
        return make_reply(ReturnCode.COMMUNICATION_ERROR)


PEER = "server"
