"""An executor that runs on several processes of one site."""

from __future__ import annotations

import random
import shlex
import shutil
import sys
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from hansa.apis.app_constant import AppConstants
from hansa.apis.engine import RankHost, port
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.ranks import RankPlan, RunningRanks
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.errors import RunError

_PYTHON = ("python", "python3")
_SHOWN_LINES = 10
_COMPONENT_KEYS = {"id", "path", "name", "args"}
_MOST_MISSED = 64


class WorkerComponentBuilder:
    """Stands for FLARE's builder of a rank's components.

    Hansa builds them as it builds every component, under the job's own rules of what may be named.
    """

    FL_PACKAGES: ClassVar[list[str]] = ["nvflare"]
    FL_MODULES: ClassVar[list[str]] = ["client", "app"]

    def __init__(self) -> None:
        """Nothing is needed."""

    def get_module_scanner(self) -> None:
        """There is none: a class is imported when a config names it."""


class MultiProcessExecutor(Executor):
    """Executes each task in several processes of this site at once, as data-parallel training on one host does.

    Each of them, a *rank*, builds the same components, and the one called `executor_id` executes the task there, with
    RANK_NUMBER and NUM_OF_PROCESSES in its context. Rank 0's result is the site's; those of the others are dropped.

    The ranks start with the site's first task and live until END_RUN. Their components hear the site's events (of the
    run's start and of the first task's before they were there, too). What rank 0's components fire is fired at the
    site, with FROM_RANK_NUMBER in the context, and so goes on to the server where it would from there; events of the
    other ranks stay there, but for panics.

    A rank that dies, or whose executor raises, costs the task. All ranks are ended when one has died, or when others
    do not come back because one has raised; they start anew with the next task, with the state of their stateful
    components as it was when the site last kept its own.

    A subclass says how the ranks are started.

    Args:
        executor_id: Which of the components executes.
        num_of_processes: How many ranks there are.
        components: The components of each rank: `[{"id", "path" | "name", "args"?}, ...]`.
        start_timeout_s: How long they may take from their start until all have built their components.
        end_timeout_s: How long they may take to finish after END_RUN.

    Raises:
        TypeError: An argument is of another type.
        ValueError: An argument cannot be.
    """

    starts_all_ranks = True
    """Whether the command starts all ranks, and tells each its own in the variable RANK (or what Open MPI, MPICH or
    Slurm have for that). False: the command is started once for each, with HANSA_RANK."""

    writes_input = False

    def __init__(
        self,
        executor_id: str | None = None,
        num_of_processes: int = 1,
        components: list[dict[str, Any]] | None = None,  # Any: JSON
        *,
        start_timeout_s: float = 300.0,
        end_timeout_s: float = 60.0,
    ) -> None:
        super().__init__()
        if isinstance(num_of_processes, bool) or not isinstance(num_of_processes, int):
            raise TypeError(f"num_of_processes must be an int, but got {num_of_processes!r}")
        if num_of_processes < 1:
            raise ValueError(f"num_of_processes must be 1 or more, but got {num_of_processes}")
        for name, value in (("start_timeout_s", start_timeout_s), ("end_timeout_s", end_timeout_s)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"{name} must be a number of seconds above 0, but got {value!r}")
        self.components_conf = _checked(components)
        ids = [each["id"] for each in self.components_conf]
        if executor_id not in ids:
            known = ", ".join(map(repr, ids))
            raise ValueError(f"executor_id must be the id of one of the components ({known}), but got {executor_id!r}")
        self.executor_id = executor_id
        self.num_of_processes = num_of_processes
        self.start_timeout_s = start_timeout_s
        self.end_timeout_s = end_timeout_s
        self._ranks: RunningRanks | None = None
        self._states: Mapping[str, Any] = {}  # Any: what components keep
        self._missed: list[str] = []

    @abstractmethod
    def get_multi_process_command(self) -> str:
        """The command that starts the ranks, as in a shell; `-m hansa.runtime.rank` is added to it.

        Its first word `python` or `python3` means the Python that runs the site.
        """

    def initialize(self, fl_ctx: FLContext) -> None:
        """Called at START_RUN. The ranks start later, with the first task."""

    def finalize(self, fl_ctx: FLContext) -> None:
        """Called at END_RUN: let the ranks finish; end them at once when the run was stopped."""
        ranks, self._ranks = self._ranks, None
        if ranks is None:
            return
        stop = fl_ctx.get_run_abort_signal()
        if not ranks.is_alive or (stop is not None and stop.triggered):
            ranks.kill()
        elif (how := ranks.end(self.end_timeout_s)) is not None:
            self._show_lines(ranks, fl_ctx)
            self.log_warning(fl_ctx, f"after the last task {how}")

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tell the ranks of the site's events, but for those that come from them."""
        if event_type == EventType.START_RUN:
            self.initialize(fl_ctx)
        elif event_type == EventType.BEFORE_PULL_TASK:
            self._missed.clear()
        if fl_ctx.get_prop(FLContextKey.FROM_RANK_NUMBER) is None:
            self._tell(event_type, fl_ctx)
        if event_type == EventType.END_RUN:
            self.finalize(fl_ctx)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Execute the task in every rank.

        Raises:
            RunError: The ranks cannot start, one is gone, or its executor raised.
        """
        # The runtime has just seeded this generator: so what the ranks draw follows from the task, too.
        seed = random.getrandbits(32)
        try:
            ranks = self._ready(seed, fl_ctx, abort_signal)
            result = None
            if ranks is not None:
                result = ranks.execute(task_name, shareable, fl_ctx=fl_ctx, abort=abort_signal, seed=seed)
        except RunError as error:
            if self._ranks is not None:
                self._show_lines(self._ranks, fl_ctx)
            number = shareable.get_header(AppConstants.CURRENT_ROUND)
            site = fl_ctx.get_identity_name()
            raise RunError(error.cause, site=site, task=task_name, round_number=number) from None
        return make_reply(ReturnCode.TASK_ABORTED) if result is None else result

    def state(self) -> Mapping[str, Any]:  # Any: what components keep
        """What the stateful components of each rank keep, by the rank in decimal."""
        if self._ranks is not None and self._ranks.is_alive:
            self._states = self._ranks.states()
        return self._states

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: what components keep
        """Have the ranks go on from there when they start."""
        self._states = state

    def _ready(self, seed: int, fl_ctx: FLContext, abort: Signal) -> RunningRanks | None:
        """The ranks, up to this task's events; None if that was aborted."""
        if self._ranks is not None and self._ranks.is_alive:
            return self._ranks
        self._drop()
        host = port(fl_ctx.get_engine(), RankHost)
        if host is None:
            raise RunError("cannot run on several processes: nobody here starts them")
        ranks = self._ranks = host.start_ranks(self._plan())
        if not ranks.wait_until_ready(seed, abort):
            self._drop()
            return None
        ranks.restore(self._states)
        with fl_ctx.get_engine().new_context() as own:
            for event_type in (EventType.ABOUT_TO_START_RUN, EventType.START_RUN):
                ranks.tell(event_type, own)
        for event_type in self._missed:
            ranks.tell(event_type, fl_ctx)
        return ranks

    def _plan(self) -> RankPlan:
        command = shlex.split(self.get_multi_process_command())
        if not command:
            raise RunError("the command that starts the ranks is empty")
        found = sys.executable if command[0] in _PYTHON else shutil.which(command[0])
        if found is None:
            raise RunError(f"cannot run on several processes: there is no program {command[0]!r}")
        return RankPlan(
            command=[found, *command[1:]],
            starts_all=self.starts_all_ranks,
            num_ranks=self.num_of_processes,
            components=self.components_conf,
            executor_id=str(self.executor_id),
            start_timeout_s=self.start_timeout_s,
        )

    def _tell(self, event_type: str, fl_ctx: FLContext) -> None:
        ranks = self._ranks
        if ranks is None:
            if len(self._missed) < _MOST_MISSED and event_type in _OF_A_TASK:
                self._missed.append(event_type)
            return
        try:
            if ranks.is_alive:
                ranks.tell(event_type, fl_ctx)
        except RunError as error:  # the next task starts them anew
            self.log_error(fl_ctx, f"event {event_type}: {error.cause}", fire_event=False)

    def _drop(self) -> None:
        ranks, self._ranks = self._ranks, None
        if ranks is not None:
            ranks.kill()

    def _show_lines(self, ranks: RunningRanks, fl_ctx: FLContext) -> None:
        if lines := ranks.last_lines[-_SHOWN_LINES:]:
            self.log_error(fl_ctx, "\n  ".join(("the last lines of the ranks:", *lines)), fire_event=False)


_OF_A_TASK = (
    EventType.BEFORE_PULL_TASK,
    EventType.AFTER_PULL_TASK,
    EventType.BEFORE_TASK_DATA_FILTER,
    EventType.AFTER_TASK_DATA_FILTER,
    EventType.BEFORE_TASK_EXECUTION,
)


def _checked(components: object) -> list[dict[str, Any]]:  # Any: JSON
    if not isinstance(components, list) or not components:
        raise TypeError(f"components must be a list of components with ids, but got {components!r}")
    seen: set[str] = set()
    for each in components:
        if not isinstance(each, dict) or not isinstance(each.get("id"), str) or not each.keys() & {"path", "name"}:
            raise ValueError(f"each of the components needs an id and a path or a name, but got {each!r}")
        if unknown := each.keys() - _COMPONENT_KEYS:
            raise ValueError(f"component {each['id']!r} has the unknown key {min(unknown)!r}")
        if each["id"] in seen:
            raise ValueError(f"two components are called {each['id']!r}")
        seen.add(each["id"])
    return components
