"""What a worker says to the server, gathered into frames."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hansa.runtime.assignments import Answer, Delivery
from hansa.runtime.worker_words import FromWorker
from hansa.wire.bundle import Bundle
from hansa.wire.codec import Encoder
from hansa.wire.local_link import LocalLink
from hansa.wire.message import Message

_MOST_ANSWERS = 64
_MOST_BYTES = 1 << 20
_PATIENCE_S = 0.002
"""How long an answer may wait for others: less than anybody notices, more than a small task takes."""
_MOST_BYTES_AHEAD = 256 << 20
"""How much may lie in results that the server has not received yet; a single result may be larger."""
_MOST_LINES = 10_000
"""How many lines of the log may wait; more are counted and dropped."""


class WorkerOutbox:
    """Sends frames; answers of fast tasks share one. Any thread.

    Args:
        link: The way to the server.
    """

    def __init__(self, link: LocalLink) -> None:
        self._link = link
        self.most_ahead = _MOST_ANSWERS
        self._taken = threading.Condition()
        self._num_ahead = 0  # answers sent, of which the server has not said that it took them
        self._bytes_ahead = 0
        self._known: set[str] = set()
        self._lock = threading.RLock()
        self._answers: list[list[Any]] = []  # Any: JSON
        self._parts: list[list[Any]] = []
        self._ended: dict[str, str] = {}
        self._bundle = Bundle(self._known)
        self._skipped: list[int] = []
        self._num_heavy = 0
        self._lines: list[list[Any]] = []
        self._dropped = 0
        self._last = time.monotonic()

    def say(
        self, word: FromWorker, head: Mapping[str, Any], *, message: Message | None = None, value: object = None
    ) -> None:  # Any: JSON
        """Send a frame, after whatever was gathered before it.

        Args:
            word: What it is.
            head: Its facts.
            message: What goes with it.
            value: The same, not yet encoded.
        """
        with self._lock:
            self.flush()
            bundle = Bundle(self._known)
            if value is not None:
                message = Encoder().encode(value)
            reference = None if message is None else bundle.add(message)
            self._link.send({"k": word.value, "m": reference, **head}, bundle.parts())

    def deliver(self, delivery: Delivery, ended: Mapping[str, str], *, used_bytes: int | None = None) -> None:
        """Send answers, soon.

        Args:
            delivery: The answers, and parts of sums.
            ended: Sites whose part is over.
            used_bytes: The most device memory that this process held meanwhile; None where it uses no device.
        """
        self._wait_for_room(delivery.answers)
        with self._lock:
            for answer in delivery.answers:
                state = None if answer.state is None else self._bundle.add(answer.state)
                message = answer.message
                reference = self._bundle.add(message) if isinstance(message, Message) else message
                self._num_heavy += bool(_heavy_bytes(answer))
                self._answers.append(
                    [answer.assignment.number, answer.folded, reference, state, answer.ran_out, used_bytes]
                )
                site = answer.assignment.site
                if site in ended:
                    self._ended[site] = ended[site]
            for part in delivery.parts:
                regions = [self._bundle.add_array(region) for region in part.regions]
                self._parts.append([part.span, part.sites, part.head, regions])
            if (
                self._parts
                or len(self._answers) >= _MOST_ANSWERS
                or self._bundle.size_bytes > _MOST_BYTES
                or self._num_heavy
                or time.monotonic() - self._last > _PATIENCE_S
            ):
                self.flush()

    def skip(self, number: int) -> None:
        """Say that a task has no answer: its site takes part no more."""
        with self._lock:
            self._skipped.append(number)

    def log(self, record: logging.LogRecord) -> None:
        """Send a line of the log, soon."""
        with self._lock:
            if len(self._lines) >= _MOST_LINES:
                self._dropped += 1
                return
            self._lines.append([record.levelno, record.name, record.getMessage(), record.created])

    def flush(self) -> None:
        """Send what was gathered."""
        with self._lock:
            if self._lines:
                lines, self._lines = self._lines, []
                if self._dropped:
                    lines.append([logging.WARNING, "hansa.worker", f"{self._dropped} lines dropped", time.time()])
                    self._dropped = 0
                self._link.send({"k": FromWorker.LOG.value, "lines": lines})
            if self._answers or self._parts or self._skipped:
                head = {
                    "k": FromWorker.ANSWERS.value,
                    "answers": self._answers,
                    "parts": self._parts,
                    "ended": self._ended,
                    "skipped": self._skipped,
                    "heavy": self._num_heavy,
                }
                self._num_heavy = 0
                parts = self._bundle.parts()
                self._answers, self._parts, self._ended, self._bundle = [], [], {}, Bundle(self._known)
                self._skipped = []
                self._link.send(head, parts)
            self._last = time.monotonic()

    def taken(self, count: int) -> None:
        """The server has received so many answers."""
        with self._taken:
            self._num_ahead -= count
            if not self._num_ahead:
                self._bytes_ahead = 0
            self._taken.notify_all()

    def _wait_for_room(self, answers: Sequence[Answer]) -> None:
        """Go on when the server is not too far behind with what lies in memory."""
        sizes = [_heavy_bytes(answer) for answer in answers]
        if not any(sizes):
            return
        size = sum(sizes)
        with self._taken:
            self._taken.wait_for(
                lambda: (
                    not self._num_ahead
                    or (self._num_ahead < self.most_ahead and self._bytes_ahead + size <= _MOST_BYTES_AHEAD)
                )
            )
            self._bytes_ahead += size
            self._num_ahead += sum(map(bool, sizes))


def _heavy_bytes(answer: Answer) -> int:
    """What an answer holds in memory of its own."""
    return sum(blob.size_bytes for blob in answer.message.blobs) if isinstance(answer.message, Message) else 0
