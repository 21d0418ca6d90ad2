"""Reported numbers, into the run's history."""

from __future__ import annotations

from hansa.apis.analytix import AnalyticsData, AnalyticsDataType
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import from_shareable
from hansa.apis.engine import History, OffersHistory, port
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.scalars import as_float
from hansa.components.widgets.streaming import GLOBAL_STEP, AnalyticsReceiver

SERVER = "server"
"""Under which name the history keeps what the server itself reports."""


class HistoryReceiver(AnalyticsReceiver):
    """Keeps SCALAR records as `tag` and SCALARS records as `tag/key`, by round and site; other records pass.

    Does nothing where the engine keeps no history.

    Args:
        events: The events that carry records. None: `analytix_log_stats` and `fed.analytix_log_stats`.
    """

    def __init__(self, events: list[str] | None = None) -> None:
        super().__init__(events)
        self._history: History | None = None
        self._round: int | None = None

    @property
    def hears(self) -> frozenset[str]:
        """What any receiver hears, and the beginning of rounds."""
        return super().hears | {AppEventType.ROUND_STARTED}

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Note the round, then as any receiver."""
        if event_type == AppEventType.ROUND_STARTED:
            self._round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        super().handle_event(event_type, fl_ctx)

    def initialize(self, fl_ctx: FLContext) -> None:
        """Find the run's history."""
        offer = port(fl_ctx.get_engine(), OffersHistory)
        self._history = offer.history if offer else None
        self._round = None

    def save(self, fl_ctx: FLContext, shareable: Shareable, record_origin: str) -> None:
        """Keep a record's numbers."""
        if self._history is None:
            return
        record = AnalyticsData.from_dxo(from_shareable(shareable))
        step = (record.kwargs or {}).get(GLOBAL_STEP)
        site = SERVER if record_origin == fl_ctx.get_identity_name() else record_origin
        # The event of a site has a context of its own, without the round; the workflow has told us which it is.
        round_number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND, self._round)
        for name, value in numbers_of(record):
            self._history.scalar(round_number, site, name=name, value=value, step=step)

    def finalize(self, fl_ctx: FLContext) -> None:
        """Nothing is held here."""


def numbers_of(record: AnalyticsData) -> list[tuple[str, float]]:
    """The names and values of a record: one for SCALAR, those that are numbers for SCALARS, none for other kinds."""
    if record.data_type == AnalyticsDataType.SCALAR:
        return [(record.tag, record.value)]
    if record.data_type != AnalyticsDataType.SCALARS:
        return []
    named = ((f"{record.tag}/{key}", as_float(value)) for key, value in record.value.items())
    return [(name, value) for name, value in named if value is not None]
