"""The record of a run: rounds, refusals, numbers, and reading it again."""

from __future__ import annotations

import json
import math
import threading
from typing import Any

import numpy as np
import pytest

from hansa.apis.engine import History
from hansa.runtime.history import RoundRecord, RunHistory


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def make() -> tuple[RunHistory, list[dict[str, Any]], Clock]:
    lines: list[dict[str, Any]] = []
    clock = Clock()
    return RunHistory(lines.append, now=clock), lines, clock


def again(lines: list[dict[str, Any]]) -> RunHistory:
    """The history as it is read from a run's folder."""
    history = RunHistory(now=lambda: 0.0)
    for line in json.loads(json.dumps(lines)):
        history.add_line(line)
    return history


def test_it_is_a_history() -> None:
    assert isinstance(make()[0], History)


def test_a_round_from_open_to_closed() -> None:
    history, lines, clock = make()
    history.round_opened(3, ["a", "b", "c"])
    history.result_counted(3, "a", weight=10)
    history.scalar(3, "a", name="loss", value=0.5)
    history.result_refused(3, "b", reason="tensor w: NaN")
    history.result_refused(3, "b", reason="again")
    clock.seconds = 2.5
    history.round_closed(3)
    expected = RoundRecord(
        3, ["a", "b", "c"], {"a": 10.0}, {"b": ["tensor w: NaN", "again"]}, {"a": {"loss": 0.5}}, seconds=2.5
    )
    assert history.rounds == [expected]
    assert again(lines).rounds == [expected]


def test_the_targets_are_a_list_of_its_own() -> None:
    history, _, _ = make()
    targets = ["a"]
    history.round_opened(0, targets)
    targets.append("b")
    assert history.rounds[0].targets == ["a"]


def test_a_round_that_never_closed_is_read_again_with_its_refusals() -> None:
    # A run that fails in a round: that round tells why, so it must be in the folder.
    history, lines, _ = make()
    history.round_opened(0, ["a", "b"])
    history.round_closed(0)
    history.round_opened(1, ["a", "b"])
    history.result_counted(1, "a", weight=1.0)
    history.result_refused(1, "b", reason="late")
    history.finish()
    expected = RoundRecord(1, ["a", "b"], {"a": 1.0}, {"b": ["late"]})
    assert again(lines).rounds[1] == expected
    assert len(again(lines).rounds) == 2


def test_after_a_crash_the_refusals_are_still_there() -> None:
    history, lines, _ = make()
    history.round_opened(0, ["a", "b"])
    history.result_refused(0, "b", reason="late")
    assert again(lines).rounds[0].refused == {"b": ["late"]}


def test_a_refusal_after_its_round_is_read_again() -> None:
    history, lines, _ = make()
    history.round_opened(0, ["a"])
    history.round_closed(0)
    history.result_refused(0, "b", reason="late")
    assert history.rounds[0].refused == again(lines).rounds[0].refused == {"b": ["late"]}
    assert len(again(lines).rounds) == 1


def test_two_workflows_may_count_from_the_same_number() -> None:
    history, lines, _ = make()
    for weight in (1.0, 2.0):
        history.round_opened(0, ["a"])
        history.result_counted(0, "a", weight=weight)
        history.round_closed(0)
    assert [record.counted for record in history.rounds] == [{"a": 1.0}, {"a": 2.0}]
    assert again(lines).rounds == history.rounds


def test_numbers_of_other_libraries_are_kept_as_plain_ones() -> None:
    history, lines, _ = make()
    history.round_opened(0, ["a"])
    history.result_counted(0, "a", weight=np.float32(2))  # type: ignore[arg-type]
    history.scalar(0, "a", name="loss", value=np.float32(0.5))  # type: ignore[arg-type]
    history.scalar(0, "a", name="step", value=np.float32(0.25), step=np.int64(7))  # type: ignore[arg-type]
    history.round_closed(0)
    assert again(lines).rounds[0].metrics == {"a": {"loss": 0.5, "step": 0.25}}
    assert again(lines).scalars[0].step == 7


def test_the_last_value_of_a_step_wins_and_all_are_kept() -> None:
    history, lines, _ = make()
    history.round_opened(0, ["a"])
    for step in range(3):
        history.scalar(0, "a", name="loss", value=1.0 - step / 4, step=step)
    history.round_closed(0)
    assert history.rounds[0].metrics["a"]["loss"] == 0.5
    assert [(s.step, s.value) for s in again(lines).scalars] == [(0, 1.0), (1, 0.75), (2, 0.5)]


def test_a_number_outside_all_rounds() -> None:
    history, lines, _ = make()
    history.scalar(None, "server", name="seconds", value=2.0)
    assert history.rounds == []
    assert history.series("seconds") == []
    assert again(lines).scalars == history.scalars


def test_a_series_is_the_servers_else_the_mean_of_the_sites() -> None:
    history, _, _ = make()
    history.round_opened(0, ["a", "b"])
    history.result_counted(0, "a", weight=1.0)
    history.result_counted(0, "b", weight=3.0)
    history.scalar(0, "a", name="acc", value=0.2)
    history.scalar(0, "b", name="acc", value=0.6)
    history.round_opened(1, ["a", "b"])
    history.scalar(1, "a", name="acc", value=0.3)
    history.scalar(1, "b", name="acc", value=0.5)
    history.round_opened(2, ["a", "b"])
    history.scalar(2, "a", name="acc", value=0.9)
    history.scalar(2, "server", name="acc", value=0.7)
    history.round_opened(3, ["a", "b"])
    # round 0: (1 * 0.2 + 3 * 0.6) / 4 = 0.5; round 1: nobody counted yet, so (0.3 + 0.5) / 2; round 2: the server's
    series = history.series("acc")
    assert [number for number, _ in series] == [0, 1, 2]
    assert [value for _, value in series] == pytest.approx([0.5, 0.4, 0.7])
    assert history.series("acc", "b") == [(0, 0.6), (1, 0.5)]
    assert history.series("acc", "server") == [(2, 0.7)]
    assert history.metric_names() == ["acc"]


def test_the_sites_are_all_that_took_part_without_the_server() -> None:
    history, _, _ = make()
    history.round_opened(0, ["c"])
    history.result_counted(0, "b", weight=1.0)
    history.result_refused(0, "a", reason="why not")
    history.scalar(0, "server", name="x", value=1.0)
    history.scalar(0, "d", name="x", value=1.0)
    assert history.sites() == ["a", "b", "c", "d"]


def test_many_threads_lose_nothing() -> None:
    history, lines, _ = make()
    history.round_opened(0, [])

    def report(site: str) -> None:
        for step in range(200):
            history.scalar(0, site, name="x", value=float(step), step=step)

    threads = [threading.Thread(target=report, args=(f"site-{n}",)) for n in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(history.scalars) == len(lines) == 800
    assert all(metrics == {"x": 199.0} for metrics in history.rounds[0].metrics.values())


def test_a_metric_of_a_round_is_the_weighted_mean_over_finite_values() -> None:
    history, _, _ = make()
    history.round_opened(2, ["a", "b", "c", "d"])
    for site, weight, value in (("a", 1, 0.5), ("b", 3, 0.25), ("c", 5, math.nan), ("d", 7, math.inf)):
        history.result_counted(2, site, weight=weight)
        history.scalar(2, site, name="loss", value=value)
    # (1 * 0.5 + 3 * 0.25) / 4
    assert history.metric(2, "loss") == 0.3125
    assert history.series("loss") == [(2, 0.3125)]
    assert history.reported(2, "loss").keys() == {"a", "b", "c", "d"}
    history.scalar(2, "server", name="loss", value=9.0)
    assert history.metric(2, "loss") == 9.0


def test_a_metric_that_is_nowhere_finite_is_no_number_and_one_that_nobody_reports_is_none() -> None:
    history, _, _ = make()
    history.round_opened(0, ["a"])
    history.result_counted(0, "a", weight=1)
    history.scalar(0, "a", name="loss", value=math.nan)
    value = history.metric(0, "loss")
    assert value is not None
    assert math.isnan(value)
    assert history.metric(0, "accuracy") is None
    assert history.reported(0, "accuracy") == {}


def test_an_early_end_is_kept_with_its_reason() -> None:
    history, lines, _ = make()
    assert history.early_end is None
    history.ended_early(4, reason="good enough")
    assert again(lines).early_end == history.early_end == (4, "good enough")


def test_a_long_run_keeps_only_its_last_rounds_in_memory_and_writes_all_of_them() -> None:
    lines: list[dict[str, Any]] = []
    history = RunHistory(lines.append, now=iter(range(10_000)).__next__, most_rounds=3)
    for number in range(500):
        history.round_opened(number, ["a"])
        history.result_counted(number, "a", weight=1.0)
        history.scalar(number, "a", name="loss", value=number)
        if number != 7:
            history.round_closed(number)
    assert [each.number for each in history.rounds] == [497, 498, 499]
    assert history.scalars == []
    assert history.metric(499, "loss") == 499
    assert history.metric(12, "loss") is None  # nothing is made up of what is gone
    history.result_refused(12, "b", reason="too late")
    assert [each.number for each in history.rounds] == [497, 498, 499]
    assert len(history.seconds) == 499
    written = [line["round"]["number"] for line in lines if "round" in line]
    assert sorted(written) == list(range(500))
    read = RunHistory(now=lambda: 0.0)
    for line in lines:
        read.add_line(line)
    assert [each.number for each in read.rounds] == [*range(7), *range(8, 10), 7, *range(10, 500)]
