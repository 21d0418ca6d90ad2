"""One seed per execution: the same key gives the same numbers, and the caller's generators stay as they were."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.runtime.seeding import (
    put_randomness_back,
    randomness,
    seed_everything,
    server_randomness_untouched,
    task_seed,
)
from hansa.wire.codec import from_bytes, to_bytes


def draw() -> tuple[Any, ...]:
    return (random.random(), random.gauss(0, 1), np.random.normal(), np.random.rand(2).tolist(), torch.rand(2).tolist())


def test_the_same_key_gives_the_same_numbers() -> None:
    drawn = []
    with server_randomness_untouched():
        for key in ("0/train/1/site-1/1", "0/train/1/site-2/1", "0/train/1/site-1/1"):
            seed_everything(task_seed(7, key))
            drawn.append(draw())
    assert drawn[0] == drawn[2]
    for first, second in zip(drawn[0], drawn[1], strict=True):
        assert first != second


def test_the_seed_of_the_job_counts() -> None:
    assert task_seed(0, "x") != task_seed(1, "x")


def test_a_seed_never_changes_with_a_version_of_hansa() -> None:
    # blake2b of "3/0/train/1/site-1/1", its first four bytes, little-endian; runs of old jobs depend on it
    assert task_seed(3, "0/train/1/site-1/1") == 0x7E4CEC10


@settings(max_examples=1000, deadline=None)
@given(st.integers(0), st.text())
def test_a_seed_is_one_that_every_generator_takes(seed: int, key: str) -> None:
    assert 0 <= task_seed(seed, key) < 2**32
    assert task_seed(seed, key) == task_seed(seed, key)


def test_seed_and_key_do_not_run_into_each_other() -> None:
    assert task_seed(1, "1/x") != task_seed(11, "x")


def states() -> tuple[Any, ...]:
    return random.getstate(), repr(np.random.get_state(legacy=False)), torch.get_rng_state().tolist()


def test_the_callers_generators_stay_as_they_were() -> None:
    random.gauss(0, 1)  # leaves half a pair behind, which is part of the state
    np.random.normal(size=3)
    before = states()
    with server_randomness_untouched():
        seed_everything(5)
        draw()
    assert states() == before


def test_they_are_put_back_after_an_error_too() -> None:
    before = states()
    with pytest.raises(ValueError, match="x"), server_randomness_untouched():
        seed_everything(5)
        raise ValueError("x")
    assert states() == before


LOADED_LATER = """
import sys
from hansa.runtime.seeding import seed_everything, server_randomness_untouched
with server_randomness_untouched():
    seed_everything(5)
    with server_randomness_untouched():
        seed_everything(6)
        assert "torch" not in sys.modules
        import torch
        print(torch.rand(1).item())
    print(torch.rand(1).item())
    print(type(torch.__loader__).__name__, torch.__spec__.loader is torch.__loader__)
print(torch.initial_seed())
"""


def first_of(seed: int) -> str:
    return str(torch.rand(1, generator=torch.Generator().manual_seed(seed)).item())


@pytest.mark.slow
def test_torch_is_seeded_when_it_is_loaded_later() -> None:
    # In a process that has not loaded it: inside with the inner seed, after that with the outer one, and after the
    # run with one of its own, which differs from process to process.
    printed = [
        subprocess.run([sys.executable, "-c", LOADED_LATER], capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
        for _ in range(2)
    ]
    for lines in printed:
        assert lines[:3] == [first_of(6), first_of(5), "SourceFileLoader True"]
    assert printed[0][3] != printed[1][3]


def test_generators_go_on_from_what_was_kept() -> None:
    with server_randomness_untouched():
        seed_everything(5)
        draw()  # half of a pair of normal numbers is left over
        kept = to_bytes(randomness())
        expected = [draw(), draw()]
        seed_everything(6)
        draw()
        put_randomness_back(from_bytes(kept))
        assert [draw(), draw()] == expected
