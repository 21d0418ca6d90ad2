"""Workers 0, 1, 2, 5, sites that answer in any order, processes that die: the same bits."""

from __future__ import annotations

from pathlib import Path

import pytest

import worker_parts
from hansa.runtime.run import Run
from worker_jobs import BIG, digest, job, simulate

pytestmark = pytest.mark.slow

SITES = 7
TRAINERS = [worker_parts.Noisy, worker_parts.Momentum]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[type, str]:
    """What one process makes of the job without any trouble, by trainer."""
    home = tmp_path_factory.mktemp("expected")
    digests = {part: digest(simulate(job(part), SITES, 0, home)) for part in TRAINERS}
    assert len(set(digests.values())) == len(TRAINERS)
    return digests


@pytest.mark.parametrize("part", TRAINERS)
@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_any_number_of_workers_and_any_order_of_answers(
    tmp_path: Path, expected: dict[type, str], workers: int, part: type
) -> None:
    run = simulate(job(part, shuffle=0.03), SITES, workers, tmp_path)
    assert digest(run) == expected[part]
    assert [len(record.counted) for record in run.history.rounds] == [SITES] * 3


@pytest.mark.parametrize(
    ("workers", "part"), [(2, worker_parts.Noisy), *((n, worker_parts.Momentum) for n in (1, 2, 5))]
)
def test_a_process_killed_in_every_round(tmp_path: Path, expected: dict[type, str], workers: int, part: type) -> None:
    (tmp_path / "tried").mkdir()
    made = job(part, shuffle=0.01, folder=str(tmp_path / "tried"), kills=["site-2", "site-6"])
    run = simulate(made, SITES, workers, tmp_path / "home")
    assert digest(run) == expected[part]
    assert len(list((tmp_path / "tried").iterdir())) == 3 * 2
    assert run.problems == []  # all results came in the end


def test_a_process_killed_by_every_site_in_every_round(tmp_path: Path, expected: dict[type, str]) -> None:
    (tmp_path / "tried").mkdir()
    run = simulate(job(worker_parts.Momentum, folder=str(tmp_path / "tried")), SITES, 2, tmp_path / "home")
    assert digest(run) == expected[worker_parts.Momentum]
    assert len(list((tmp_path / "tried").iterdir())) == 3 * SITES


def test_the_seed_matters_still(tmp_path: Path, expected: dict[type, str]) -> None:
    run = simulate(job(worker_parts.Noisy), SITES, 2, tmp_path, seed=1)
    assert digest(run) != expected[worker_parts.Noisy]


def test_models_in_shared_memory(tmp_path: Path) -> None:
    (tmp_path / "tried").mkdir()
    plain = simulate(job(worker_parts.Momentum, model=BIG), SITES, 0, tmp_path / "home")
    made = job(worker_parts.Momentum, model=BIG, folder=str(tmp_path / "tried"), kills=["site-3"])
    assert digest(simulate(made, SITES, 2, tmp_path / "home")) == digest(plain)


def test_more_sites_than_blocks_and_sums_that_are_under_way_when_a_process_dies(tmp_path: Path) -> None:
    # 600 sites in 60 blocks of 10; nodes over 37 sites and more go out before the rest is there. Processes die late,
    # when sums were received of sites whose work must not be done, and not be counted, again.
    (tmp_path / "tried").mkdir()
    last = sorted(f"site-{number + 1}" for number in range(600))
    plain = simulate(job(worker_parts.Noisy, rounds=2), 600, 0, tmp_path / "home")
    made = job(
        worker_parts.Noisy, rounds=2, folder=str(tmp_path / "tried"), kills=[last[299], last[300], last[570], last[599]]
    )
    run = simulate(made, 600, 2, tmp_path / "home")
    assert digest(run) == digest(plain)
    assert [len(record.counted) for record in run.history.rounds] == [600] * 2
    assert len(list((tmp_path / "tried").iterdir())) == 4 * 2


def test_whoever_fails_leaves_the_same_gap(tmp_path: Path) -> None:
    def run(workers: int) -> Run:
        made = job(worker_parts.NoisySometimes, rounds=3, min_sites=1)
        return simulate(made, 9, workers, tmp_path)

    runs = [run(workers) for workers in (0, 1, 2, 5)]
    assert len({digest(each) for each in runs}) == 1
    counted = [[sorted(record.counted) for record in each.history.rounds] for each in runs]
    assert counted == [counted[0]] * 4
    assert 9 < sum(map(len, counted[0])) < 27  # some failed


def test_the_rule_of_a_job_of_ones_own_gets_whole_results_in_the_same_order(tmp_path: Path) -> None:
    digests = set()
    for workers in (0, 1, 2, 5):
        made = job(worker_parts.Noisy, shuffle=0.02)
        for part in made.apps["app"].server["components"]:
            if part["id"] == "aggregator":
                part.update(path="worker_parts.Sorted", args={})
        digests.add(digest(simulate(made, SITES, workers, tmp_path)))
    assert len(digests) == 1


def test_a_filter_at_the_server_that_gives_each_site_another_task(tmp_path: Path) -> None:
    digests = set()
    for workers in (0, 1, 2):
        made = job(worker_parts.Noisy)
        made.apps["app"].server["task_data_filters"] = [
            {"tasks": ["train"], "filters": [{"path": "checkpoint_parts.DrawsTasks"}]}
        ]
        run = simulate(made, SITES, workers, tmp_path)
        assert run.problems == []
        digests.add(digest(run))
    assert len(digests) == 1
