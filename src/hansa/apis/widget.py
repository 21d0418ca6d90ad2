"""Parts of the runtime that are components, too."""

from __future__ import annotations

from enum import Enum

from hansa.apis.fl_component import FLComponent


class WidgetID(str, Enum):
    """Under which id the runtime's own widgets are found."""

    INFO_COLLECTOR = "info_collector"  # counts errors and figures by component
    COMPONENT_CALLER = "component_caller"  # passes calls on to components by name
    FED_EVENT_RUNNER = "fed_event_runner"  # carries federated events to the other side


class Widget(FLComponent):
    """A component that works by hearing events alone."""

    def __init__(self) -> None:
        super().__init__()
