"""The pure core in virtual time: nothing is lost over many seeds, runs can be had again, and a loss is found."""

from __future__ import annotations

import pytest

from hansa.faults.virtual import NUM_ROUNDS, NUM_SITES, World, run_seed

SEEDS = range(80)


def test_many_seeds_lose_nothing() -> None:
    outcomes = [run_seed(seed) for seed in SEEDS]
    assert [(each.seed, each.faults, each.problems) for each in outcomes if each.problems] == []
    kinds = {fault.split(": ")[1].split(" site-")[0] for each in outcomes for fault in each.faults}
    assert kinds == {"server", "home", "site", "site job", "power", "link", "disk", "flip"}
    assert any(each.num_trained > NUM_SITES * NUM_ROUNDS for each in outcomes)  # faults do cost work
    assert sum(each.is_equal for each in outcomes) > 60


@pytest.mark.parametrize("seed", [569, 1024, 1179])
def test_a_result_that_a_full_disk_kept_out_of_the_journal_is_not_acknowledged(seed: int) -> None:
    assert run_seed(seed).problems == ()


def test_a_seed_gives_the_same_run_each_time() -> None:
    for seed in (3, 12, 28):
        assert run_seed(seed) == run_seed(seed)


class Forgetful(World):
    """A federation whose server has lost its journal when it comes back."""

    def _start_server(self) -> None:
        for path in (self.folder / "server" / "jobs").glob("journal.db*"):
            path.unlink()
        super()._start_server()


def test_a_journal_that_is_lost_is_noticed() -> None:
    outcomes = [run_seed(seed, Forgetful) for seed in range(25)]
    wrong = [each for each in outcomes if each.problems]
    assert wrong
    assert all(any("server" in fault or "power" in fault for fault in each.faults) for each in wrong)
