"""Statistics of CSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from hansa.apis.fl_context import FLContext
from hansa.apis.statistics_source import StatisticsSource

SITE = "$SITE"


@final
class CsvStatisticsSource(StatisticsSource):
    """Reads a table per data set from CSV files (also `.csv.gz`) whose first line names the columns.

    Empty cells, `?`, `NA`, `NaN` and the like are missing. A column of texts that nobody names is left out.

    Args:
        path: The file, relative to where the site runs; or one per data set, by its name. `$SITE` in it stands for the
            site's name.
        columns: The features. Empty: every column of numbers but the label.
        label: The label column.

    Raises:
        TypeError: An argument is of another type.
    """

    def __init__(self, path: str | Mapping[str, str], columns: Sequence[str] = (), *, label: str | None = None) -> None:
        super().__init__()
        paths = {"train": path} if isinstance(path, str) else path
        if not isinstance(paths, Mapping) or not paths or not all(isinstance(each, str) for each in paths.values()):
            raise TypeError(f"path must be a file or a dict of files by data set, but got {path!r}")
        if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
            raise TypeError(f"columns must be a list of names, but got {columns!r}")
        self.paths = dict(paths)
        self.columns = tuple(columns)
        self._label = label

    def features(self) -> Sequence[str]:
        """As given."""
        return self.columns

    def label(self) -> str | None:
        """As given."""
        return self._label

    def load(self, fl_ctx: FLContext) -> Mapping[str, Any]:  # Any: see StatisticsSource
        """The files of this site."""
        site = str(fl_ctx.get_identity_name())
        return {name: path.replace(SITE, site) for name, path in self.paths.items()}
