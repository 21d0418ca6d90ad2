"""From a config to the objects that take part in a run.

What a config says is trusted to have the right shape (`config.checked`); here it meets classes: each component is
found, allowed, given its arguments and called. A dict among the arguments that is itself a component is built first
and handed over as an object. It stays a dict where it only looks like one: a bare `name` that nothing is called, a
path to no class without `args`, or a class that wants arguments which are not there (the description of an optimizer
lacks the parameters that only its owner knows). FLARE hides every failure here; Hansa hides no other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from hansa.apis.executor import Executor
from hansa.apis.filter import Filter
from hansa.apis.fl_component import FLComponent
from hansa.apis.responder import Responder
from hansa.errors import ConfigError
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.classes import ClassFinder, Factory, UnknownClass, check_arguments, label
from hansa.jobs.component import KEYS
from hansa.jobs.place import Place
from hansa.jobs.user_code import user_code

Config = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True)
class ServerSettings:
    """What a server config sets for the server itself.

    Args:
        heart_beat_timeout: Seconds of silence after which FLARE's server would give a site up; here the server's own
            `lost_after_s` says so, and this is kept for the record only.
        task_request_interval: Seconds that a FLARE site would wait between two requests; nothing polls here, so it is
            kept for the record only.
    """

    heart_beat_timeout: float = 60
    task_request_interval: float = 2


@dataclass(frozen=True)
class Parts:
    """What both sides of a job have.

    Args:
        components: The objects of the `components` section by id.
        task_data_filters: The chain of filters for the data of a task, by task name.
        task_result_filters: The same for results.
        handlers: Every FLComponent built, once each, in the order of the file, nested ones first.
    """

    components: Mapping[str, object]
    task_data_filters: Mapping[str, list[Filter]]
    task_result_filters: Mapping[str, list[Filter]]
    handlers: list[FLComponent]


@dataclass(frozen=True)
class ServerApp(Parts):
    """The server's side of a job.

    Args:
        workflows: Id and controller, in the order in which they run.
        settings: Limits of the server.
    """

    workflows: list[tuple[str, Responder]]
    settings: ServerSettings

    @property
    def keepers(self) -> dict[str, object]:
        """Whatever may keep a state from round to round: the components by id, then filters and nested parts."""
        known = {id(each) for each in (*self.components.values(), *(workflow for _, workflow in self.workflows))}
        others = [each for each in self.handlers if id(each) not in known]
        return {**self.components, **{f"part/{index}": each for index, each in enumerate(others)}}


@dataclass(frozen=True)
class ClientApp(Parts):
    """One site's side of a job; its objects belong to that site alone.

    Args:
        executors: The executor by task name.
    """

    executors: Mapping[str, Executor]


class Builder:
    """Builds components, and both sides of a job from them.

    Args:
        policy: The classes that may be named.
        known: Classes that go by a path but cannot be imported (`Job.classes`).
        custom: The top-level modules of the job's own code (`CustomCode.modules`).
    """

    def __init__(
        self, policy: ClassPolicy, *, known: Mapping[str, type] | None = None, custom: Collection[str] = ()
    ) -> None:
        self._finder = ClassFinder(policy, known=known, custom=custom)

    def component(self, config: Config, place: Place | None = None, *, built: list[object] | None = None) -> object:
        """The object that a component's config describes.

        Args:
            config: `{path | name, args?}`.
            place: Where it stands, for errors.
            built: Takes what was built, nested ones first.

        Raises:
            ConfigError: It cannot be built; says where and why.
        """
        return self._component(config, place or Place(), [] if built is None else built, object)

    def server(self, config: Config, file: str | None = None) -> ServerApp:
        """The server's side, from a checked config without variables.

        Raises:
            ConfigError: A part cannot be built, or is of the wrong kind.
        """
        assembly = self._assembly(config, Place(file))
        return ServerApp(
            **assembly.parts(),
            workflows=assembly.workflows,
            settings=ServerSettings(**config.get("server", {})),
        )

    def client(self, config: Config, file: str | None = None) -> ClientApp:
        """A site's side, from a checked config without variables; each call makes objects of its own.

        Raises:
            ConfigError: A part cannot be built, or is of the wrong kind.
        """
        assembly = self._assembly(config, Place(file))
        return ClientApp(**assembly.parts(), executors=assembly.executors)

    def _assembly(self, config: Config, place: Place) -> _Assembly:
        assembly = _Assembly(self._component)
        for key in config:  # in file order: it is the order in which handlers hear of events
            assembly.add(key, config[key], place.at(key))
        return assembly

    # Any: an object of the given kind, which mypy does not let us say of abstract classes (type-abstract).
    def _component(self, config: Config, place: Place, built: list[object], kind: type) -> Any:
        made = self._finder.find(config, place)
        _check_kind(made, kind, place)
        written, at = written_args(config, place)
        if missing := check_arguments(made, written, at):
            raise at.error(f"{label(made)} needs the argument {missing[0]!r}")
        args = {key: self._argument(value, at.at(key), built) for key, value in written.items()}
        with user_code(f"cannot build {label(made)}", place):
            thing = made(**args)
        if not isinstance(thing, kind):
            raise _wrong_kind(type(thing), kind, place)
        built.append(thing)
        return thing

    def _argument(self, value: Any, place: Place, built: list[object]) -> Any:  # Any: JSON in, an object or JSON out
        if not is_component(value):
            return _own(value)
        if value.get("disabled"):
            return None
        try:
            made = self._finder.find(value, place)
        except UnknownClass:
            if "path" in value and "args" in value:
                raise
            return _own(value)
        if check_arguments(made, *written_args(value, place)):
            return _own(value)
        return self._component(value, place, built, object)


def _own(value: Any) -> Any:  # Any: JSON; or objects that a component hands over, which stay themselves
    """Containers of one's own, since every site gets the same config."""
    if isinstance(value, dict):
        return {key: _own(item) for key, item in value.items()}
    return [_own(item) for item in value] if isinstance(value, list) else value


class _Build(Protocol):
    def __call__(self, config: Config, place: Place, built: list[object], kind: type) -> Any: ...  # Any: of that kind


class _Assembly:
    """Collects what is built from one config, section by section."""

    def __init__(self, build: _Build) -> None:
        self._build = build
        self._built: list[object] = []
        self._components: dict[str, object] = {}
        self._chains: dict[str, dict[str, list[Filter]]] = {"task_data_filters": {}, "task_result_filters": {}}
        self.workflows: list[tuple[str, Responder]] = []
        self.executors: dict[str, Executor] = {}

    def add(self, key: str, section: Any, place: Place) -> None:  # Any: JSON
        match key:
            case "components":
                for item, at in _enabled(section, place):
                    self._components[item["id"]] = self._build(item, at, self._built, object)
            case "workflows":
                for item, at in _enabled(section, place):
                    workflow = self._build(item, at, self._built, Responder)
                    name = item.get("id") or type(workflow).__name__
                    if any(name == taken for taken, _ in self.workflows):  # results are told apart by it
                        raise at.error(f"two workflows are called {name!r}: give one of them an id")
                    self.workflows.append((name, workflow))
            case "executors":
                for position, item in enumerate(section):
                    self._add_executor(item, place.at(position))
            case "task_data_filters" | "task_result_filters":
                for position, item in enumerate(section):
                    self._add_chain(key, item, place.at(position))

    def _add_executor(self, item: Config, place: Place) -> None:
        if not item["executor"].get("disabled"):
            executor = self._build(item["executor"], place.at("executor"), self._built, Executor)
            self.executors.update(dict.fromkeys(item["tasks"], executor))

    def _add_chain(self, key: str, item: Config, place: Place) -> None:
        filters = [
            self._build(config, at, self._built, Filter)
            for config, at in _enabled(item["filters"], place.at("filters"))
        ]
        for task in item["tasks"]:
            self._chains[key][task] = list(filters)

    def parts(self) -> dict[str, Any]:
        """The fields of `Parts`."""
        handlers = {id(thing): thing for thing in self._built if isinstance(thing, FLComponent)}
        return {"components": self._components, "handlers": list(handlers.values()), **self._chains}


def _enabled(section: list[Config], place: Place) -> Iterator[tuple[Config, Place]]:
    for position, item in enumerate(section):
        if not item.get("disabled"):
            yield item, place.at(position)


def written_args(config: Config, place: Place) -> tuple[Config, Place]:
    """The arguments in a component's config, and where they stand."""
    args, at = config.get("args", {}), place.at("args")
    if isinstance(args.get("class_attributes"), dict):  # FLARE: these replace the args
        return args["class_attributes"], at.at("class_attributes")
    return args, at


def _check_kind(made: Factory, kind: type, place: Place) -> None:
    """Look before the call: the constructor of a wrong class may fail for reasons that only confuse."""
    if isinstance(made, type) and not issubclass(made, kind):
        raise _wrong_kind(made, kind, place)


_EXPECTED: dict[type, str] = {Responder: "a workflow must be a Controller", Executor: "an executor must be an Executor"}


def _wrong_kind(made: type, kind: type, place: Place) -> ConfigError:
    expected = f"{_EXPECTED.get(kind, 'a filter must be a Filter')}, and {label(made)} is none"
    if any(parent.__module__.partition(".")[0] == "nvflare" for parent in made.__mro__):  # ours say hansa
        expected += ": it is built on the nvflare that is installed here, which Hansa leaves alone; uninstall that"
    return place.error(expected)


def is_component(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether an argument reads like a component, so that it is built if its class can be found."""
    if not isinstance(value, dict) or not value.keys() <= set(KEYS) or not value.keys() & {"path", "name"}:
        return False
    names = [value[key] for key in ("path", "name") if key in value]
    return all(isinstance(name, str) for name in names) and isinstance(value.get("args", {}), dict)
