"""The socket that a codec plugs into."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hansa.apis import byte_form
from hansa.errors import DecodeError
from hansa.wire import codec

SRC = str(Path(byte_form.__file__).parents[2])


@pytest.fixture(autouse=True)
def hansas_own_codec_afterwards() -> Iterator[None]:
    """Each test leaves Hansa's own codec plugged in."""
    yield
    byte_form.use(codec.to_bytes, codec.from_bytes)


def in_a_fresh_program(text: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, env=dict(os.environ, PYTHONPATH=SRC)
    )
    return done.stdout + done.stderr.strip().rpartition("\n")[2]


def plug_in() -> None:
    byte_form.use(lambda value: repr(value).encode(), lambda data: ast.literal_eval(data.decode()))


def test_a_codec_plugs_itself_in() -> None:
    plug_in()

    assert byte_form.encode({"a": 1}) == b"{'a': 1}"
    assert byte_form.decode(b"{'a': 1}", dict) == {"a": 1}


def test_a_value_of_another_class_is_refused() -> None:
    plug_in()

    with pytest.raises(DecodeError, match="the bytes hold a list, not a dict"):
        byte_form.decode(b"[1]", dict)


def test_the_last_codec_counts() -> None:
    plug_in()
    byte_form.use(lambda value: b"other", lambda data: "other")

    assert byte_form.encode(1) == b"other"


def test_without_a_codec_hansas_own_is_loaded() -> None:
    printed = in_a_fresh_program(
        "from hansa.apis import byte_form; print(byte_form.decode(byte_form.encode({'a': [1, 'two']}), dict))"
    )

    assert printed == "{'a': [1, 'two']}\n"


def test_no_codec_at_all() -> None:
    printed = in_a_fresh_program(
        "import sys; sys.modules['hansa.wire.codec'] = None; from hansa.apis import byte_form; byte_form.encode(1)"
    )

    assert "HansaError: no codec to turn values into bytes: hansa.wire.codec does not load" in printed
