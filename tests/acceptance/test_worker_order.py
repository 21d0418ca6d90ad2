"""Results that come in the worst order, with hardly any room for them: the run ends, and the bits are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import worker_parts
from hansa.jobs import fed_avg
from hansa.runtime.options import SimulatorOptions
from hansa.runtime.site_times import SiteTimes
from worker_jobs import BIG, MODEL, digest, job, rescued, simulate

pytestmark = pytest.mark.slow


def backwards(num_sites: int) -> SiteTimes:
    """The first site of the fold needs longest, the last one a second."""
    names = sorted(f"site-{number + 1}" for number in range(num_sites))
    return SiteTimes.from_config(
        {"sites": {name: {"compute_s": num_sites - position} for position, name in enumerate(names)}}
    )


@pytest.mark.parametrize("memory_bytes", [None, 700_000])  # one result in memory, the others in files
def test_four_sites_and_one_slot(tmp_path: Path, memory_bytes: int | None) -> None:
    made = job(worker_parts.Noisy, rounds=3, model=BIG)
    options = SimulatorOptions(times=backwards(4), results_ahead=1, memory_bytes=memory_bytes)
    with rescued(tmp_path, 60):
        run = simulate(made, 4, 2, tmp_path / "home", options=options)
    assert [list(record.counted) for record in run.history.rounds] == [["site-4", "site-3", "site-2", "site-1"]] * 3
    assert digest(run) == digest(simulate(made, 4, 0, tmp_path / "home"))


def test_a_thousand_sites_backwards_with_64_results_ahead(tmp_path: Path) -> None:
    made = job(worker_parts.Noisy, rounds=1, model={"w": np.zeros(25_000, np.float32)})
    with rescued(tmp_path, 120):
        run = simulate(
            made, 1000, 2, tmp_path / "home", options=SimulatorOptions(times=backwards(1000), results_ahead=64)
        )
    (record,) = run.history.rounds
    assert list(record.counted) == sorted(record.counted, reverse=True)
    assert len(record.counted) == 1000
    assert digest(run) == digest(simulate(made, 1000, 2, tmp_path / "home"))


@pytest.mark.parametrize("times", [None, backwards(6)])
def test_the_first_of_those_that_were_asked_are_the_same_whoever_works_for_them(
    tmp_path: Path, times: SiteTimes | None
) -> None:
    made = job(worker_parts.Noisy, rounds=3, flow={"sampling": {"count": 4, "spare": 2}})
    runs = [
        simulate(made, 6, workers, tmp_path / "home", options=SimulatorOptions(times=times)) for workers in (0, 1, 2)
    ]
    counted = [[list(record.counted) for record in run.history.rounds] for run in runs]
    assert counted[0] == counted[1] == counted[2]
    assert [len(sites) for sites in counted[0]] == [4, 4, 4]
    assert len({digest(run) for run in runs}) == 1
    if times is not None:
        assert counted[0][0] == ["site-6", "site-5", "site-4", "site-3"]  # the others need longer


def test_a_round_is_over_at_its_deadline_with_whoever_has_answered(tmp_path: Path) -> None:
    made = fed_avg(MODEL, executor=worker_parts.Noisy, rounds=2, min_sites=2, round_s=4)
    run = simulate(made, 6, 0, tmp_path / "home", options=SimulatorOptions(times=backwards(6)))
    first = run.history.rounds[0]
    assert list(first.counted) == ["site-6", "site-5", "site-4", "site-3"]  # they need 1, 2, 3 and 4 s
    assert first.virtual_seconds == pytest.approx(4, abs=0.01)
