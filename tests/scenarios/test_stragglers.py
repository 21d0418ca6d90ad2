"""Whole runs on the virtual clock: slow sites, deadlines, drop-outs and absences, without waiting for any of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import hansa
from hansa.errors import ConfigError, RunError
from hansa.runtime.options import SimulatorOptions
from hansa.runtime.run import Run
from hansa.runtime.site_times import SiteTimes
from scenarios.federations import Adds, averaging


def simulate(home: Path, times: dict[str, Any], *, sites: int = 3, rounds: int = 1, **options: Any) -> Run:
    job = averaging(Adds, rounds=rounds, **options)
    setting = SimulatorOptions(times=SiteTimes.from_config(times))
    return hansa.simulate(job, sites, home=home, progress=False, options=setting)


def test_a_round_takes_as_long_as_its_slowest_site_on_the_virtual_clock_and_no_time_on_ours(tmp_path: Path) -> None:
    began = time.monotonic()
    run = simulate(tmp_path, {"default": {"compute_s": 60}, "sites": {"site-3": {"compute_s": 3600}}}, rounds=2)
    assert [len(record.counted) for record in run.history.rounds] == [3, 3]
    assert run.timings.virtual_rounds == pytest.approx([3600, 3600])
    assert run.timings.virtual == pytest.approx(7200)
    assert time.monotonic() - began < 60  # two hours of theirs
    assert Run.load(run.folder).timings.virtual_rounds == run.timings.virtual_rounds


def test_who_comes_after_enough_and_grace_is_late_and_said_to_be(tmp_path: Path) -> None:
    # site-1 and site-2 need 10 s, site-3 100 s: round 0 closes at 10 + 30 and a look later, site-3's answer comes at
    # 100, in round 2; it takes part again in round 3 at the earliest
    times = {"default": {"compute_s": 10}, "sites": {"site-3": {"compute_s": 100}}}
    run = simulate(tmp_path, times, rounds=3, min_sites=2, wait_s=30)
    first, second, third = run.history.rounds
    assert sorted(first.counted) == sorted(second.counted) == sorted(third.counted) == ["site-1", "site-2"]
    assert first.virtual_seconds == pytest.approx(40, abs=1.5)
    assert list(first.refused) == ["site-3"]
    assert "late" in first.refused["site-3"][0]


def test_a_lost_task_is_nobodys_result(tmp_path: Path) -> None:
    times = {"default": {"compute_s": 5}, "sites": {"site-2": {"drop_out": 1.0}}}
    run = simulate(tmp_path, times, rounds=2, min_sites=2, wait_s=10)
    assert [sorted(record.counted) for record in run.history.rounds] == [["site-1", "site-3"]] * 2


def test_a_site_that_is_away_is_asked_when_it_is_back(tmp_path: Path) -> None:
    # it is back at 50 s, works for 5, and all three are needed
    times = {"default": {"compute_s": 5}, "sites": {"site-1": {"absent": [[0, 50]]}}}
    run = simulate(tmp_path, times)
    assert sorted(run.history.rounds[0].counted) == ["site-1", "site-2", "site-3"]
    assert run.timings.virtual == pytest.approx(55)


def test_messages_take_as_long_as_their_bytes(tmp_path: Path) -> None:
    # a model of 4 MB over 1 MB/s down and 2 MB/s up: a little over 4 + 2 seconds
    import numpy as np

    times = {"default": {"download_bytes_per_s": 1e6, "upload_bytes_per_s": 2e6}}
    run = simulate(tmp_path, times, model={"w": np.zeros(1_000_000, np.float32)}, sites=1)
    assert run.timings.virtual == pytest.approx(6, rel=0.01)


def test_the_same_run_twice_gives_the_same_times_and_the_same_model(tmp_path: Path) -> None:
    times = {"default": {"compute_s": {"lognormal": {"median": 60, "sigma": 1.0}}, "drop_out": 0.2}}
    runs = [simulate(tmp_path, times, sites=8, rounds=5, min_sites=3, wait_s=20) for _ in range(2)]
    assert runs[0].timings.virtual_rounds == runs[1].timings.virtual_rounds
    assert [sorted(r.counted) for r in runs[0].history.rounds] == [sorted(r.counted) for r in runs[1].history.rounds]
    assert len({round(seconds) for seconds in runs[0].timings.virtual_rounds}) > 1


def test_if_everything_is_lost_the_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="can never come"):
        simulate(tmp_path, {"default": {"drop_out": 1.0}})


def test_a_site_that_the_run_does_not_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such site") as caught:
        simulate(tmp_path, {"sites": {"site-9": {"compute_s": 1}}})
    assert caught.value.key == "sites.site-9"
    assert not any(tmp_path.iterdir())
