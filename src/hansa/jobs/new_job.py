"""A new job to start from: its configs, and code that runs as it is."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import NamedTuple

import numpy as np

from hansa.errors import ConfigError
from hansa.jobs.component import Component
from hansa.jobs.config import FORMAT_VERSION
from hansa.jobs.job import App, Config, Content, Job
from hansa.jobs.place import suggestion
from hansa.jobs.recipes import fed_avg


class Template(NamedTuple):
    """One kind of new job."""

    about: str
    make: Callable[[str, int], Job]
    """From a name and a number of rounds."""


def new_job(name: str, *, template: str, rounds: int = 5) -> Job:
    """A job that runs as it is, with code to replace.

    Args:
        name: What it is called.
        template: A key of `TEMPLATES`.
        rounds: How many rounds it has, >= 1.

    Raises:
        ConfigError: There is no such template, or a bad number of rounds.
    """
    if template not in TEMPLATES:
        hint = suggestion(template, TEMPLATES) or f"; there are {', '.join(TEMPLATES)}"
        raise ConfigError(f"there is no template {template!r}{hint}", key="template")
    return TEMPLATES[template].make(name, rounds)


def _fed_avg_numpy(name: str, rounds: int) -> Job:
    job = fed_avg({"w": np.zeros(4)}, executor=Component("trainer.Trainer", lr=0.2, steps=5), rounds=rounds, name=name)
    return _with_code(job, "fed_avg_numpy", "trainer.py")


def _learner(name: str, rounds: int) -> Job:
    executor = Component("hansa.components.executors.learner_executor.LearnerExecutor", learner_id="learner")
    learner = Component("learner.LinearLearner", id="learner", lr=0.2)
    job = fed_avg({"w": np.zeros(4)}, executor=executor, client_components=[learner], rounds=rounds, name=name)
    return _with_code(job, "learner", "learner.py")


def _workflow(name: str, rounds: int) -> Job:
    args = {"min_sites": "{num_sites}", "num_rounds": "{num_rounds}"}
    server: Config = {
        "format_version": FORMAT_VERSION,
        "num_rounds": rounds,
        "workflows": [{"path": "federated_mean.FederatedMean", "args": args}],
    }
    client: Config = {
        "format_version": FORMAT_VERSION,
        "executors": [{"tasks": ["mean"], "executor": {"path": "federated_mean.SumOfMine"}}],
    }
    return _with_code(Job(name, {"app": App(server, client, origin=name)}), "workflow", "federated_mean.py")


def _with_code(job: Job, template: str, file: str) -> Job:
    source = resources.files("hansa.jobs.templates").joinpath(template, file).read_bytes()
    app = job.apps["app"]
    files: dict[str, Content] = {**app.files, f"custom/{file}": source}
    return Job(job.name, {"app": App(app.server, app.client, files, origin=app.origin)}, meta=job.meta)


TEMPLATES = {
    "fed_avg_numpy": Template("federated averaging of NumPy weights, trained by an Executor", _fed_avg_numpy),
    "learner": Template("the same with a Learner, which validates the model before it trains it", _learner),
    "workflow": Template("a workflow of your own: asks every site, works with the answers", _workflow),
}
"""What `hansa job create` offers."""
