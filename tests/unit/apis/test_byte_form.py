"""The socket that a codec plugs into."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from hansa.apis import byte_form
from hansa.errors import DecodeError, HansaError


@pytest.fixture(autouse=True)
def no_codec_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts as a fresh program does, and leaves the codec that was there."""
    monkeypatch.setattr(byte_form, "_codec", None)
    yield


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
    data = byte_form.encode({"a": [1, "two"]})

    assert byte_form.decode(data, dict) == {"a": [1, "two"]}


def test_no_codec_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_form, "DEFAULT_CODEC", "hansa.no_such_module")

    with pytest.raises(HansaError, match="no codec .* hansa.no_such_module does not load"):
        byte_form.encode(1)
