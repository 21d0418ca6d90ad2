"""What components on the server may ask of the runtime."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hansa.apis.client import Client
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.workspace import Workspace

if TYPE_CHECKING:  # widgets are components, and components fire events through an engine
    from hansa.apis.widget import Widget


class ServerEngineSpec(ABC):
    """The engine of the server, from `fl_ctx.get_engine()`."""

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Call `handle_event` of every component of the server."""
        raise NotImplementedError

    @abstractmethod
    def get_clients(self) -> list[Client]:
        """The sites that take part at this moment; a new list each time."""

    @abstractmethod
    def validate_clients(self, client_names: list[str]) -> tuple[list[Client], list[str]]:
        """The sites of these names, and the names that are unknown."""

    @abstractmethod
    def new_context(self) -> FLContext:
        """A context with the sticky properties of the run."""

    @abstractmethod
    def get_workspace(self) -> Workspace:
        """Where the files of the server lie."""

    @abstractmethod
    def get_component(self, component_id: str) -> object | None:
        """A component of the job by its id; None if there is none."""

    @abstractmethod
    def get_widget(self, widget_id: str) -> Widget | None:
        """A part of the runtime by its `WidgetID`; None if there is none."""

    def build_component(self, config_dict: dict[str, Any]) -> object:  # Any: arguments of the component's own
        """Build a component from the shape it has in a job's configuration."""
        raise NotImplementedError

    def ask_to_stop(self) -> None:
        """End the run as soon as possible."""
        raise NotImplementedError

    @abstractmethod
    def register_aux_message_handler(self, topic: str, message_handle_func: Callable[..., Shareable]) -> None:
        """Answer requests of a topic from now on.

        Args:
            topic: What the requests are about.
            message_handle_func: Called by keyword with `topic`, `request`, `fl_ctx`.

        Raises:
            ValueError: The topic is empty or has a handler.
        """

    @abstractmethod
    def send_aux_request(
        self, targets: list[str] | None, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext
    ) -> dict[str, Shareable]:
        """Ask sites.

        Args:
            targets: Names of sites; None or empty for all.
            topic: What the request is about.
            request: The request.
            timeout: Seconds to wait for the replies; 0.0 waits for none.
            fl_ctx: Its public properties go with the request.

        Returns:
            The replies by name of the site; their return codes say how it went.
        """

    def fire_and_forget_aux_request(
        self, targets: list[str] | None, topic: str, request: Shareable, fl_ctx: FLContext
    ) -> dict[str, Shareable]:
        """Tell sites, without waiting for replies."""
        return self.send_aux_request(targets, topic, request, 0.0, fl_ctx)
