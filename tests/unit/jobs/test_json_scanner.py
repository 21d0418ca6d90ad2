"""The walk through parsed JSON, as programs of FLARE use it."""

from __future__ import annotations

from typing import Any

import pytest

from hansa.errors import ConfigError
from hansa.jobs.json_scanner import JsonObjectProcessor, JsonScanner, Node


class Notes(JsonObjectProcessor):
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self.left: list[str] = []

    def process_element(self, node: Node) -> None:
        self.seen.append((node.path(), node.key, node.level, node.position))
        node.props["path"] = node.path()
        node.exit_cb = lambda done: self.left.append(done.props["path"])
        if node.parent is not None:
            assert node.parent.props["path"] == node.parent.path()


def test_depth_first_with_the_place_of_each_element() -> None:
    notes = Notes()
    JsonScanner({"a": {"b": 1}, "c": [2, {"d": 3}]}).scan(notes)
    assert notes.seen == [
        ("", "", 0, 0),
        ("a", "a", 1, 0),
        ("a.b", "b", 2, 0),
        ("c", "c", 1, 0),
        ("c.#1", "c", 2, 1),
        ("c.#2", "c", 2, 2),
        ("c.#2.d", "d", 3, 0),
    ]
    # A node is left when all inside it are done.
    assert notes.left == ["a.b", "a", "c.#1", "c.#2.d", "c.#2", "c", ""]


def test_a_processor_may_change_what_it_is_given() -> None:
    class Replaces(JsonObjectProcessor):
        def process_element(self, node: Node) -> None:
            if node.element == "old" and node.parent is not None:
                node.parent.element[node.key] = "new"
                node.parent.element["more"] = 1

    data = {"a": {"x": "old", "y": 1}}
    JsonScanner(data).scan(Replaces())
    assert data == {"a": {"x": "new", "y": 1, "more": 1}}


@pytest.mark.parametrize("when", ["element", "exit"])
def test_what_a_processor_raises_names_location_and_path(when: str) -> None:
    class Fails(JsonObjectProcessor):
        def process_element(self, node: Node) -> None:
            def fail(_: Node) -> None:
                raise ValueError("no such layer")

            if node.element == 3:
                if when == "element":
                    fail(node)
                node.exit_cb = fail

    with pytest.raises(ConfigError) as caught:
        JsonScanner({"a": [1, {"b": 3}]}, "net.json").scan(Fails())
    assert (caught.value.file, caught.value.key) == ("net.json", "a.#2.b")
    assert "ValueError: no such layer" in str(caught.value)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="json_data must be dict"):
        JsonScanner([])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="processor must be JsonObjectProcessor"):
        JsonScanner({}).scan(print)  # type: ignore[arg-type]
