"""One end of a session, without any I/O: what was said, what was heard, what must be said again.

Frames are numbered from 1. An end keeps what it has said until the other end has acknowledged it, and says it again
after a reconnect; what comes twice is dropped. So as long as both programs live every frame arrives once, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from hansa.errors import DecodeError
from hansa.wire import federation_pb2 as pb

_FRAME_BYTES = 256
"""What a frame takes here besides its content, so that the quota holds for tiny ones, too."""


class NetChannel:
    """One end of a session.

    Args:
        quota_bytes: How much may be unacknowledged.
    """

    def __init__(self, quota_bytes: int) -> None:
        self.received = 0
        """The number of the last frame that came."""
        self.unacknowledged_bytes = 0
        self._quota_bytes = quota_bytes
        self._said: deque[tuple[pb.Frame, int]] = deque()
        self._last = 0
        self._next = 1  # the number of the next frame to go out on this connection

    @property
    def is_over_quota(self) -> bool:
        """Whether the other end has left too much unread."""
        return self.unacknowledged_bytes > self._quota_bytes

    @property
    def has_more(self) -> bool:
        """Whether something is to go out."""
        return self._next <= self._last

    def say(self, frame: pb.Frame) -> None:
        """Take a frame to be sent."""
        self._last += 1
        frame.number = self._last
        size = frame.ByteSize() + _FRAME_BYTES
        self.unacknowledged_bytes += size
        self._said.append((frame, size))

    def outgoing(self, most_bytes: int, *, most_frames: int) -> list[pb.Frame]:
        """The next frames to go out, at least one if there is any; of at most so many bytes together."""
        frames: list[pb.Frame] = []
        total = 0
        for frame, size in self._from(self._next):
            total += size
            if len(frames) == most_frames or (frames and total > most_bytes):
                break
            frames.append(frame)
        self._next += len(frames)
        return frames

    def _from(self, number: int) -> Iterator[tuple[pb.Frame, int]]:
        skip = len(self._said) - (self._last - number + 1)
        return (self._said[index] for index in range(skip, len(self._said)))

    def acknowledged(self, number: int) -> None:
        """The other end has everything up to this number.

        Raises:
            DecodeError: Nothing of that number was sent.
        """
        if number >= self._next:
            raise DecodeError(f"frame {number} is acknowledged, and {self._next - 1} were sent")
        while self._said and self._said[0][0].number <= number:
            self.unacknowledged_bytes -= self._said.popleft()[1]

    def reconnected(self, received: int) -> None:
        """A new connection: go on after the last frame that the other end has.

        Raises:
            DecodeError: It cannot have that one.
        """
        first = self._said[0][0].number if self._said else self._last + 1
        if received > self._last or received + 1 < first:
            raise DecodeError(f"the other end has {received} frames, of {self._last}, and {first} is the next")
        self._next = received + 1
        self.acknowledged(received)


class Incoming:
    """The frames that come on one connection of a session.

    On a connection numbers go up one by one, from where the session stood when it was made: anything else is no
    accident. A frame that has come on an earlier connection meanwhile is dropped.

    Args:
        channel: The session's end here.
    """

    def __init__(self, channel: NetChannel) -> None:
        self._channel = channel
        self._due = channel.received + 1

    def takes(self, frame: pb.Frame) -> bool:
        """Whether a frame that came is new.

        Raises:
            DecodeError: It is not the one that is due.
        """
        if frame.number != self._due:
            raise DecodeError(f"frame {frame.number} where {self._due} was due")
        self._due += 1
        if frame.number <= self._channel.received:
            return False
        self._channel.received = frame.number
        return True
