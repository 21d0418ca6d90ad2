"""TensorBoard's event files: needs the extra `tensorboard`."""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from hansa.components.scalars import as_float

_VERSION = "brain.Event:2"
_MOST_CHANNELS = 4


class EventFile:
    """One event file, with the methods of TensorBoard's SummaryWriter that records name.

    A record is in the file when the method returns; between two records the file is closed. Keywords that mean nothing
    here are passed over, since a sender may mean another receiver.

    Args:
        folder: Where the file lies; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
        taken = len(list(folder.glob("events.out.tfevents.*")))  # files of an earlier run stay as they are
        self._path = folder / f"{stem}.{taken}"
        self._append(Event(wall_time=time.time(), file_version=_VERSION))

    def add_scalar(
        self,
        tag: str,
        scalar_value: float,
        *,
        global_step: int | None = None,
        walltime: float | None = None,
        **more: Any,  # Any: what a sender says to other receivers
    ) -> None:
        """Write one number, in float32, which is all that TensorBoard keeps."""
        self._add(Summary.Value(tag=_clean(tag), simple_value=scalar_value), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],  # Any: numbers of any library
        *,
        global_step: int | None = None,
        walltime: float | None = None,
        **more: Any,
    ) -> None:
        """Write several numbers as `main_tag/key`; what is no number is left out."""
        for key, value in tag_scalar_dict.items():
            if (number := as_float(value)) is not None:
                self.add_scalar(f"{main_tag}/{key}", number, global_step=global_step, walltime=walltime)

    def add_text(
        self,
        tag: str,
        text_string: str,
        *,
        global_step: int | None = None,
        walltime: float | None = None,
        **more: Any,
    ) -> None:
        """Write a text, under `tag/text_summary` as SummaryWriter does; TensorBoard reads it as Markdown."""
        text = _clean(text_string).encode()
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
        value = Summary.Value(
            tag=f"{_clean(tag)}/text_summary",
            metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
            tensor=TensorProto(dtype=DT_STRING, string_val=[text], tensor_shape=shape),
        )
        self._add(value, global_step, walltime)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,  # Any: an array of any library
        *,
        global_step: int | None = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
        **more: Any,
    ) -> None:
        """Write an image of 1 to 4 channels.

        Args:
            tag: Its name.
            img_tensor: uint8 in 0..255, or bools, or floats in 0..1.
            global_step: Its step.
            walltime: Seconds since 1970; None: now.
            dataformats: The order of its axes: the letters H and W, and C where it has channels.
            **more: Passed over.

        Raises:
            ValueError: It is none.
        """
        pixels = _pixels(img_tensor, dataformats)
        height, width, channels = pixels.shape
        content = io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(content, format="PNG")
        image = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=content.getvalue())
        self._add(Summary.Value(tag=_clean(tag), image=image), global_step, walltime)

    def _add(self, value: Any, step: int | None, walltime: float | None) -> None:  # Any: a protocol buffer
        when = time.time() if walltime is None else walltime
        self._append(Event(wall_time=when, step=step, summary=Summary(value=[value])))

    def _append(self, event: Any) -> None:  # Any: as above
        with self._path.open("ab") as stream:
            RecordWriter(stream).write(event.SerializeToString())


def _clean(text: str) -> str:
    """A text that UTF-8 can hold."""
    return text.encode("utf-8", errors="replace").decode()


# -- images -------------------------------------------------------------------------------------------------------


def _pixels(image: Any, axes: str) -> NDArray[np.uint8]:  # Any: an array of any library
    """The image as bytes of shape (height, width, channels)."""
    array = np.asarray(image)
    axes = axes.upper()
    if sorted(axes) not in (["C", "H", "W"], ["H", "W"]) or array.ndim != len(axes):
        raise ValueError(f"an image of shape {array.shape} cannot have the axes {axes!r}")
    array = array.transpose([axes.index(axis) for axis in "HWC" if axis in axes])
    array = array if array.ndim == 3 else array[:, :, None]
    if not 1 <= array.shape[2] <= _MOST_CHANNELS or 0 in array.shape:
        raise ValueError(f"an image has 1 to 4 channels and some pixels, not the shape {array.shape} (H, W, C)")
    if array.dtype == np.uint8:
        return array
    if array.dtype != np.bool_ and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"an image holds uint8, bools or floats, not {array.dtype}")
    scaled = np.clip(np.nan_to_num(array.astype(np.float64)), 0.0, 1.0) * 255.0
    return scaled.astype(np.uint8)
