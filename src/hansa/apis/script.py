"""What a site's training script and the site's executor say to each other, and the script as its executor sees it.

A turn of the script begins with a task and ends when the script waits for the next one, or is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from hansa.apis.signal import Signal


class ScriptVariable:
    """How a script's process learns where to report; variables of its environment."""

    ADDRESS = "HANSA_SCRIPT_ADDRESS"
    """Where to connect to; without it the script runs alone."""
    TOKEN = "HANSA_SCRIPT_TOKEN"
    """What to say first there."""
    SITE = "HANSA_SCRIPT_SITE"
    """The name of its site."""
    SEED = "HANSA_SCRIPT_SEED"
    """The seed of what it draws before its first task."""


class ToScript(Enum):
    """What a script hears."""

    TASK = "task"
    """Work on this."""
    END = "end"
    """There will be no more tasks."""


class FromScript(Enum):
    """What a script says."""

    HELLO = "hello"
    """It is here, with its token; nothing else comes before."""
    READY = "ready"
    """It waits for its next task: its turn is over."""
    LOG = "log"
    """A number for the run's history."""
    RESULT = "result"
    """The answer to its task."""


class ScriptTask(Enum):
    """What a task asks a script for."""

    TRAIN = "train"
    """Parameters, trained."""
    EVALUATE = "evaluate"
    """Metrics of the parameters that came."""
    SUBMIT_MODEL = "submit_model"
    """Its own parameters."""


@dataclass(frozen=True)
class ScriptSaid:
    """One word of a script's.

    Attributes:
        word: Which.
        value: What came with it.
    """

    word: FromScript
    value: Mapping[str, Any]  # Any: plain values and arrays


class RunningScript(Protocol):
    """A script in a process of its own; all but `kill` is for one thread."""

    @property
    def exit_code(self) -> int | None:
        """How its process ended: as `subprocess.Popen.returncode`; None while it is there."""
        ...

    @property
    def last_lines(self) -> list[str]:
        """The last lines that it printed, a few."""
        ...

    def give(self, task: Mapping[str, Any]) -> None:  # Any: plain values and arrays
        """Hand it a task; arrays are copied once, into memory that it maps.

        Raises:
            EncodeError: Something in it has no form on the wire.
        """
        ...

    def hear(self, abort: Signal, timeout_s: float | None = None) -> ScriptSaid | None:
        """Wait for its next word; arrays in it are views of memory that it wrote them to.

        Args:
            abort: Ends the wait.
            timeout_s: The longest wait; None: no limit.

        Returns:
            The word; None if `abort` was triggered.

        Raises:
            TimeoutError: The time is up.
            RunError: Its process is gone and has nothing more to say; the cause is how it ended.
        """
        ...

    def end(self, timeout_s: float) -> str | None:
        """Tell it that there are no more tasks, give it so long to finish, and leave nothing of it.

        Returns:
            How it ended; None if it ended well.
        """
        ...

    def kill(self) -> None:
        """End its process and all that this has started, and leave nothing of it."""
        ...
