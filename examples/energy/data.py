"""Well logs and lithology of FORCE 2020: wells by area, whole wells held out, and what a network sees of a well."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hansa.errors import ConfigError

FILE = Path("force2020") / "wells30.npz"
LOGS = ("GR", "RHOB", "NPHI", "DTC", "RDEP", "RMED", "SP", "PEF", "CALI", "DRHO")
"""What says something about the rock; where a well lies is left out, so that nothing is learnt by place."""
RESISTIVITIES = ("RDEP", "RMED")
"""They span decades: their logarithm is used."""
WINDOWS = (5, 25)
"""Rows to each side of a row (15 cm each) over whose mean a row is described, besides its own values."""
NUM_FEATURES = len(LOGS) * (2 + len(WINDOWS))
ONE_IN = 5
"""Of an area's wells, one in so many is held out, and at least one; of an area with fewer than 3 wells none."""


@dataclass(frozen=True)
class Well:
    """A well.

    Attributes:
        name: Its name, such as `16/2-6 Johan Sverdrup`.
        area: The licence quadrant, as a site's name: `area-16`.
        depth: Measured depth in metres, shape (rows,).
        logs: One column for each of `LOGS`, float32, shape (rows, 10); NaN: not measured.
        lithology: Class of each row, shape (rows,).
    """

    name: str
    area: str
    depth: np.ndarray
    logs: np.ndarray
    lithology: np.ndarray


@dataclass(frozen=True)
class Survey:
    """All wells, and the contest's words: names of classes, and the penalty for each pair (true, predicted)."""

    wells: tuple[Well, ...]
    classes: tuple[str, ...]
    penalty: np.ndarray


@lru_cache(maxsize=1)
def load(folder: Path) -> Survey:
    """Read the wells.

    Args:
        folder: Holds `force2020/wells30.npz`.

    Raises:
        ConfigError: The file is not there, or is not what it should be.
    """
    file = folder / FILE
    try:
        with np.load(file) as held:
            arrays = {name: held[name] for name in held.files}
        columns = [arrays["features"].tolist().index(name) for name in LOGS]
        table, lithology, well_of = arrays["X"].T, arrays["y"].astype(np.int64), arrays["well"]
        depth = table[:, arrays["features"].tolist().index("DEPTH_MD")]
        names, classes = arrays["well_names"].tolist(), tuple(arrays["classes"].tolist())
    except FileNotFoundError:
        raise ConfigError("there is no such file; --data is the folder above force2020", file=str(file)) from None
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"is not the file of well logs: {error}", file=str(file)) from None
    logs = np.array(table[:, columns], np.float32)
    for name in RESISTIVITIES:
        column = LOGS.index(name)
        logs[:, column] = np.log10(np.maximum(logs[:, column], 1e-2))
    wells = []
    for number, name in enumerate(names):
        rows = well_of == number
        area = f"area-{name.partition('/')[0]}"
        wells.append(Well(name, area, depth[rows], logs[rows], lithology[rows]))
    return Survey(tuple(wells), classes, arrays["penalty"])


def split(wells: tuple[Well, ...], seed: int) -> tuple[dict[str, list[Well]], list[Well]]:
    """Wells to train on, by area, and wells that nobody trains on.

    Args:
        wells: All of them.
        seed: Decides which are held out.
    """
    rng = np.random.default_rng(seed)
    training: dict[str, list[Well]] = {}
    held_out: list[Well] = []
    for area in sorted({well.area for well in wells}):
        mine = [well for well in wells if well.area == area]
        order = rng.permutation(len(mine))
        number = max(1, len(mine) // ONE_IN) if len(mine) >= 3 else 0
        held_out += [mine[each] for each in order[:number]]
        training[area] = [mine[each] for each in sorted(order[number:])]
    return training, held_out


def features(scaled: np.ndarray) -> np.ndarray:
    """What the network sees of each row of one well: values, means over the rows around, and what was measured.

    Args:
        scaled: Logs of mean 0 and deviation 1, shape (rows, 10), rows in the order of depth; NaN: not measured.

    Returns:
        float32, shape (rows, 40); what was not measured is 0, the mean.
    """
    measured = np.isfinite(scaled)
    values = np.clip(np.where(measured, scaled, 0.0), -5, 5)
    around = [_mean_around(values, measured, width) for width in WINDOWS]
    return np.concatenate([values, *around, measured], axis=1, dtype=np.float32)


def _mean_around(values: np.ndarray, measured: np.ndarray, width: int) -> np.ndarray:
    rows = np.arange(len(values))
    low, high = np.maximum(rows - width, 0), np.minimum(rows + width + 1, len(values))
    sums, counts = (np.concatenate([np.zeros((1, len(LOGS))), each.cumsum(axis=0)]) for each in (values, measured))
    return (sums[high] - sums[low]) / np.maximum(counts[high] - counts[low], 1)
