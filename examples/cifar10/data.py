"""CIFAR-10 from a folder of the user's: nothing is downloaded, and nothing in it can choose what code runs.

Two layouts are known:

- `cifar-10-batches-py/data_batch_1` ... `test_batch`, as published (or these files themselves). They are Python 2
  pickles; the reader below builds dicts, lists, numbers and bytes from them and refuses everything else.
- `cifar10/train_1.npz` ... `test.npz` (or these files themselves): `labels` uint8 [10000] and `residual` uint8
  [3, 10000, 32, 32], what the median predictor leaves of the planes R - G + 128, G, B - G + 128.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.errors import ConfigError

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NUM_TRAIN, NUM_TEST = 50_000, 10_000
IN_A_FILE = 10_000

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

_PUBLISHED = ("data_batch_{}", "test_batch")
_RESIDUALS = ("train_{}.npz", "test.npz")
_LARGEST_FILE = 64 * 2**20
_IMAGE = (3, 32, 32)


def read(folder: Path, *, num_train: int = NUM_TRAIN) -> tuple[tuple[Pixels, Labels], tuple[Pixels, Labels]]:
    """Training and test images, in the official order.

    Args:
        folder: In one of the two layouts.
        num_train: The first so many training images.

    Returns:
        Twice pixels, shape (n, 3, 32, 32), RGB, and labels, shape (n,), in [0, 10).

    Raises:
        ConfigError: The folder does not hold CIFAR-10, or a file is broken.
    """
    if not 1 <= num_train <= NUM_TRAIN:
        raise ConfigError(f"must be from 1 to {NUM_TRAIN}, not {num_train}", key="images")
    place, (train, test) = _layout(folder)
    num_files = -(-num_train // IN_A_FILE)
    parts = [_read_file(place / train.format(number + 1)) for number in range(num_files)]
    pixels = np.concatenate([part[0] for part in parts])[:num_train]
    labels = np.concatenate([part[1] for part in parts])[:num_train]
    return (pixels, labels), _read_file(place / test)


def unpack(folder: Path, cache: Path, *, num_train: int = NUM_TRAIN) -> None:
    """Read the folder once and lay its images down as plain arrays, which all processes of a run can map."""
    splits = read(folder, num_train=num_train)
    cache.mkdir(parents=True, exist_ok=True)
    for name, (pixels, labels) in zip(("train", "test"), splits, strict=True):
        np.save(cache / f"{name}_pixels.npy", pixels)
        np.save(cache / f"{name}_labels.npy", labels)


def load(cache: Path, split: str) -> tuple[Pixels, Labels]:
    """The images that `unpack` has laid down, mapped.

    Args:
        cache: The folder.
        split: `train` or `test`.
    """
    return np.load(cache / f"{split}_pixels.npy", mmap_mode="r"), np.load(cache / f"{split}_labels.npy")


def _layout(folder: Path) -> tuple[Path, tuple[str, str]]:
    if not folder.is_dir():
        raise ConfigError("there is no such folder; it should hold CIFAR-10", file=str(folder))
    for place in (folder, folder / "cifar-10-batches-py", folder / "cifar10"):
        for names in (_PUBLISHED, _RESIDUALS):
            if (place / names[0].format(1)).is_file():
                return place, names
    raise ConfigError(
        "holds no CIFAR-10: neither cifar-10-batches-py/data_batch_1 nor cifar10/train_1.npz", file=str(folder)
    )


def _read_file(file: Path) -> tuple[Pixels, Labels]:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise ValueError("it is too large")
        pixels, labels = _residuals(file) if file.suffix == ".npz" else _published(file)
    except FileNotFoundError:
        raise ConfigError("there is no such file, though others of CIFAR-10 are there", file=str(file)) from None
    except Exception as error:  # a broken file may make pickle, zip and zlib raise almost anything
        raise ConfigError(f"is no file of CIFAR-10: {type(error).__name__}: {error}", file=str(file)) from None
    if pixels.shape != (IN_A_FILE, *_IMAGE) or labels.shape != (IN_A_FILE,) or labels.min() < 0 or labels.max() > 9:
        shapes = f"images {pixels.shape}, labels {labels.shape} from {labels.min()} to {labels.max()}"
        raise ConfigError(f"is no file of CIFAR-10: {shapes}", file=str(file))
    return pixels, labels


# -- the files as published ------------------------------------------------------------------------------------------


class _Array:
    """What stands for an array of bytes while a pickle is read; takes the state that NumPy wrote."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        if is_fortran or not isinstance(dtype, _ByteType) or not isinstance(content, bytes):
            raise ValueError("it holds an array of another kind than uint8")
        if math.prod(shape) != len(content):
            raise ValueError(f"an array of shape {shape} has {len(content)} bytes")
        self.array = np.frombuffer(content, np.uint8).reshape(shape)


class _ByteType:
    """What stands for NumPy's uint8."""

    def __setstate__(self, state: object) -> None:
        """Byte order and such, of which a byte has none."""


def _make_array(*of_what: object) -> _Array:
    return _Array()


def _make_dtype(name: bytes, *options: object) -> _ByteType:
    if name != b"u1":
        raise ValueError(f"it holds an array of {name!r}, not of uint8")
    return _ByteType()


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _make_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _make_dtype,
}


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, tuples, numbers, bytes and arrays of bytes; whatever else a pickle names is refused."""

    def find_class(self, module: str, name: str) -> Any:  # Any: as pickle has it
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no file of CIFAR-10 does")
        return _KNOWN[module, name]


def _published(file: Path) -> tuple[Pixels, Labels]:
    with file.open("rb") as stream:
        content = _PlainUnpickler(stream, encoding="bytes").load()
    data = content[b"data"]
    if not isinstance(data, _Array):
        raise ValueError("its data are no array")
    return data.array.reshape(-1, *_IMAGE), np.array(content[b"labels"], np.int64)


# -- residuals -------------------------------------------------------------------------------------------------------


def _residuals(file: Path) -> tuple[Pixels, Labels]:
    with np.load(file, allow_pickle=False) as content:
        return _decoded(content["residual"]), content["labels"].astype(np.int64)


def _decoded(residual: NDArray[Any]) -> Pixels:
    """Undo the prediction, pixel after pixel for all images at once, then the differences between the planes.

    Args:
        residual: uint8, shape (3, n, 32, 32).
    """
    if residual.dtype != np.uint8 or residual.ndim != 4 or residual.shape[0] != 3 or residual.shape[2:] != (32, 32):
        raise ValueError(f"residuals of {residual.dtype} and shape {residual.shape}")
    left = np.ascontiguousarray(residual.transpose(2, 3, 0, 1))  # (32, 32, 3, n)
    planes = np.zeros(left.shape, np.int16)
    for row in range(32):
        for column in range(32):
            planes[row, column] = (left[row, column] + _predicted(planes, row, column)) & 255
    green = planes[:, :, 1]
    for colour in (0, 2):
        planes[:, :, colour] += green - 128
    return np.ascontiguousarray((planes & 255).astype(np.uint8).transpose(3, 2, 0, 1))


def _predicted(planes: NDArray[np.int16], row: int, column: int) -> NDArray[np.int16] | int:
    """The median of the pixel above, the one to the left and the plane through both and the one between them."""
    if not row and not column:
        return 0
    if not row:
        return planes[row, column - 1]
    if not column:
        return planes[row - 1, column]
    above, before = planes[row - 1, column], planes[row, column - 1]
    plane = above + before - planes[row - 1, column - 1]
    return np.clip(plane, np.minimum(above, before), np.maximum(above, before))
