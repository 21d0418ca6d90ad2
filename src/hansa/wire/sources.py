"""The memory behind a message's tensors, and what becomes of it on the way to their receiver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from hansa.errors import DecodeError
from hansa.tensors import ALIGNMENT, Array
from hansa.wire.blobs import Allocate, Blob
from hansa.wire.dtypes import REGIONS

Ownership = Literal["copy", "own", "readonly"]


class Source:
    """One blob, or the payload of the envelope, while a message is decoded; memory is taken at first use.

    Args:
        view: Its bytes, read-only.
        regions: Where each region begins and ends; None where nobody says (in an envelope).
        private: Makes writable memory of the same bytes.
        is_writable: Whether arrays are to be writable.
    """

    def __init__(
        self,
        view: Array,
        regions: Mapping[str, tuple[int, int]] | None,
        *,
        private: Callable[[], Array],
        is_writable: bool,
    ) -> None:
        self.view = view
        self.is_writable = is_writable
        self._regions = regions
        self._private = private
        self._memory: Array | None = None
        self._unclaimed = view.nbytes

    @classmethod
    def of_blob(cls, blob: Blob, arrays: Ownership, *, allocate: Allocate) -> Source:
        """A blob.

        Raises:
            DecodeError: Its header is not as it should be.
        """
        header = blob.header
        if header.data_begin % ALIGNMENT:
            raise DecodeError(f"the data of a blob cannot begin at byte {header.data_begin}")
        regions = {}
        for name, entry in header.entries.items():
            if name not in REGIONS or REGIONS[name].tag != entry.dtype:
                raise DecodeError(f"a blob has no region {name!r:.60} of {entry.dtype}")
            regions[name] = (entry.begin, entry.end)
        takes = arrays == "own" or (arrays == "readonly" and blob.path is not None)
        return cls(
            blob.data,
            regions,
            private=lambda: blob.take(allocate) if takes else blob.copy(allocate),
            is_writable=arrays != "readonly",
        )

    @classmethod
    def of_bytes(cls, envelope: bytes, begin: int, *, arrays: Ownership, allocate: Allocate) -> Source:
        """The payload of an envelope; too small to be worth anything but a copy where it must be writable."""
        view = np.frombuffer(envelope, np.uint8)[begin:]

        def copy() -> Array:
            memory = allocate(view.nbytes)
            memory[:] = view
            return memory

        return cls(view, None, private=copy, is_writable=arrays != "readonly")

    @property
    def writable(self) -> Array:
        """Memory of the receiver's own; the same at every call."""
        if self._memory is None:
            self._memory = self._private()
        return self._memory

    @property
    def memory(self) -> Array:
        """What arrays are to be views of."""
        return self.writable if self.is_writable else self.view

    def claim(self, size_bytes: int) -> None:
        """Count a tensor; all together cannot have more bytes than there are, or some would be read twice."""
        self._unclaimed -= size_bytes
        if self._unclaimed < 0:
            raise DecodeError("the tensors have more bytes than the blob they lie in")

    def check(self, region: str, begin: int, *, end: int) -> None:
        """Refuse a tensor that does not lie in the region of its dtype.

        Args:
            region: The name of that region.
            begin: The tensor's first byte.
            end: The byte after its last.
        """
        first, last = (0, self.view.nbytes) if self._regions is None else self._regions.get(region, (0, 0))
        if begin != end and not first <= begin < end <= last:
            raise DecodeError(f"a tensor cannot lie at {begin}:{end}: its region is {first}:{last}")
