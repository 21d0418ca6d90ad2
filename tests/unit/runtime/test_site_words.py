"""What a site may say to the server's job process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.runtime.site_words import problem_of

GOOD: list[dict[str, Any]] = [
    {"k": "ready", "error": None, "m": {}},
    {"k": "ready", "error": "no such class"},
    {"k": "started"},
    {"k": "result", "number": 1, "task_id": "0/train/1/a/1", "ended": None, "m": {}},
    {"k": "lost", "number": 1, "task_id": "0/train/1/a/1", "cause": "disk"},
    {"k": "ask", "number": 0, "timeout_s": 1.5, "m": {}},
    {"k": "reply", "number": 3, "m": {}},
    {"k": "failed", "where": "task train", "cause": "KeyError", "detail": ""},
    {"k": "ended", "sent": [1, 2, 3]},
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("head", GOOD, ids=lambda head: head["k"])
def test_what_sites_say_passes(head: dict[str, Any]) -> None:
    assert problem_of(head) is None


@pytest.mark.parametrize("word", ["abort", "drain", "site_down", "site_back", "task", "", None, 3, ["ready"], {}])
def test_what_only_the_server_says_is_refused(word: object) -> None:
    assert "a site does not say" in str(problem_of({"k": word, "reason": "x"}))


@pytest.mark.parametrize("head", GOOD[3:], ids=lambda head: head["k"])
def test_a_word_without_what_belongs_to_it_is_refused(head: dict[str, Any]) -> None:
    for key in set(head) - {"k", "m", "timeout_s", "ended"}:
        for value in ({}, True, None, [1], 1.5):
            if key != "sent" or value != [1, 2, 3]:
                assert problem_of({**head, key: value}) is not None, (key, value)


@pytest.mark.parametrize(
    "said", [[], "m", None, 3, {"tables": {}}, {"with": "abc"}, {"blobs": 1}, {"tables": [1]}, {"with": [None]}]
)
def test_a_message_that_is_none_is_refused(said: object) -> None:
    head = {"k": "result", "number": 1, "task_id": "0/t/1/a/1", "ended": None, "m": said}
    assert "result with m" in str(problem_of(head))


@given(st.dictionaries(st.sampled_from(["k", "m", "number", "task_id", "error", "sent", "cause"]), JSON))
def test_nothing_makes_it_fail(head: dict[str, Any]) -> None:
    problem = problem_of(head)
    assert problem is None or len(problem) < 200
