"""The CIFAR-10 example for its tests: its modules, and images for it to read."""

from __future__ import annotations

import importlib
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from source_code import ROOT

EXAMPLE = ROOT / "examples" / "cifar10"
MODULES = ("configurations", "data", "learner", "networks", "results", "run")

Modules = dict[str, ModuleType]


@contextmanager
def example_modules() -> Iterator[Modules]:
    """The example's modules, which import each other by their bare names; gone again afterwards."""
    held = {name: sys.modules.pop(name) for name in MODULES if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        yield {name: importlib.import_module(name) for name in MODULES}
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.modules.update(held)


def folder_with_images(place: Path) -> Path:
    """The real images where they are; else `place`, with squares of a colour for each label in the same layout."""
    if (real := real_data()) is not None:
        return real
    rng = np.random.default_rng(0)
    for name in ("train_1.npz", "test.npz"):
        labels = rng.integers(0, 10, 10_000, dtype=np.uint8)
        residual = np.zeros((3, 10_000, 32, 32), np.uint8)
        residual[:, :, 0, 0] = rng.integers(0, 250, (3, 10))[:, labels]
        np.savez_compressed(place / name, residual=residual, labels=labels)
    return place


def real_data() -> Path | None:
    folder = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "load.py").exists() and (folder / "cifar10").exists() else None


def as_published(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """A pickle as Python 2 and the NumPy of its day wrote it."""
    content = pixels.tobytes()
    size, width = struct.pack("<i", len(pixels)), struct.pack("<i", len(content) // len(pixels))
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01J" + size
    array += b"J" + width + b"\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
    array += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    numbers = b"".join(b"K" + bytes([label]) for label in labels.tolist())
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels](" + numbers + b"eu."
