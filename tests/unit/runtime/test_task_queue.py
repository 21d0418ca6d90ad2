"""Tasks that wait for room on a device: who is sent what, in which order."""

from __future__ import annotations

from hansa.runtime.assignments import Assignment, TaskBody
from hansa.runtime.devices import Device
from hansa.runtime.packing import Packing
from hansa.runtime.task_queue import Action, Fail, Send, TaskQueue
from hansa.wire.codec import Message

BODY = TaskBody("train", Message(b""))


def queue_of(*sites_of_workers: list[str], free: int = 1000) -> TaskQueue:
    queue = TaskQueue(Packing([Device("gpu", 1000, free)], len(sites_of_workers)))
    for worker, sites in enumerate(sites_of_workers):
        for site in sites:
            queue.add(worker, Assignment(site, f"0/train/1/{site}/1", BODY))
    return queue


def sent(actions: list[Action]) -> list[str]:
    return [f"{action.worker}:{action.assignment.site}" for action in actions if isinstance(action, Send)]


def test_the_first_task_of_a_name_runs_alone_then_as_many_as_fit() -> None:
    queue = queue_of(["a", "b"], ["c"], ["d"])
    assert sent(queue.begin()) == ["0:a"]
    # 400 bytes each, 900 usable: two at a time; worker 0's next stands behind those who waited
    assert sent(queue.ended(0, 400)) == ["1:c", "2:d"]
    assert sent(queue.ended(1, 400)) == ["0:b"]
    assert sent(queue.ended(2, 400)) == []
    assert not queue.is_empty
    assert sent(queue.ended(0, 400)) == []
    assert queue.is_empty


def test_a_task_that_ran_out_is_sent_again_when_it_is_alone() -> None:
    queue = queue_of(["a"], ["b"], ["c"])
    assert sent(queue.begin()) == ["0:a"]
    assert sent(queue.ended(0, None)) == ["1:b", "2:c"]
    assert sent(queue.ran_out(1)) == []
    assert sent(queue.ended(2, None)) == ["1:b"]
    queue.ended(1, None)
    assert queue.is_empty


def test_a_task_that_runs_out_alone_has_failed_and_the_next_one_has_its_turn() -> None:
    queue = queue_of(["a", "b"])
    assert sent(queue.begin()) == ["0:a"]
    failed, *others = queue.ran_out(0)
    assert isinstance(failed, Fail)
    assert failed.assignment.site == "a"
    assert "memory" in failed.cause
    assert sent(others) == ["0:b"]


def test_after_a_death_the_task_is_sent_again_unless_it_is_over() -> None:
    queue = queue_of(["a", "b"])
    queue.begin()
    assert sent(queue.lost(0, is_over=False)) == ["0:a"]
    assert sent(queue.lost(0, is_over=True)) == ["0:b"]


def test_nothing_is_left_after_clear() -> None:
    queue = queue_of(["a", "b"])
    queue.clear()
    assert queue.is_empty
    assert queue.begin() == []
