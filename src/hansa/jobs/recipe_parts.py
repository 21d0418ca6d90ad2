"""From what a recipe says to the two configs of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.apis.executor import Executor
from hansa.apis.learner_spec import Learner
from hansa.errors import ConfigError
from hansa.jobs.classes import check_arguments
from hansa.jobs.component import Component, as_config
from hansa.jobs.config import FORMAT_VERSION
from hansa.jobs.initial_weights import InitialWeights
from hansa.jobs.job import WEIGHTS, App, Content, Job
from hansa.jobs.place import Place
from hansa.jobs.recipe_options import KINDS, check_whole
from hansa.jobs.recipe_workflows import (
    SUBMIT,
    TRAIN,
    VALIDATE,
    evaluation_after_training,
    evaluation_alone,
    history,
    in_turn,
    scatter_and_gather,
)
from hansa.jobs.script_files import command_line, script_files
from hansa.jobs.source_files import LocalClasses

_ANALYTICS = "analytix_log_stats"
_PARTS = "hansa.components"
_ROBUST = f"{_PARTS}.aggregators.robust_aggregator.RobustAggregator"
_GENERATORS = f"{_PARTS}.shareablegenerators"
_LEARNER_EXECUTOR = f"{_PARTS}.executors.learner_executor.LearnerExecutor"
_SCRIPT_EXECUTOR = f"{_PARTS}.executors.script_executor.ScriptExecutor"
_LEARNER = "learner"
_FULL_MODEL = f"{_GENERATORS}.full_model_shareable_generator.FullModelShareableGenerator"

Options = Mapping[str, Any]  # Any: see `hansa.jobs.recipe_options`


@dataclass(frozen=True)
class Way:
    """What sets one way of learning apart from federated averaging.

    Attributes:
        recipe: The name of the recipe.
        generator: What makes the next model of an aggregate.
        workflow: The class of the workflow.
        data_kind: What the aggregator expects; None: what `params_type` says.
        aggregator: What makes the update of a round in place of the weighted mean.
        settings: What the sites get with each task, besides the user's own.
        client_components: Parts at each site.
        data_filters: What a task goes through at the site.
        result_filters: What a result goes through at the site, after the user's own.
        leaves_out: Whether results lack some tensors of the model.
        in_turn: Whether one site trains after the other, so that there is nothing to aggregate.
    """

    recipe: str = "fed_avg"
    generator: Component = field(
        default_factory=lambda: Component(f"{_GENERATORS}.full_model_shareable_generator.FullModelShareableGenerator")
    )
    workflow: str = f"{_PARTS}.workflows.scatter_and_gather.ScatterAndGather"
    data_kind: str | Mapping[str, str] | None = None
    aggregator: Component | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # Any: plain JSON
    client_components: tuple[Component, ...] = ()
    data_filters: tuple[Component, ...] = ()
    result_filters: tuple[Component, ...] = ()
    leaves_out: bool = False
    in_turn: bool = False


@dataclass(frozen=True)
class Trainer:
    """What a site does with a training task, as the user gave it: exactly one of the two.

    Attributes:
        executor: An Executor, a Learner or a Component.
        script: The path of a script.
    """

    executor: object = None
    script: object = None

    def parts(self, options: Options) -> tuple[Component, list[Component], dict[str, Content]]:
        """The executor, the parts that it needs beside it, and its files.

        Raises:
            ConfigError: It can be none.
        """
        if self.script is None:
            if "script_args" in options:
                raise ConfigError("there is no script that could take them", key="script_args")
            return *_executor(self.executor, Place(key="executor")), {}
        if self.executor is not None:
            raise ConfigError("give an executor or a script, not both", key="script")
        name, files = script_files(self.script)
        part = Component(
            _SCRIPT_EXECUTOR,
            script=name,
            args=command_line(options.get("script_args", "")),
            params_type=options.get("params_type", "full"),
        )
        return part, [], files


def job_of(
    model: object,
    trainer: Trainer,
    rounds: int,
    *,
    options: Options,
    way: Way,
) -> Job:
    """The job of a recipe, of arguments whose options are checked.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    check_whole("rounds", rounds, least=1)
    min_sites = options.get("min_sites")
    if min_sites is not None:
        check_whole("min_sites", min_sites, least=1)
    weights = model if isinstance(model, InitialWeights) else InitialWeights.of(model)
    return make_job(weights, trainer, rounds=rounds, min_sites=min_sites, options=options, way=way)


def make_job(
    weights: InitialWeights, trainer: Trainer, *, rounds: int, min_sites: int | None, options: Options, way: Way
) -> Job:
    """The job of a recipe.

    Raises:
        ConfigError: A part that cannot be.
    """
    if way.in_turn:
        training = in_turn(rounds, min_sites=min_sites, options=options, names=_names_of(options, way))
    else:
        training = scatter_and_gather(way.workflow, rounds, min_sites=min_sites, options=options)
    after, parts, tasks = evaluation_after_training(options)
    plan = _Plan([training, *after], [*_server_parts(options, way), *parts], [TRAIN, *tasks], weights, min_sites)
    return _job(plan, trainer, options=options, way=way)


def make_evaluation(
    weights: InitialWeights | None, trainer: Trainer, *, min_sites: int | None, options: Options
) -> Job:
    """The job of `cross_site_eval`.

    Raises:
        ConfigError: A part that cannot be.
    """
    workflows, parts, tasks = evaluation_alone(options, has_model=weights is not None)
    plan = _Plan(workflows, parts, tasks, weights, min_sites)
    return _job(plan, trainer, options=options, way=Way(recipe="cross_site_eval"))


@dataclass(frozen=True)
class _Plan:
    """What a job is about: workflows and parts of the server, the sites' tasks, the model, how many sites it wants."""

    workflows: list[Component]
    parts: list[Component]
    tasks: list[str]
    weights: InitialWeights | None
    min_sites: int | None


def _job(plan: _Plan, trainer: Trainer, *, options: Options, way: Way) -> Job:
    names = _Parts()
    name = options.get("name", way.recipe)
    executor, beside, files = trainer.parts(options)
    app = App(
        server={
            "format_version": FORMAT_VERSION,
            "components": names.list("components", plan.parts)
            + names.list("server_components", options.get("server_components", ())),
            "workflows": names.list("workflows", plan.workflows),
        },
        client=_client(names, (executor, *beside), tasks=plan.tasks, options=options, way=way),
        files={**({} if plan.weights is None else {WEIGHTS: plan.weights.arrays}), **files},
        origin=name,
        checked=True,
    )
    meta = {key: options[key] for key in ("threads_per_site",) if key in options}
    job = Job(name, {"app": app}, min_sites=plan.min_sites, meta=meta, classes=names.classes.found)
    job.check()
    return job


class _Parts:
    """Turns Components into config, and remembers the classes that only this program has."""

    def __init__(self) -> None:
        self.classes = LocalClasses()

    def config(self, part: Component, place: Place) -> dict[str, Any]:
        if isinstance(part.target, type) and (missing := check_arguments(part.target, part.args, place)):
            what = f"{part.label} needs the argument {missing[0]!r}"
            raise place.error(f"{what}: Component({part.label}, {missing[0]}=...)")
        return as_config(part, self.classes.path, place)

    def list(self, argument: str, parts: Iterable[Component]) -> list[dict[str, Any]]:
        if isinstance(parts, type | Component | str) or not isinstance(parts, Iterable):
            raise ConfigError(f"must be a list of Components, not {what_is(parts)}", key=argument)
        configs = []
        for position, part in enumerate(parts):
            place = Place(key=argument).at(position)
            if not isinstance(part, Component):
                raise place.error(f"must be a Component, not {what_is(part)}")
            configs.append({"id": part.label, **self.config(part, place)})
        return configs


def _names_of(options: Options, way: Way) -> str:
    """Which tensors a result may have."""
    may_leave_out = way.leaves_out or bool(options.get("result_filters"))
    return str(options.get("names", "subset" if may_leave_out else "exact"))


def _server_parts(options: Options, way: Way) -> list[Component]:
    settings = {**way.settings, **options.get("settings", {})}
    told = {"train_settings": settings} if settings else {}
    generator, names = way.generator, _names_of(options, way)
    if names == "subset" and generator.target == _FULL_MODEL:  # else the model loses what results leave out
        generator = Component(_FULL_MODEL, **{**generator.args, "keep_missing": True})
    parts = [
        *([] if way.in_turn else [_aggregator(names, options, way)]),
        Component(generator.target, id="shareable_generator", **generator.args, **told),
        Component(f"{_PARTS}.np_model.NPModelPersistor", id="persistor", source=WEIGHTS.removeprefix("config/")),
        *([] if way.in_turn else [_selector(options)]),
        history(),
    ]
    if "early_stopping" in options:
        stop = f"{_PARTS}.handlers.early_stopping.EarlyStopping"
        parts.append(Component(stop, id="early_stopping", **options["early_stopping"]))
    return parts


def _aggregator(names: str, options: Options, way: Way) -> Component:
    if way.aggregator is not None:
        return Component(way.aggregator.target, id="aggregator", **way.aggregator.args)
    if "aggregator" in options:
        given = options["aggregator"]
        own = given if isinstance(given, Component) else Component(given)
        return Component(own.target, id="aggregator", **own.args)
    kind = way.data_kind or KINDS[options.get("params_type", "full")]
    if "rule" in options:
        if not isinstance(kind, str):
            raise ConfigError(f"{way.recipe} sends several parts, which must be averaged alike", key="rule")
        given = options["rule"]
        how = dict(given) if isinstance(given, Mapping) else {"rule": given}
        return Component(_ROBUST, id="aggregator", expected_data_kind=kind, names=names, **how)
    return Component(
        f"{_PARTS}.aggregators.intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator",
        id="aggregator",
        expected_data_kind=kind,
        names=names,
    )


def _selector(options: Options) -> Component:
    best = {key: options[option] for option, key in (("best_by", "validation_metric_name"),) if option in options}
    if options.get("lower_is_better"):
        best["larger_is_better"] = False
    handler = f"{_PARTS}.handlers.intime_model_selection_handler.IntimeModelSelectionHandler"
    return Component(handler, id="model_selector", **best)


def _client(
    names: _Parts, own: tuple[Component, ...], *, tasks: list[str], options: Options, way: Way
) -> dict[str, Any]:
    executor, *beside = own
    parts = [
        Component(f"{_PARTS}.widgets.streaming.AnalyticsSender", id="analytic_sender"),
        Component(
            f"{_PARTS}.widgets.convert_to_fed_event.ConvertToFedEvent",
            id="event_to_fed",
            events_to_convert=[_ANALYTICS],
        ),
        *way.client_components,
    ]
    place = Place(key="executor")
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "executors": [{"tasks": tasks, "executor": names.config(executor, place)}],
        "components": names.list("components", parts)
        + names.list("executor", beside)
        + names.list("client_components", options.get("client_components", ())),
    }
    to_site = names.list("data_filters", way.data_filters)
    from_site = names.list("result_filters", options.get("result_filters", ()))
    from_site += names.list("result_filters", way.result_filters)
    # What a site is sent as a model, and what it sends as one; measurements are numbers.
    for key, filters, kinds in (
        ("task_data_filters", to_site, (TRAIN, VALIDATE)),
        ("task_result_filters", from_site, (TRAIN, SUBMIT)),
    ):
        if filters and (chosen := [task for task in tasks if task in kinds]):
            config[key] = [{"tasks": chosen, "filters": filters}]
    return config


def _executor(given: object, place: Place) -> tuple[Component, list[Component]]:
    """The executor, and the Learner that it drives if that was given."""
    if given is None or isinstance(given, str):
        raise place.error(
            f"give an Executor, a Learner or a Component('module.Class', arg=...), not {given!r}; or a script"
        )
    if not isinstance(given, type | Component):
        kind = type(given).__name__
        raise place.error(f"give the class, not {what_is(given)}; every site makes its own: Component({kind}, arg=...)")
    part = Component(given) if isinstance(given, type) else given
    cls = part.target
    if isinstance(cls, type) and issubclass(cls, Learner):
        learner = Component(cls, id=part.id or _LEARNER, **part.args)
        return Component(_LEARNER_EXECUTOR, learner_id=learner.id), [learner]
    if isinstance(cls, type) and not issubclass(cls, Executor):
        raise place.error(f"must be an Executor or a Learner, and {part.label} is neither")
    return part, []


def what_is(value: object) -> str:
    """A value for an error: what it is an instance of."""
    return f"an instance of {type(value).__name__}"
