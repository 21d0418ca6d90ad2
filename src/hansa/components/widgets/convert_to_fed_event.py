"""Events of one side that the other side hears, too."""

from __future__ import annotations

from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.widget import Widget

FED_EVENT_PREFIX = "fed."


class ConvertToFedEvent(Widget):
    """Fires a federated event `fed.X` for each local event X of a list.

    Args:
        events_to_convert: The local events.
        fed_event_prefix: What the name of the federated event begins with.

    Raises:
        TypeError: The events are no list of str, or the prefix is no str.
    """

    reads_tensors = False
    stateless = True

    def __init__(self, events_to_convert: list[str], fed_event_prefix: str = FED_EVENT_PREFIX) -> None:
        super().__init__()
        if not isinstance(events_to_convert, list) or not all(isinstance(event, str) for event in events_to_convert):
            raise TypeError(f"events_to_convert must be a list of str, but got {events_to_convert!r}")
        if not isinstance(fed_event_prefix, str):
            raise TypeError(f"fed_event_prefix must be str, but got {type(fed_event_prefix)}")
        self.events_to_convert = events_to_convert
        self.fed_event_prefix = fed_event_prefix

    @property
    def hears(self) -> frozenset[str]:
        """The events to convert."""
        return frozenset(self.events_to_convert)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Fire the federated event."""
        if event_type not in self.events_to_convert:
            return
        data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
        if not isinstance(data, Shareable):
            kind = type(data).__name__
            self.log_error(fl_ctx, f"event {event_type} cannot be sent: its data must be a Shareable, but is a {kind}")
            return
        self.fire_fed_event(f"{self.fed_event_prefix}{event_type}", data, fl_ctx)
