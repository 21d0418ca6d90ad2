"""A debug aid: writes down every event and says where a context does not hold what it should."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hansa.apis.client_engine_spec import ClientEngineSpec
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.server_engine_spec import ServerEngineSpec
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal

_LOG_EVENTS = frozenset(
    (
        EventType.CRITICAL_LOG_AVAILABLE,
        EventType.ERROR_LOG_AVAILABLE,
        EventType.EXCEPTION_LOG_AVAILABLE,
        EventType.WARNING_LOG_AVAILABLE,
        EventType.INFO_LOG_AVAILABLE,
        EventType.DEBUG_LOG_AVAILABLE,
    )
)


@dataclass(frozen=True)
class CtxPropReq:
    """What a context property should be like.

    Args:
        dtype: Its class; `object` for any.
        is_private: Whether it should be private; None if it does not matter.
        is_sticky: Whether it should be sticky; None if it does not matter.
    """

    dtype: type = object
    is_private: bool | None = None
    is_sticky: bool | None = None


@dataclass(frozen=True)
class EventReq:
    """What should hold while an event is fired.

    Args:
        props: Properties that must be there.
        absent: Properties that must not be there.
        has_peer: Whether there must be a peer context.
    """

    props: Mapping[str, CtxPropReq] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    has_peer: bool = False


class EventRecorder(FLComponent):
    """Writes one line per event, and one for each property that is missing, of another kind, or out of place.

    Args:
        log_file_name: A file in the run's folder. None: the lines go to the log.
    """

    reads_tensors = False

    always: ClassVar[Mapping[str, CtxPropReq]] = {
        ReservedKey.RUN_NUM: CtxPropReq(int, is_private=False, is_sticky=True),
        ReservedKey.IDENTITY_NAME: CtxPropReq(str, is_private=False, is_sticky=True),
        FLContextKey.EVENT_ID: CtxPropReq(str, is_private=True, is_sticky=False),
        FLContextKey.EVENT_SCOPE: CtxPropReq(str, is_private=True, is_sticky=False),
        FLContextKey.APP_ROOT: CtxPropReq(is_sticky=True),
        FLContextKey.ARGS: CtxPropReq(is_sticky=True),
        FLContextKey.WORKSPACE_ROOT: CtxPropReq(is_sticky=True),
        FLContextKey.WORKSPACE_OBJECT: CtxPropReq(is_sticky=True),
        FLContextKey.SECURE_MODE: CtxPropReq(is_sticky=True),
        FLContextKey.RUN_ABORT_SIGNAL: CtxPropReq(Signal, is_private=True, is_sticky=True),
    }
    """What every event of this side must find."""
    expected: ClassVar[Mapping[str, EventReq]] = {}
    """What single events must find, too."""

    def __init__(self, log_file_name: str | None = None) -> None:
        super().__init__()
        self.log_file_name = log_file_name

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Write the event down and check its context."""
        self._write(self.event_tag(fl_ctx), fl_ctx)
        if event_type not in _LOG_EVENTS:
            self.check_props(fl_ctx)

    def event_tag(self, fl_ctx: FLContext) -> str:
        """Which event, fired by whom, where."""
        event = fl_ctx.get_prop(FLContextKey.EVENT_ID)
        origin = fl_ctx.get_prop(FLContextKey.EVENT_ORIGIN)
        scope = fl_ctx.get_prop(FLContextKey.EVENT_SCOPE)
        return f"{fl_ctx.get_identity_name() or '?'} event={event} origin={origin} scope={scope}"

    def event_error_tag(self, fl_ctx: FLContext) -> str:
        """The same for a line that says what is wrong."""
        return f"{self.event_tag(fl_ctx)} ERROR"

    def check_props(self, fl_ctx: FLContext) -> None:
        """Write down what is wrong with the context of the event at hand."""
        requirement = self.expected.get(str(fl_ctx.get_prop(FLContextKey.EVENT_ID)), EventReq())
        for name, req in {**self.always, **requirement.props}.items():
            self.validate_prop(name, req, fl_ctx)
        self.check_block_list(requirement.absent, fl_ctx)
        if requirement.has_peer and fl_ctx.get_peer_context() is None:
            self._complain("there is no peer context", fl_ctx)

    def check_block_list(self, block_list: Iterable[str], fl_ctx: FLContext) -> None:
        """Write down properties that should not be there."""
        for name in block_list:
            if fl_ctx.get_prop_detail(name) is not None:
                self._complain(f"{name} should not be there", fl_ctx)

    def validate_prop(self, prop_name: str, req: CtxPropReq, fl_ctx: FLContext) -> None:
        """Write down what is wrong with one property."""
        detail = fl_ctx.get_prop_detail(prop_name)
        if detail is None:
            self._complain(f"{prop_name} is missing", fl_ctx)
            return
        if not isinstance(detail["value"], req.dtype):
            kind = type(detail["value"]).__name__
            self._complain(f"{prop_name} is a {kind}, not a {req.dtype.__name__}", fl_ctx)
        for nature, wanted in (("private", req.is_private), ("sticky", req.is_sticky)):
            if wanted is not None and detail[nature] != wanted:
                self._complain(f"{prop_name} should {'' if wanted else 'not '}be {nature}", fl_ctx)

    def _complain(self, what: str, fl_ctx: FLContext) -> None:
        self._write(f"{self.event_error_tag(fl_ctx)} {what}", fl_ctx)

    def _write(self, line: str, fl_ctx: FLContext) -> None:
        # Not log_info and its like: they could fire the next event that is to be recorded.
        app_root = fl_ctx.get_prop(FLContextKey.APP_ROOT)
        if self.log_file_name is None or app_root is None:
            self.logger.info(line)
            return
        with (Path(app_root).parent / self.log_file_name).open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


_TASK = {
    FLContextKey.TASK_NAME: CtxPropReq(str, is_private=True, is_sticky=False),
    FLContextKey.TASK_ID: CtxPropReq(str, is_private=True, is_sticky=False),
}
_DATA = {**_TASK, FLContextKey.TASK_DATA: CtxPropReq(Shareable, is_private=True, is_sticky=False)}
_RESULT = {**_TASK, FLContextKey.TASK_RESULT: CtxPropReq(Shareable, is_private=True, is_sticky=False)}
_NO_TASK = EventReq(
    absent=(FLContextKey.TASK_NAME, FLContextKey.TASK_ID, FLContextKey.TASK_DATA, FLContextKey.TASK_RESULT)
)
_WORKFLOW = EventReq(props={FLContextKey.WORKFLOW: CtxPropReq(str, is_sticky=True)}, absent=_NO_TASK.absent)


class ServerEventRecorder(EventRecorder):
    """Records the events of the server."""

    always: ClassVar[Mapping[str, CtxPropReq]] = {
        **EventRecorder.always,
        ReservedKey.ENGINE: CtxPropReq(ServerEngineSpec, is_private=True, is_sticky=True),
    }
    expected: ClassVar[Mapping[str, EventReq]] = {
        EventType.START_RUN: _NO_TASK,
        EventType.ABOUT_TO_END_RUN: _NO_TASK,
        EventType.END_RUN: _NO_TASK,
        EventType.START_WORKFLOW: _WORKFLOW,
        EventType.END_WORKFLOW: _WORKFLOW,
        EventType.BEFORE_TASK_DATA_FILTER: EventReq(_DATA, has_peer=True),
        EventType.AFTER_TASK_DATA_FILTER: EventReq(_DATA, has_peer=True),
        EventType.BEFORE_TASK_RESULT_FILTER: EventReq(_RESULT, has_peer=True),
        EventType.AFTER_TASK_RESULT_FILTER: EventReq(_RESULT, has_peer=True),
        EventType.BEFORE_PROCESS_SUBMISSION: EventReq(_RESULT, has_peer=True),
        EventType.AFTER_PROCESS_SUBMISSION: EventReq(_RESULT, has_peer=True),
    }

    def __init__(self) -> None:
        super().__init__()


class ClientEventRecorder(EventRecorder):
    """Records the events of a site."""

    always: ClassVar[Mapping[str, CtxPropReq]] = {
        **EventRecorder.always,
        ReservedKey.ENGINE: CtxPropReq(ClientEngineSpec, is_private=True, is_sticky=True),
        FLContextKey.CLIENT_NAME: CtxPropReq(str, is_private=False, is_sticky=True),
    }
    expected: ClassVar[Mapping[str, EventReq]] = {
        EventType.ABOUT_TO_START_RUN: _NO_TASK,
        EventType.START_RUN: _NO_TASK,
        EventType.ABOUT_TO_END_RUN: _NO_TASK,
        EventType.END_RUN: _NO_TASK,
        EventType.BEFORE_TASK_DATA_FILTER: EventReq(_DATA, has_peer=True),
        EventType.AFTER_TASK_DATA_FILTER: EventReq(_DATA, has_peer=True),
        EventType.BEFORE_TASK_EXECUTION: EventReq(_DATA, has_peer=True),
        EventType.AFTER_TASK_EXECUTION: EventReq({**_DATA, **_RESULT}, has_peer=True),
        EventType.BEFORE_TASK_RESULT_FILTER: EventReq({**_DATA, **_RESULT}, has_peer=True),
        EventType.AFTER_TASK_RESULT_FILTER: EventReq({**_DATA, **_RESULT}, has_peer=True),
        EventType.BEFORE_SEND_TASK_RESULT: EventReq(_DATA, has_peer=True),
        EventType.AFTER_SEND_TASK_RESULT: EventReq(_DATA, has_peer=True),
    }

    def __init__(self) -> None:
        super().__init__()
