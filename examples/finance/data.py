"""Card payments of two days, with all frauds and a sample of the genuine ones; divided by time."""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa.errors import ConfigError

BANKS = tuple(f"bank-{number}" for number in range(1, 6))
COLUMNS = ("Time", *(f"V{number}" for number in range(1, 29)), "Amount", "Class")
NUM_FEATURES = 29
GENUINE_IN_ALL = 284_315
"""Of two days; the file has a sample of them, and all 492 frauds."""
_TEST = 0.25


@dataclass(frozen=True)
class Payments:
    """Some payments, in the order of time: features, float32, shape (n, 29), and which are frauds, shape (n,)."""

    x: np.ndarray
    fraud: np.ndarray


def load(folder: Path) -> Payments:
    """All payments.

    Args:
        folder: Holds `fraud_ulb/creditcard_sample.csv.gz`.

    Raises:
        ConfigError: The file is not there, is empty, has other columns, or a value that is no number; names the line.
    """
    file = folder / "fraud_ulb" / "creditcard_sample.csv.gz"
    if not file.is_file():
        raise ConfigError("there is no such file; --data is the folder above fraud_ulb", file=str(file))
    with gzip.open(file, "rt", encoding="utf-8", newline="") as stream:
        header, *lines = csv.reader(stream)
    if tuple(header) != COLUMNS:
        raise ConfigError("the columns must be Time, V1 to V28, Amount, Class", file=str(file))
    if not lines:
        raise ConfigError("there are no payments", file=str(file))
    rows = [_numbers(words, f"{file}: line {number}") for number, words in enumerate(lines, start=2)]
    table = np.array(rows)
    table = table[np.argsort(table[:, 0], kind="stable")]
    # Time orders the payments and is not looked at. The rest is squeezed, so that no site needs another's scale.
    x = np.sign(table[:, 1:-1]) * np.log1p(np.abs(table[:, 1:-1]))
    return Payments(x.astype(np.float32), table[:, -1] > 0)


def _numbers(words: list[str], where: str) -> list[float]:
    if len(words) != len(COLUMNS):
        raise ConfigError(f"there are {len(words)} values, not {len(COLUMNS)}", file=where)
    for name, word in zip(COLUMNS, words, strict=True):
        try:
            float(word)
        except ValueError:
            raise ConfigError(f"column {name} holds {word[:40]!r}, which is no number", file=where) from None
    return [float(word) for word in words]


def split(payments: Payments) -> tuple[dict[str, Payments], Payments]:
    """The payments of each bank, one after the other in time, and the last quarter of all, which is for the test."""
    end = round((1 - _TEST) * len(payments.fraud))
    parts = np.array_split(np.arange(end), len(BANKS))
    banks = {name: Payments(payments.x[rows], payments.fraud[rows]) for name, rows in zip(BANKS, parts, strict=True)}
    return banks, Payments(payments.x[end:], payments.fraud[end:])


def together(parts: list[Payments]) -> Payments:
    """All of them in one place."""
    return Payments(np.concatenate([part.x for part in parts]), np.concatenate([part.fraud for part in parts]))
