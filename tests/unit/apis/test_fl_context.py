"""FLContext and its manager: private and public, sticky and not."""

from __future__ import annotations

import copy
import logging
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.signal import Signal

MASKS = [(private, sticky) for private in (True, False) for sticky in (True, False)]


def a_manager(**more: Any) -> FLContextManager:
    arguments: dict[str, Any] = {"identity_name": "site-1", "public_stickers": None, "private_stickers": None}
    return FLContextManager(engine="the engine", run_num=3, **{**arguments, **more})


def test_a_new_context_is_empty() -> None:
    ctx = FLContext()

    assert ctx.get_all_public_props() == {}
    assert ctx.get_all_details() == {}
    assert ctx.get_engine() is None
    assert ctx.get_run_number() is None
    assert ctx.get_identity_name() == ""
    assert ctx.get_peer_context() is None
    assert ctx.get_run_abort_signal() is None
    assert ctx.get_prop("x") is None
    assert ctx.get_prop("x", 5) == 5
    assert ctx.get_prop_detail("x") is None
    assert not ctx.public_key_exists("x")


def test_set_prop_is_private_and_sticky_by_default() -> None:
    ctx = FLContext()

    assert ctx.set_prop("x", 1) is True
    assert ctx.get_prop_detail("x") == {"value": 1, "private": True, "sticky": True}
    assert FLContext.MASK_STICKY == 1
    assert FLContext.MASK_PRIVATE == 2


@pytest.mark.parametrize(("private", "sticky"), MASKS)
@pytest.mark.parametrize("other", MASKS)
def test_the_first_set_decides(
    private: bool, sticky: bool, other: tuple[bool, bool], caplog: pytest.LogCaptureFixture
) -> None:
    ctx = FLContext()
    assert ctx.set_prop("x", 1, private, sticky)

    same = other == (private, sticky)
    assert ctx.set_prop("x", 2, *other) is same

    assert ctx.get_prop_detail("x") == {"value": 2 if same else 1, "private": private, "sticky": sticky}
    assert [record.levelname for record in caplog.records] == ([] if same else ["WARNING"])


def test_a_key_that_is_no_str_is_refused() -> None:
    with pytest.raises(ValueError, match="must be str"):
        FLContext().set_prop(1, "x")  # type: ignore[arg-type]


def test_a_removed_key_may_come_back_with_another_nature() -> None:
    ctx = FLContext()
    ctx.set_prop("x", 1, private=True, sticky=True)
    ctx.remove_prop("x")
    ctx.remove_prop("never there")

    assert ctx.get_prop("x") is None
    assert ctx.set_prop("x", 2, private=False, sticky=False)
    assert ctx.get_prop("x") == 2


def test_reserved_keys_cannot_be_removed() -> None:
    ctx = FLContext()
    ctx.set_prop("__x__", 1)
    ctx.remove_prop("__x__")
    ctx.remove_prop(None)  # type: ignore[arg-type]

    assert ctx.get_prop("__x__") == 1


def test_public_props() -> None:
    ctx = FLContext()
    for private, sticky in MASKS:
        ctx.set_prop(f"{private}{sticky}", 1, private, sticky)

    props = ctx.get_all_public_props()

    assert props == {"FalseTrue": 1, "FalseFalse": 1}
    assert ctx.public_key_exists("FalseFalse")
    assert not ctx.public_key_exists("TrueTrue")
    props["more"] = 1
    assert not ctx.public_key_exists("more")  # it was a new dict


def test_set_public_props_replaces_all_public_ones_and_makes_them_sticky(caplog: pytest.LogCaptureFixture) -> None:
    ctx = FLContext()
    ctx.set_prop("old", 1, private=False, sticky=True)
    ctx.set_prop("old2", 1, private=False, sticky=False)
    ctx.set_prop("mine", 1, private=True, sticky=True)

    ctx.set_public_props({"new": 2, "old2": 3, "mine": 4})

    assert ctx.get_all_public_props() == {"new": 2, "old2": 3}
    assert ctx.get_prop_detail("old2") == {"value": 3, "private": False, "sticky": True}
    assert ctx.get_prop("mine") == 1
    assert "mine" in caplog.text


def test_the_named_properties() -> None:
    ctx, peer, signal = FLContext(), FLContext(), Signal()
    ctx.set_run_number(4)
    ctx.set_peer_context(peer)
    ctx.set_prop(FLContextKey.RUN_ABORT_SIGNAL, signal)
    ctx.set_prop(ReservedKey.IDENTITY_NAME, "site-2", private=False)
    ctx.set_prop(ReservedKey.ENGINE, "engine")

    assert ctx.get_run_number() == ctx.get_prop(FLContextKey.CURRENT_RUN) == 4
    assert ctx.get_peer_context() is peer
    assert ctx.get_run_abort_signal() is signal
    assert ctx.get_identity_name() == "site-2"
    assert ctx.get_engine() == "engine"
    assert ctx.get_all_public_props() == {"__run_num__": 4, "__identity_name__": "site-2"}


def test_clone_sticky() -> None:
    ctx = FLContext()
    value = [1]
    for private, sticky in MASKS:
        ctx.set_prop(f"{private}{sticky}", value, private, sticky)

    clone = ctx.clone_sticky()

    assert sorted(clone.get_all_details()) == ["FalseTrue", "TrueTrue"]
    assert clone.get_prop("TrueTrue") is value
    clone.set_prop("TrueTrue", 2)
    assert ctx.get_prop("TrueTrue") is value


def test_without_a_manager_with_works_and_sync_does_not() -> None:
    with FLContext() as ctx:
        ctx.set_prop("x", 1)
        with pytest.raises(ValueError, match="no manager"):
            ctx.sync_sticky()

    assert ctx.get_prop("x") == 1


def test_a_context_can_be_copied() -> None:
    ctx = FLContext()
    ctx.set_prop("x", [1])

    again = copy.deepcopy(ctx)

    assert again.get_prop("x") == [1]
    assert again.get_prop("x") is not ctx.get_prop("x")


def test_what_new_context_holds() -> None:
    manager = a_manager(public_stickers={"open": 1}, private_stickers={"secret": 2})

    details = manager.new_context().get_all_details()

    assert details.pop(ReservedKey.MANAGER)["value"] is manager
    assert details == {
        "__engine__": {"value": "the engine", "private": True, "sticky": True},
        "__run_num__": {"value": 3, "private": False, "sticky": True},
        "__identity_name__": {"value": "site-1", "private": False, "sticky": True},
        "open": {"value": 1, "private": False, "sticky": True},
        "secret": {"value": 2, "private": True, "sticky": True},
    }
    assert manager.public_stickers == {"open": 1}
    assert manager.private_stickers == {"secret": 2}


def test_an_empty_identity_is_left_out() -> None:
    ctx = a_manager(identity_name="").new_context()

    assert ctx.get_identity_name() == ""
    assert not ctx.public_key_exists(ReservedKey.IDENTITY_NAME)


def test_sticky_properties_reach_contexts_made_after_the_exit() -> None:
    manager = a_manager()
    with manager.new_context() as ctx:
        ctx.set_prop("sticky", 1, private=False, sticky=True)
        ctx.set_prop("not", 1, private=True, sticky=False)
        during = manager.new_context()
    after = manager.new_context()

    assert during.get_prop("sticky") is None
    assert after.get_prop_detail("sticky") == {"value": 1, "private": False, "sticky": True}
    assert after.get_prop("not") is None


def test_sync_sticky_does_not_wait_for_the_exit() -> None:
    manager = a_manager()
    ctx = manager.new_context()
    ctx.set_prop("x", 1)
    ctx.sync_sticky()

    assert manager.new_context().get_prop("x") == 1


def test_an_error_inside_with_still_hands_the_properties_back() -> None:
    manager = a_manager()
    with pytest.raises(KeyError), manager.new_context() as ctx:
        ctx.set_prop("x", 1)
        raise KeyError("x")

    assert manager.new_context().get_prop("x") == 1


def test_removing_a_property_leaves_it_in_the_manager() -> None:
    manager = a_manager(private_stickers={"x": 1})
    with manager.new_context() as ctx:
        ctx.remove_prop("x")

    assert manager.new_context().get_prop("x") == 1


def test_permanent_properties_do_not_change() -> None:
    manager = a_manager(public_stickers={ReservedKey.RUN_NUM: 99})
    with manager.new_context() as ctx:
        ctx.set_run_number(4)
        ctx.set_prop(ReservedKey.ENGINE, "another")

    ctx = manager.new_context()
    assert ctx.get_run_number() == 3
    assert ctx.get_engine() == "the engine"


def test_an_old_context_does_not_bring_old_values_back() -> None:
    manager = a_manager(private_stickers={"round": 0})
    long_lived = manager.new_context()
    with manager.new_context() as ctx:
        ctx.set_prop("round", 1)
    long_lived.set_prop("other", 1)
    long_lived.sync_sticky()

    assert manager.new_context().get_prop("round") == 1
    assert manager.new_context().get_prop("other") == 1


def test_what_is_private_in_the_manager_does_not_become_public(caplog: pytest.LogCaptureFixture) -> None:
    manager = a_manager()
    early = manager.new_context()
    with manager.new_context() as ctx:
        ctx.set_prop("x", 1, private=True, sticky=True)
    early.set_prop("x", 2, private=False, sticky=True)
    early.sync_sticky()

    assert manager.new_context().get_prop_detail("x") == {"value": 1, "private": True, "sticky": True}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_several_threads() -> None:
    manager = a_manager()
    shared = manager.new_context()
    start = threading.Barrier(4)

    def work(thread: int) -> None:
        start.wait()
        for number in range(200):
            with manager.new_context() as ctx:
                ctx.set_prop(f"{thread}.{number}", number, private=False, sticky=True)
            shared.set_prop(f"{thread}.{number}", number, private=False, sticky=False)
            shared.get_all_public_props()

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(manager.public_stickers) == 4 * 200
    assert len(shared.get_all_public_props()) == 4 * 200 + 2  # and the run and the identity


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "remove"]), st.sampled_from("abc"), st.booleans(), st.booleans(), st.integers()
        )
    )
)
def test_a_key_keeps_its_nature_until_it_is_removed(steps: list[tuple[str, str, bool, bool, int]]) -> None:
    ctx = FLContext()
    expected: dict[str, dict[str, Any]] = {}
    for step, key, private, sticky, value in steps:
        if step == "remove":
            ctx.remove_prop(key)
            expected.pop(key, None)
            continue
        wanted = {"value": value, "private": private, "sticky": sticky}
        fits = expected.get(key, wanted)["private"] == private and expected.get(key, wanted)["sticky"] == sticky
        assert ctx.set_prop(key, value, private, sticky) is fits
        if fits:
            expected[key] = wanted
    assert ctx.get_all_details() == expected


def test_a_manager_can_be_given_another_name() -> None:
    manager = FLContextManager(None, "", 1, {}, {})
    before = manager.new_context()
    manager.identity_name = "site-1"
    assert (manager.identity_name, before.get_identity_name()) == ("site-1", "")
    assert manager.new_context().get_prop_detail(ReservedKey.IDENTITY_NAME) == {
        "value": "site-1",
        "private": False,
        "sticky": True,
    }
    manager.identity_name = ""
    assert manager.new_context().get_prop_detail(ReservedKey.IDENTITY_NAME) is None
