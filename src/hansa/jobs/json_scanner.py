"""A walk through parsed JSON, for programs that used FLARE's: depth first, one call per element."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from hansa.jobs.place import Place
from hansa.jobs.user_code import user_code


class Node:
    """One element and where it stands.

    Attributes:
        element: The value: an object, a list or a plain value.
        key: The key it stands under; an item of a list has the list's.
        level: How deep it stands; 0 for the whole.
        position: Which item of its list it is, from 1; 0 for what is in no list.
        parent: The node around it; None for the whole.
        props: For the processor's own notes.
        exit_cb: Set by the processor: called with this node when all inside it are done.
    """

    def __init__(self, element: Any) -> None:  # Any: JSON
        self.element = element
        self.key = ""
        self.level = 0
        self.position = 0
        self.parent: Node | None = None
        self.props: dict[str, Any] = {}  # Any: the processor's own
        self.exit_cb: Callable[[Node], object] | None = None

    def path(self) -> str:
        """The way to it: keys, and `#1`, `#2`, ... for the items of lists, joined by dots."""
        if self.parent is None:
            return ""
        above, step = self.parent.path(), f"#{self.position}" if self.position else self.key
        return f"{above}.{step}" if above else step

    def children(self) -> Iterator[Node]:
        """The nodes right inside; what is added while they are visited is not."""
        if isinstance(self.element, dict):
            for key, value in list(self.element.items()):
                yield self._child(value, key, 0)
        elif isinstance(self.element, list):
            for position, value in enumerate(list(self.element), 1):
                yield self._child(value, self.key, position)

    def _child(self, element: Any, key: str, position: int) -> Node:
        child = Node(element)
        child.key, child.position, child.level, child.parent = key, position, self.level + 1, self
        return child


class JsonObjectProcessor(ABC):
    """What is done with each element."""

    @abstractmethod
    def process_element(self, node: Node) -> None:
        """Called once per element, before those inside it."""


class JsonScanner:
    """Takes a processor through parsed JSON.

    Args:
        json_data: The whole.
        location: The file it comes from, for errors.

    Raises:
        ValueError: `json_data` is no dict.
    """

    def __init__(self, json_data: dict[str, Any], location: str | None = None) -> None:
        if not isinstance(json_data, dict):
            raise ValueError(f"json_data must be dict, but got {type(json_data)}")
        self.data = json_data
        self.location = location

    def scan(self, processor: JsonObjectProcessor) -> None:
        """Visit every element, depth first.

        Raises:
            ValueError: `processor` is no JsonObjectProcessor.
            ConfigError: The processor raised; names location and path.
        """
        if not isinstance(processor, JsonObjectProcessor):
            raise ValueError(f"processor must be JsonObjectProcessor, but got {type(processor)}")
        self._visit(Node(self.data), processor)

    def _visit(self, node: Node, processor: JsonObjectProcessor) -> None:
        place = Place(self.location, node.path())
        with user_code("cannot process this", place):
            processor.process_element(node)
        for child in node.children():
            self._visit(child, processor)
        if node.exit_cb is not None:
            with user_code("cannot process this", place):
                node.exit_cb(node)
