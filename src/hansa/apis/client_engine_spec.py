"""What components at a site may ask of the runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.workspace import Workspace

if TYPE_CHECKING:  # widgets are components, and components fire events through an engine
    from hansa.apis.widget import Widget


class TaskAssignment:
    """A task for this site.

    Args:
        name: Which of the job's tasks.
        task_id: What names this hand-out of it; the result must bear it.
        data: What comes with it.
    """

    def __init__(self, name: str, task_id: str, data: Shareable) -> None:
        self.name = name
        self.task_id = task_id
        self.data = data


class ClientEngineSpec:
    """The engine of a site, from `fl_ctx.get_engine()`. A test's own engine may offer only some of it."""

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Call `handle_event` of every component of this site."""
        raise NotImplementedError

    def get_task_assignment(self, fl_ctx: FLContext) -> TaskAssignment | None:
        """Ask for a task; None if there is none."""
        raise NotImplementedError

    def new_context(self) -> FLContext:
        """A context with the sticky properties of the run."""
        raise NotImplementedError

    def send_task_result(self, result: Shareable, fl_ctx: FLContext) -> bool:
        """Send the result of the context's task; True once the server has received it."""
        raise NotImplementedError

    def get_workspace(self) -> Workspace:
        """Where the files of this site lie."""
        raise NotImplementedError

    def get_component(self, component_id: str) -> object | None:
        """A component of the job by its id; None if there is none."""
        raise NotImplementedError

    def get_all_components(self) -> dict[str, Any]:  # Any: components may be any object
        """The components of the job by id."""
        raise NotImplementedError

    def get_widget(self, widget_id: str) -> Widget | None:
        """A part of the runtime by its `WidgetID`; None if there is none."""
        raise NotImplementedError

    def build_component(self, config_dict: dict[str, Any]) -> object:
        """Build a component from the shape it has in a job's configuration."""
        raise NotImplementedError

    def register_aux_message_handler(self, topic: str, message_handle_func: Callable[..., Shareable]) -> None:
        """Answer requests of a topic from now on.

        Args:
            topic: What the requests are about.
            message_handle_func: Called by keyword with `topic`, `request`, `fl_ctx`.

        Raises:
            ValueError: The topic is empty or has a handler.
        """
        raise NotImplementedError

    def send_aux_request(self, topic: str, request: Shareable, timeout: float, fl_ctx: FLContext) -> Shareable:
        """Ask the server.

        Args:
            topic: What the request is about.
            request: The request.
            timeout: Seconds to wait for the reply; 0.0 waits for none.
            fl_ctx: Its public properties go with the request.

        Returns:
            The reply; its return code says how it went.
        """
        raise NotImplementedError

    def fire_and_forget_aux_request(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Tell the server, without waiting for a reply."""
        return self.send_aux_request(topic, request, 0.0, fl_ctx)
