"""The life of a job: what may follow what."""

from __future__ import annotations

import itertools

import pytest

from hansa.errors import RunError
from hansa.jobs.life import NEXT, JobState, StateChange, check_step

OVER = [JobState.COMPLETED, JobState.FAILED, JobState.ABORTED]


def test_the_usual_way_and_a_wait_for_sites_on_it() -> None:
    way = [
        JobState.SUBMITTED,
        JobState.SCHEDULED,
        JobState.DEPLOYING,
        JobState.RUNNING,
        JobState.WAITING,
        JobState.RUNNING,
        JobState.COMPLETED,
    ]
    for old, new in itertools.pairwise(way):
        check_step("1", old, new)


@pytest.mark.parametrize("state", [state for state in JobState if state not in OVER])
def test_whatever_is_not_over_can_fail_and_be_aborted_and_be_given_another_reason(state: JobState) -> None:
    for end in (JobState.FAILED, JobState.ABORTED, state):
        check_step("1", state, end)


@pytest.mark.parametrize("state", OVER)
@pytest.mark.parametrize("other", JobState)
def test_nothing_follows_an_end(state: JobState, other: JobState) -> None:
    assert state.is_over
    with pytest.raises(RunError, match=rf"job 0001-x is over \({state.value}\) and cannot become {other.value}"):
        check_step("0001-x", state, other)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (JobState.SUBMITTED, JobState.RUNNING),
        (JobState.SUBMITTED, JobState.COMPLETED),
        (JobState.DEPLOYING, JobState.COMPLETED),
        (JobState.RUNNING, JobState.SUBMITTED),
        (JobState.PAUSED, JobState.COMPLETED),
    ],
)
def test_steps_that_would_leave_something_out_are_refused(old: JobState, new: JobState) -> None:
    with pytest.raises(RunError, match=f"job 1 is {old.value} and cannot become {new.value}"):
        check_step("1", old, new)


def test_every_state_has_its_row_and_can_be_reached() -> None:
    assert set(NEXT) == set(JobState)
    assert set().union(*NEXT.values()) == set(JobState)


def test_which_states_have_processes() -> None:
    assert {state for state in JobState if state.is_under_way} == {
        JobState.SCHEDULED,
        JobState.DEPLOYING,
        JobState.RUNNING,
        JobState.WAITING,
    }


def test_a_change_survives_its_plain_form() -> None:
    change = StateChange(JobState.WAITING, 12.5, "waits for 1 more site")
    assert StateChange.from_dict(change.as_dict()) == change
