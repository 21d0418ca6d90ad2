"""Aux requests of the server to sites that live in workers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from hansa.apis.fl_constant import ReservedTopic, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.runtime.memory_link import End, received, request_message
from hansa.runtime.worker_process import WorkerProcess
from hansa.runtime.worker_words import ToWorker
from hansa.wire.message import Message


class WorkerAsk:
    """The server's way to sites in workers; implements `hansa.runtime.engines.AuxLink`."""

    def __init__(self, worker_of: Callable[[str], WorkerProcess]) -> None:
        self._worker_of = worker_of
        self._waiting: dict[int, tuple[WorkerProcess, SimpleQueue[Message | None]]] = {}
        self._number = 0
        self._lock = threading.Lock()
        self.server: End | None = None
        self._asked: set[str] = set()  # sites whose components may know something else since their last result

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Sites have their own way."""
        return make_reply(ReturnCode.COMMUNICATION_ERROR)

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Ask a site and wait for its reply."""
        worker = self._worker_of(site)
        if self.server is None or not worker.is_connected:
            return make_reply(ReturnCode.COMMUNICATION_ERROR)
        if topic == ReservedTopic.ABORT_ASK:
            for number, assignment in list(worker.outstanding.items()):
                if assignment.site == site:
                    worker.send(ToWorker.ABORT_TASK, {"site": site, "number": number})
            return make_reply(ReturnCode.OK)
        self._asked.add(site)
        came = self._ask(worker, ToWorker.ASK, site, message=request_message(self.server, topic, request, fl_ctx))
        return make_reply(ReturnCode.COMMUNICATION_ERROR) if came is None else received(came)

    def refresh(self, states: dict[str, Message]) -> dict[str, Message]:
        """Put in what components know of sites that were asked something since the last time; the same states."""
        for site in sorted(self._asked):
            worker = self._worker_of(site)
            state = self._ask(worker, ToWorker.TELL_STATE, site) if worker.is_connected else None
            if state is not None:
                states[site] = state
        self._asked.clear()
        return states

    def _ask(
        self, worker: WorkerProcess, word: ToWorker, site: str, *, message: Message | None = None
    ) -> Message | None:
        reply: SimpleQueue[Message | None] = SimpleQueue()
        with self._lock:
            self._number += 1
            number = self._number
            self._waiting[number] = worker, reply
        worker.send(word, {"site": site, "number": number}, message=message)
        return reply.get() if worker.is_connected else None

    def replied(self, number: int, message: Message | None) -> None:
        """A site's reply is here."""
        with self._lock:
            _, waiting = self._waiting.pop(number, (None, None))
        if waiting is not None:
            waiting.put(message)

    def gone(self, worker: WorkerProcess) -> None:
        """A worker will not reply any more."""
        with self._lock:
            lost = [number for number, (whose, _) in self._waiting.items() if whose is worker]
        for number in lost:
            self.replied(number, None)
