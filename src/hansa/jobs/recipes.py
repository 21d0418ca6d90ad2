"""Jobs in Python: one function per way of learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hansa import tensors
from hansa.apis.executor import Executor
from hansa.apis.learner_spec import Learner
from hansa.apis.sampling import Sampling
from hansa.errors import ConfigError
from hansa.jobs.classes import check_arguments
from hansa.jobs.component import Component, Variable, as_config
from hansa.jobs.config import FORMAT_VERSION
from hansa.jobs.job import WEIGHTS, App, Job
from hansa.jobs.place import Place, suggestion
from hansa.jobs.source_files import LocalClasses

_ANALYTICS = "analytix_log_stats"
_NAMES = ("any", "subset", "exact")
_KINDS = {"full": "WEIGHTS", "diff": "WEIGHT_DIFF"}
_LEARNER_EXECUTOR = "hansa.components.executors.learner_executor.LearnerExecutor"
_CARRIED = frozenset(tensors.CARRIERS.values())


class FedAvgOptions(TypedDict, total=False):
    """What most users of `fed_avg` leave as it is."""

    name: str
    """What the job is called; `fed_avg`."""
    wait_s: int
    """How many seconds a round waits for the other sites once `min_sites` have answered; 10."""
    silent_s: float
    """After how many seconds without a sign of life a site is lost; 60."""
    threads_per_site: int
    """How many threads numeric libraries may use for one site; 1."""
    params_type: Literal["full", "diff"]
    """What the executor sends back: whole parameters (`full`) or what training added to them (`diff`); `full`."""
    server_components: Sequence[Component]
    """More parts on the server, which hear its events; without an id they go by the name of their class."""
    client_components: Sequence[Component]
    """More parts at each site, such as a Learner."""
    sampling: Mapping[str, Any]  # Any: plain JSON
    """Which of the live sites a round asks: `{"fraction": 0.1}` or `{"count": 100}` of all, of `{"names": [...]}` or of
    `{"tag": "icu"}`; see `hansa.apis.sampling.Sampling`. All of them unless given."""
    result_filters: Sequence[Component]
    """What a site's result goes through before it leaves the site, in this order."""
    names: Literal["any", "subset", "exact"]
    """Which tensors a result may have, else it is refused: those of the model and no others (`exact`), some of them
    (`subset`), or whatever a site sends (`any`), where each tensor is averaged over the sites that sent it. `exact`, or
    `subset` if there are `result_filters`, which may leave tensors out."""


def fed_avg(
    model: Mapping[str, ArrayLike],
    *,
    executor: type[Executor] | Component,
    rounds: int = 5,
    min_sites: int | None = None,
    **options: Unpack[FedAvgOptions],
) -> Job:
    """Federated averaging: every site trains the global model on its own data, the server averages what comes back.

    The new model is the mean of the sites' results, weighted with the number of steps each reports
    (NUM_STEPS_CURRENT_ROUND): McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized
    Data", 2017, arXiv:1602.05629.

    Args:
        model: The initial weights by name: numbers of any shape. They are copied, and travel in the job.
        executor: What a site does with the task `train`: an Executor class, or a Component with its arguments. A
            Learner goes into the LearnerExecutor: `Component("...LearnerExecutor", learner_id="learner")`, with the
            Learner itself among the `client_components`.
        rounds: How many times the sites train; at least 1.
        min_sites: How many sites are enough for a round; None for all sites of the run, or all that the round asks if
            it asks only some (`sampling`).
        options: See `FedAvgOptions`.

    Returns:
        A job for `hansa.simulate`, or for `Job.save`.

    Raises:
        ConfigError: A bad argument; its name is in the error.
    """
    _check_options(options)
    _check_whole("rounds", rounds, least=1)
    if min_sites is not None:
        _check_whole("min_sites", min_sites, least=1)
    names = _Parts()
    name = options.get("name", "fed_avg")
    app = App(
        server=_server(names, rounds, min_sites, options),
        client=_client(names, executor, options),
        files={WEIGHTS: _weights(model)},
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
            raise ConfigError(f"must be a list of Components, not {_what(parts)}", key=argument)
        configs = []
        for position, part in enumerate(parts):
            place = Place(key=argument).at(position)
            if not isinstance(part, Component):
                raise place.error(f"must be a Component, not {_what(part)}")
            configs.append({"id": part.label, **self.config(part, place)})
        return configs


def _server(names: _Parts, rounds: int, min_sites: int | None, options: FedAvgOptions) -> dict[str, Any]:
    enough = Variable("num_sites") if min_sites is None else min_sites
    parts = [
        Component(
            "hansa.components.aggregators.intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator",
            id="aggregator",
            expected_data_kind=_KINDS[options.get("params_type", "full")],
            names=options.get("names", "subset" if options.get("result_filters") else "exact"),
        ),
        Component(
            "hansa.components.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator",
            id="shareable_generator",
        ),
        Component("hansa.components.np_model.NPModelPersistor", id="persistor", source=WEIGHTS.removeprefix("config/")),
        Component(
            "hansa.components.handlers.intime_model_selection_handler.IntimeModelSelectionHandler", id="model_selector"
        ),
        Component("hansa.components.widgets.history_receiver.HistoryReceiver", id="history"),
    ]
    chosen = {"sampling": options["sampling"]} if "sampling" in options else {}
    workflow = Component(
        "hansa.components.workflows.scatter_and_gather.ScatterAndGather",
        id="scatter_and_gather",
        min_clients=enough,
        num_rounds=rounds,
        wait_time_after_min_received=options.get("wait_s", 10),
        min_counted=enough,
        **chosen,
    )
    return {
        "format_version": FORMAT_VERSION,
        "server": {"heart_beat_timeout": options.get("silent_s", 60)},
        "components": names.list("components", parts)
        + names.list("server_components", options.get("server_components", ())),
        "workflows": names.list("workflows", [workflow]),
    }


def _client(names: _Parts, executor: object, options: FedAvgOptions) -> dict[str, Any]:
    parts = [
        Component("hansa.components.widgets.streaming.AnalyticsSender", id="analytic_sender"),
        Component(
            "hansa.components.widgets.convert_to_fed_event.ConvertToFedEvent",
            id="event_to_fed",
            events_to_convert=[_ANALYTICS],
        ),
    ]
    place = Place(key="executor")
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "executors": [{"tasks": ["train"], "executor": names.config(_executor(executor, place), place)}],
        "components": names.list("components", parts)
        + names.list("client_components", options.get("client_components", ())),
    }
    if filters := names.list("result_filters", options.get("result_filters", ())):
        config["task_result_filters"] = [{"tasks": ["train"], "filters": filters}]
    return config


def _executor(given: object, place: Place) -> Component:
    if given is None or isinstance(given, str):
        raise place.error(f"give an Executor class or a Component('module.Class', arg=...), not {given!r}")
    if not isinstance(given, type | Component):
        kind = type(given).__name__
        raise place.error(f"give the class, not {_what(given)}; every site makes its own: Component({kind}, arg=...)")
    part = Component(given) if isinstance(given, type) else given
    cls = part.target
    if isinstance(cls, type) and issubclass(cls, Learner):
        raise place.error(
            f"{part.label} is a Learner: give executor=Component({_LEARNER_EXECUTOR!r}, learner_id='learner') "
            f"and client_components=[Component({part.label}, id='learner')]"
        )
    if isinstance(cls, type) and not issubclass(cls, Executor):
        raise place.error(f"must be an Executor, and {part.label} is none")
    return part


def _weights(model: object) -> dict[str, NDArray[Any]]:
    place = Place(key="model")
    if not isinstance(model, Mapping):
        raise place.error(f"must be a dict of arrays by name, not {_what(model)}")
    if not model:
        raise place.error("has no weights")
    return {name: _array(name, value, place) for name, value in model.items()}


def _array(name: object, value: object, place: Place) -> NDArray[Any]:
    if not isinstance(name, str):
        raise place.error(f"the names of weights are texts, not {name!r}")
    if name == tensors.METADATA:
        raise place.error(f"no tensor can be called {name!r}: files of tensors keep their metadata under it")
    detach = getattr(value, "detach", None)  # a torch tensor that takes part in autograd
    try:
        array = np.array(detach().cpu().numpy() if callable(detach) else value)
    except (TypeError, ValueError) as error:
        raise place.at(name).error(f"is no array: {error}") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise place.at(name).error("has NaN or Inf, so that no result could count")
    if array.dtype.newbyteorder("<") not in _CARRIED and array.dtype.name not in tensors.ML_DTYPES:
        raise place.at(name).error(f"weights are numbers, not {array.dtype}")
    return array


def _check_options(options: FedAvgOptions) -> None:
    known = FedAvgOptions.__annotations__
    for key in options:
        if key not in known:
            raise ConfigError(f"fed_avg takes no such argument{suggestion(key, known)}", key=key)
    _check_whole("wait_s", options.get("wait_s", 10), least=0)
    _check_whole("threads_per_site", options.get("threads_per_site", 1), least=1)
    silent_s: object = options.get("silent_s", 60)
    if isinstance(silent_s, bool) or not isinstance(silent_s, int | float) or not silent_s > 0:
        raise ConfigError(f"must be a number above 0, not {silent_s!r}", key="silent_s")
    if options.get("params_type", "full") not in _KINDS:
        raise ConfigError(f"must be 'full' or 'diff', not {options['params_type']!r}", key="params_type")
    if options.get("names", "any") not in _NAMES:
        raise ConfigError(f"must be 'any', 'subset' or 'exact', not {options['names']!r}", key="names")
    Sampling.from_config(options.get("sampling"), key="sampling")
    name: object = options.get("name", "fed_avg")
    if not isinstance(name, str) or not name:
        raise ConfigError(f"must be a text that is not empty, not {name!r}", key="name")


def _check_whole(argument: str, value: object, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"must be a whole number of at least {least}, not {value!r}", key=argument)


def _what(value: object) -> str:
    return f"an instance of {type(value).__name__}"
