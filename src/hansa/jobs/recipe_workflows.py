"""What a recipe has the server do: the workflows of a job, and the parts that they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hansa.jobs.component import Component, Variable
from hansa.jobs.job import WEIGHTS

Options = Mapping[str, Any]  # Any: see `hansa.jobs.recipe_options`

TRAIN, SUBMIT, VALIDATE = "train", "submit_model", "validate"
"""The names of tasks."""

_PARTS = "hansa.components"
_FLOWS = f"{_PARTS}.workflows"
_LOCATOR = "model_locator"
_FILE = WEIGHTS.removeprefix("config/")
_MODEL = "model"
"""What the model of `cross_site_eval` is called."""


def scatter_and_gather(path: str, rounds: int, *, min_sites: int | None, options: Options) -> Component:
    """Rounds in which all sites train at the same time."""
    enough = Variable("num_sites") if min_sites is None else min_sites
    return Component(
        path,
        id=path.rpartition(".")[0].rpartition(".")[2],
        min_clients=enough,
        num_rounds=rounds,
        wait_time_after_min_received=options.get("wait_s", options.get("round_s") or 10),
        min_counted=enough,
        **({"train_timeout": options["round_s"]} if options.get("round_s") else {}),
        **_given(options, "sampling"),
    )


def in_turn(rounds: int, *, min_sites: int | None, options: Options, names: str) -> Component:
    """Rounds in which the model goes from site to site."""
    enough = Variable("num_sites") if min_sites is None else min_sites
    return Component(
        f"{_FLOWS}.cyclic_ctl.CyclicController",
        id="cyclic",
        num_rounds=rounds,
        # Where all are needed nobody can be passed over: a site that is away is waited for, as long as the job waits.
        task_assignment_timeout=options.get("wait_s", 0 if min_sites is None else 10),
        order=options.get("order", "random"),
        min_clients=enough,
        min_counted=enough,
        names=names,
        **({"task_result_timeout": options["site_s"]} if "site_s" in options else {}),
        **_given(options, "sampling"),
    )


def evaluation_after_training(options: Options) -> tuple[list[Component], list[Component], list[str]]:
    """What `evaluate_across_sites` adds: a workflow, its parts, and the tasks that sites execute for it."""
    chosen = options.get("evaluate_across_sites", False)
    if chosen is False:
        return [], [], []
    locator = Component(f"{_PARTS}.np_model.NPModelLocator", id=_LOCATOR)
    tasks = [VALIDATE] if chosen == "global" else [SUBMIT, VALIDATE]
    return [_evaluation(tasks, has_model=True)], [locator, _report()], tasks


def evaluation_alone(options: Options, *, has_model: bool) -> tuple[list[Component], list[Component], list[str]]:
    """The same where there is no training.

    Args:
        options: Of `cross_site_eval`.
        has_model: Whether the job brings a model of the server's.
    """
    tasks = [SUBMIT, VALIDATE] if options.get("site_models", True) else [VALIDATE]
    locator = Component(f"{_PARTS}.np_model.NPFileModelLocator", id=_LOCATOR, files={_MODEL: _FILE})
    more = {"validation_timeout": options["validate_s"]} if "validate_s" in options else {}
    if "submit_s" in options and SUBMIT in tasks:
        more["submit_model_timeout"] = options["submit_s"]
    parts = [*([locator] if has_model else []), _report(), history()]
    return [_evaluation(tasks, has_model=has_model, **more)], parts, tasks


def history() -> Component:
    """What keeps the numbers that sites report."""
    return Component(f"{_PARTS}.widgets.history_receiver.HistoryReceiver", id="history")


def _evaluation(tasks: list[str], *, has_model: bool, **more: Any) -> Component:  # Any: plain JSON
    name = "CrossSiteModelEval" if SUBMIT in tasks else "GlobalModelEval"
    module = "cross_site_model_eval" if SUBMIT in tasks else "global_model_eval"
    located = {"model_locator_id": _LOCATOR} if has_model else {}
    return Component(f"{_FLOWS}.{module}.{name}", id="evaluation", **located, **more)


def _report() -> Component:
    return Component(f"{_PARTS}.widgets.validation_json_generator.ValidationJsonGenerator", id="validation_json")


def _given(options: Options, *names: str) -> dict[str, Any]:  # Any: plain JSON
    return {name: options[name] for name in names if name in options}
