"""Values as one string of bytes: `to_bytes()` and `from_bytes()` of Shareable, DXO and Learnable.

How a value becomes bytes is the wire's affair, and `apis` knows nothing of the wire. So this module holds only the
socket; a codec plugs itself in with `use`. Where none has, the first call loads Hansa's own by its name, which keeps
`dxo.to_bytes()` working in a program that imports nothing but `hansa.apis`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TypeVar

from hansa.errors import DecodeError, HansaError

T = TypeVar("T")
Encode = Callable[[object], bytes]
Decode = Callable[[bytes], object]

DEFAULT_CODEC = "hansa.wire.codec"
"""The module that is loaded when no codec has registered; it offers `to_bytes(value)` and `from_bytes(data)`."""

_codec: tuple[Encode, Decode] | None = None


def use(encode: Encode, decode: Decode) -> None:
    """Plug a codec in; it replaces the one before.

    Args:
        encode: Turns a value into bytes that need nothing else to be read.
        decode: The inverse. Must not run or load anything that the bytes name.
    """
    global _codec
    _codec = (encode, decode)


def encode(value: object) -> bytes:
    """The value as bytes.

    Raises:
        EncodeError: Something in it has no form on the wire; the error names its path.
    """
    return _current()[0](value)


def decode(data: bytes, expect: type[T]) -> T:
    """The value that `encode` made the bytes from.

    Args:
        data: What `encode` returned.
        expect: The class that the value must be of.

    Raises:
        DecodeError: The bytes are no message, or hold a value of another class.
    """
    value = _current()[1](data)
    if not isinstance(value, expect):
        raise DecodeError(f"the bytes hold a {type(value).__name__}, not a {expect.__name__}")
    return value


def _current() -> tuple[Encode, Decode]:
    if _codec is None:
        try:
            module = importlib.import_module(DEFAULT_CODEC)
            use(module.to_bytes, module.from_bytes)
        except (ImportError, AttributeError) as error:
            raise HansaError(f"no codec to turn values into bytes: {DEFAULT_CODEC} does not load ({error})") from error
    assert _codec is not None
    return _codec
