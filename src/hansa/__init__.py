"""Hansa: federated learning. Data stays where it is; weights, metrics and statistics travel.

::

    errors.py      every error that Hansa raises on purpose, drawn as a tree
    tensors.py     the tensor layout as bytes
    apis/          the words of the system: contracts, values, the task board; no I/O
    algorithms/    the mathematics on arrays; knows nothing of federations
    components/    ready-made parts that jobs name: workflows, aggregators, filters, ...
    wire/          how values become bytes
    client/        the script API: init, is_running, receive, send, log
    jobs/          what is run: recipes, job folders, their config, building
    compat.py      import it, and `nvflare`'s names are Hansa's
    runtime/       where it runs: the simulator, and what a run leaves behind
    admin/         how people steer a federation: sessions, commands
    demos/         federations that run out of the box
    cli/           the `hansa` command

Imports point one way; `tests/test_architecture.py` holds the table. The names below are loaded when they are first
used, so that `import hansa` costs next to nothing.

Example::

    import hansa
    from hansa.jobs import fed_avg

    run = hansa.simulate(fed_avg(model=weights, executor=Trainer, rounds=5), sites=8)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hansa.admin.session import connect
    from hansa.jobs.component import Component
    from hansa.jobs.job import Job
    from hansa.runtime.run import Run
    from hansa.runtime.simulator import resume, simulate

__version__ = "0.1.0"

__all__ = ["Component", "Job", "Run", "__version__", "connect", "resume", "simulate"]

_HOMES = {
    "Component": "hansa.jobs.component",
    "Job": "hansa.jobs.job",
    "Run": "hansa.runtime.run",
    "connect": "hansa.admin.session",
    "resume": "hansa.runtime.simulator",
    "simulate": "hansa.runtime.simulator",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hansa' has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
