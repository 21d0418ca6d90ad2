"""The link between the server and sites that live in the same process.

Everything still passes through the codec, so that nothing is shared by reference and a job behaves as it
will over a network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hansa.apis.fl_constant import ReservedTopic, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.errors import EncodeError
from hansa.runtime.engines import AuxTable
from hansa.runtime.outbox import Outbox
from hansa.runtime.user_code import Failure, Mishap, OnFailure
from hansa.wire.codec import Message, decode


class End(Protocol):
    """One side as the link sees it."""

    @property
    def outbox(self) -> Outbox:
        """The side's way out."""
        ...

    @property
    def aux(self) -> AuxTable:
        """Who answers which topic here."""
        ...

    def new_context(self) -> FLContext:
        """A context of this side."""
        ...

    def abort_task(self) -> None:
        """Stop the task under way, if there is one."""
        ...


class MemoryLink:
    """Carries aux messages between the two sides; implements `hansa.runtime.engines.AuxLink`.

    Args:
        on_failure: Told when a handler raises.
    """

    def __init__(self, on_failure: OnFailure) -> None:
        self._on_failure = on_failure
        self._server: End | None = None
        self._find: Callable[[str], End | None] = lambda site: None

    def join(self, server: End, find: Callable[[str], End | None]) -> None:
        """Connect the sides.

        Args:
            server: The server.
            find: Gives a site by its name.
        """
        self._server, self._find = server, find

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """A site asks the server."""
        sender, receiver = self._find(site), self._server
        if sender is None or receiver is None:
            return make_reply(ReturnCode.COMMUNICATION_ERROR)
        return self._exchange(sender, receiver, request_message(sender, topic, request, fl_ctx), name="server")

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """The server asks a site."""
        sender, receiver = self._server, self._find(site)
        if sender is None or receiver is None:
            return make_reply(ReturnCode.COMMUNICATION_ERROR)
        if topic == ReservedTopic.ABORT_ASK:
            receiver.abort_task()
            return make_reply(ReturnCode.OK)
        return self._exchange(sender, receiver, request_message(sender, topic, request, fl_ctx), name=site)

    def _exchange(self, sender: End, receiver: End, request: Message, *, name: str) -> Shareable:
        return received(answer(receiver, request, name=name, on_failure=self._on_failure))


def request_message(sender: End, topic: str, request: Shareable, fl_ctx: FLContext) -> Message:
    """An aux request as it leaves its sender.

    Raises:
        EncodeError: Something in it has no form on the wire.
    """
    return _outgoing(sender.outbox, topic, request, fl_ctx)


def answer(receiver: End, request: Message, *, name: str, on_failure: OnFailure) -> Message:
    """What a side answers to an aux request, on its way back.

    Args:
        receiver: Who is asked.
        request: The request.
        name: Who is asked, for problems.
        on_failure: Told when the handler raises.
    """
    arrived = received(request)
    topic = str(arrived.get_header(ReservedHeaderKey.TOPIC))
    with receiver.new_context() as fl_ctx:
        fl_ctx.set_peer_context(_peer(arrived))
        reply, failure = receiver.aux.answer(topic, arrived, fl_ctx=fl_ctx)
        if failure is not None:
            on_failure(Mishap(name, f"handler of topic {topic}"), failure)
        try:
            return _outgoing(receiver.outbox, topic, reply, fl_ctx)
        except EncodeError as error:
            on_failure(Mishap(name, f"reply to topic {topic}"), Failure(error, str(error), ""))
            return _outgoing(receiver.outbox, topic, make_reply(ReturnCode.HANDLER_EXCEPTION), fl_ctx)


def received(message: Message) -> Shareable:
    """An aux message at its receiver; its arrays are the receiver's own."""
    arrived = decode(message, arrays="own")
    assert isinstance(arrived, Shareable)
    return arrived


def _outgoing(outbox: Outbox, topic: str, message: Shareable, fl_ctx: FLContext) -> Message:
    message.set_header(ReservedHeaderKey.TOPIC, topic)
    message.set_peer_props(outbox.public_props(fl_ctx))
    return outbox.pack(message)


def _peer(message: Shareable) -> FLContext:
    peer = FLContext()
    peer.set_public_props(message.get_peer_props() or {})
    return peer
