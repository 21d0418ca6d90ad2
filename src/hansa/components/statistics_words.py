"""The words that the server's and the sites' parts of federated statistics share."""

from __future__ import annotations

KIND = "STATISTICS"
"""The kind of the DXOs."""
TASK = "statistics"
TASK_PREPROCESS = "preprocess"

ALL = ""
"""The group of all rows of a data set."""
MOST_BINS = 1000
CELLS = 1024
"""At least so many fine cells a range has, for quantiles."""
MOST_CELLS = 1 << 14


def cells_for(bins: int) -> int:
    """How many fine cells for so many bins: a multiple."""
    return bins * -(-CELLS // bins)
