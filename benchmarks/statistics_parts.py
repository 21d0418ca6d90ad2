"""The data of bench_statistics.py, and what a site would do with NumPy alone."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from hansa.apis.fl_context import FLContext
from hansa.apis.statistics_source import StatisticsSource


def make_table(path: Path, *, rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    table = np.lib.format.open_memmap(path, "w+", np.float64, (columns, rows))
    for column in table:
        column[:] = rng.normal(size=rows)
        column[rng.integers(0, rows, rows // 1000)] = np.nan
    table.flush()


class MappedTable(StatisticsSource):
    """One table for all sites, in mapped memory, column by column."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def load(self, fl_ctx: FLContext) -> Mapping[str, Any]:
        return {"train": np.load(self.path, mmap_mode="r").T}


def numpy_pass(path: str) -> float:
    """Seconds of the same statistics with NumPy's own functions: what `df.describe()` and a histogram need."""
    columns = np.load(path, mmap_mode="r")
    with threadpool_limits(1):
        began = time.perf_counter()
        for column in columns:
            np.count_nonzero(~np.isnan(column))
            np.nanmean(column)
            np.nanstd(column, ddof=1)
            low, high = np.nanmin(column), np.nanmax(column)
            np.histogram(column, bins=20, range=(low, high))
        np.corrcoef(np.where(np.isnan(columns), 0.0, columns))
        return time.perf_counter() - began


def side_by_side(path: str, *, sites: int, workers: int) -> float:
    """Seconds of so many NumPy passes, in so many processes that are there already."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(abs, range(workers))
        began = time.perf_counter()
        pool.map(numpy_pass, [path] * sites, chunksize=1)
        return time.perf_counter() - began
