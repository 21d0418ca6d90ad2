"""NASA's C-MAPSS FD001: simulated turbofan engines, divided over plants, as windows of sensor readings."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hansa.errors import ConfigError

FOLDER = Path("cmapss")
NUM_COLUMNS = 26
"""Engine, cycle, 3 settings, 21 sensors."""
SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)
"""Numbers of the sensors that say something; the other seven never change."""
WINDOW = 30
"""Cycles that the network sees."""
MOST_LIFE = 125.0
"""An engine that will run longer than this shows nothing of its end yet: training takes no more for its life."""
PLANTS = {"plant-1": 40, "plant-2": 25, "plant-3": 15, "plant-4": 12, "plant-5": 8}
"""How many of the hundred engines each plant has seen to their end."""


@dataclass(frozen=True)
class Fleet:
    """The published files.

    Attributes:
        ran_to_failure: Readings of each training engine from its first cycle to its last, float32, shape (cycles, 14).
        cut_off: Readings of each test engine up to some cycle, likewise.
        life_left: Cycles that each test engine had left then, shape (100,).
    """

    ran_to_failure: tuple[np.ndarray, ...]
    cut_off: tuple[np.ndarray, ...]
    life_left: np.ndarray


@lru_cache(maxsize=1)
def load(folder: Path) -> Fleet:
    """Read the three files.

    Args:
        folder: Holds `cmapss/train_FD001.txt.gz`, `test_FD001.txt.gz` and `RUL_FD001.txt.gz`.

    Raises:
        ConfigError: A file is not there, or is not what it should be.
    """
    train, test = (_engines(folder / FOLDER / f"{name}_FD001.txt.gz") for name in ("train", "test"))
    file = folder / FOLDER / "RUL_FD001.txt.gz"
    life = _table(file).ravel()
    if len(life) != len(test):
        raise ConfigError(f"has {len(life)} numbers for {len(test)} engines", file=str(file))
    return Fleet(train, test, life)


def _engines(file: Path) -> tuple[np.ndarray, ...]:
    table = _table(file)
    if table.shape[1] != NUM_COLUMNS:
        raise ConfigError(f"has {table.shape[1]} columns, not {NUM_COLUMNS}", file=str(file))
    readings = table[:, [4 + number for number in SENSORS]].astype(np.float32)
    return tuple(readings[table[:, 0] == number] for number in np.unique(table[:, 0]))


def _table(file: Path) -> np.ndarray:
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            return np.loadtxt(lines, ndmin=2)
    except FileNotFoundError:
        raise ConfigError("there is no such file; --data is the folder above cmapss", file=str(file)) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"is no table of numbers: {error}", file=str(file)) from None


def plants(num_engines: int, seed: int) -> dict[str, list[int]]:
    """Which engines each plant has: drawn by lot, in the proportions of `PLANTS`.

    Args:
        num_engines: How many there are; at least as many as plants.
        seed: Of the lot.
    """
    order = np.random.default_rng(seed).permutation(num_engines)
    ends = np.cumsum(list(PLANTS.values())) * num_engines // sum(PLANTS.values())
    parts = np.split(order, ends[:-1])
    return {name: sorted(map(int, part)) for name, part in zip(PLANTS, parts, strict=True)}


def windows(engines: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All windows of engines that ran to failure, with the life left at the end of each.

    Returns:
        Readings, float32, shape (n, 14, 30); cycles left, at most `MOST_LIFE`, float32, shape (n,).
    """
    seen, left = [], []
    for engine in engines:
        for end in range(WINDOW, len(engine) + 1):
            seen.append(engine[end - WINDOW : end].T)
            left.append(min(len(engine) - end, MOST_LIFE))
    return np.stack(seen), np.array(left, np.float32)


def last_windows(engines: tuple[np.ndarray, ...]) -> np.ndarray:
    """The last window of each engine, shape (n, 14, 30); where there are fewer cycles the first one is repeated."""
    padded = (np.concatenate([engine[:1].repeat(max(0, WINDOW - len(engine)), axis=0), engine]) for engine in engines)
    return np.stack([engine[-WINDOW:].T for engine in padded])
