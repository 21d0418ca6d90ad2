"""The link between the server and sites that live in the same process.

Everything still passes through the codec, so that nothing is shared by reference and a job behaves as it
will over a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from hansa.apis.fl_constant import ReservedTopic, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from hansa.errors import EncodeError
from hansa.runtime.engines import AuxTable
from hansa.runtime.outbox import Outbox
from hansa.runtime.user_code import Failure, Mishap, OnFailure
from hansa.wire.codec import decode


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
        self._sites: Mapping[str, End] = {}

    def join(self, server: End, sites: Mapping[str, End]) -> None:
        """Connect the sides."""
        self._server, self._sites = server, sites

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """A site asks the server."""
        sender, receiver = self._sites.get(site), self._server
        if sender is None or receiver is None:
            return make_reply(ReturnCode.COMMUNICATION_ERROR)
        return self._exchange(sender, receiver, (topic, request), fl_ctx, name="server")

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """The server asks a site."""
        sender, receiver = self._server, self._sites.get(site)
        if sender is None or receiver is None:
            return make_reply(ReturnCode.COMMUNICATION_ERROR)
        if topic == ReservedTopic.ABORT_ASK:
            receiver.abort_task()
            return make_reply(ReturnCode.OK)
        return self._exchange(sender, receiver, (topic, request), fl_ctx, name=site)

    def _exchange(
        self, sender: End, receiver: End, message: tuple[str, Shareable], fl_ctx: FLContext, *, name: str
    ) -> Shareable:
        topic, request = message
        arrived = _carried(sender.outbox, topic, request, fl_ctx)
        with receiver.new_context() as other_ctx:
            other_ctx.set_peer_context(_peer(arrived))
            reply, failure = receiver.aux.answer(topic, arrived, fl_ctx=other_ctx)
            if failure is not None:
                self._on_failure(Mishap(name, f"handler of topic {topic}"), failure)
            try:
                answer = _carried(receiver.outbox, topic, reply, other_ctx)
            except EncodeError as error:
                self._on_failure(Mishap(name, f"reply to topic {topic}"), Failure(error, str(error), ""))
                answer = make_reply(ReturnCode.HANDLER_EXCEPTION)
        return answer


def _carried(outbox: Outbox, topic: str, message: Shareable, fl_ctx: FLContext) -> Shareable:
    message.set_header(ReservedHeaderKey.TOPIC, topic)
    message.set_peer_props(outbox.public_props(fl_ctx))
    arrived = decode(outbox.pack(message), arrays="own")
    assert isinstance(arrived, Shareable)
    return arrived


def _peer(message: Shareable) -> FLContext:
    peer = FLContext()
    peer.set_public_props(message.get_peer_props() or {})
    return peer
