"""Federated averaging as a plain NumPy loop in a process of its own: a round for each line that comes in.

python benchmarks/bare_loop.py KIND NUM_SITES NUM_BYTES NUM_TENSORS
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np

Model = dict[str, np.ndarray[Any, Any]]


def add_in_place(model: Model) -> Model:
    own = {name: value.copy() for name, value in model.items()}
    for name in own:
        own[name] += 1
    return own


def add_anew(model: Model) -> Model:
    return {name: value + 1 for name, value in model.items()}


def one_round(model: Model, kind: str, num_sites: int) -> Model:
    train = add_in_place if kind == "x += 1" else add_anew
    total: Model = {}
    weight = 1.0
    for _ in range(num_sites):
        result = train(model)
        for name, value in result.items():
            if name in total:
                total[name] += value * weight
            else:
                total[name] = value * weight
    for name in total:
        total[name] /= weight * num_sites
    return total


def main() -> None:
    kind, num_sites, num_bytes, num_tensors = sys.argv[1], *map(int, sys.argv[2:])
    model = {f"layer{i:03}": np.full(num_bytes // 4 // num_tensors, 0, np.float32) for i in range(num_tensors)}
    for number, _ in enumerate(sys.stdin, start=1):
        began = time.perf_counter()
        model = one_round(model, kind, num_sites)
        spent = time.perf_counter() - began
        assert all(value[0] == number and value[-1] == number for value in model.values())
        print(spent, flush=True)


if __name__ == "__main__":
    main()
