"""What a worker says, and how much of it at a time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Any

import numpy as np
import pytest

from hansa.apis.folding import FoldedPart
from hansa.apis.shareable import Shareable
from hansa.runtime.assignments import Answer, Assignment, Delivery, TaskBody
from hansa.runtime.worker_outbox import WorkerOutbox
from hansa.runtime.worker_words import FromWorker
from hansa.wire.bundle import Unbundler
from hansa.wire.codec import Encoder, Message, decode

BODY = TaskBody("train", Encoder().encode(Shareable()))


class Link:
    """The other end: keeps every frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[dict[str, Any], list[Any]]] = []

    def send(self, head: dict[str, Any], parts: Any = ()) -> None:
        self.frames.append((head, [np.frombuffer(bytes(part), np.uint8) for part in parts]))

    @property
    def words(self) -> list[str]:
        return [head["k"] for head, _ in self.frames]

    @property
    def numbers(self) -> list[int]:
        return [answer[0] for head, _ in self.frames for answer in head.get("answers", ())]


def answer(number: int, size: int = 3, **more: Any) -> Answer:
    result = Shareable()
    result["w"] = np.full(size, number, np.float32)
    return Answer(Assignment(f"site-{number}", "id", BODY, number), Encoder().encode(result), **more)


def plain(number: int) -> Answer:
    return Answer(Assignment(f"site-{number}", "id", BODY, number), {"number": number}, folded=True)


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def outbox(link: Link) -> WorkerOutbox:
    return WorkerOutbox(link)  # type: ignore[arg-type]  # a link without a socket


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> Iterator[None]:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        yield


def test_messages_states_and_plain_answers_are_found_again(link: Link, outbox: WorkerOutbox) -> None:
    outbox.deliver(Delivery([answer(1, state=Encoder().encode({"m": np.ones(2)})), plain(2)]), {})
    outbox.flush()
    [(head, parts)] = link.frames
    assert head["k"] == FromWorker.ANSWERS.value
    (first, was_folded, message, state), (second, folded, light, none) = (each[:4] for each in head["answers"])
    unbundler = Unbundler()
    assert (first, was_folded, second, folded) == (1, False, 2, True)
    assert decode(unbundler.message(state, parts))["m"].tolist() == [1, 1]
    assert decode(unbundler.message(message, parts))["w"].tolist() == [1, 1, 1]
    assert (light, none) == ({"number": 2}, None)


def test_answers_of_fast_tasks_share_a_frame(link: Link, outbox: WorkerOutbox) -> None:
    for number in range(1, 2001):
        outbox.deliver(Delivery([plain(number)]), {})
    outbox.flush()
    assert link.numbers == list(range(1, 2001))
    assert max(len(head["answers"]) for head, _ in link.frames) <= 64
    assert len(link.frames) < 500


def test_an_answer_waits_for_others_a_moment_only(link: Link, outbox: WorkerOutbox) -> None:
    outbox.flush()
    for _ in wait_until(lambda: False, 0.01):
        pass
    outbox.deliver(Delivery([plain(1)]), {})
    assert link.numbers == [1]


def test_what_is_heavy_goes_at_once(link: Link, outbox: WorkerOutbox) -> None:
    outbox.flush()
    outbox.deliver(Delivery([answer(1, size=100_000)]), {})
    assert link.numbers == [1]
    assert link.frames[0][0]["heavy"] == 1


def test_a_part_of_a_sum_goes_at_once_with_the_answers_that_it_is_made_of(link: Link, outbox: WorkerOutbox) -> None:
    outbox.flush()
    part = FoldedPart((0, 2), ["site-1", "site-2"], {"divisor": 2.0}, [np.arange(4, dtype=np.uint8)])
    outbox.deliver(Delivery([plain(1), plain(2)], None, [part]), {})
    [(head, parts)] = link.frames
    [(span, sites, rule, [index])] = head["parts"]
    assert (list(span), sites, rule) == ([0, 2], ["site-1", "site-2"], {"divisor": 2.0})
    assert parts[index].tolist() == [0, 1, 2, 3]
    assert link.numbers == [1, 2]


def test_what_is_said_comes_after_what_was_gathered_before(link: Link, outbox: WorkerOutbox) -> None:
    outbox.log(logging.LogRecord("trainer", logging.INFO, "", 0, "loss %s", (0.5,), None))
    outbox.deliver(Delivery([plain(1)]), {})
    outbox.say(FromWorker.ASK, {"number": 3}, value={"topic": "t"})
    assert link.words == ["log", "answers", "ask"]
    assert link.frames[0][0]["lines"][0][:3] == [logging.INFO, "trainer", "loss 0.5"]
    head, parts = link.frames[-1]
    assert head["number"] == 3
    assert decode(Unbundler().message(head["m"], parts)) == {"topic": "t"}


def test_a_site_that_leaves_is_named_with_its_last_answer(link: Link, outbox: WorkerOutbox) -> None:
    ended = {"site-1": "gave up", "site-7": "long ago"}
    outbox.deliver(Delivery([plain(1), plain(2)]), ended)
    outbox.flush()
    outbox.deliver(Delivery([plain(3)]), ended)
    outbox.flush()
    assert [head["ended"] for head, _ in link.frames] == [{"site-1": "gave up"}, {}]


def test_a_task_without_an_answer_is_told(link: Link, outbox: WorkerOutbox) -> None:
    for number in (5, 6):
        methodcaller("skip", number)(outbox)  # no test that is left out, which one would look for by this name
    outbox.flush()
    outbox.flush()
    assert [head["skipped"] for head, _ in link.frames] == [[5, 6]]


def test_nothing_is_sent_where_there_is_nothing(link: Link, outbox: WorkerOutbox) -> None:
    outbox.flush()
    assert link.frames == []


def test_of_too_many_lines_the_last_are_counted(link: Link, outbox: WorkerOutbox) -> None:
    for number in range(10_025):
        outbox.log(logging.LogRecord("loud", logging.INFO, "", 0, f"line {number}", (), None))
    outbox.flush()
    outbox.log(logging.LogRecord("loud", logging.INFO, "", 0, "goes on", (), None))
    outbox.flush()
    [(first, _), (second, _)] = link.frames
    assert len(first["lines"]) == 10_001
    assert first["lines"][-1][2] == "25 lines dropped"
    assert [line[2] for line in second["lines"]] == ["goes on"]


def test_who_is_too_far_ahead_waits_until_results_are_taken(link: Link, outbox: WorkerOutbox) -> None:
    outbox.most_ahead = 2
    thread = threading.Thread(
        target=lambda: [outbox.deliver(Delivery([answer(number, 100_000)]), {}) for number in range(1, 6)]
    )
    thread.start()
    for taken, sent in ((0, 2), (1, 3), (2, 5)):
        if taken:
            outbox.taken(taken)
        for _ in wait_until(lambda sent=sent: len(link.numbers) >= sent):
            pass
        for _ in wait_until(lambda sent=sent: len(link.numbers) > sent, 0.05):  # and no more
            pass
        assert link.numbers == list(range(1, sent + 1))
    thread.join()


def test_light_answers_never_wait(link: Link, outbox: WorkerOutbox) -> None:
    outbox.most_ahead = 1
    outbox.deliver(Delivery([answer(1, 100_000)]), {})
    for number in range(2, 100):
        outbox.deliver(Delivery([plain(number), answer(number + 1000)]), {})
    outbox.flush()
    assert len(link.numbers) == 1 + 2 * 98


def test_a_result_larger_than_everything_goes_alone(link: Link, outbox: WorkerOutbox) -> None:
    class Blobs:
        """As large as no test could afford."""

        size_bytes = 1 << 40
        memory = np.zeros(10, np.uint8)

    message = Encoder().encode(Shareable())
    huge = Message(message.envelope, (Blobs(),))  # type: ignore[arg-type]  # see above
    outbox.deliver(Delivery([Answer(Assignment("site-1", "id", BODY, 1), huge)]), {})
    assert link.numbers == [1]
