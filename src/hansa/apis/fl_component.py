"""The base of everything that a job names: executors, controllers, filters, aggregators, widgets, persistors."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import ClassVar

from hansa.apis.analytix import AnalyticsData, AnalyticsDataType
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import EventScope, FedEventHeader, FLContextKey, LogMessageTag
from hansa.apis.fl_context import FLContext
from hansa.apis.log_message import generate_log_message
from hansa.apis.shareable import Shareable


class FLComponent:
    """Hears events, fires events, and writes to the log with a prefix that says where it was.

    A subclass calls `super().__init__()` and may overwrite `_name` and `logger` afterwards. Where the context has no
    engine, firing logs an error line and does nothing else, so components also work outside a run.

    Attributes:
        hears: The local events that `handle_event` of this very class cares for, so that the others cost nothing; may
            be a property. None: all. Federated events reach every component. A subclass that has a `handle_event` of
            its own and says nothing hears all.
        stateless: Whether components of this very class keep nothing from one task to the next: no attribute, no file
            handle, no sticky property, nothing from START_RUN that belongs to one site. A simulator may then use one
            object for many sites, and put sites away between their tasks. A subclass has to say so for itself.
    """

    stateless: ClassVar[bool] = False

    @property
    def hears(self) -> frozenset[str] | None:
        """See the class."""
        return None

    def __init__(self) -> None:
        self._name = type(self).__name__
        self.logger = logging.getLogger(self._name)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Called for every event of this side, by position; the default does nothing.

        Args:
            event_type: An `EventType`, an `AppEventType` or a word of the application's own.
            fl_ctx: The context it was fired with; EVENT_DATA, EVENT_ORIGIN and EVENT_SCOPE say more.
        """

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Call `handle_event` of every component of this side, now and in this thread.

        Raises:
            TypeError: An argument is of the wrong type.
            ValueError: The event type is empty.
        """
        if not isinstance(event_type, str):
            raise TypeError(f"expect event_type to be str, but got {type(event_type)}")
        if not event_type:
            raise ValueError("event_type must be specified")
        if not isinstance(fl_ctx, FLContext):
            raise TypeError(f"expect fl_ctx to be FLContext, but got {type(fl_ctx)}")
        # Said each time: on the context of a federated event, a handler's own event would else go out as one, too.
        if fl_ctx.get_prop(FLContextKey.EVENT_SCOPE) != EventScope.LOCAL:
            fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.LOCAL, private=True, sticky=False)
        self._fire(event_type, fl_ctx)

    def fire_fed_event(
        self, event_type: str, event_data: Shareable, fl_ctx: FLContext, targets: list[str] | None = None
    ) -> None:
        """Fire an event on this side and then at the other: from the server at sites, from a site on the server.

        Args:
            event_type: A name; by convention it begins with `fed.`.
            event_data: What the event is about; the other side finds it under EVENT_DATA.
            fl_ctx: The context to fire with.
            targets: On the server: names of sites; None for all.

        Raises:
            TypeError: An argument is of the wrong type.
        """
        if not isinstance(event_type, str):
            raise TypeError(f"expect event_type to be str, but got {type(event_type)}")
        if not isinstance(fl_ctx, FLContext):
            raise TypeError(f"expect fl_ctx to be FLContext, but got {type(fl_ctx)}")
        if not isinstance(event_data, Shareable):
            raise TypeError(f"expect event_data to be Shareable, but got {type(event_data)}")
        event_data.set_header(FedEventHeader.TARGETS, targets)
        fl_ctx.set_prop(FLContextKey.EVENT_DATA, event_data, private=True, sticky=False)
        fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.FEDERATION, private=True, sticky=False)
        self._fire(event_type, fl_ctx)

    def _fire(self, event_type: str, fl_ctx: FLContext) -> None:
        if fl_ctx.get_prop(FLContextKey.EVENT_ORIGIN) != self._name:
            fl_ctx.set_prop(FLContextKey.EVENT_ORIGIN, self._name, private=True, sticky=False)
        engine = fl_ctx.get_engine()
        if engine is None:
            # Not through log_error: its log event would need the engine again, without end.
            data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
            reason = f" ({data})" if isinstance(data, str) else ""  # of a panic: it must not get lost
            text = f"event {event_type}{reason} reaches nobody: no engine in fl_ctx"
            self.logger.error(generate_log_message(fl_ctx, text))
        else:
            engine.fire_event(event_type, fl_ctx)

    def system_panic(self, reason: str, fl_ctx: FLContext) -> None:
        """End the run; at a site only that site's part of it.

        Args:
            reason: One line on what is wrong; shown to the user.
            fl_ctx: The context to fire FATAL_SYSTEM_ERROR with.
        """
        fl_ctx.set_prop(FLContextKey.EVENT_DATA, reason, private=True, sticky=False)
        self.fire_event(EventType.FATAL_SYSTEM_ERROR, fl_ctx)

    def task_panic(self, reason: str, fl_ctx: FLContext) -> None:
        """End the task that this site works on.

        Args:
            reason: One line on what is wrong.
            fl_ctx: The context to fire FATAL_TASK_ERROR with.
        """
        fl_ctx.set_prop(FLContextKey.EVENT_DATA, reason, private=True, sticky=False)
        self.fire_event(EventType.FATAL_TASK_ERROR, fl_ctx)

    def log_debug(self, fl_ctx: FLContext, msg: str, fire_event: bool = False) -> None:
        """Log a line for those who look for a mistake."""
        self._log(logging.DEBUG, fl_ctx, msg, EventType.DEBUG_LOG_AVAILABLE if fire_event else "")

    def log_info(self, fl_ctx: FLContext, msg: str, fire_event: bool = False) -> None:
        """Log what is going on."""
        self._log(logging.INFO, fl_ctx, msg, EventType.INFO_LOG_AVAILABLE if fire_event else "")

    def log_warning(self, fl_ctx: FLContext, msg: str, fire_event: bool = True) -> None:
        """Log what the user should look at; fires a log event unless told not to."""
        self._log(logging.WARNING, fl_ctx, msg, EventType.WARNING_LOG_AVAILABLE if fire_event else "")

    def log_error(self, fl_ctx: FLContext, msg: str, fire_event: bool = True) -> None:
        """Log what went wrong; fires a log event unless told not to."""
        self._log(logging.ERROR, fl_ctx, msg, EventType.ERROR_LOG_AVAILABLE if fire_event else "")

    def log_critical(self, fl_ctx: FLContext, msg: str, fire_event: bool = True) -> None:
        """Log what ends the run; fires a log event unless told not to."""
        self._log(logging.CRITICAL, fl_ctx, msg, EventType.CRITICAL_LOG_AVAILABLE if fire_event else "")

    def log_exception(self, fl_ctx: FLContext, msg: str, fire_event: bool = False) -> None:
        """Log what went wrong, with the traceback of the exception that is being handled."""
        self._log(logging.ERROR, fl_ctx, msg, EventType.EXCEPTION_LOG_AVAILABLE if fire_event else "", trace=True)

    def _log(self, level: int, fl_ctx: FLContext, msg: str, event_type: str, trace: bool = False) -> None:
        written = self.logger.isEnabledFor(level)
        if not written and not event_type:
            return
        text = generate_log_message(fl_ctx, msg)
        trace = trace and sys.exc_info()[0] is not None
        if written:
            # stacklevel: the line is that of the caller of log_info and its like, not one of this file.
            self.logger.log(level, text, exc_info=trace, stacklevel=3)
        if event_type:
            if trace:
                text = f"{text}\n{traceback.format_exc()}"
            data = _log_data(_TAGS[event_type], text)
            fl_ctx.set_prop(FLContextKey.EVENT_DATA, data, private=True, sticky=False)
            self.fire_event(event_type, fl_ctx)


_TAGS = {
    EventType.DEBUG_LOG_AVAILABLE: LogMessageTag.DEBUG,
    EventType.INFO_LOG_AVAILABLE: LogMessageTag.INFO,
    EventType.WARNING_LOG_AVAILABLE: LogMessageTag.WARNING,
    EventType.ERROR_LOG_AVAILABLE: LogMessageTag.ERROR,
    EventType.EXCEPTION_LOG_AVAILABLE: LogMessageTag.EXCEPTION,
    EventType.CRITICAL_LOG_AVAILABLE: LogMessageTag.CRITICAL,
}


def _log_data(tag: str, text: str) -> Shareable:
    return AnalyticsData(tag=tag, value=text, data_type=AnalyticsDataType.TEXT).to_dxo().to_shareable()
