"""One question to all sites, and a processor that knows what to do with the answers."""

from __future__ import annotations

from hansa.apis.client import Client
from hansa.apis.controller import Controller
from hansa.apis.controller_spec import ClientTask, Task
from hansa.apis.fl_context import FLContext
from hansa.apis.response_processor import ResponseProcessor
from hansa.apis.sampling import Sampling
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.workflows.checks import check_ints, check_strs
from hansa.components.workflows.model_update import hand_on
from hansa.components.workflows.targets import Draw, round_targets


class BroadcastAndProcess(Controller):
    """Broadcasts one task, gives each answer to a `ResponseProcessor`, and lets that draw its conclusion.

    The sites that are live when it begins (or those of `clients`) are asked, and their answers reach the processor in
    the code-point order of their names, each as soon as those before it are there: so what it makes of them does not
    depend on who was faster. What comes after the broadcast has ended is left out. With an engine that tells nothing
    about its sites whoever asks gets the task, and answers are passed on as they come.

    The processor sees failures, too, as results whose return code is not OK. False from it ends the run.

    It commits nothing: after a restart the task is posted again, and answers that have been received are there.

    Args:
        processor: The `ResponseProcessor`, or its component id.
        task_name: The task that sites execute.
        min_responses_required: How many answers are enough; 0 for those of all sites that are asked.
        wait_time_after_min_received: Seconds that the others get once enough have answered.
        timeout: Seconds until it ends whoever has answered; 0 for never.
        clients: Names of the sites that are asked; None for all.

    Raises:
        TypeError: An argument is of another type.
        ValueError: A number is out of range.
    """

    def __init__(
        self,
        processor: str | ResponseProcessor,
        task_name: str,
        min_responses_required: int = 0,
        wait_time_after_min_received: int = 10,
        timeout: int = 0,
        clients: list[str] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(processor, str | ResponseProcessor):
            raise TypeError(f"processor must be a component id or a ResponseProcessor, but got {type(processor)}")
        check_strs(task_name=task_name)
        check_ints(min_responses_required=min_responses_required, timeout=timeout)
        check_ints(wait_time_after_min_received=wait_time_after_min_received)
        self.processor = processor
        self.task_name = task_name
        self.min_responses_required = min_responses_required
        self.wait_time_after_min_received = wait_time_after_min_received
        self.timeout = timeout
        self.clients = clients
        self._turns: list[str] = []  # the sites whose answers are still to be passed on, in their order
        self._held: dict[str, tuple[ClientTask, Shareable, FLContext | None]] = {}
        self._has_refused = False

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Find the processor."""
        if isinstance(self.processor, ResponseProcessor):
            return
        found = fl_ctx.get_engine().get_component(self.processor)
        if isinstance(found, ResponseProcessor):
            self.processor = found
            return
        what = "there is none" if found is None else f"it is a {type(found).__name__}"
        self.system_panic(f"{self._name}: component {self.processor!r} must be a ResponseProcessor, but {what}", fl_ctx)

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Ask, wait, conclude."""
        processor = self.processor
        if not isinstance(processor, ResponseProcessor):
            return
        data = processor.create_task_data(self.task_name, fl_ctx)
        if not isinstance(data, Shareable):
            self.system_panic(f"{type(processor).__name__} made a {type(data).__name__} as the task's data", fl_ctx)
            return
        targets = self._targets(abort_signal, fl_ctx)
        self._turns = sorted(targets or ())
        enough = self.min_responses_required
        if targets is not None:
            enough = min(enough, len(targets)) or len(targets)
        task = Task(self.task_name, data, timeout=self.timeout, result_received_cb=self._answered)
        self.broadcast_and_wait(task, fl_ctx, targets, enough, self.wait_time_after_min_received, abort_signal)
        task.data = Shareable()
        self._pass_on([*self._turns], fl_ctx)
        if abort_signal.triggered or self._has_refused:
            return
        if task.exception is not None:
            raise task.exception
        for site in self._turns:
            self.log_warning(fl_ctx, f"{site}: no answer to task {self.task_name}; it is left out", fire_event=False)
        if not processor.final_process(fl_ctx):
            self._refuse(f"task {self.task_name}: {type(processor).__name__} can draw no conclusion", fl_ctx)
            return
        hand_on(fl_ctx)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """There is nothing to put away."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """An answer that comes too late is left out."""
        self.log_warning(fl_ctx, f"{client.name}: its answer to task {task_name} came too late and is left out")

    def _targets(self, abort_signal: Signal, fl_ctx: FLContext) -> list[str] | None:
        """The sites that are asked, as soon as enough are live; those that are named at once, they may still come."""
        if self.clients is not None:
            return sorted(getattr(client, "name", client) for client in self.clients)
        return round_targets(
            fl_ctx.get_engine(),
            max(1, self.min_responses_required),
            draw=Draw(Sampling(), f"{self.workflow_index}/sites"),
            abort_signal=abort_signal,
            on_wait=lambda missing: self.log_info(fl_ctx, f"task {self.task_name} waits for {missing}"),
        )

    def _answered(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        result, client_task.result = client_task.result, None
        if result is None or self._has_refused:
            return
        name = client_task.client.name
        if name not in self._turns:
            self._process(client_task, result, fl_ctx)
            return
        self._held[name] = client_task, result, fl_ctx.get_peer_context()
        ready = []
        for site in self._turns:
            if site not in self._held:
                break
            ready.append(site)
        self._pass_on(ready, fl_ctx)

    def _pass_on(self, sites: list[str], fl_ctx: FLContext) -> None:
        """Give what has come of these sites to the processor, in this order."""
        present = fl_ctx.get_peer_context()
        for site in sites:
            held = self._held.pop(site, None)
            if held is None:
                continue
            self._turns.remove(site)
            client_task, result, peer = held
            if peer is not None:
                fl_ctx.set_peer_context(peer)
            if not self._has_refused:
                self._process(client_task, result, fl_ctx)
        if present is not None:
            fl_ctx.set_peer_context(present)

    def _process(self, client_task: ClientTask, result: Shareable, fl_ctx: FLContext) -> None:
        processor, client = self.processor, client_task.client
        assert isinstance(processor, ResponseProcessor)
        if not processor.process_client_response(
            client=client, task_name=self.task_name, response=result, fl_ctx=fl_ctx
        ):
            what = f"{type(processor).__name__} refuses the answer to task {self.task_name}"
            self._refuse(f"{client.name}: {what}", fl_ctx)

    def _refuse(self, reason: str, fl_ctx: FLContext) -> None:
        self._has_refused = True
        self.system_panic(reason, fl_ctx)
        self.cancel_all_tasks(fl_ctx=fl_ctx)
