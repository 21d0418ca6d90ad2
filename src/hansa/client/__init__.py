"""The script API: a training script becomes a site of a federation.

::

    import hansa.client as flare

    flare.init()
    while flare.is_running():
        incoming = flare.receive()
        net.load_state_dict(incoming.params)
        train(net)
        flare.send(flare.FLModel(params=net.state_dict(), num_steps=len(loader)))

Without a federation the same script runs alone: `is_running` is true for one pass, and `load_state_dict` leaves the
network as it is. See `FLModel` for what comes and goes. All functions are for one thread of one process, the one that
calls `init`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hansa.apis.script import ScriptTask, ScriptVariable
from hansa.client.model import FLModel, ParamsType, check_name, number_of

if TYPE_CHECKING:
    from hansa.client.session import Session

__all__ = [
    "FLModel",
    "ParamsType",
    "init",
    "is_evaluate",
    "is_running",
    "is_submit_model",
    "is_train",
    "log",
    "receive",
    "send",
    "system_info",
]

_session: Session | None = None


def init() -> None:
    """Join the federation that has started this script; where none has, say so and go on alone. Once is enough.

    Seeds `random`, NumPy and torch (if it is imported), so that what the script draws from them until it receives
    follows from the job's seed.

    Raises:
        RuntimeError: Another process of this script has joined.
    """
    global _session
    if _session is not None:
        return
    address = os.environ.get(ScriptVariable.ADDRESS)
    if address:
        from hansa.client.federated import Federated

        _session = Federated(address, os.environ.get(ScriptVariable.TOKEN, ""))
    else:
        from hansa.client.alone import Alone

        _session = Alone()


def is_running() -> bool:
    """Wait until a model is there to be received; False when the run is over.

    Here, and in `receive`, the script's turn ends: other sites may work, and this one waits for its next task.

    Raises:
        RuntimeError: The last model has not been answered.
    """
    return _here().is_running()


def receive(timeout: float | None = None) -> FLModel | None:
    """Wait for the next model.

    Its parameters are torch tensors if the script has imported torch by now, else NumPy arrays, in the dtypes that the
    server has for them; bfloat16 is one of the package `ml_dtypes` in NumPy. They are the script's own memory. Random
    generators are seeded anew for each task: `random`, NumPy's and torch's global ones.

    Args:
        timeout: The longest wait in seconds; None: no limit.

    Returns:
        The model; None when the run is over.

    Raises:
        TimeoutError: Nothing came in time; call it again.
        RuntimeError: The last model has not been answered.
    """
    return _here().receive(timeout)


def send(model: FLModel) -> None:
    """Answer the model that was received last. Everything is copied before this returns: training may go on in place.

    Raises:
        RuntimeError: No model was received, or it has been answered.
        TypeError: A metric or `num_steps` is no number, `params` is no dict.
        ValueError: There are no parameters, or no metrics where the task asks for them.
        EncodeError: Something in it cannot travel; the error names its path, such as `params.fc.weight`.
    """
    _here().send(model)


def log(name: str, value: Any, step: int | None = None) -> None:  # Any: a number of any framework
    """Report a number while training goes on; it stands in the run's history for this round and site.

    Args:
        name: What is measured, such as `train_loss`.
        value: Python's number, NumPy's, or a tensor of one element.
        step: Which step of the training it belongs to.

    Raises:
        TypeError: It is no number, or an argument is of another type.
    """
    session = _here()
    if step is not None and (isinstance(step, bool) or not isinstance(step, int)):
        raise TypeError(f"step must be an int, not {step!r}")
    session.log(check_name(name), number_of(f"{name!r}", value), step=step)


def system_info() -> dict[str, Any]:  # Any: texts and booleans
    """Where this script runs: `site_name` (None alone) and `alone`."""
    return _here().info()


def is_train() -> bool:
    """Whether the model received last is to be trained."""
    return _here().asked is ScriptTask.TRAIN


def is_evaluate() -> bool:
    """Whether the model received last is to be measured: the answer's `metrics` count, its parameters do not."""
    return _here().asked is ScriptTask.EVALUATE


def is_submit_model() -> bool:
    """Whether this site's own model is asked for."""
    return _here().asked is ScriptTask.SUBMIT_MODEL


def _here() -> Session:
    if _session is None:
        raise RuntimeError("call hansa.client.init() first")
    return _session
