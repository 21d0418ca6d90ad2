"""What goes along of a context when an event or a task moves between a site's process and its ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.errors import EncodeError
from hansa.wire.codec import Encoder

_STAYS = {
    ReservedKey.ENGINE,
    ReservedKey.MANAGER,
    ReservedKey.RUN_NUM,
    ReservedKey.IDENTITY_NAME,
    ReservedKey.PEER_CTX,
    FLContextKey.CLIENT_NAME,
    FLContextKey.APP_ROOT,
    FLContextKey.ARGS,
    FLContextKey.WORKSPACE_ROOT,
    FLContextKey.WORKSPACE_OBJECT,
    FLContextKey.SECURE_MODE,
    FLContextKey.RUN_ABORT_SIGNAL,
    FLContextKey.RUNNER,
    FLContextKey.TASK_DATA,
    FLContextKey.TASK_RESULT,
    FLContextKey.EVENT_ID,
    FLContextKey.RANK_NUMBER,
    FLContextKey.NUM_OF_PROCESSES,
    FLContextKey.FROM_RANK_NUMBER,
}
"""What each process has of its own, or is too large to go along with every event."""
_PLAIN = (str, int, float, bool, type(None))

Traveller = dict[str, Any]  # Any: values with a form on the wire


def pack(fl_ctx: FLContext, *, sticky: bool = True) -> Traveller:
    """The properties of a context that can travel, each with its nature, and the public ones of its peer.

    Args:
        fl_ctx: The context.
        sticky: Whether sticky properties go along.
    """
    props = {}
    for key, detail in fl_ctx.get_all_details().items():
        if key not in _STAYS and (sticky or not detail["sticky"]) and _can_travel(detail["value"]):
            props[key] = [detail["value"], detail["private"], detail["sticky"]]
    peer = fl_ctx.get_peer_context()
    known = {} if peer is None else peer.get_all_public_props()
    return {"props": props, "peer": {key: value for key, value in known.items() if _can_travel(value)}}


def unpack(traveller: Mapping[str, Any], fl_ctx: FLContext) -> None:  # Any: as packed
    """Set in a context what was packed."""
    for key, (value, private, sticky) in traveller["props"].items():
        fl_ctx.set_prop(key, value, private=private, sticky=sticky)
    if traveller["peer"]:
        peer = FLContext()
        peer.set_public_props(traveller["peer"])
        fl_ctx.set_peer_context(peer)


def _can_travel(value: object) -> bool:
    if isinstance(value, _PLAIN):
        return True
    try:
        Encoder().encode(value)
    except EncodeError:
        return False
    return True
