"""Sites in worker processes: what they do to themselves, and what the run makes of it."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_parts
from hansa.errors import RunError
from hansa.jobs import Component, Job, fed_avg
from hansa.runtime.options import SimulatorOptions
from hansa.runtime.run import Run, RunStatus
from worker_jobs import BIG, MODEL, adding, digest, job, log_of, rescued, simulate

pytestmark = pytest.mark.slow


def gained(run: Run, model: dict[str, Any] = MODEL) -> float:
    """What was added to every number of the model."""
    gains = {round(float(gain), 3) for gain in (run.model["w"] - model["w"]).ravel()}
    assert len(gains) == 1, gains
    return gains.pop()


def counted(run: Run) -> list[list[str]]:
    return [sorted(record.counted) for record in run.history.rounds]


OTHERS = ["site-2", "site-3", "site-4"]

# -- executors that end, block or multiply their process --------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "cause"),
    [
        ("leaves", "its process ended with exit code 0"),
        ("leaves_badly", "its process ended with exit code 3: cannot allocate memory"),
        ("exits", "SystemExit: 3 (worker_parts.py:"),
        ("kills", "its process killed by SIGKILL"),
    ],
)
def test_what_ends_a_site_costs_that_site_its_result_and_no_other(tmp_path: Path, trouble: str, cause: str) -> None:
    run = simulate(adding(trouble, rounds=2, min_sites=3), 4, 2, tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert gained(run) == 2
    assert counted(run) == [OTHERS, OTHERS]
    assert [(problem.site, problem.where) for problem in run.problems] == [("site-1", "task train")] * 2
    for problem in run.problems:
        assert problem.cause.startswith(cause)
    for record in run.history.rounds:
        [reason] = record.refused["site-1"]
        assert cause in reason


@pytest.mark.parametrize("trouble", ["waits", "computes", "forks_and_waits"])
def test_a_site_that_never_returns_is_ended_by_the_tasks_timeout(tmp_path: Path, trouble: str) -> None:
    began = time.monotonic()
    made = adding(trouble, min_sites=3, folder=str(tmp_path), flow={"train_timeout": 1})
    run = simulate(made, 4, 2, tmp_path / "home")
    assert time.monotonic() - began < 6
    assert gained(run) == 1
    assert counted(run) == [OTHERS]
    assert [str(problem) for problem in run.problems] == ["site-1, task train: did not answer within 1 s"]


def test_a_site_is_given_the_timeout_from_when_it_begins(tmp_path: Path) -> None:
    # Four sites in one process take 0.6 s each; 2.4 s in all, and nobody is late.
    made = adding("takes_a_while", site="", flow={"train_timeout": 2})
    run = simulate(made, 4, 1, tmp_path)
    assert gained(run) == 1
    assert run.problems == []


@pytest.mark.parametrize("model", [MODEL, BIG], ids=["small", "big"])
def test_an_executor_that_forks_and_comes_back_twice_counts_once(tmp_path: Path, model: dict[str, Any]) -> None:
    # Eight sites in one process add 1 in each of three rounds; what the copies do must not reach the sum.
    run = simulate(adding("forks", rounds=3, site="", model=model), 8, 1, tmp_path)
    assert gained(run, model) == 3
    assert run.problems == []


def test_a_process_that_dies_and_leaves_a_copy_of_itself_behind_is_missed(tmp_path: Path) -> None:
    # What was forked has the same socket open, so that the connection does not end with the process.
    with rescued(tmp_path, 6):
        run = simulate(adding("forks_and_dies", folder=str(tmp_path)), 4, 2, tmp_path / "home")
    assert gained(run) == 1


def test_if_too_few_are_left_the_run_fails_and_says_who(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="site-1: EXECUTION_EXCEPTION its process ended with exit code 0") as caught:
        simulate(adding("leaves"), 4, 2, tmp_path)
    assert Run.load(str(caught.value.folder)).status is RunStatus.FAILED


@pytest.mark.parametrize("when", ["ends_when_built", "ends_at_start"])
def test_a_process_that_cannot_start_is_one_line_and_no_run(tmp_path: Path, when: str) -> None:
    with pytest.raises(RunError, match=r"^worker [01] cannot start: ended with exit code 4$"):
        simulate(job(worker_parts.EndsEarly, when=when), 2, 2, tmp_path / "home")
    if when == "ends_when_built":
        assert list(tmp_path.glob("home/*")) == []


def test_a_process_that_ends_at_the_end_of_the_run_is_no_secret(tmp_path: Path) -> None:
    run = simulate(job(worker_parts.EndsEarly, when="ends_at_end", rounds=1), 2, 2, tmp_path)
    assert gained(run) == 1
    assert {problem.cause for problem in run.problems} == {"its process ended with exit code 4"}


# -- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_site_knew_is_there_again_after_the_death_of_its_process(tmp_path: Path, workers: int) -> None:
    (tmp_path / "tried").mkdir()
    made = job(worker_parts.CountsTasks, rounds=4, folder=str(tmp_path / "tried"))
    run = simulate(made, 3, workers, tmp_path / "home")
    assert {float(each) for each in run.model["w"].ravel()} == {4}  # every site had 4 tasks, of 8 that were begun
    assert len(list((tmp_path / "tried").iterdir())) == 12


def test_a_site_that_tells_nobody_what_it_knows_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "tried").mkdir()
    made = job(worker_parts.CountsTasks, rounds=4, folder=str(tmp_path / "tried"), keeps=False)
    run = simulate(made, 1, 1, tmp_path / "home")
    assert {float(each) for each in run.model["w"].ravel()} == {1}


def test_without_a_death_a_site_stays_the_same_object(tmp_path: Path) -> None:
    run = simulate(job(worker_parts.CountsTasks, rounds=4, keeps=False), 3, 2, tmp_path)
    assert {float(each) for each in run.model["w"].ravel()} == {4}


# -- logs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_each_site_has_its_own_log_and_the_run_has_all_of_what_was_logged(tmp_path: Path, workers: int) -> None:
    run = simulate(adding("prints", site="", rounds=2), 4, workers, tmp_path)
    everything = (run.folder / "log.txt").read_text()
    for site in ("site-1", *OTHERS):
        lines = log_of(run, site).splitlines()
        assert lines.count(f"{site} prints") == 2
        assert sum(line.endswith(f": {site} logs") for line in lines) == 2
        assert not any(other in line for other in ("site-1", *OTHERS) if other != site for line in lines)
        assert everything.count(f": {site} logs\n") == 2
        assert f"{site} prints" not in everything


def test_a_site_that_prints_without_end_fills_10_mb(tmp_path: Path) -> None:
    run = simulate(adding("prints_much"), 2, 2, tmp_path)
    text = log_of(run, "site-1")
    assert 10 << 20 <= len(text) <= 11 << 20
    assert text.endswith("(more than 10 MB; the rest is not kept)\n")
    assert gained(run) == 1


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_sites_ask_the_server_it_asks_them_and_analytics_arrive(tmp_path: Path, workers: int) -> None:
    made = talking(tmp_path / "names")
    run = simulate(made, 3, workers, tmp_path / "home")
    # A site's name has 6 letters, and 0 + 1 + 2 is 3; in 2 rounds.
    assert gained(run) == 2 * 9
    assert [record.metrics for record in run.history.rounds] == [
        {f"site-{number}": {"number": 9.0} for number in (1, 2, 3)}
    ] * 2
    assert (tmp_path / "names").read_text().splitlines() == [
        f"site-{n} is site-{n} [0, 2, 4, 6]" for n in (1, 2, 3)
    ] * 2
    assert run.problems == []


def talking(file: Path, **arguments: Any) -> Job:
    return fed_avg(
        MODEL,
        executor=Component(worker_parts.Talks, **arguments),
        rounds=2,
        server_components=[Component(worker_parts.Answers, file=str(file))],
    )


def test_a_site_that_is_asked_may_ask_back(tmp_path: Path) -> None:
    with rescued(tmp_path, 6):
        run = simulate(talking(tmp_path / "names", asks_back=True), 3, 2, tmp_path / "home")
    assert gained(run) == 2 * 9


def test_a_site_whose_process_dies_over_a_question_does_not_answer_it_and_the_run_goes_on(tmp_path: Path) -> None:
    run = simulate(talking(tmp_path / "names", dies_asked=True), 3, 2, tmp_path / "home")
    assert gained(run) == 2 * 9
    assert set((tmp_path / "names").read_text().splitlines()) == {f"site-{n} says nothing" for n in (1, 2, 3)}


# -- many sites -------------------------------------------------------------------------------------------------------


def drawn(run: Run) -> set[str]:
    return {site for record in run.history.rounds for site in record.targets}


@pytest.mark.parametrize("workers", [0, 2])
def test_of_many_sites_only_those_are_made_that_are_asked(tmp_path: Path, workers: int) -> None:
    made = many(worker_parts.Made, tmp_path / "made")
    run = simulate(made, 200, workers, tmp_path / "home")
    sites = (tmp_path / "made").read_text().splitlines()
    # The first of each process is made before the run, so that what cannot be built is found early.
    assert len(drawn(run)) <= len(sites) <= len(drawn(run)) + max(1, workers)
    assert 5 < len(drawn(run)) <= 15
    assert gained(run) == 3


def test_of_a_few_all_are_made_at_once(tmp_path: Path) -> None:
    simulate(many(worker_parts.Made, tmp_path / "made"), 20, 2, tmp_path / "home")
    assert len((tmp_path / "made").read_text().splitlines()) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_executors_that_keep_nothing_are_shared(tmp_path: Path, workers: int) -> None:
    run = simulate(many(worker_parts.MadeStateless, tmp_path / "made"), 200, workers, tmp_path / "home")
    by_process = Counter(line.split()[0] for line in (tmp_path / "made").read_text().splitlines())
    assert list(by_process.values()) == [1] * max(1, workers)
    assert gained(run) == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_they_are_shared_in_a_job_that_reports_numbers_too(tmp_path: Path, workers: int) -> None:
    made = fed_avg(
        MODEL,
        executor=Component(worker_parts.ReportsStateless, file=str(tmp_path / "made")),
        rounds=3,
        sampling={"count": 5},
    )
    run = simulate(made, 20, workers, tmp_path / "home")
    by_process = Counter(line.split()[0] for line in (tmp_path / "made").read_text().splitlines())
    assert list(by_process.values()) == [1] * max(1, workers)
    for record in run.history.rounds:
        assert record.metrics == {site: {"round": float(record.number)} for site in record.targets}


def many(part: type, file: Path) -> Job:
    """Five sites a round, three rounds; with no part of a site but the executor."""
    made = fed_avg(MODEL, executor=Component(part, file=str(file)), rounds=3, sampling={"count": 5})
    made.apps["app"].client["components"] = []
    return made


def test_the_model_travels_whatever_its_size_and_place(tmp_path: Path) -> None:
    # 40 MB through slots of 4 MB: beyond them results lie in files of the run's folder, which are gone afterwards.
    model = {"w": np.zeros(10 << 20, np.float32)}
    made = fed_avg(model, executor=Component(worker_parts.Adds), rounds=2)
    digests = set()
    for workers, memory in ((0, 1 << 30), (2, 1 << 30), (2, 4 << 20)):
        options = SimulatorOptions(memory_bytes=memory)
        run = simulate(made, 3, workers, tmp_path, options=options)
        assert {float(run.model["w"].min()), float(run.model["w"].max())} == {2}
        digests.add(digest(run))
        left = {path.name for path in run.folder.iterdir()}
        assert left <= {"history.jsonl", "job", "log.txt", "model.safetensors", "run.json", "workers", "workspace"}
    assert len(digests) == 1
