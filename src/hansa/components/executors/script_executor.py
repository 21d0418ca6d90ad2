"""A training script as an executor."""

from __future__ import annotations

import random
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath

from hansa.apis.analytix import AnalyticsDataType
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import MetaKey
from hansa.apis.engine import OffersProblems, ScriptHost, port
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.script import FromScript, RunningScript, ScriptTask
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.components.executors.script_messages import KINDS, Answer, ScriptMessages
from hansa.components.widgets.streaming import GLOBAL_STEP, create_analytic_dxo, send_analytic_dxo
from hansa.errors import RunError

_TASKS = {
    ScriptTask.TRAIN: AppConstants.TASK_TRAIN,
    ScriptTask.EVALUATE: AppConstants.TASK_VALIDATION,
    ScriptTask.SUBMIT_MODEL: AppConstants.TASK_SUBMIT_MODEL,
}
_SHOWN_LINES = 10


class ScriptExecutor(Executor):
    """Works on tasks with a training script that speaks `hansa.client`, in a process of its own.

    The script starts with its site's first task and stays for all of them. It has its turn from a task until it is back
    in `is_running` or `receive`, also after `send`; only then the site's result goes on, and the next site of the
    same worker has its turn. So at most as many scripts compute as there are workers, and the others wait. A script
    that ends or dies costs the task under way and starts again, from its beginning, with the next one. A task that is
    aborted ends the script, too; so does the death of the worker that has the site.

    The task is a DXO of WEIGHTS, WEIGHT_DIFF or METRICS, or a COLLECTION whose `_model_weights_` are such; the other
    DXOs of a COLLECTION (`scaffold_c_global`) reach the script as dicts of tensors in `FLModel.meta`, and so do the
    task's headers and the meta of its DXO. The answer is a DXO of the kind of `params_type`, or a COLLECTION of it and
    `FLModel.meta["scaffold_c_diff"]` if the task was one; to a task that evaluates a DXO of METRICS. Its arrays are
    views of memory that the script has written once.

    `FLModel.num_steps` becomes NUM_STEPS_CURRENT_ROUND. Every number in `FLModel.metrics`, and every one given to
    `log`, is reported as an analytics record, which ConvertToFedEvent and HistoryReceiver take into the run's history.
    The numbers in `metrics` also stand under their names in the meta of the result, where IntimeModelSelectionHandler
    finds them by `validation_metric_name`; the name `initial_metrics` is its default, how the received model did. What
    a task that evaluates has measured is that task's result, and nothing else.

    Args:
        script: The Python file, relative to the folder `custom/` of the app.
        args: Its command line, as in a shell.
        params_type: What is sent: all parameters ("full") or what training has added to them ("diff"). A script may
            send either; it is converted.
        tasks: Which task asks the script for what: names of tasks by `train`, `evaluate` and `submit_model`; those that
            are left out are called `train`, `validate` and `submit_model`.
        start_timeout_s: How long the script may take from its start to its first `is_running` or `receive`.
        end_timeout_s: How long it may take to finish when there are no more tasks.

    Raises:
        ValueError: An argument cannot be.
    """

    writes_input = False
    hears = frozenset((EventType.END_RUN,))

    def __init__(
        self,
        script: str,
        args: str = "",
        *,
        params_type: str = "full",
        tasks: Mapping[str, str] | None = None,
        start_timeout_s: float = 300.0,
        end_timeout_s: float = 60.0,
    ) -> None:
        super().__init__()
        path = PurePosixPath(script) if isinstance(script, str) else PurePosixPath()
        if path.suffix != ".py" or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"script must be a Python file in the folder custom/ of the app, but got {script!r}")
        if params_type not in KINDS:
            raise ValueError(f"params_type must be one of {', '.join(KINDS)}, but got {params_type!r}")
        for name, value in (("start_timeout_s", start_timeout_s), ("end_timeout_s", end_timeout_s)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name} must be a number of seconds above 0, but got {value!r}")
        self.script = script
        self.args = shlex.split(args)
        self.params_type = params_type
        self.start_timeout_s = start_timeout_s
        self.end_timeout_s = end_timeout_s
        self._asks = _asks(tasks or {})
        self._running: RunningScript | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Let the script finish when the run is over; end it at once when the run was stopped."""
        if event_type != EventType.END_RUN or self._running is None:
            return
        script, self._running = self._running, None
        stop = fl_ctx.get_run_abort_signal()
        if stop is not None and stop.triggered:
            script.kill()
        elif (how := script.end(self.end_timeout_s)) is not None:
            self._show_lines(script, fl_ctx)
            self._keep("end of the run", f"{self.script} had no more tasks and {how}", fl_ctx)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Give the script its turn; TASK_UNKNOWN for other tasks.

        Raises:
            RunError: The script cannot start, is silent for too long, or is gone before it has answered.
            ValueError: The task brings no parameters, or what the script sent does not fit it.
        """
        asked = self._asks.get(task_name)
        if asked is None:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        messages = ScriptMessages(shareable, asked)
        # The runtime has just seeded this generator: so what a script draws follows from the task, too.
        task = messages.task(random.getrandbits(32))
        try:
            answer = self._turn(task, fl_ctx, abort_signal)
        except RunError as error:
            where = f"{self.script} {error.cause}"
            number = task["current_round"]
            raise RunError(where, site=fl_ctx.get_identity_name(), task=task_name, round_number=number) from None
        if answer is None:
            return make_reply(ReturnCode.TASK_ABORTED)
        for name, value in answer["metrics"].items():
            # The workflow records these itself: how the received model did, and what an evaluation has measured.
            if name != MetaKey.INITIAL_METRICS and asked is not ScriptTask.EVALUATE:
                self._report(name, value, None, fl_ctx)
        return messages.result(answer, self.params_type)

    def _turn(self, task: Answer, fl_ctx: FLContext, abort: Signal) -> Answer | None:
        """From a task to the script's answer, when it waits again; None if it was aborted."""
        is_over = False
        try:
            script = self._ready(fl_ctx, abort)
            if script is None:
                return None
            script.give(task)
            answer = self._answer(script, fl_ctx, abort)
            is_over = answer is not None
            return answer
        finally:
            if not is_over and self._running is not None:  # in the midst of something
                self._running.kill()
                self._running = None

    def _ready(self, fl_ctx: FLContext, abort: Signal) -> RunningScript | None:
        """The script, waiting for a task; None if that was aborted."""
        if self._running is not None:
            if self._running.exit_code is None:
                return self._running
            self._running.kill()  # what is left of it
        host = port(fl_ctx.get_engine(), ScriptHost)
        if host is None:
            raise RunError("cannot run: nobody here starts scripts")
        script = self._running = host.start_script(self.script, self.args, seed=random.getrandbits(32))
        missing = "hansa.client.init()"
        try:
            while (said := script.hear(abort, self.start_timeout_s)) is not None:
                if said.word is FromScript.READY:
                    return script
                if said.word is FromScript.LOG:
                    self._report(said.value["name"], said.value["value"], said.value["step"], fl_ctx)
                missing = "receive()"
        except (RunError, TimeoutError) as error:
            self._show_lines(script, fl_ctx)
            how = f"did not call {missing}"
            if isinstance(error, RunError):
                raise RunError(f"{how} and {error.cause}") from None
            raise RunError(f"{how} within {self.start_timeout_s:g} s (start_timeout_s){_last(script)}") from None
        return None

    def _answer(self, script: RunningScript, fl_ctx: FLContext, abort: Signal) -> Answer | None:
        answer: Answer | None = None
        try:
            while (said := script.hear(abort)) is not None:
                if said.word is FromScript.RESULT:
                    answer = said.value
                elif said.word is FromScript.LOG:
                    self._report(said.value["name"], said.value["value"], said.value["step"], fl_ctx)
                elif said.word is FromScript.READY and answer is not None:
                    return answer
            return None
        except RunError as error:
            if answer is None:
                self._show_lines(script, fl_ctx)
                how = "did not call send() and " if script.exit_code == 0 else ""
                raise RunError(f"{how}{error.cause}") from None
            if script.exit_code:
                self._show_lines(script, fl_ctx)
                self._keep("task", f"{self.script} has sent its result and {error.cause}", fl_ctx)
            return answer

    def _report(self, name: str, value: float, step: int | None, fl_ctx: FLContext) -> None:
        more = {} if step is None else {GLOBAL_STEP: step}
        record = create_analytic_dxo(name, value, AnalyticsDataType.SCALAR, **more)
        with fl_ctx.get_engine().new_context() as own:
            send_analytic_dxo(self, record, own)

    def _keep(self, where: str, what: str, fl_ctx: FLContext) -> None:
        """Say it in the log, and where people look for problems."""
        self.log_warning(fl_ctx, what)
        keeper = port(fl_ctx.get_engine(), OffersProblems)
        if keeper is not None:
            keeper.problem(where, RunError(what))

    def _show_lines(self, script: RunningScript, fl_ctx: FLContext) -> None:
        lines = script.last_lines[-_SHOWN_LINES:]
        if lines:
            self.log_error(fl_ctx, "\n  ".join((f"the last lines of {self.script}:", *lines)), fire_event=False)


def _last(script: RunningScript) -> str:
    return f"; its last line: {script.last_lines[-1]}" if script.last_lines else ""


def _asks(tasks: Mapping[str, str]) -> dict[str, ScriptTask]:
    """What each task asks for, by the task's name."""
    names = {asked.value: asked for asked in ScriptTask}
    for key in tasks:
        if key not in names:
            raise ValueError(f"tasks has keys {', '.join(names)}, but got {key!r}")
    return {tasks.get(key, _TASKS[asked]): asked for key, asked in names.items()}
