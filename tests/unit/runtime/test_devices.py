"""Reading what `nvidia-smi` prints, what the environment leaves visible, and errors that mean a device is full."""

from __future__ import annotations

import pytest

from hansa.runtime.devices import MIB, Device, FakeDevices, FakeOutOfMemory, is_out_of_memory, parse_nvidia, visible

A, B, C = (Device(f"GPU-{letter * 8}-1111", 100, 90) for letter in "abc")
ALL = [A, B, C]


def test_lines_of_nvidia_smi_become_devices() -> None:
    text = (
        "GPU-5e1c7f3a-0b52-9a57-3f1c-0a4fd6a2b111, 81559, 81008\n"
        "GPU-77777777-0b52-9a57-3f1c-0a4fd6a2b222, [N/A], [N/A]\n"
        "\n"
        "No devices were found\n"
        "Failed to initialize NVML: Driver/library version mismatch, 1, 2\n"
    )
    assert parse_nvidia(text) == [
        Device("GPU-5e1c7f3a-0b52-9a57-3f1c-0a4fd6a2b111", 81559 * MIB, 81008 * MIB),
        Device("GPU-77777777-0b52-9a57-3f1c-0a4fd6a2b222", None, None),
    ]


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        (None, [A, B, C]),
        ("0", [A]),
        ("2,0", [C, A]),
        (" 1 , GPU-cccccccc", [B, C]),
        ("GPU-", []),  # means several
        ("0,7,1", [A]),  # nothing from the first bad entry on
        ("0,-1,1", [A]),
        ("1,1", [B]),
        ("", []),
        ("MIG-1234", []),
        ("x", []),
    ],
)
def test_the_environment_leaves_some_visible(setting: str | None, left: list[Device]) -> None:
    assert visible(ALL, setting) == left


@pytest.mark.parametrize(
    "text",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total of 79 GiB",
        "torch.cuda.OutOfMemoryError: Allocation on device",
        "RuntimeError: CUDA error: out of memory",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: MPS backend out of memory (MPS allocated: 9.00 GB)",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "numba.cuda.cudadrv.driver.CudaAPIError: [2] Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,000,000,000 bytes",
        "xgboost.core.XGBoostError: bad_alloc: cudaErrorMemoryAllocation: out of memory",
        "ResourceExhaustedError: OOM when allocating tensor with shape[64,512] on /job:localhost/device:GPU:0",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 4294967296 bytes.",
        "Traceback (most recent call last):\n  File 'a.py'\ntorch.OutOfMemoryError: CUDA out of memory.\n",
    ],
)
def test_an_error_that_means_a_full_device(text: str) -> None:
    assert is_out_of_memory(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "MemoryError",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.00 TiB for an array with shape (2**37,)",
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: DataLoader worker (pid 7) is killed by signal: Bus error. workers out of shared memory",
        "grpc.RpcError: RESOURCE_EXHAUSTED: Received message larger than max",
        "RuntimeError: out of patience, memory of CUDA fades",
    ],
)
def test_an_error_that_means_something_else(text: str) -> None:
    assert not is_out_of_memory(text)


def test_a_fake_device_runs_out_as_a_real_one_does() -> None:
    devices = FakeDevices({"fake-0": 10 * MIB, "fake-1": 4 * MIB})
    with devices.taken("fake-0", 6 * MIB):
        assert devices.free_bytes("fake-0") == 4 * MIB
        assert devices.found() == [
            Device("fake-0", 10 * MIB, 4 * MIB),
            Device("fake-1", 4 * MIB, 4 * MIB),
        ]
        with (
            pytest.raises(FakeOutOfMemory, match=r"Tried to allocate 4\.50 MiB") as caught,
            devices.taken("fake-0", 9 * MIB // 2),
        ):
            raise AssertionError("there is no room")
        assert is_out_of_memory(str(caught.value))
    assert devices.free_bytes("fake-0") == 10 * MIB
    assert devices.num_refused == 1
