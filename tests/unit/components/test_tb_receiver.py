"""What TensorBoard reads of what the receiver writes."""

from __future__ import annotations

import io
import logging
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hansa.apis.analytix import AnalyticsDataType
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.workspace import Workspace
from hansa.components.widgets.convert_to_fed_event import ConvertToFedEvent
from hansa.components.widgets.event_file import EventFile
from hansa.components.widgets.fed_event import ClientFedEventRunner, ServerFedEventRunner
from hansa.components.widgets.streaming import AnalyticsSender, create_analytic_dxo
from hansa.components.widgets.tb_receiver import FUNCTION_MAPPING, TBAnalyticsReceiver, folder_name
from hansa.errors import MissingExtra
from sides import ServerSide, Side

LOCAL = AppEventType.ANALYTIC_EVENT_TYPE


class Server(ServerSide):
    """A server with a workspace."""

    def __init__(self, handlers: list[Any], root: Path) -> None:
        super().__init__(handlers)
        self.workspace = Workspace(str(root), "server", "config")

    def get_workspace(self) -> Workspace:
        return self.workspace


def federation(receiver: TBAnalyticsReceiver, root: Path) -> tuple[AnalyticsSender, Server]:
    sender = AnalyticsSender()
    site = Side("site-1", [sender, ConvertToFedEvent([LOCAL]), ClientFedEventRunner()])
    server = Server([receiver, ServerFedEventRunner()], root)
    site.others, server.others = [server], [site]
    for side in (server, site):
        side.fire(EventType.START_RUN)
    return sender, server


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_each_origin_has_a_folder_below_the_run_folder(tmp_path: Path) -> None:
    sender, server = federation(TBAnalyticsReceiver(), tmp_path)
    sender.add_scalar("loss", 0.5, global_step=0)
    sender.add_scalar("loss", 0.25, global_step=1, unknown_here="passed over")
    own = create_analytic_dxo("accuracy", 0.75, AnalyticsDataType.SCALAR, global_step=3).to_shareable()
    server.fire(LOCAL, **{FLContextKey.EVENT_DATA: own})
    root = tmp_path / "run_1" / "tb_events"
    assert sorted(folder.name for folder in root.iterdir()) == ["project", "site-1"]
    assert scalars(root / "site-1", "loss") == [(0, 0.5), (1, 0.25)]
    assert scalars(root / "project", "accuracy") == [(3, 0.75)]


def test_texts_images_and_several_numbers(tmp_path: Path) -> None:
    sender, _ = federation(TBAnalyticsReceiver("mine"), tmp_path)
    sender.add_scalars("both", {"a": np.float32(1), "b": 2, "c": "no number"}, 4)
    sender.add_text("note", "grüße", global_step=5)
    picture = np.arange(24, dtype=np.uint8).reshape(3, 2, 4)
    sender.add_image("picture", picture, global_step=6)
    found = read(tmp_path / "run_1" / "mine" / "site-1")
    assert sorted(found.Tags()["scalars"]) == ["both/a", "both/b"]
    assert [(event.step, event.value) for event in found.Scalars("both/b")] == [(4, 2.0)]
    [text] = found.Tensors("note/text_summary")
    assert (text.step, text.tensor_proto.string_val[0].decode()) == (5, "grüße")
    [image] = found.Images("picture")
    assert (image.step, image.width, image.height) == (6, 4, 2)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(image.encoded_image_string))), picture.transpose(1, 2, 0))


def test_a_number_without_a_step_stands_at_its_round(tmp_path: Path) -> None:
    sender, server = federation(TBAnalyticsReceiver(), tmp_path)
    for number in (0, 1):
        server.fire(AppEventType.ROUND_STARTED, **{AppConstants.CURRENT_ROUND: number})
        sender.add_scalar("loss", 0.5)
    sender.add_scalar("loss", 0.25, global_step=7)
    assert scalars(tmp_path / "run_1" / "tb_events" / "site-1", "loss") == [(0, 0.5), (1, 0.5), (7, 0.25)]


def test_what_comes_after_the_end_is_dropped(tmp_path: Path) -> None:
    sender, server = federation(TBAnalyticsReceiver(), tmp_path)
    sender.add_scalar("loss", 0.5, global_step=0)
    server.fire(EventType.END_RUN)
    sender.add_scalar("loss", 0.25, global_step=1)
    assert scalars(tmp_path / "run_1" / "tb_events" / "site-1", "loss") == [(0, 0.5)]


def test_a_second_run_into_the_same_folder_begins_a_new_file(tmp_path: Path) -> None:
    receiver = TBAnalyticsReceiver(str(tmp_path / "shared"))
    for step in range(2):
        sender, server = federation(receiver, tmp_path)
        sender.add_scalar("loss", 1.0, global_step=step)
        server.fire(EventType.END_RUN)
    assert len(list((tmp_path / "shared" / "site-1").iterdir())) == 2
    assert scalars(tmp_path / "shared" / "site-1", "loss") == [(0, 1.0), (1, 1.0)]


def test_other_kinds_of_records_pass(tmp_path: Path) -> None:
    _, server = federation(TBAnalyticsReceiver(), tmp_path)
    record = logging.LogRecord("a", logging.INFO, "", 0, "hello", None, None)
    data = create_analytic_dxo("log", record, AnalyticsDataType.LOG_RECORD).to_shareable()
    server.fire(LOCAL, **{FLContextKey.EVENT_DATA: data})
    assert not (tmp_path / "run_1").exists()


@pytest.mark.parametrize(
    ("origin", "folder"),
    [("site-1", "site-1"), ("../up", ".._up"), ("..", "__"), ("my job/1", "my_job_1"), ("", "_"), ("café", "café")],
)
def test_an_origin_is_made_safe_for_a_folder(origin: str, folder: str) -> None:
    assert folder_name(origin) == folder


def test_a_tag_of_a_sites_leads_nowhere_else(tmp_path: Path) -> None:
    sender, _ = federation(TBAnalyticsReceiver(), tmp_path / "inner")
    sender.add_scalars("../../../out", {"/etc/x": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]
    assert read(tmp_path / "inner" / "run_1" / "tb_events" / "site-1").Tags()["scalars"] == ["../../../out//etc/x"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e300, 1e-300])
def test_numbers_that_float32_lacks(tmp_path: Path, value: float) -> None:
    EventFile(tmp_path).add_scalar("x", value, global_step=-1)
    with np.errstate(over="ignore", under="ignore"):
        expected = float(np.float32(value))
    [(step, found)] = scalars(tmp_path, "x")
    assert step == -1
    assert found == pytest.approx(expected, nan_ok=True)


def test_the_time_of_a_record_is_the_senders_if_it_says_so(tmp_path: Path) -> None:
    EventFile(tmp_path).add_scalar("x", 1.0, walltime=12.5)
    assert [event.wall_time for event in read(tmp_path).Scalars("x")] == [12.5]


def test_every_record_bears_the_checksums_of_its_format(tmp_path: Path) -> None:
    EventFile(tmp_path).add_text("a", "b" * 1000)
    data = next(tmp_path.iterdir()).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    # CRC-32C of eight bytes, masked, computed bit by bit from the polynomial 0x1EDC6F41 (RFC 3720)
    crc = 0xFFFFFFFF
    for byte in data[:8]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert struct.unpack("<I", data[8:12]) == (masked,)
    assert b"brain.Event:2" in data[12 : 12 + length]


@pytest.mark.parametrize(
    ("shape", "axes", "mode"),
    [((2, 3), "HW", "L"), ((1, 2, 3), "CHW", "L"), ((2, 3, 2), "HWC", "LA"), ((2, 3, 4), "HWC", "RGBA")],
)
def test_images_of_one_to_four_channels(tmp_path: Path, shape: tuple[int, ...], axes: str, mode: str) -> None:
    pixels = np.linspace(0, 1, np.prod(shape)).reshape(shape)
    EventFile(tmp_path).add_image("x", pixels, dataformats=axes)
    [image] = read(tmp_path).Images("x")
    shown = Image.open(io.BytesIO(image.encoded_image_string))
    assert (shown.mode, shown.size) == (mode, (3, 2))
    assert np.asarray(shown).max() == 255


@pytest.mark.parametrize(
    ("image", "axes", "words"),
    [
        (np.zeros((2, 2)), "CHW", "cannot have the axes"),
        (np.zeros((5, 2, 2)), "CHW", "1 to 4 channels"),
        (np.zeros((0, 2)), "HW", "some pixels"),
        (np.zeros((2, 2), np.int64), "HW", "not int64"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, image: Any, axes: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EventFile(tmp_path).add_image("x", image, dataformats=axes)


def test_the_mapping_names_methods_that_there_are() -> None:
    assert set(FUNCTION_MAPPING) == set(AnalyticsDataType) - {AnalyticsDataType.LOG_RECORD}
    assert all(callable(getattr(EventFile, method)) for method in FUNCTION_MAPPING.values())


def test_the_folder_is_a_text() -> None:
    with pytest.raises(TypeError, match="tb_folder"):
        TBAnalyticsReceiver(7)  # type: ignore[arg-type]  # the point of the test


def test_writing_needs_no_framework(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hansa.components.widgets.event_file import EventFile; "
        f"EventFile(Path({str(tmp_path)!r})).add_scalar('x', 1.0); "
        "print(*sorted({'torch', 'tensorflow', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert scalars(tmp_path, "x") == [(0, 1.0)]


def test_without_tensorboard_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hansa.components.widgets.event_file", None)
    with pytest.raises(MissingExtra, match="tensorboard"):
        TBAnalyticsReceiver()
