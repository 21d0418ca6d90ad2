"""What a site does with a task."""

from __future__ import annotations

from abc import ABC, abstractmethod

from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal


class Executor(FLComponent, ABC):
    """Turns the data of a task into its result, at one site."""

    writes_input: bool = True
    """Whether `execute` writes into the arrays it is given. Then they are its own copy. An executor that says False
    saves that copy and may be given a read-only view; writing into it raises ValueError."""

    @abstractmethod
    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Work on a task; called by position, one task at a time.

        An exception costs this task: the reply is EXECUTION_EXCEPTION. So does a result that is no Shareable:
        EXECUTION_RESULT_ERROR. To say more about a failure, return `make_reply(code)`.

        Args:
            task_name: Which of the job's tasks.
            shareable: What came with it. It stays valid as long as somebody holds it.
            fl_ctx: The context of this task.
            abort_signal: Look at `triggered` from time to time; once it is set, whatever is returned counts as
                TASK_ABORTED.

        Returns:
            The result. It may be the very Shareable received.
        """
