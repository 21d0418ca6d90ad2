"""What a line of the log says about where it was written, and which properties may leave the process."""

from __future__ import annotations

import logging

from hansa.apis import byte_form
from hansa.apis.fl_constant import FLContextKey, NonSerializableKeys
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.errors import EncodeError

_logger = logging.getLogger("log_message")


def generate_log_message(fl_ctx: FLContext, msg: str) -> str:
    """The message behind a prefix such as `[run=1, wf=sag, peer=site-1, peer_run=1, task_name=train, task_id=7]: `.

    What the context does not know is left out; a run or a peer without a name is `?`.
    """
    facts = [("run", fl_ctx.get_run_number() or "?")]
    workflow = fl_ctx.get_prop(FLContextKey.WORKFLOW)
    if workflow is not None:
        facts.append(("wf", workflow))
    peer = fl_ctx.get_peer_context()
    if isinstance(peer, FLContext):
        facts.append(("peer", peer.get_identity_name() or "?"))
        facts.append(("peer_run", peer.get_run_number() or "?"))
    reply = fl_ctx.get_prop(FLContextKey.REPLY)
    if isinstance(reply, Shareable):
        facts.append(("peer_rc", reply.get_return_code()))
    for name, key in (("task_name", FLContextKey.TASK_NAME), ("task_id", FLContextKey.TASK_ID)):
        value = fl_ctx.get_prop(key)
        if value:
            facts.append((name, value))
    return f"[{', '.join(f'{name}={value}' for name, value in facts)}]: {msg}"


def get_serializable_data(fl_ctx: FLContext) -> FLContext:
    """A new context with the properties that another process can be given; the others are left out with a warning."""
    portable = FLContext()
    for key, detail in fl_ctx.get_all_details().items():
        if key in NonSerializableKeys.KEYS:
            continue
        try:
            byte_form.encode(detail["value"])
        except EncodeError as error:
            _logger.warning(generate_log_message(fl_ctx, f"property '{key}' is left out: {error}"))
            continue
        portable.set_prop(key, **detail)
    return portable
