"""Acknowledgements go with what is sent anyway."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hansa.apis.client import Client
from hansa.runtime.file_blobs import BlobFolder, Packing
from hansa.runtime.members import Members
from hansa.runtime.net_crew import CrewTold, NetCrew

Head = dict[str, Any]


class Recorder:
    """A pipe that keeps what is sent, and brings nothing."""

    def __init__(self) -> None:
        self.heads: list[Head] = []

    def send(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        self.heads.append(head)

    def receive(self) -> None:
        return None


@pytest.fixture
def pipe() -> Recorder:
    return Recorder()


@pytest.fixture
def crew(pipe: Recorder, tmp_path: Path) -> NetCrew:
    told = CrewTold(lambda mishap, failure: None, lambda: None, on_abort=lambda why: None, on_gone=lambda: None)
    return NetCrew(
        pipe,
        Members([Client(name, "") for name in "abc"], min_sites=1),
        packing=Packing(BlobFolder(tmp_path, "m")),
        told=told,
    )


def test_acknowledgements_ride_with_a_sites_next_frame(crew: NetCrew, pipe: Recorder) -> None:
    crew.acknowledge("a", 1)
    crew.acknowledge("a", 2)
    crew.acknowledge("b", 3)
    assert pipe.heads == []
    crew.send(["a", "c"], {"k": "task", "each": {"a": {"number": 7}, "c": {"number": 8}}})
    crew.send(["a"], {"k": "end"})
    assert pipe.heads == [
        {"k": "task", "each": {"a": {"number": 7, "acks": [1, 2]}, "c": {"number": 8}}, "to": ["a", "c"]},
        {"k": "end", "to": ["a"]},
    ]


def test_what_no_frame_took_along_goes_in_one_of_its_own(crew: NetCrew, pipe: Recorder) -> None:
    crew.acknowledge("a", 1)
    crew.acknowledge("c", 2)
    crew.send_acks()
    crew.send_acks()
    assert pipe.heads == [{"k": "ack", "each": {"a": {"acks": [1]}, "c": {"acks": [2]}}, "to": ["a", "c"]}]
