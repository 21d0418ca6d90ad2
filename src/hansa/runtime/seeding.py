"""One seed per execution, from what the execution is and never from when or where it runs."""

from __future__ import annotations

import hashlib
import importlib
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

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


class _TorchWatch(MetaPathFinder):
    """Seeds torch when somebody loads it: by itself it begins with a number from the machine."""

    seed: int | None = None
    """What was wanted last; None outside of runs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "torch":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_seed(module: ModuleType) -> None:
            execute(module)
            if self.seed is not None:
                module.manual_seed(self.seed)

        # On the object, so that the module keeps the loader that it would have.
        vars(spec.loader)["exec_module"] = execute_and_seed
        return spec


_watch = _TorchWatch()


def seed_everything(seed: int) -> None:
    """Seed `random`, NumPy's global generator, and torch: now, or as soon as somebody loads it."""
    random.seed(seed)
    np.random.seed(seed)
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)
        return
    _watch.seed = seed
    if _watch not in sys.meta_path:
        sys.meta_path.insert(0, _watch)


@contextmanager
def server_randomness_untouched() -> Iterator[None]:
    """Keep the generators of the server's side as they were while sites run in the same process.

    Without this, what a workflow draws would depend on how many sites share its process.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state(legacy=False)
    torch = sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch is not None and hasattr(torch, "get_rng_state") else None
    torch_seed = _watch.seed
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        _watch.seed = torch_seed
        if torch is not None and torch_state is not None:
            torch.set_rng_state(torch_state)
        elif (torch := sys.modules.get("torch")) is None or not hasattr(torch, "manual_seed"):
            pass
        elif torch_seed is None:  # loaded inside: as if it had been loaded now
            torch.seed()
        else:
            torch.manual_seed(torch_seed)


def randomness() -> dict[str, Any]:  # Any: what each generator keeps
    """Where the generators stand, as a value that the codec can carry."""
    version, words, gauss = random.getstate()
    torch = sys.modules.get("torch")
    has_torch = torch is not None and hasattr(torch, "get_rng_state")
    return {
        "python": {"version": version, "words": np.array(words, np.uint32), "gauss": gauss},
        "numpy": dict(np.random.get_state(legacy=False)),
        "torch": torch.get_rng_state().numpy().copy() if torch is not None and has_torch else None,
        "torch_seed": _watch.seed,
    }


def put_randomness_back(state: Mapping[str, Any]) -> None:  # Any: as above
    """Set the generators as `randomness` found them; torch is loaded if it was then."""
    python = state["python"]
    random.setstate((python["version"], tuple(int(word) for word in python["words"]), python["gauss"]))
    np.random.set_state(state["numpy"])
    _watch.seed = state["torch_seed"]
    if state["torch"] is not None:
        torch = importlib.import_module("torch")
        torch.set_rng_state(torch.from_numpy(state["torch"].copy()))
