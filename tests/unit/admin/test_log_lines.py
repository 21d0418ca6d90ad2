"""What is new in the end of a log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.admin.log_lines import unseen


@pytest.mark.parametrize(
    ("before", "now", "new"),
    [
        ("", "", ""),
        ("", "a\n", "a\n"),
        ("a\nb\n", "a\nb\n", ""),
        ("a\nb\n", "a\nb\nc\n", "c\n"),
        ("a\nb\n", "b\nc\n", "c\n"),
        ("a\nb\n", "x\ny\n", "x\ny\n"),
        ("a\nb", "a\nbcd\ne", "cd\ne"),
        ("a\na\n", "a\na\na\n", "a\n"),
    ],
)
def test_what_was_seen_is_not_said_again(before: str, now: str, new: str) -> None:
    assert unseen(before, now) == new


@given(st.text("ab\n", max_size=30), st.text("ab\n", max_size=10))
def test_nothing_is_lost_where_the_end_holds_all(before: str, added: str) -> None:
    # A log of few different lines may look as if less was added; never as if more was, or something else.
    assert (before + added).endswith(unseen(before, before + added))
