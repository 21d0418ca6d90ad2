"""The connections of one site to its rank processes, and what comes over them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from hansa.errors import DecodeError
from hansa.runtime.rank_words import FromRank, ToRank
from hansa.wire.blobs import AllocatingSink
from hansa.wire.bundle import Bundle, Unbundler
from hansa.wire.codec import Encoder, TableCache, decode
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import LocalListener, connect
from hansa.wire.message import Message
from hansa.wire.slots import SlotPool

LIFE = b"hansa-life"
_LONG_S = 1e6
_GUARD_S = 5.0
"""How long a guard's word may come after its rank's, or how long after a rank's last one its end may be."""
_HELLO_BYTES = 200


@dataclass(frozen=True)
class Said:
    """One word of a rank's.

    Attributes:
        rank: Whose.
        word: Which; None: the rank is gone.
        head: What came with it.
        value: The message that came with it.
    """

    rank: int
    word: FromRank | None
    head: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    value: Any = None  # Any: whatever the codec can carry


class RankLink:
    """The way to one rank.

    Args:
        link: To the rank itself.
        life: To its guard, which ends the rank and all that it started when this is closed.
        sock: What the link goes over; its end ends a rank that has lost its guard.
    """

    def __init__(self, link: LocalLink, life: socket.socket, *, sock: socket.socket) -> None:
        self._link = link
        self._sock = sock
        self._life = life
        self._known: set[str] = set()
        self._messages = Unbundler()
        self._tables = TableCache()
        self.exit_code: int | None = None
        """How the rank ended, once it is gone and if its guard has said so."""

    def send(self, word: ToRank, head: Mapping[str, Any], *, message: Message | None = None) -> None:  # Any: JSON
        """Say something; nothing happens if the rank is gone, which is heard in its place."""
        bundle = Bundle(self._known)
        more = {} if message is None else {"m": bundle.add(message)}
        with suppress(ConnectionError):
            self._link.send({"k": word.value, **head, **more}, bundle.parts() if more else ())

    def hear(self, rank: int) -> Said | None:
        """Its next word; None at its end.

        Raises:
            DecodeError: What came cannot be read.
        """
        frame = self._link.receive()
        if frame is None:
            return None
        head, parts = frame
        try:
            value = None
            if "m" in head:
                value = decode(self._messages.message(head["m"], parts), arrays="own", tables=self._tables)
            return Said(rank, FromRank(head["k"]), head, value)
        except (KeyError, ValueError, TypeError) as error:
            raise DecodeError(f"a rank has said {head!r:.80}") from error

    def learn_its_end(self) -> None:
        """Wait for the word of its guard, which stays until `cut`."""
        with suppress(OSError, ValueError):
            self._life.settimeout(_GUARD_S)
            self.exit_code = int(self._life.recv(16) or b"?")

    def cut(self) -> None:
        """End the rank, and all that it started; does not wait."""
        for sock in (self._life, self._sock):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of it; only when it is gone, since its memory is used again."""
        self._life.close()
        self._link.close()


class RankLinks:
    """Takes the connections of rank processes and of their guards in, and what they say.

    Args:
        num_ranks: How many ranks there are.
        token: What each says first.
        pool: Memory for what they are given.
        folder: Where a socket may lie.
        put: Takes what they say, on threads of ours; each rank's end as the last.
    """

    def __init__(
        self, num_ranks: int, token: str, *, pool: SlotPool, folder: Path, put: Callable[[Said], None]
    ) -> None:
        self._token = token
        self._pool = pool
        self._put = put
        self._lock = threading.Lock()
        self._is_closed = False
        self._lives: list[SimpleQueue[socket.socket]] = [SimpleQueue() for _ in range(num_ranks)]
        self._pending: set[socket.socket] = set()
        self.by_rank: dict[int, RankLink] = {}
        self._listeners = LocalListener(folder), LocalListener(folder)
        self._threads = [
            threading.Thread(target=self._accept, args=pair, name="hansa-rank", daemon=True)
            for pair in zip(self._listeners, (self._serve, self._take_life), strict=True)
        ]
        for thread in list(self._threads):
            thread.start()

    @property
    def addresses(self) -> tuple[str, str]:
        """Where ranks connect to, and where their guards do."""
        return self._listeners[0].address, self._listeners[1].address

    def close(self) -> None:
        """End all ranks that are connected, and wait for their ends; nobody connects any more."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for sock in self._pending:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for link in self.by_rank.values():
                link.cut()
        for listener in self._listeners:
            with suppress(OSError):
                connect(listener.address).close()  # wakes who waits there
        for thread in self._threads:
            thread.join()
        for link in self.by_rank.values():
            link.close()
        for sock in self._pending:
            sock.close()
        for listener in self._listeners:
            listener.close()

    def _accept(self, listener: LocalListener, take: Callable[[socket.socket], None]) -> None:
        while True:
            sock = listener.accept(timeout_s=_LONG_S)
            with self._lock:
                if self._is_closed:
                    sock.close()
                    return
                self._pending.add(sock)
                thread = threading.Thread(target=take, args=(sock,), name="hansa-rank", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _take_life(self, sock: socket.socket) -> None:
        """A guard is here, before its rank."""
        with suppress(OSError):
            match sock.recv(_HELLO_BYTES).split():
                case [start, token, rank] if (start, token) == (LIFE, self._token.encode()):
                    number = int(rank)
                    if 0 <= number < len(self._lives):
                        self._lives[number].put(sock)
                        return
        self._drop(sock)

    def _serve(self, sock: socket.socket) -> None:
        link = LocalLink(sock, self._pool)
        rank, known = self._greeted(sock, link)
        if rank is None or known is None:
            link.close()
            self._drop(sock)
            return
        try:
            while (said := known.hear(rank)) is not None:
                self._put(said)
                del said  # its arrays: their memory is wanted again while nothing comes
        except DecodeError:  # another program, or a damaged one
            known.cut()
        known.learn_its_end()
        self._put(Said(rank, None))

    def _greeted(self, sock: socket.socket, link: LocalLink) -> tuple[int | None, RankLink | None]:
        try:
            head, _ = link.receive() or ({}, [])
            rank = head.get("rank")
            if head.get("token") != self._token or not isinstance(rank, int) or not 0 <= rank < len(self._lives):
                return None, None
            life = self._lives[rank].get(timeout=_GUARD_S)
        except (DecodeError, Empty):
            return None, None
        with self._lock:
            self._pending -= {sock, life}
            known = RankLink(link, life, sock=sock)
            if self._is_closed or rank in self.by_rank:
                known.cut()
                known.close()
                return None, None
            self.by_rank[rank] = known
        self._put(Said(rank, FromRank.HELLO))
        return rank, known

    def _drop(self, sock: socket.socket) -> None:
        with self._lock:
            self._pending.discard(sock)
        sock.close()


def encoded(value: object, pool: SlotPool) -> Message:
    """A value as a message that lies in the pool's memory.

    Raises:
        EncodeError: Something in it has no form on the wire.
    """
    return Encoder(sink=AllocatingSink(pool.allocate)).encode(value)
