"""What a site's part of a round costs beside the codec: events, handlers that are called, files that are synced."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.signal import Signal
from scenarios.federations import Adds, Flow, Silent, ask, averaging, flow, listener, make_job, simulate

AT_THE_SERVER = (
    EventType.BEFORE_TASK_DATA_FILTER,
    EventType.AFTER_TASK_DATA_FILTER,
    EventType.BEFORE_TASK_RESULT_FILTER,
    EventType.AFTER_TASK_RESULT_FILTER,
    EventType.BEFORE_PROCESS_SUBMISSION,
    EventType.AFTER_PROCESS_SUBMISSION,
)
AT_THE_SITE = (
    EventType.BEFORE_PULL_TASK,
    EventType.AFTER_PULL_TASK,
    EventType.BEFORE_TASK_DATA_FILTER,
    EventType.AFTER_TASK_DATA_FILTER,
    EventType.BEFORE_TASK_EXECUTION,
    EventType.AFTER_TASK_EXECUTION,
    EventType.BEFORE_TASK_RESULT_FILTER,
    EventType.AFTER_TASK_RESULT_FILTER,
    EventType.BEFORE_SEND_TASK_RESULT,
    EventType.AFTER_SEND_TASK_RESULT,
)
NUM_SITES = 3
NUM_ROUNDS = 2
OF_THE_RUN = {
    EventType.ABOUT_TO_START_RUN,
    EventType.START_RUN,
    EventType.START_WORKFLOW,
    EventType.END_WORKFLOW,
    EventType.ABOUT_TO_END_RUN,
    EventType.END_RUN,
}


def rounds(controller: Flow, signal: Signal, ctx: FLContext) -> None:
    for _ in range(NUM_ROUNDS):
        ask(controller, ctx)


def test_each_event_of_a_task_is_fired_once_for_each_site_on_each_side(tmp_path: Path) -> None:
    server: Counter[str] = Counter()
    sites: Counter[str] = Counter()
    job = make_job(
        [flow(rounds)],
        Silent,
        server=[listener(lambda event, ctx: server.update([event]))],
        client=[listener(lambda event, ctx: sites.update([event]))],
    )
    simulate(job, NUM_SITES, home=tmp_path)
    per_task = NUM_SITES * NUM_ROUNDS
    assert {event: n for event, n in server.items() if event not in OF_THE_RUN} == dict.fromkeys(
        AT_THE_SERVER, per_task
    )
    of_tasks = {event: n for event, n in sites.items() if event not in OF_THE_RUN}
    assert of_tasks == dict.fromkeys(AT_THE_SITE, per_task)


def test_a_component_is_called_for_the_events_that_it_hears_only(tmp_path: Path) -> None:
    told: Counter[str] = Counter()

    class Picky(FLComponent):
        hears = frozenset((EventType.START_RUN, EventType.AFTER_TASK_EXECUTION))

        def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
            told[event_type] += 1

    simulate(make_job([flow(rounds)], Silent, client=[Picky]), NUM_SITES, home=tmp_path)
    assert told == {EventType.START_RUN: NUM_SITES, EventType.AFTER_TASK_EXECUTION: NUM_SITES * NUM_ROUNDS}


def test_no_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Any] = []
    for name in ("fsync", "fdatasync", "sync"):
        monkeypatch.setattr(os, name, lambda *args: synced.append(args), raising=False)
    simulate(averaging(Adds, rounds=3), NUM_SITES, home=tmp_path)
    assert synced == []
