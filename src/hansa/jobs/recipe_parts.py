"""From what a recipe says to the two configs of a job."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hansa.apis.executor import Executor
from hansa.apis.learner_spec import Learner
from hansa.errors import ConfigError
from hansa.jobs.classes import check_arguments
from hansa.jobs.component import Component, Variable, as_config
from hansa.jobs.config import FORMAT_VERSION
from hansa.jobs.initial_weights import InitialWeights
from hansa.jobs.job import WEIGHTS, App, Content, Job
from hansa.jobs.place import Place
from hansa.jobs.recipe_options import KINDS
from hansa.jobs.script_files import command_line, script_files
from hansa.jobs.source_files import LocalClasses

_ANALYTICS = "analytix_log_stats"
_PARTS = "hansa.components"
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
        settings: What the sites get with each task, besides the user's own.
        client_components: Parts at each site.
        data_filters: What a task goes through at the site.
        result_filters: What a result goes through at the site, after the user's own.
        leaves_out: Whether results lack some tensors of the model.
    """

    recipe: str = "fed_avg"
    generator: Component = field(
        default_factory=lambda: Component(f"{_GENERATORS}.full_model_shareable_generator.FullModelShareableGenerator")
    )
    workflow: str = f"{_PARTS}.workflows.scatter_and_gather.ScatterAndGather"
    data_kind: str | Mapping[str, str] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # Any: plain JSON
    client_components: tuple[Component, ...] = ()
    data_filters: tuple[Component, ...] = ()
    result_filters: tuple[Component, ...] = ()
    leaves_out: bool = False


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


def make_job(
    weights: InitialWeights, trainer: Trainer, *, rounds: int, min_sites: int | None, options: Options, way: Way
) -> Job:
    """The job of a recipe.

    Raises:
        ConfigError: A part that cannot be.
    """
    names = _Parts()
    name = options.get("name", way.recipe)
    executor, beside, files = trainer.parts(options)
    app = App(
        server=_server(names, rounds, min_sites, options=options, way=way),
        client=_client(names, executor, beside, options=options, way=way),
        files={WEIGHTS: weights.arrays, **files},
        origin=name,
        checked=True,
    )
    meta = {key: options[key] for key in ("threads_per_site",) if key in options}
    job = Job(name, {"app": app}, min_sites=min_sites, meta=meta, classes=names.classes.found)
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


def _server(names: _Parts, rounds: int, min_sites: int | None, *, options: Options, way: Way) -> dict[str, Any]:
    enough = Variable("num_sites") if min_sites is None else min_sites
    chosen = {"sampling": options["sampling"]} if "sampling" in options else {}
    workflow = Component(
        way.workflow,
        id=way.workflow.rpartition(".")[0].rpartition(".")[2],
        min_clients=enough,
        num_rounds=rounds,
        wait_time_after_min_received=options.get("wait_s", 10),
        min_counted=enough,
        **chosen,
    )
    return {
        "format_version": FORMAT_VERSION,
        "server": {"heart_beat_timeout": options.get("silent_s", 60)},
        "components": names.list("components", _server_parts(options, way))
        + names.list("server_components", options.get("server_components", ())),
        "workflows": names.list("workflows", [workflow]),
    }


def _server_parts(options: Options, way: Way) -> list[Component]:
    may_leave_out = way.leaves_out or bool(options.get("result_filters"))
    settings = {**way.settings, **options.get("settings", {})}
    told = {"train_settings": settings} if settings else {}
    generator = way.generator
    names = options.get("names", "subset" if may_leave_out else "exact")
    if names == "subset" and generator.target == _FULL_MODEL:  # else the model loses what results leave out
        generator = Component(_FULL_MODEL, **{**generator.args, "keep_missing": True})
    best = {key: options[option] for option, key in (("best_by", "validation_metric_name"),) if option in options}
    if options.get("lower_is_better"):
        best["larger_is_better"] = False
    parts = [
        Component(
            f"{_PARTS}.aggregators.intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator",
            id="aggregator",
            expected_data_kind=way.data_kind or KINDS[options.get("params_type", "full")],
            names=names,
        ),
        Component(generator.target, id="shareable_generator", **generator.args, **told),
        Component(f"{_PARTS}.np_model.NPModelPersistor", id="persistor", source=WEIGHTS.removeprefix("config/")),
        Component(
            f"{_PARTS}.handlers.intime_model_selection_handler.IntimeModelSelectionHandler", id="model_selector", **best
        ),
        Component(f"{_PARTS}.widgets.history_receiver.HistoryReceiver", id="history"),
    ]
    if "early_stopping" in options:
        stop = f"{_PARTS}.handlers.early_stopping.EarlyStopping"
        parts.append(Component(stop, id="early_stopping", **options["early_stopping"]))
    return parts


def _client(
    names: _Parts, executor: Component, beside: list[Component], *, options: Options, way: Way
) -> dict[str, Any]:
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
        "executors": [{"tasks": ["train"], "executor": names.config(executor, place)}],
        "components": names.list("components", parts)
        + names.list("executor", beside)
        + names.list("client_components", options.get("client_components", ())),
    }
    chains = {
        "task_data_filters": names.list("data_filters", way.data_filters),
        "task_result_filters": names.list("result_filters", options.get("result_filters", ()))
        + names.list("result_filters", way.result_filters),
    }
    for key, filters in chains.items():
        if filters:
            config[key] = [{"tasks": ["train"], "filters": filters}]
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
