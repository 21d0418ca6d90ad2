"""The one way out of a side: what is counted, and which properties can travel."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.errors import EncodeError
from hansa.runtime.outbox import Outbox
from hansa.wire.codec import Encoder, decode


def public(**props: object) -> FLContext:
    fl_ctx = FLContext()
    for key, value in props.items():
        fl_ctx.set_prop(key, value, private=False, sticky=True)
    return fl_ctx


def test_plain_values_pass() -> None:
    props = {"text": "ü", "number": 3, "loss": 0.5, "yes": True, "none": None}
    assert Outbox("site-1").public_props(public(**props)) == props


def test_private_properties_stay() -> None:
    fl_ctx = public(a=1)
    fl_ctx.set_prop("secret", 2, private=True, sticky=True)
    fl_ctx.set_prop("passing", 3, private=False, sticky=False)
    assert Outbox("site-1").public_props(fl_ctx) == {"a": 1, "passing": 3}


def test_values_that_can_change_travel_as_copies_of_their_own() -> None:
    original = {"list": [1], "array": np.ones(2)}
    first, second = (Outbox("site-1").public_props(public(state=original))["state"] for _ in range(2))
    first["list"].append(2)
    first["array"][0] = 7
    original["list"].append(3)  # type: ignore[attr-defined]
    assert second["list"] == [1]
    assert second["array"].tolist() == [1.0, 1.0]


def test_what_cannot_be_encoded_stays_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    outbox = Outbox("site-1")
    fl_ctx = public(lock=threading.Lock(), deep={"a": [lambda: 1]}, good=1)
    for _ in range(3):
        assert outbox.public_props(fl_ctx) == {"good": 1}
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert "site-1: public property 'lock' stays here" in caplog.text


def test_a_subclass_of_a_plain_class_is_no_exception() -> None:
    class Name(str):
        __slots__ = ()

    [value] = Outbox("site-1").public_props(public(name=Name("x"))).values()
    assert value == "x"
    assert type(value) is str


def test_every_byte_is_counted() -> None:
    outbox = Outbox("site-1")
    small, large = Shareable(), Shareable()
    large["w"] = np.ones(100_000)
    for message in (small, large):
        packed = outbox.pack(message)
        assert isinstance(decode(packed), Shareable)
    assert outbox.sent.messages == 2
    assert 800_000 < outbox.sent.bytes < 810_000


def test_an_encoder_that_has_seen_the_tensors_writes_none_again() -> None:
    outbox, encoder = Outbox("server"), Encoder()
    array = np.ones(100_000)
    for site in ("a", "b", "c"):
        message = Shareable()
        message["w"] = array
        message.set_header("site", site)
        arrived = decode(outbox.pack(message, encoder))
        assert arrived.get_header("site") == site
        assert arrived["w"].sum() == 100_000
    assert encoder.num_tensors_encoded == 1


def test_what_has_no_form_on_the_wire_names_its_path() -> None:
    message = Shareable()
    message["DXO"] = {"data": {"model": {"f": lambda: 1}}}
    with pytest.raises(EncodeError, match=r"DXO\.data\.model\.f"):
        Outbox("site-1").pack(message)
