"""Putting together the sides of a job: workspace, context manager, engine, events, components."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.apis.client import Client
from hansa.apis.event_type import EventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.signal import Signal
from hansa.apis.widget import Widget, WidgetID
from hansa.apis.workspace import Workspace
from hansa.jobs.build import Builder, ClientApp, Parts, ServerApp
from hansa.runtime.engines import AuxLink, ClientEngine, ServerEngine, Services
from hansa.runtime.events import EventFirer
from hansa.runtime.outbox import Outbox
from hansa.runtime.rank_host import Ranks
from hansa.runtime.script_host import Scripts
from hansa.runtime.server_side import ServerSettings, ServerSide
from hansa.runtime.site_side import SiteSettings, SiteSide

RUN_NUMBER = 1
SERVER = "server"

_WIDGETS = "hansa.components.widgets"


@dataclass(frozen=True)
class AppArgs:
    """What applications find under FLContextKey.ARGS.

    Attributes:
        workspace: Root of the participant's workspace.
        env: The environment file, relative to APP_ROOT.
        train_config: The training config, relative to APP_ROOT.
        log_config: The logging config, relative to APP_ROOT.
    """

    workspace: str
    env: str = "config/environment.json"
    train_config: str = "config/config_train.json"
    log_config: str = "config/log.config"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one participant lives; a site may be made once per task, so this is nothing but text until it is used.

    Attributes:
        root: Its workspace.
        participant: Its name.
        run_number: The job's number in this workspace.
    """

    root: str
    participant: str
    run_number: int = RUN_NUMBER

    @classmethod
    def of(cls, workspaces: Path | str, participant: str) -> Place:
        """The place of a participant below the run's workspaces; nothing is created."""
        return cls(f"{workspaces}{os.sep}{participant}", participant)

    @property
    def workspace(self) -> Workspace:
        """The same as FLARE's object."""
        return Workspace(self.root, self.participant, "config")

    @property
    def app_root(self) -> str:
        """Where the participant's copy of the application lies."""
        return f"{self.root}{os.sep}run_{self.run_number}{os.sep}app_{self.participant}"

    @property
    def app_folder(self) -> Path:
        """The same as a path."""
        return Path(self.app_root)


class _Listener(FLComponent):
    """The runtime's own ear, after all of the job's: panics end what they should end."""

    hears = frozenset((EventType.FATAL_SYSTEM_ERROR, EventType.FATAL_TASK_ERROR))

    def __init__(self, side: ServerSide | SiteSide) -> None:
        super().__init__()
        self._side = side

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        reason = str(fl_ctx.get_prop(FLContextKey.EVENT_DATA, "no reason given"))
        if event_type == EventType.FATAL_SYSTEM_ERROR:
            self._side.panic(reason)
        elif event_type == EventType.FATAL_TASK_ERROR and isinstance(self._side, SiteSide):
            self._side.abort_task(reason)


class ServerEnd:
    """The server as the link sees it."""

    def __init__(self, side: ServerSide) -> None:
        self.outbox = side.outbox
        self.aux = side.engine.aux
        self.new_context = side.engine.new_context
        self._side = side

    def abort_task(self) -> None:
        """The server executes no task."""


class SiteEnd:
    """A site as the link sees it."""

    def __init__(self, side: SiteSide) -> None:
        self.outbox = side.outbox
        self.aux = side.engine.aux
        self.new_context = side.engine.new_context
        self.abort_task = side.abort_task


def stickers(place: Place, abort: Signal) -> dict[str, Any]:  # Any: context properties hold any object
    """The private sticky properties that the contexts of a participant begin with."""
    return {
        FLContextKey.APP_ROOT: place.app_root,
        FLContextKey.ARGS: AppArgs(place.root),
        FLContextKey.WORKSPACE_ROOT: place.root,
        FLContextKey.WORKSPACE_OBJECT: place.workspace,
        FLContextKey.SECURE_MODE: False,
        FLContextKey.RUN_ABORT_SIGNAL: abort,
    }


def _finish(
    engine: ServerEngine | ClientEngine, side: ServerSide | SiteSide, app: Parts, *, builder: Builder, runner: str
) -> Widget:
    """Attach the parts to the engine; returns the runtime's own widget."""
    if runner not in _RUNNERS:  # looking a class up costs more than making a site
        found = builder.component({"path": f"{_WIDGETS}.fed_event.{runner}"})
        assert isinstance(found, Widget)
        _RUNNERS[runner] = type(found)
    runner_widget = _RUNNERS[runner]()
    own = [] if isinstance(side, SiteSide) else _history_receivers(app, builder)
    engine.attach(
        app,
        firer=EventFirer([*app.handlers, *own, runner_widget, _Listener(side)], side.handler_failed),
        widgets={WidgetID.FED_EVENT_RUNNER.value: runner_widget, **_widgets(app)},
        build=builder.component,
    )
    return runner_widget


_RUNNERS: dict[str, type[Widget]] = {}


def _history_receivers(app: Parts, builder: Builder) -> list[Widget]:
    """What keeps the numbers that are reported, in a job that lists no such part; one that does keeps its own."""
    receiver = builder.component({"path": f"{_WIDGETS}.history_receiver.HistoryReceiver"})
    assert isinstance(receiver, Widget)
    return [] if any(isinstance(handler, type(receiver)) for handler in app.handlers) else [receiver]


def _widgets(app: Parts) -> Mapping[str, Widget]:
    return {name: part for name, part in app.components.items() if isinstance(part, Widget)}


@dataclass(frozen=True)
class RunParts:
    """What the participants in one process share.

    Attributes:
        link: The way between server and sites.
        abort: The run's abort signal.
        builder: Builds components.
        scripts: Runs the sites' scripts; None: nobody does.
        ranks: Runs the sites' rank processes; None: nobody does.
    """

    link: AuxLink
    abort: Signal
    builder: Builder
    scripts: Scripts | None = None
    ranks: Ranks | None = None


@dataclass(frozen=True)
class Headquarters:
    """What only the server's side has.

    Attributes:
        services: Clock, record and writer.
        job_name: Its identity in contexts.
        clients: The live sites, asked anew each time.
    """

    services: Services
    job_name: str
    clients: Callable[[], Sequence[Client]]


def make_server(
    settings: ServerSettings, app: ServerApp, place: Place, *, shared: RunParts, office: Headquarters
) -> tuple[ServerSide, ServerEnd]:
    """The server's side of a run."""
    engine = ServerEngine(
        lambda e: FLContextManager(e, office.job_name, place.run_number, {}, stickers(place, shared.abort)),
        place.workspace,
        link=shared.link,
        clients=office.clients,
        services=office.services,
        seed=settings.seed,
    )
    side = ServerSide(settings, app, engine=engine, outbox=Outbox(SERVER), abort=shared.abort)
    _finish(engine, side, app, builder=shared.builder, runner="ServerFedEventRunner")
    return side, ServerEnd(side)


def make_site(
    settings: SiteSettings, app: ClientApp, place_of: Callable[[str], Place], *, shared: RunParts
) -> SiteSide:
    """One site's side of a run.

    Args:
        settings: Name, seed, where failures go.
        app: Its components.
        place_of: Where a site lives: this one, and others that the same object may serve later.
        shared: What the participants of this process share.
    """
    abort = Signal()

    def manager_of(engine: object, name: str, place: Place) -> FLContextManager:
        public = {FLContextKey.CLIENT_NAME: name}
        return FLContextManager(engine, name, place.run_number, public, stickers(place, abort))

    place = place_of(settings.name)
    engine = ClientEngine(
        lambda e: manager_of(e, settings.name, place),
        place.workspace,
        link=shared.link,
        site=settings.name,
        scripts=shared.scripts,
        ranks=shared.ranks,
    )
    side = SiteSide(settings, app, engine=engine, outbox=Outbox(settings.name))

    def serve(name: str) -> None:
        place = place_of(name)
        engine.serve(name, place.workspace, manager=manager_of(engine, name, place))

    def stop() -> None:
        abort.trigger(shared.abort.value)
        side.abort_task()

    shared.abort.subscribe(stop)  # a task that works for hours would else keep the run from ending
    side.on_close = lambda: shared.abort.unsubscribe(stop)
    side.on_serve = serve
    runner = _finish(engine, side, app, builder=shared.builder, runner="ClientFedEventRunner")
    side.on_resume = lambda fl_ctx: runner.handle_event(EventType.START_RUN, fl_ctx)
    return side


def default_props(name: str, run_number: int = RUN_NUMBER) -> dict[str, Any]:  # Any: properties hold any value
    """The public properties of a site whose components have set none."""
    return {ReservedKey.RUN_NUM: run_number, ReservedKey.IDENTITY_NAME: name, FLContextKey.CLIENT_NAME: name}


def keeps_nothing(app: ClientApp) -> bool:
    """Whether every part of a site says of its own class that it keeps nothing between tasks."""
    chains = (*app.task_data_filters.values(), *app.task_result_filters.values())
    parts = [*app.handlers, *app.executors.values(), *app.components.values(), *(part for c in chains for part in c)]
    return all(vars(type(part)).get("stateless") is True for part in parts)
