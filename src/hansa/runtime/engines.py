"""What components reach through `fl_ctx.get_engine()`: one engine for the server, one for each site."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hansa.apis.client import Client
from hansa.apis.client_engine_spec import ClientEngineSpec, TaskAssignment
from hansa.apis.engine import UNDECIDED
from hansa.apis.fl_constant import EventScope, FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.ranks import RankPlan
from hansa.apis.server_engine_spec import ServerEngineSpec
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.widget import Widget
from hansa.apis.workspace import Workspace
from hansa.errors import RunError
from hansa.runtime import user_code
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.events import EventFirer
from hansa.runtime.history import RunHistory
from hansa.runtime.later import LaterWriter
from hansa.runtime.rank_host import Ranks
from hansa.runtime.rank_processes import RankProcesses
from hansa.runtime.script_host import Scripts
from hansa.runtime.script_process import ScriptProcess
from hansa.runtime.seeding import task_seed

AuxHandler = Callable[..., Any]  # Any: user code; called with topic=, request=, fl_ctx=


class Parts(Protocol):
    """What the built application of one side gives its engine."""

    @property
    def components(self) -> Mapping[str, object]:
        """Components by id."""
        ...


class AuxTable:
    """Who answers which topic on one side."""

    def __init__(self) -> None:
        self._handlers: dict[str, AuxHandler] = {}

    def register(self, topic: str, handler: AuxHandler) -> None:
        """Let `handler(topic=, request=, fl_ctx=)` answer a topic.

        Raises:
            ValueError: The topic is empty or taken.
        """
        if not isinstance(topic, str) or not topic:
            raise ValueError(f"topic must be a non-empty string, but got {topic!r}")
        if topic in self._handlers:
            raise ValueError(f"a handler for topic {topic!r} is registered already")
        if not callable(handler):
            raise TypeError(f"the handler of topic {topic!r} cannot be called")
        self._handlers[topic] = handler

    def answer(
        self, topic: str, request: Shareable, *, fl_ctx: FLContext
    ) -> tuple[Shareable, user_code.Failure | None]:
        """The reply to a request: TOPIC_UNKNOWN, HANDLER_EXCEPTION, or what the handler returns."""
        handler = self._handlers.get(topic)
        if handler is None:
            return make_reply(ReturnCode.TOPIC_UNKNOWN), None
        outcome = user_code.call(handler, topic=topic, request=request, fl_ctx=fl_ctx)
        if isinstance(outcome, user_code.Failure):
            return make_reply(ReturnCode.HANDLER_EXCEPTION), outcome
        reply = outcome.value
        return (reply if isinstance(reply, Shareable) else make_reply(ReturnCode.OK)), None


class AuxLink(Protocol):
    """How aux messages leave a side; every byte of a site's goes through its outbox."""

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Ask the server."""
        ...

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Ask one site."""
        ...


@runtime_checkable
class PatientLink(AuxLink, Protocol):
    """A link over which a reply may never come: it waits as long as the caller says, and not at all for 0 seconds."""

    def ask_server(
        self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext, timeout_s: float
    ) -> Shareable:
        """Ask the server; COMMUNICATION_ERROR once the time is over."""
        ...

    def ask_sites(
        self, sites: Sequence[str], topic: str, *, request: Shareable, fl_ctx: FLContext, timeout_s: float
    ) -> dict[str, Shareable]:
        """Ask sites, all at the same time."""
        ...


class _Engine:
    """What both engines share: contexts, events, components, the workspace."""

    def __init__(self, manager_of: Callable[[object], FLContextManager], workspace: Workspace, link: AuxLink) -> None:
        self.aux = AuxTable()
        self.manager = manager_of(self)
        self._workspace = workspace
        self._link = link
        self._parts: Parts | None = None
        self._widgets: Mapping[str, Widget] = {}
        self._firer: EventFirer | None = None
        self._build: Callable[[Mapping[str, Any]], object] | None = None

    def attach(
        self,
        parts: Parts,
        *,
        firer: EventFirer,
        widgets: Mapping[str, Widget],
        build: Callable[[Mapping[str, Any]], object],  # Any: a component's config is JSON
    ) -> None:
        """Give the engine the application that was built against it."""
        self._parts, self._firer, self._widgets, self._build = parts, firer, widgets, build

    def new_context(self) -> FLContext:
        return self.manager.new_context()

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if self._firer is not None:
            self._firer.fire(event_type, fl_ctx)

    def fire_own(self, event_type: str, fl_ctx: FLContext) -> None:
        """Fire an event of the runtime's: local, whatever a handler fired on this context before."""
        if self._firer is None or not self._firer.hearers(event_type):
            return
        if fl_ctx.get_prop(FLContextKey.EVENT_SCOPE) != EventScope.LOCAL:
            fl_ctx.set_prop(FLContextKey.EVENT_SCOPE, EventScope.LOCAL, private=True, sticky=False)
        self._firer.fire(event_type, fl_ctx)

    def is_heard(self, event_type: str) -> bool:
        """Whether anybody on this side hears local events of this type."""
        return self._firer is not None and bool(self._firer.hearers(event_type))

    def get_component(self, component_id: str) -> object:
        return self._parts.components.get(component_id) if self._parts else None

    def get_all_components(self) -> dict[str, object]:
        return dict(self._parts.components) if self._parts else {}

    def get_workspace(self) -> Workspace:
        return self._workspace

    def get_widget(self, widget_id: str) -> Widget | None:
        return self._widgets.get(str(getattr(widget_id, "value", widget_id)))

    def build_component(self, config_dict: Mapping[str, Any]) -> object:
        """Build a component from the shape that job configs use."""
        if self._build is None:
            raise RuntimeError("the engine is not running yet")
        return self._build(config_dict)

    def register_aux_message_handler(self, topic: str, message_handle_func: AuxHandler) -> None:
        self.aux.register(topic, message_handle_func)


@dataclass(frozen=True)
class Services:
    """What a run offers the server's components.

    Attributes:
        loop: Clock and waiting place.
        history: The record.
        writer: Writes files beside the round.
        facts: What is run; see `hansa.apis.engine.OffersFacts`.
    """

    loop: EventLoop
    history: RunHistory
    writer: LaterWriter
    facts: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


class ServerEngine(_Engine, ServerEngineSpec):
    """The server's engine; offers the ports for waiting, history and commits.

    Args:
        manager_of: Makes the context manager for this engine.
        workspace: The server's workspace.
        link: The way to the sites.
        clients: The live sites, asked anew each time.
        services: Clock, record and writer of the run.
        seed: The job's seed.
    """

    def __init__(
        self,
        manager_of: Callable[[object], FLContextManager],
        workspace: Workspace,
        *,
        link: AuxLink,
        clients: Callable[[], Sequence[Client]],
        services: Services,
        seed: int,
    ) -> None:
        super().__init__(manager_of, workspace, link)
        self._clients = clients
        self._seed = seed
        self.waiter = services.loop
        self.history = services.history
        self.facts = services.facts
        self.on_commit: Callable[[Mapping[str, Any]], int] = lambda state: 0
        self.on_stop: Callable[[], None] = lambda: None
        self.decisions: Mapping[str, Any] = {}  # Any: JSON
        """What was decided before a restart."""
        self.on_decision: Callable[[str, Any], None] = lambda key, value: None  # Any: JSON
        self.on_problem: Callable[[str, BaseException], None] = lambda where, error: None
        self.write_later = services.writer.write_later
        self.finish_writes = services.writer.finish_writes

    def commit(self, workflow_state: Mapping[str, Any]) -> int:
        """See `hansa.apis.engine.OffersCommit`."""
        return self.on_commit(workflow_state)

    def decided(self, key: str) -> Any:  # Any: JSON
        """See `hansa.apis.engine.OffersDecisions`."""
        return self.decisions.get(key, UNDECIDED)

    def decide(self, key: str, value: Any) -> None:  # Any: JSON
        """See `hansa.apis.engine.OffersDecisions`."""
        if key not in self.decisions:
            self.on_decision(key, value)

    def seed_for(self, text: str) -> int:
        """See `hansa.apis.engine.OffersSeed`."""
        return task_seed(self._seed, text)

    def problem(self, where: str, error: BaseException) -> None:
        """See `hansa.apis.engine.OffersProblems`."""
        self.on_problem(where, error)

    def ask_to_stop(self) -> None:
        """End the run as soon as the workflow looks."""
        self.on_stop()

    def get_clients(self) -> list[Client]:
        return list(self._clients())

    def validate_clients(self, client_names: list[str]) -> tuple[list[Client], list[str]]:
        known = {client.name: client for client in self._clients()}
        return [known[n] for n in client_names if n in known], [n for n in client_names if n not in known]

    def send_aux_request(
        self, targets: Any, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> dict[str, Shareable]:  # Any: FLARE takes names or Clients, None for all
        if not isinstance(timeout, float):
            raise TypeError(f"timeout must be a float, but got {type(timeout)}.")
        names = [getattr(t, "name", t) for t in targets] if targets else [c.name for c in self._clients()]
        if isinstance(self._link, PatientLink):
            return self._link.ask_sites(names, topic, request=request, fl_ctx=fl_ctx, timeout_s=timeout)
        return {name: self._link.to_site(name, topic, request=request, fl_ctx=fl_ctx) for name in names}

    def fire_and_forget_aux_request(
        self, targets: Any, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> dict[str, Shareable]:  # Any: as above
        return self.send_aux_request(targets, topic, request, 0.0, fl_ctx)


class ClientEngine(_Engine, ClientEngineSpec):
    """A site's engine."""

    def __init__(
        self,
        manager_of: Callable[[object], FLContextManager],
        workspace: Workspace,
        *,
        link: AuxLink,
        site: str,
        scripts: Scripts | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        super().__init__(manager_of, workspace, link)
        self._site = site
        self._scripts = scripts
        self._ranks = ranks
        self.on_problem: Callable[[str, BaseException], None] = lambda where, error: None

    def problem(self, where: str, error: BaseException) -> None:
        """See `hansa.apis.engine.OffersProblems`."""
        self.on_problem(where, error)

    def serve(self, site: str, workspace: Workspace, *, manager: FLContextManager) -> None:
        """Be another site's engine from now on."""
        self._site, self._workspace, self.manager = site, workspace, manager
        self.aux = AuxTable()

    def start_script(self, script: str, args: Sequence[str], *, seed: int) -> ScriptProcess:
        """See `hansa.apis.engine.ScriptHost`."""
        if self._scripts is None:
            raise RunError("no scripts are run here")
        with self.new_context() as fl_ctx:
            custom = Path(self._workspace.get_app_custom_dir(fl_ctx.get_run_number()))
        folder = Path(self._workspace.get_root_dir())
        return self._scripts.start(self._site, custom / script, args=args, folder=folder, seed=seed)

    def start_ranks(self, plan: RankPlan) -> RankProcesses:
        """See `hansa.apis.engine.RankHost`."""
        if self._ranks is None:
            raise RunError("no rank processes are run here")
        return self._ranks.start(self, plan, site=self._site, folder=Path(self._workspace.get_root_dir()))

    def get_task_assignment(self, fl_ctx: FLContext) -> TaskAssignment | None:
        """Tasks are pushed to a site; there is never one to fetch."""
        return None

    def send_task_result(self, result: Shareable, fl_ctx: FLContext) -> bool:
        """The runtime sends the result of a task by itself; user code has none to send."""
        return False

    def send_aux_request(self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext) -> Shareable:
        if not isinstance(timeout, float):
            raise TypeError(f"timeout must be a float, but got {type(timeout)}.")
        if isinstance(self._link, PatientLink):
            return self._link.ask_server(self._site, topic, request=request, fl_ctx=fl_ctx, timeout_s=timeout)
        return self._link.to_server(self._site, topic, request=request, fl_ctx=fl_ctx)

    def fire_and_forget_aux_request(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        return self.send_aux_request(topic, request, 0.0, fl_ctx)
