"""A site's table, whatever it came as, as blocks of float64 that fit the cache."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from hansa.errors import ConfigError

Array = NDArray[Any]  # Any: every dtype that holds numbers or texts
Block = NDArray[np.float64]

MISSING = frozenset(("", "?", "na", "n/a", "nan", "null", "none", "-nan"))
"""What a cell of a CSV file holds in place of a value; in small letters."""
MOST_LABELS = 50

_BLOCK = 1 << 18
"""Values of a block: 2 MB, which fits the cache of one core."""


@dataclass(frozen=True)
class Table:
    """Numbers by feature.

    Attributes:
        name: For errors: the data set's name.
        features: The columns' names.
        num_rows: How many rows; of images, pixels.
        columns: One array per feature; or one matrix (rows, features).
        labels: The values of the label column.
        codes: For each row its label's place in `labels`, -1 for none; None where there is no label.
        rows_per_subject: How many rows a floor counts as one; of images the pixels of the largest.
    """

    name: str
    features: tuple[str, ...]
    num_rows: int
    columns: Sequence[Array] | Array
    labels: tuple[str, ...] = ()
    codes: NDArray[np.int64] | None = None
    rows_per_subject: int = 1

    def blocks(self) -> Iterator[tuple[Block, NDArray[np.int64] | None]]:
        """The rows in pieces, float64[features, rows], each with its rows' codes; a piece is good until the next."""
        size = max(_BLOCK // max(len(self.features), 1), 256)
        block = np.empty((len(self.features), min(size, max(self.num_rows, 1))))
        for start in range(0, self.num_rows, size):
            stop = min(start + size, self.num_rows)
            piece = block if stop - start == block.shape[1] else np.empty((len(self.features), stop - start))
            if isinstance(self.columns, np.ndarray):
                np.copyto(piece, self.columns[start:stop].T, casting="unsafe")
            else:
                for place, column in zip(piece, self.columns, strict=True):
                    place[...] = column[start:stop]
            yield piece, None if self.codes is None else self.codes[start:stop]


def table_of(name: str, given: object, *, features: Sequence[str], label: str | None) -> Table:
    """What a source gave for one data set.

    Args:
        name: The data set's.
        given: See `StatisticsSource.load`.
        features: The wanted columns; empty: all that hold numbers.
        label: The label column.

    Raises:
        ConfigError: It is no table, lacks a column, or a column holds text; names data set or file, column and row.
    """
    where = f"data set {name!r}"
    if isinstance(given, str | Path):
        where = str(given)
        given = _read_csv(Path(given))
    if isinstance(given, np.ndarray) and given.dtype.names:
        given = {column: given[column] for column in given.dtype.names}
    if isinstance(given, Mapping):
        return _of_columns(name, dict(given), features, label=label, where=where)
    if isinstance(given, np.ndarray) and given.ndim == 2:
        return _of_matrix(name, given, features, label=label, where=where)
    if isinstance(given, np.ndarray) and given.ndim in (3, 4):
        return _of_images(name, list(given), where)
    if hasattr(given, "columns") and hasattr(given, "__getitem__"):  # a frame of pandas, polars and the like
        return _of_columns(name, {str(c): given[c] for c in given.columns}, features, label=label, where=where)
    if isinstance(given, list | tuple) and all(isinstance(image, np.ndarray) for image in given):
        return _of_images(name, list(given), where)
    raise ConfigError(f"must be a table or images, not {type(given).__name__}", key=where)


def _of_matrix(name: str, matrix: Array, features: Sequence[str], *, label: str | None, where: str) -> Table:
    names = tuple(features) or tuple(f"column-{i}" for i in range(matrix.shape[1]))
    if len(names) != matrix.shape[1]:
        raise ConfigError(f"has {matrix.shape[1]} columns, but features() names {len(names)}", key=where)
    if matrix.dtype.kind not in "biuf":
        raise ConfigError(f"must hold numbers, not {matrix.dtype}", key=where)
    if label is None:
        return Table(name, names, len(matrix), matrix)
    return _of_columns(name, dict(zip(names, matrix.T, strict=True)), (), label=label, where=where)


def _of_columns(
    name: str, columns: dict[str, Any], features: Sequence[str], *, label: str | None, where: str
) -> Table:  # Any: whatever becomes an array
    for column in (*features, *([label] if label is not None else [])):
        if column not in columns:
            raise ConfigError(f"there is no column {column!r}; there are {', '.join(map(str, columns))}", key=where)
    arrays = {
        column: np.asarray(columns[column]) for column in (features or columns) if column != label or column in features
    }
    numbers = {}
    for column, array in arrays.items():
        if array.ndim != 1:
            raise ConfigError(f"must have one value per row, not shape {array.shape}", key=f"{where}, column {column}")
        found = _numbers(array, is_wanted=bool(features), where=f"{where}, column {column}")
        if found is not None:
            numbers[str(column)] = found
    names, codes = ((), None) if label is None else _codes(np.asarray(columns[label]), f"{where}, column {label}")
    lengths = {str(column): len(array) for column, array in numbers.items()}
    if codes is not None and label is not None:
        lengths[label] = len(codes)
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{column} {length}" for column, length in lengths.items())
        raise ConfigError(f"columns differ in length: {said}", key=where)
    if not numbers:
        raise ConfigError("has no column of numbers", key=where)
    return Table(name, tuple(numbers), next(iter(lengths.values())), list(numbers.values()), names, codes)


def _of_images(name: str, images: list[Array], where: str) -> Table:
    if not images:
        return Table(name, (), 0, [])
    channels = {image.shape[2] if image.ndim == 3 else 1 for image in images}
    if any(image.ndim not in (2, 3) for image in images) or len(channels) > 1:
        shapes = sorted({image.shape for image in images})[:3]
        raise ConfigError(f"images must be (H, W) or (H, W, C), all with as many channels, not {shapes}", key=where)
    count = channels.pop()
    columns = [
        np.concatenate([(image if image.ndim == 2 else image[:, :, channel]).ravel() for image in images])
        for channel in range(count)
    ]
    names = ("intensity",) if count == 1 else tuple(f"intensity-{channel}" for channel in range(count))
    largest = max(image.shape[0] * image.shape[1] for image in images)
    return Table(name, names, len(columns[0]), columns, rows_per_subject=max(largest, 1))


def _numbers(array: Array, *, is_wanted: bool, where: str) -> Array | None:
    """A column as numbers; None for one of texts that nobody has asked for by name."""
    if array.dtype.kind in "biuf":
        return array
    texts = [_text(value) for value in array]
    values = ["nan" if text.lower() in MISSING else text for text in texts]
    try:
        return np.array(values, np.float64)
    except ValueError:
        bad = [row for row, value in enumerate(values) if not _is_number(value)]
        present = sum(value != "nan" for value in values)
        if not is_wanted and len(bad) == present:
            return None
        shown = texts[bad[0]][:40]
        raise ConfigError(f"row {bad[0] + 1} holds {shown!r}, which is no number", key=where) from None


def _text(value: object) -> str:
    return "nan" if value is None else str(value).strip()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _codes(array: Array, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    if array.ndim != 1:
        raise ConfigError(f"must have one value per row, not shape {array.shape}", key=where)
    if array.dtype.kind == "f" and np.isin(array[np.isfinite(array)], np.arange(-1000, 10_000)).all():
        # 1.0 at one site is 1 at another, where none is missing
        array = np.array([f"{value:.0f}" if np.isfinite(value) else "" for value in array], str)
    texts = array.astype(str) if array.dtype.kind in "biufUS" else np.array([_text(value) for value in array], str)
    names, codes = np.unique(texts, return_inverse=True)
    keep = [name.lower() not in MISSING for name in names]
    places = np.where(keep, np.cumsum(keep) - 1, -1)
    found = tuple(str(name) for name, kept in zip(names, keep, strict=True) if kept)
    if len(found) > MOST_LABELS:
        raise ConfigError(f"has {len(found)} different values, a label at most {MOST_LABELS}", key=where)
    return found, places[codes].astype(np.int64) if len(codes) else np.empty(0, np.int64)


def _read_csv(path: Path) -> dict[str, Any]:  # Any: lists of texts
    try:
        with _opened(path) as stream:
            rows = [row for row in csv.reader(stream, skipinitialspace=True) if row]
    except FileNotFoundError:
        raise ConfigError("there is no such file", file=str(path)) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"cannot be read: {error}", file=str(path)) from None
    if not rows:
        raise ConfigError("is empty; its first line must name the columns", file=str(path))
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], 1):
        if len(row) != len(header):
            raise ConfigError(f"row {number} has {len(row)} cells, the header {len(header)}", file=str(path))
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ConfigError(f"column {twice!r} is there twice", file=str(path))
    cells: list[Any] = list(zip(*rows[1:], strict=True)) or [()] * len(header)
    return {name: _column(column) for name, column in zip(header, cells, strict=True)}


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.GzipFile(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _column(cells: Sequence[str]) -> Array:
    """A column of a file: numbers where all of it is."""
    if not cells:
        return np.empty(0)
    try:
        return np.array(["nan" if cell.strip().lower() in MISSING else cell for cell in cells], np.float64)
    except ValueError:
        return np.array([cell.strip() for cell in cells], object)
