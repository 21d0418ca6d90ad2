"""What the functions of `hansa.client` need of whatever stands behind them."""

from __future__ import annotations

from typing import Any, Protocol

from hansa.apis.script import ScriptTask
from hansa.client.model import FLModel

NOTHING_TO_ANSWER = "send() answers a model that was received, and there is none: call receive() before each send()"


def not_answered(call: str, round_number: int | None) -> str:
    """Why a call cannot be."""
    return f"{call} was called although the model of round {round_number} has not been answered: call send() first"


class Session(Protocol):
    """One script's part in a federation, or its pass alone."""

    asked: ScriptTask | None
    """What the task at hand asks for; None while there is none."""

    def is_running(self) -> bool:
        """Wait for the next task; False if there will be none."""
        ...

    def receive(self, timeout: float | None = None) -> FLModel | None:
        """Wait for the next task and take it; None if there will be none."""
        ...

    def send(self, model: FLModel) -> None:
        """Answer the task."""
        ...

    def log(self, name: str, value: float, *, step: int | None) -> None:
        """Report a number."""
        ...

    def info(self) -> dict[str, Any]:  # Any: texts and numbers
        """Where this script runs."""
        ...
