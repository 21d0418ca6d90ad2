"""What every implementation of `Devices` promises: fakes, and `nvidia-smi` played by a small program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hansa.runtime.devices import MIB, VISIBLE, Device, Devices, FakeDevices, NvidiaDevices
from hansa.runtime.packing import Packing

FIRST, SECOND = "GPU-11111111-aaaa", "GPU-22222222-bbbb"


def smi(folder: Path, body: str) -> str:
    """A program that stands for nvidia-smi."""
    path = folder / "nvidia-smi"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


def nvidia(folder: Path, environment: Mapping[str, str] | None = None) -> NvidiaDevices:
    """Two devices; it answers only the question that it is meant to get."""
    body = (
        "assert sys.argv[1:] == ['--query-gpu=uuid,memory.total,memory.free', '--format=csv,noheader,nounits']\n"
        f"print('{FIRST}, 8192, 8000')\nprint('{SECOND}, 4096, 96')"
    )
    return NvidiaDevices(smi(folder, body), environment or {})


def fake(folder: Path) -> FakeDevices:
    return FakeDevices({FIRST: 8192 * MIB, SECOND: 4096 * MIB})


@pytest.fixture(params=[fake, nvidia], ids=["fake", "nvidia-smi"])
def devices(request: pytest.FixtureRequest, tmp_path: Path) -> Devices:
    make: Callable[[Path], Devices] = request.param
    return make(tmp_path)


def test_found_devices_have_an_id_and_their_memory(devices: Devices) -> None:
    found = devices.found()
    assert [(device.id, device.total_bytes) for device in found] == [(FIRST, 8192 * MIB), (SECOND, 4096 * MIB)]
    assert devices.found() == found


def test_free_memory_is_what_was_found_while_nobody_takes_any(devices: Devices) -> None:
    for device in devices.found():
        assert devices.free_bytes(device.id) == device.free_bytes
        assert device.free_bytes is not None
        assert device.total_bytes is not None
        assert 0 <= device.free_bytes <= device.total_bytes


def test_an_unknown_device_is_an_error(devices: Devices) -> None:
    with pytest.raises(KeyError):
        devices.free_bytes("GPU-none")


def test_workers_are_placed_on_what_is_found(devices: Devices) -> None:
    # Free MiB: 8192 and 4096 (fake), 8000 and 96 (nvidia-smi). Worker 0 goes to the first. Worker 1: 8192 / 2 = 4096
    # against 4096, and of equals the first; 8000 / 2 against 96: the first.
    packing = Packing(devices.found(), 2)
    assert [packing.environment(worker) for worker in (0, 1)] == [{VISIBLE: FIRST}] * 2


@pytest.mark.parametrize(
    ("setting", "left"), [("1", [SECOND]), ("", []), ("-1", []), ("GPU-2,0", [SECOND, FIRST]), ("MIG-1", [])]
)
def test_nvidia_smi_shows_what_the_environment_leaves(setting: str, left: list[str], tmp_path: Path) -> None:
    assert [device.id for device in nvidia(tmp_path, {VISIBLE: setting}).found()] == left


@pytest.mark.parametrize(
    "body",
    [
        "print('NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.'); sys.exit(9)",
        "print('No devices were found')",
        "sys.stdout.buffer.write(bytes([0xff, 0xfe, 10]))",
    ],
)
def test_a_driver_that_fails_means_no_device(body: str, tmp_path: Path) -> None:
    assert NvidiaDevices(smi(tmp_path, body), {}).found() == []


def test_no_program_means_no_device(tmp_path: Path) -> None:
    assert NvidiaDevices(str(tmp_path / "nvidia-smi"), {}).found() == []


def test_the_order_of_the_environment_is_kept(tmp_path: Path) -> None:
    assert nvidia(tmp_path, {VISIBLE: "1,0"}).found() == [
        Device(SECOND, 4096 * MIB, 96 * MIB),
        Device(FIRST, 8192 * MIB, 8000 * MIB),
    ]
