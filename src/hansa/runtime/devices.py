"""The GPUs of this machine: which there are, how much memory is free, and what running out of it looks like.

No deep learning framework is imported, so that asking costs no memory on the device. Which worker gets which device
and how many tasks share one is decided in `hansa.runtime.packing`.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

VISIBLE = "CUDA_VISIBLE_DEVICES"
MIB = 2**20
_ANSWERS_WITHIN_S = 20.0
"""The first call to a sleeping driver takes seconds; a driver that hangs must not keep a run from starting."""


@dataclass(frozen=True)
class Device:
    """An accelerator.

    Attributes:
        id: What `CUDA_VISIBLE_DEVICES` calls it.
        total_bytes: Its memory; None where it does not say (it shares the machine's).
        free_bytes: What nobody held of it when somebody looked; None where it does not say.
    """

    id: str
    total_bytes: int | None
    free_bytes: int | None


class Devices(Protocol):
    """The accelerators that this program may use."""

    def found(self) -> list[Device]:
        """All of them, in the order of their numbers."""
        ...

    def free_bytes(self, device_id: str) -> int | None:
        """Memory that nobody holds now; None if it does not say.

        Raises:
            KeyError: There is no such device.
        """
        ...


class NvidiaDevices:
    """What `nvidia-smi` says, asked anew each time; none where there is no such program or it fails.

    Only what the environment leaves visible: `CUDA_VISIBLE_DEVICES` with numbers (in the order of the bus, as with
    `CUDA_DEVICE_ORDER=PCI_BUS_ID`) or with ids, whole or their beginning. Devices are named by their ids, since CUDA's
    own numbers follow another order. Slices of a device (MIG) are not found: they stay as the environment gives them.

    Args:
        program: The program to ask.
        environment: Where to look for `CUDA_VISIBLE_DEVICES`; this process's if None.
    """

    def __init__(self, program: str = "nvidia-smi", environment: Mapping[str, str] | None = None) -> None:
        self._program = program
        self._environment = os.environ if environment is None else environment

    def free_bytes(self, device_id: str) -> int | None:
        return {device.id: device.free_bytes for device in self.found()}[device_id]

    def found(self) -> list[Device]:
        if self._environment.get(VISIBLE, "all").strip() in ("", "-1"):
            return []
        query = [self._program, "--query-gpu=uuid,memory.total,memory.free", "--format=csv,noheader,nounits"]
        try:
            answer = subprocess.run(
                query, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S, check=True, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
            return []
        return visible(parse_nvidia(answer.stdout), self._environment.get(VISIBLE))


def parse_nvidia(text: str) -> list[Device]:
    """Devices from lines `id, total MiB, free MiB`; lines of another kind are left out."""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [
        Device(row[0], _mebibytes(row[1]), _mebibytes(row[2]))
        for row in rows
        if len(row) == 3 and row[0].startswith("GPU-")
    ]


def _mebibytes(text: str) -> int | None:
    return int(text) * MIB if text.strip().isdecimal() else None  # "[N/A]" where memory is shared with the machine


def visible(found: list[Device], setting: str | None) -> list[Device]:
    """What a value of `CUDA_VISIBLE_DEVICES` leaves, in its order; as in CUDA, nothing from the first bad entry on.

    Args:
        found: All devices of the machine.
        setting: The value; None where it is not set.
    """
    if setting is None:
        return found
    left: list[Device] = []
    for entry in (part.strip() for part in setting.split(",")):
        if entry.isdecimal():
            matching = found[int(entry) : int(entry) + 1]
        else:
            matching = [device for device in found if entry.startswith("GPU-") and device.id.startswith(entry)]
        if len(matching) != 1 or matching[0] in left:
            break
        left += matching
    return left


# -- for tests --------------------------------------------------------------------------------------------------------


class FakeOutOfMemory(RuntimeError):
    """What an allocation on a fake device raises; its text is what torch says."""


class FakeDevices:
    """Devices of which only the memory is simulated.

    Args:
        sizes: Bytes by id.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = dict(sizes)
        self._used = dict.fromkeys(sizes, 0)
        self.num_refused = 0
        """How often memory ran out."""

    def found(self) -> list[Device]:
        return [Device(name, size, self.free_bytes(name)) for name, size in self._sizes.items()]

    def free_bytes(self, device_id: str) -> int | None:
        return self._sizes[device_id] - self._used[device_id]

    @contextmanager
    def taken(self, device_id: str, size_bytes: int) -> Iterator[None]:
        """Memory of a device, held for the length of a block.

        Raises:
            FakeOutOfMemory: There is not as much.
        """
        if size_bytes > self._sizes[device_id] - self._used[device_id]:
            self.num_refused += 1
            raise FakeOutOfMemory(f"CUDA out of memory. Tried to allocate {size_bytes / MIB:.2f} MiB.")
        self._used[device_id] += size_bytes
        try:
            yield
        finally:
            self._used[device_id] -= size_bytes


# -- what went wrong --------------------------------------------------------------------------------------------------

_OUT_OF_MEMORY = re.compile(
    r"""  (CUDA|HIP|XPU|MPS[ ]backend) ([ ]error:)? [ ]out[ ]of[ ]memory  # torch; with `error:` from a kernel
        | torch\.(cuda\.)?OutOfMemoryError
        | CU(BLAS|DNN|SPARSE|SOLVER|FFT)_STATUS_ALLOC_FAILED
        | CUDA_ERROR_OUT_OF_MEMORY  # the driver: numba, JAX, TensorFlow
        | cudaErrorMemoryAllocation  # the runtime: XGBoost, RAPIDS, CuPy
        | cupy[\w.]{0,80}\.OutOfMemoryError
        | OOM[ ]when[ ]allocating[ ]tensor  # TensorFlow
        | RESOURCE_EXHAUSTED:[ ](Out[ ]of[ ]memory|Failed[ ]to[ ]allocate)  # JAX; alone, the word may come from gRPC
    """,
    re.IGNORECASE | re.VERBOSE,
)


def is_out_of_memory(error_text: str) -> bool:
    """Whether an error says that a device's memory ran out (not the machine's own: fewer neighbours do not help there).

    Args:
        error_text: Class and message, or a whole traceback.
    """
    return _OUT_OF_MEMORY.search(error_text) is not None
