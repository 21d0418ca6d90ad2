"""What a seed says will go wrong."""

from __future__ import annotations

from hansa.faults.plan import DISK_POINTS, POINTS, SEEDS_PER_FEDERATION, FaultKind, draw


def test_a_seed_gives_the_same_plan_each_time_and_another_one_another() -> None:
    assert draw(7) == draw(7)
    assert len({draw(seed).faults for seed in range(100)}) == 100


def test_neighbours_share_their_sites() -> None:
    for first in range(0, 50, SEEDS_PER_FEDERATION):
        assert len({draw(seed).sites for seed in range(first, first + SEEDS_PER_FEDERATION)}) == 1
    assert {len(draw(seed).sites) for seed in range(200)} == set(range(3, 9))


def test_every_kind_every_place_and_every_number_of_faults_comes_about() -> None:
    plans = [draw(seed) for seed in range(1000)]
    faults = [fault for plan in plans for fault in plan.faults]
    assert {fault.kind for fault in faults} == set(FaultKind)
    assert {fault.point for fault in faults} == {*POINTS, *DISK_POINTS}
    assert {len(plan.faults) for plan in plans} == {1, 2, 3, 4}
    assert {plan.recipe for plan in plans} == {"momentum", "scaffold"}
    assert {plan.has_bystander for plan in plans} == {True, False}
    targets = {fault.target for fault in faults if fault.kind is FaultKind.KILL}
    assert {"server", "server's job", "site-1", "site-1's job"} <= targets


def test_a_plan_keeps_within_what_it_is_given() -> None:
    for seed in range(100):
        plan = draw(seed, sites=(2, 2), faults=(3, 3), rounds=4)
        assert len(plan.sites) == 2
        assert len(plan.faults) == 3
        assert all(1 <= fault.nth <= 2 for fault in plan.faults)


def test_a_fault_says_what_it_is() -> None:
    for fault in draw(0).faults:
        assert fault.kind.value in str(fault)
        assert fault.point in str(fault)
