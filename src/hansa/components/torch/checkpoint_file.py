"""Checkpoints on disk: torch's own files, of which only weights are read, and safetensors.

The ending decides: `.safetensors` is that, any other is torch's. Files appear whole or not at all. In a safetensors
file the tensors of `model` are the tensors, and everything beside `model` stands in the metadata: texts as they are,
`meta_props`, `train_conf` and other values as JSON.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hansa import tensors
from hansa.components.torch.pt_model_format import PTModelPersistenceFormatManager
from hansa.components.torch.tensor_memory import bits_of, from_bits, tensor_over
from hansa.errors import ConfigError, DecodeError

Content = dict[str, Any]  # Any: what `PTModelPersistenceFormatManager` takes and gives

SAFETENSORS = "safetensors"
_MODEL = PTModelPersistenceFormatManager.PERSISTENCE_KEY_MODEL
_OWN_JSON = (
    PTModelPersistenceFormatManager.PERSISTENCE_KEY_META_PROPS,
    PTModelPersistenceFormatManager.PERSISTENCE_KEY_TRAIN_CONF,
)
_UNREADABLE = (
    OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError,
    EOFError, MemoryError, Warning,
)  # fmt: skip
"""What torch raises over a damaged file, whose bytes steer its reader."""
_CODE = re.compile(r"GLOBAL ([\w.]+)")


def is_safetensors(path: str | Path) -> bool:
    """Whether the ending says that this is a safetensors file."""
    return Path(path).suffix == f".{SAFETENSORS}"


def read_checkpoint(path: Path, *, key: str | None = None) -> Content:
    """What a checkpoint holds, on the CPU; nothing in it is executed.

    Args:
        path: The file.
        key: The setting that names it, for errors.

    Raises:
        ConfigError: There is no such file, it cannot be read, holds code or objects, or holds no weights.
    """
    try:
        content = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    except FileNotFoundError:
        raise ConfigError("there is no such checkpoint", file=str(path), key=key) from None
    except pickle.UnpicklingError as error:
        raise ConfigError(_what_is_in(error), file=str(path), key=key) from None
    except (*_UNREADABLE, DecodeError) as error:
        text = _first_sentence(error)
        raise ConfigError(f"no checkpoint can be read from it: {text}", file=str(path), key=key) from None
    problem = _problem(content)
    if problem:
        raise ConfigError(problem, file=str(path), key=key)
    return content


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write what `PTModelPersistenceFormatManager.to_persistence_dict` gave.

    Raises:
        ConfigError: A value beside the tensors cannot stand in a safetensors file.
        OSError: The file cannot be written.
    """
    if is_safetensors(path):
        _write_safetensors(path, content)
        return
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({name: value if name == _MODEL else _plain(value) for name, value in content.items()}, file)
            os.fchmod(file.fileno(), 0o644)
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def metadata_of(content: Mapping[str, Any]) -> dict[str, str]:
    """Everything beside the tensors, as a safetensors file holds it.

    Raises:
        ConfigError: A value is neither text nor plain data.
    """
    metadata = {}
    for name, value in content.items():
        if name == _MODEL:
            continue
        try:
            is_text = isinstance(value, str) and name not in _OWN_JSON
            metadata[name] = value if is_text else json.dumps(_plain(value), allow_nan=True)
        except (TypeError, ValueError):
            problem = f"a .{SAFETENSORS} file can keep texts and plain data, but no {type(value).__name__}"
            raise ConfigError(problem, key=str(name)) from None
    return metadata


def _read_torch(path: Path) -> Content:
    content: Content = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _read_safetensors(path: Path) -> Content:
    arrays = tensors.read(path, mmap=False)
    header = tensors.parse_header(memoryview(tensors.map_file(path)))
    names = {tag: name for name, tag in tensors.ML_DTYPES.items()}
    tags = {name: entry.dtype for name, entry in header.entries.items()}
    model = {
        name: from_bits(array, names[tags[name]]) if tags[name] in names else tensor_over(array)
        for name, array in arrays.items()
    }
    content: Content = {_MODEL: model, **header.metadata}
    for name in _OWN_JSON:
        if name in header.metadata:
            content[name] = json.loads(header.metadata[name])
    return content


def _write_safetensors(path: Path, content: Mapping[str, Any]) -> None:
    arrays, dtypes = {}, {}
    for name, value in content[_MODEL].items():
        tensor = tensor_over(value)
        tag = tensors.ML_DTYPES.get(str(tensor.dtype).removeprefix("torch."))
        if tag is None:
            arrays[name] = tensor.cpu().numpy()
        else:
            bits = bits_of(tensor)
            arrays[name], dtypes[name] = bits.view(tensors.CARRIERS[tag]), tag
    tensors.write(path, arrays, metadata_of(content), dtypes=dtypes)


def _problem(content: object) -> str:
    """What is wrong with what a file held; "" if nothing."""
    if not isinstance(content, Mapping):
        return f"holds no weights by name, but a {type(content).__name__}"
    weights = content[_MODEL] if isinstance(content.get(_MODEL), Mapping) else content
    for name, value in weights.items():
        if not isinstance(name, str):
            return f"holds no weights by name: it has the key {name!r:.40}"
        if not isinstance(value, (torch.Tensor, bytes)):  # bytes: encrypted
            hint = f"; weights are expected under {_MODEL!r}, or alone" if weights is content else ""
            return f"holds no weights by name: {name!r} is a {type(value).__name__}{hint}"
        if isinstance(value, torch.Tensor) and (value.layout is not torch.strided or value.is_quantized):
            return f"layer {name!r} is sparse or quantized; only dense tensors can be averaged"
    return "" if weights else "holds no weights"


def _what_is_in(error: Exception) -> str:
    found = _CODE.search(str(error))
    if found is None:
        return f"no checkpoint can be read from it: {_first_sentence(error)}"
    return (
        f"holds code or objects ({found[1]}), which are not loaded; "
        "save weights and plain data alone: torch.save(model.state_dict(), ...)"
    )


def _first_sentence(error: BaseException) -> str:
    """The beginning of what torch has to say, which goes on for paragraphs about how to load the file all the same."""
    text = " ".join(str(error).split())
    if not text or isinstance(error, (pickle.UnpicklingError, Warning)):
        return "it is no file of torch's, or damaged"
    return re.split(r"\. (?=[A-Z])", text)[0]


def _plain(value: Any) -> Any:  # Any: what a model's meta may hold
    """Values of NumPy and enums as plain data, which every reader of weights alone takes; others as they are."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return tensor_over(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_plain(item) for item in value])
    return value
