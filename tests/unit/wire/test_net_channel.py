"""A session's bookkeeping: every frame once and in order, whatever happens to its connections."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import DecodeError
from hansa.wire import federation_pb2 as pb
from hansa.wire.net_channel import Incoming, NetChannel

MB = 1 << 20


def frame(kind: str = "k", size: int = 0) -> pb.Frame:
    return pb.Frame(kind=kind, head=bytes(size))


def numbered(number: int) -> pb.Frame:
    return pb.Frame(number=number, kind="k")


@dataclass
class End:
    """One end, the connection that it now has, and what its program got."""

    channel: NetChannel = field(default_factory=lambda: NetChannel(MB))
    said: list[str] = field(default_factory=list)
    got: list[str] = field(default_factory=list)
    incoming: Incoming | None = None
    connection: int = 0

    def say(self) -> None:
        kind = str(len(self.said))
        self.said.append(kind)
        self.channel.say(frame(kind))

    def message(self, most_frames: int) -> tuple[list[pb.Frame], int]:
        sent = self.channel.outgoing(MB, most_frames=most_frames)
        return [pb.Frame.FromString(each.SerializeToString()) for each in sent], self.channel.received

    def take(self, message: tuple[list[pb.Frame], int]) -> None:
        frames, received = message
        self.channel.acknowledged(received)
        assert self.incoming is not None
        for each in frames:
            if self.incoming.takes(each):
                self.got.append(each.kind)


class Wire:
    """Two ends and the messages under way, each on the connection on which it was written."""

    def __init__(self) -> None:
        self.ends = (End(), End())
        self.under_way: tuple[list[tuple[list[pb.Frame], int]], ...] = ([], [])  # to each end
        self.connect()

    def connect(self) -> None:
        """As the site dials anew: it says what it has, then the server says what it has; nothing of before arrives."""
        site, server = self.ends
        for each in self.under_way:
            each.clear()
        hello = site.channel.received
        server.channel.reconnected(hello)
        server.incoming = Incoming(server.channel)
        site.channel.reconnected(server.channel.received)
        site.incoming = Incoming(site.channel)

    def write(self, index: int, most_frames: int) -> None:
        self.under_way[1 - index].append(self.ends[index].message(most_frames))

    def deliver(self, index: int, count: int) -> None:
        for _ in range(min(count, len(self.under_way[index]))):
            self.ends[index].take(self.under_way[index].pop(0))


ends = st.integers(0, 1)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), ends, st.just(0)),
        st.tuples(st.just("write"), ends, st.integers(1, 4)),
        st.tuples(st.just("deliver"), ends, st.integers(1, 4)),
        st.tuples(st.just("cut"), ends, st.just(0)),
    ),
    max_size=80,
)


@given(steps)
def test_every_frame_arrives_once_and_in_order_whatever_is_cut(plan: list[tuple[str, int, int]]) -> None:
    wire = Wire()
    for what, index, count in plan:
        if what == "say":
            wire.ends[index].say()
        elif what == "write":
            wire.write(index, count)
        elif what == "deliver":
            wire.deliver(index, count)
        else:
            wire.connect()
        for end, other in (wire.ends, wire.ends[::-1]):
            assert end.got == other.said[: len(end.got)]
    wire.connect()
    for _ in range(2):  # the second time takes the acknowledgements of the first along
        for index in (0, 1):
            wire.write(index, 1000)
            wire.deliver(1 - index, 1)
    for end, other in (wire.ends, wire.ends[::-1]):
        assert end.got == other.said
        assert end.channel.unacknowledged_bytes == 0
        assert not end.channel.has_more


def test_frames_that_come_late_on_an_old_connection_count_once() -> None:
    sender, receiver = NetChannel(MB), NetChannel(MB)
    for _ in range(4):
        sender.say(frame())
    first = Incoming(receiver)
    sent = sender.outgoing(MB, most_frames=10)
    assert first.takes(sent[0])
    sender.reconnected(receiver.received)  # the other end has noticed nothing yet
    second = Incoming(receiver)
    assert first.takes(sent[1])
    again = sender.outgoing(MB, most_frames=10)
    assert [second.takes(each) for each in again] == [False, True, True]
    assert receiver.received == 4


@pytest.mark.parametrize("numbers", [[2], [1, 1], [1, 3], [1, 2, 1], [0], [1 << 63]])
def test_a_number_that_is_not_due_is_refused(numbers: list[int]) -> None:
    incoming = Incoming(NetChannel(MB))
    with pytest.raises(DecodeError, match="was due"):
        for number in numbers:
            incoming.takes(numbered(number))


def test_a_replay_on_a_new_connection_is_refused() -> None:
    channel = NetChannel(MB)
    assert Incoming(channel).takes(numbered(1))
    with pytest.raises(DecodeError, match="frame 1 where 2 was due"):
        Incoming(channel).takes(numbered(1))


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    channel = NetChannel(MB)
    channel.say(frame())
    with pytest.raises(DecodeError, match="frame 1 is acknowledged, and 0 were sent"):
        channel.acknowledged(1)
    channel.outgoing(MB, most_frames=1)
    channel.acknowledged(1)


@pytest.mark.parametrize("received", [0, 4])
def test_a_resume_at_an_impossible_place_is_refused(received: int) -> None:
    channel = NetChannel(MB)
    for _ in range(3):
        channel.say(frame())
    channel.outgoing(MB, most_frames=3)
    channel.acknowledged(2)
    with pytest.raises(DecodeError, match="frames, of 3"):
        channel.reconnected(received)
    channel.reconnected(2)
    assert [each.number for each in channel.outgoing(MB, most_frames=9)] == [3]


def test_a_message_takes_what_fits_and_one_frame_at_least() -> None:
    channel = NetChannel(100 * MB)
    for size in (600_000, 600_000, 3 * MB, 10):
        channel.say(frame(size=size))
    batches = [[each.number for each in channel.outgoing(MB, most_frames=10)] for _ in range(4)]
    assert batches == [[1], [2], [3], [4]]
    for _ in range(5):
        channel.say(frame())
    assert [len(channel.outgoing(MB, most_frames=2)) for _ in range(3)] == [2, 2, 1]


def test_the_quota_counts_large_frames_and_many_tiny_ones() -> None:
    for size, most in ((100_000, 11), (0, 5000)):
        channel = NetChannel(MB)
        count = 0
        while not channel.is_over_quota:
            channel.say(frame(size=size))
            count += 1
        assert count <= most
        channel.outgoing(100 * MB, most_frames=count)
        channel.acknowledged(count)
        assert channel.unacknowledged_bytes == 0
