"""Acknowledgements go with what is sent anyway; what was said to a process before this one does not count."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hansa.apis.client import Client
from hansa.apis.shareable import Shareable
from hansa.runtime.assignments import Assignment, TaskBody
from hansa.runtime.file_blobs import BlobFolder, Packing
from hansa.runtime.members import Members
from hansa.runtime.net_crew import CrewTold, NetCrew
from hansa.wire.codec import Encoder

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
    told = CrewTold(lambda mishap, failure: None, lambda: None, on_abort=lambda why, status: None, on_gone=lambda: None)
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


class Speaks(Recorder):
    """Says some frames, and then nothing more."""

    def __init__(self, *heads: Head) -> None:
        super().__init__()
        self.says = list(heads)

    def receive(self) -> tuple[Head, list[bytes]] | None:
        return (self.says.pop(0), []) if self.says else None


def test_a_task_that_was_lost_under_an_earlier_number_is_not_lost(tmp_path: Path) -> None:
    task = "0/train/1/a/1"
    said = {"k": "lost", "site": "a", "task_id": task, "cause": "there is no blob (any more)"}
    ended = threading.Event()
    told = CrewTold(lambda mishap, failure: None, lambda: None, on_abort=lambda why, status: None, on_gone=ended.set)
    crew = NetCrew(
        Speaks({**said, "number": 3}, {**said, "number": 7}),
        Members([Client("a", "")], min_sites=1),
        packing=Packing(BlobFolder(tmp_path, "m")),
        told=told,
    )
    member = crew.members.find("a")
    assert member is not None
    member.assignment = Assignment("a", task, TaskBody("train", Encoder().encode(Shareable())), 7)
    member.given.add(7)
    crew.listen()
    assert ended.wait(10)
    (delivery,) = crew.deliveries()
    assert [answer.assignment.number for answer in delivery.answers] == [7]
