"""Reported numbers, texts and images, for TensorBoard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, final

from hansa.apis.analytix import AnalyticsData, AnalyticsDataType
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import from_shareable
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.widgets.streaming import GLOBAL_STEP, AnalyticsReceiver
from hansa.errors import MissingExtra

if TYPE_CHECKING:
    from hansa.components.widgets.event_file import EventFile

FUNCTION_MAPPING = {
    AnalyticsDataType.SCALAR: "add_scalar",
    AnalyticsDataType.TEXT: "add_text",
    AnalyticsDataType.IMAGE: "add_image",
    AnalyticsDataType.SCALARS: "add_scalars",
}
"""Which method of `EventFile` writes which kind of record."""

_UNSAFE = re.compile(r"[^\w.-]+")


@final
class TBAnalyticsReceiver(AnalyticsReceiver):
    """Writes records as TensorBoard reads them, into one folder per origin: `<run folder>/<tb_folder>/<origin>`.

    The run folder is the workspace's (`get_run_dir`); `tensorboard --logdir runs` finds those of all runs. The origin
    is this side's identity for its own records and the sender's for federated ones; what is no letter, digit, `-`, `_`
    or `.` in it becomes `_`. SCALARS stand as `tag/key`.

    A record is in its file when `save` returns; between two records no file is open, so there may be any number of
    origins. Needs TensorBoard (`pip install 'hansa[tensorboard]'`) and no torch.

    Args:
        tb_folder: The folder, below the run's; an absolute path stands for itself.
        events: The events that carry records. None: `analytix_log_stats` and `fed.analytix_log_stats`.

    Raises:
        MissingExtra: TensorBoard is not installed.
        TypeError: The folder is no str.
    """

    def __init__(self, tb_folder: str = "tb_events", events: list[str] | None = None) -> None:
        super().__init__(events)
        if not isinstance(tb_folder, str):
            raise TypeError(f"expect tb_folder to be an instance of str, but got {type(tb_folder)}")
        try:
            from hansa.components.widgets.event_file import EventFile
        except ImportError:
            raise MissingExtra("TensorBoard's files", extra="tensorboard") from None
        self._file_at = EventFile
        self.tb_folder = tb_folder
        self.root_log_dir: str | None = None
        self._files: dict[str, EventFile] = {}
        self._round: int | None = None

    @property
    def hears(self) -> frozenset[str]:
        """What any receiver hears, and rounds."""
        return super().hears | {AppEventType.ROUND_STARTED}

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Follow the rounds, then as any receiver."""
        if event_type == AppEventType.ROUND_STARTED:
            self._round = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        super().handle_event(event_type, fl_ctx)

    def initialize(self, fl_ctx: FLContext) -> None:
        """Find the run's folder."""
        workspace = fl_ctx.get_engine().get_workspace()
        self.root_log_dir = str(Path(workspace.get_run_dir(fl_ctx.get_run_number()), self.tb_folder))
        self._files.clear()
        self._round = None

    def save(self, fl_ctx: FLContext, shareable: Shareable, record_origin: str) -> None:
        """Write a record down; other kinds than those of `FUNCTION_MAPPING` pass."""
        record = AnalyticsData.from_dxo(from_shareable(shareable))
        method = FUNCTION_MAPPING.get(record.data_type)
        if method is None or self.root_log_dir is None:
            return
        file = self._files.get(record_origin)
        if file is None:
            file = self._files[record_origin] = self._file_at(Path(self.root_log_dir, folder_name(record_origin)))
        step = {} if self._round is None else {GLOBAL_STEP: self._round}  # where the sender gave none
        getattr(file, method)(record.tag, record.value, **{**step, **(record.kwargs or {})})

    def finalize(self, fl_ctx: FLContext) -> None:
        """Let go of the files; all are complete."""
        self._files.clear()


def folder_name(origin: str) -> str:
    """An origin as the name of a folder: no separators, no blanks, not `..`."""
    name = _UNSAFE.sub("_", origin)
    return name if name.strip(".") else name.replace(".", "_") or "_"
