"""Errors and figures of a run's components, collected for whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from hansa.apis.analytix import AnalyticsData
from hansa.apis.dxo import from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.widget import Widget

Info = dict[str, Any]  # Any: numbers, texts, and whatever else a component tells of itself

_ERRORS = frozenset(
    (
        EventType.CRITICAL_LOG_AVAILABLE,
        EventType.ERROR_LOG_AVAILABLE,
        EventType.EXCEPTION_LOG_AVAILABLE,
        EventType.WARNING_LOG_AVAILABLE,
    )
)


class GroupInfoCollector:
    """What the components tell when they hear `InfoCollector.EVENT_TYPE_GET_STATS`, by group.

    Attributes:
        info: Group to key to value.
    """

    def __init__(self) -> None:
        self.info: dict[str, Info] = {}

    def set_info(self, group_name: str, info: Mapping[str, Any]) -> None:  # Any: see Info
        """Tell this of a group, in place of what it has told."""
        self.info[group_name] = dict(info)

    def add_info(self, group_name: str, info: Mapping[str, Any]) -> None:  # Any: see Info
        """Tell this of a group, too."""
        self.info.setdefault(group_name, {}).update(info)


class InfoCollector(Widget):
    """Keeps the last error and warning of each component, and asks all components for their figures.

    A job that wants it lists it as a component `info_collector`; `engine.get_widget("info_collector")` finds it. What
    it has is gone at the next START_RUN. Any thread.
    """

    CATEGORY_STATS = "stats"
    CATEGORY_ERROR = "error"

    EVENT_TYPE_GET_STATS = "info_collector.get_stats"
    """Fired by `get_run_stats`; the context's CTX_KEY_STATS_COLLECTOR is a `GroupInfoCollector`."""
    CTX_KEY_STATS_COLLECTOR = "info_collector.stats_collector"

    reads_tensors = False
    hears = _ERRORS | {EventType.START_RUN}

    def __init__(self) -> None:
        super().__init__()
        self._categories: dict[str, dict[str, Info]] = {}
        self._engine: Any = None  # Any: of either side
        self._lock = threading.Lock()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Note an error or a warning that a component has logged."""
        if event_type == EventType.START_RUN:
            self._engine = fl_ctx.get_engine()
            self.reset_all()
        elif event_type in _ERRORS:
            data = fl_ctx.get_prop(FLContextKey.EVENT_DATA)
            if isinstance(data, Shareable):
                said = AnalyticsData.from_dxo(from_shareable(data))
                origin = fl_ctx.get_prop(FLContextKey.EVENT_ORIGIN, "?")
                self.add_error(str(origin), said.tag, str(said.value))

    # -- what is kept ------------------------------------------------------------------------------------------

    def add_info(self, category_name: str, group_name: str, key: str, value: Any) -> None:  # Any: see Info
        """Keep one value of a group."""
        with self._lock:
            self._categories.setdefault(category_name, {}).setdefault(group_name, {})[key] = value

    def set_info(self, category_name: str, group_name: str, info: Mapping[str, Any]) -> None:  # Any: see Info
        """Keep this of a group, in place of what is kept of it."""
        with self._lock:
            self._categories.setdefault(category_name, {})[group_name] = dict(info)

    def add_error(self, group_name: str, key: str, err: str) -> None:
        """Keep an error of a component."""
        self.add_info(self.CATEGORY_ERROR, group_name, key, err)

    # -- what is asked for -------------------------------------------------------------------------------------

    def get_run_stats(self) -> dict[str, Info]:
        """Ask all components of this side for their figures; group to key to value. Empty while no run is on."""
        collector = GroupInfoCollector()
        if self._engine is not None:
            with self._engine.new_context() as fl_ctx:
                fl_ctx.set_prop(self.CTX_KEY_STATS_COLLECTOR, collector, private=True, sticky=False)
                self._engine.fire_event(self.EVENT_TYPE_GET_STATS, fl_ctx)
        return collector.info

    def get_category(self, category_name: str) -> dict[str, Info] | None:
        """A copy of what is kept of a category; None if there is nothing."""
        with self._lock:
            found = self._categories.get(category_name)
            return None if found is None else {group: dict(info) for group, info in found.items()}

    def get_group(self, category_name: str, group_name: str) -> Info | None:
        """A copy of what is kept of a group; None if there is nothing."""
        return (self.get_category(category_name) or {}).get(group_name)

    def get_errors(self) -> dict[str, Info] | None:
        """The errors by component; None if there is none."""
        return self.get_category(self.CATEGORY_ERROR)

    def reset_all(self) -> None:
        """Forget everything."""
        with self._lock:
            self._categories.clear()

    def reset_category(self, category_name: str) -> None:
        """Forget a category."""
        with self._lock:
            self._categories.pop(category_name, None)

    def reset_group(self, category_name: str, group_name: str) -> None:
        """Forget a group."""
        with self._lock:
            self._categories.get(category_name, {}).pop(group_name, None)

    def reset_errors(self) -> None:
        """Forget the errors."""
        self.reset_category(self.CATEGORY_ERROR)
