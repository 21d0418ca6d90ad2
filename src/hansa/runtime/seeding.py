"""One seed per execution, from what the execution is and never from when or where it runs."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def task_seed(job_seed: int, task_key: str) -> int:
    """The seed of one execution, in [0, 2**32).

    Args:
        job_seed: The seed of the job.
        task_key: What the execution is: workflow index, task name, its n-th posting, site, n-th visit
            (`ClientTask.id`); the same in the simulator and on a real federation.
    """
    key = f"{job_seed}/{task_key}".encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "little")


def seed_everything(seed: int) -> None:
    """Seed `random`, NumPy's global generator, and torch if somebody has loaded it."""
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)


@contextmanager
def server_randomness_untouched() -> Iterator[None]:
    """Keep the generators of the server's side as they were while sites run in the same process.

    Without this, what a workflow draws would depend on how many sites share its process.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if torch is not None and torch_state is not None:
            torch.set_rng_state(torch_state)
