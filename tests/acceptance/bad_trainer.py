"""The code of a job whose sites do what they should not; `test_bad_input` puts it into a job's `custom` folder."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_bytes, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal

Weights = dict[str, Any]  # Any: what stands for a tensor in a bad result


@dataclass
class Given:
    """What a trouble may look at: the task, and the weights that a good site would send back."""

    task: Shareable
    trained: Weights


def result(weights: Weights, steps: object = 1) -> Shareable:
    return DXO(DataKind.WEIGHTS, weights, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}).to_shareable()


class Trainer(Executor):
    """Adds 1 to each weight; in round 1 some sites get into trouble.

    Args:
        troubles: Site to the name of a function of this module.
    """

    def __init__(self, troubles: Mapping[str, str]) -> None:
        super().__init__()
        self.troubles = troubles

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Any:
        weights = from_shareable(shareable).data
        given = Given(shareable, {name: value + np.float32(1) for name, value in weights.items()})
        trouble = self.troubles.get(fl_ctx.get_identity_name())
        if trouble is None or shareable.get_header(AppConstants.CURRENT_ROUND) != 1:
            return result(given.trained)
        action: Callable[[Given], object] = globals()[trouble]
        return action(given)


class Picky(Trainer):
    """One that cannot be made."""

    def __init__(self, troubles: Mapping[str, str]) -> None:
        super().__init__(troubles)
        raise FileNotFoundError("no data in /data/train")


class Greedy(FLComponent):
    """A part of the server with which, from round 1 on, no file of its process can grow: as if the disk were full."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == AppEventType.ROUND_STARTED and fl_ctx.get_prop(AppConstants.CURRENT_ROUND) == 1:
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))


# -- it raises, or returns what is no result ---------------------------------------------------------------------------


def raises(given: Given) -> NoReturn:
    raise ValueError("bad label")


def raises_lines(given: Given) -> NoReturn:
    raise ValueError("first line\nsecond line\x1b[31m")


def raises_exit(given: Given) -> NoReturn:
    raise SystemExit(3)


def raises_runtime_error(given: Given) -> NoReturn:
    raise RuntimeError("the model has diverged")


def raises_memory_error(given: Given) -> NoReturn:
    raise MemoryError


def raises_unreadable(given: Given) -> NoReturn:
    class Odd(Exception):
        def __str__(self) -> str:
            raise TypeError

    raise Odd


def recurses(given: Given) -> object:
    return recurses(given)


def returns_none(given: Given) -> object:
    return None


def returns_dict(given: Given) -> object:
    return dict(given.trained)


def returns_dxo(given: Given) -> object:
    return DXO(DataKind.WEIGHTS, given.trained)


def returns_no_dxo(given: Given) -> object:
    reply = Shareable()
    reply["weights"] = 3
    return reply


def returns_object(given: Given) -> object:
    return result({**given.trained, "w": threading.Lock()})


def returns_object_in_meta(given: Given) -> object:
    reply = result(given.trained)
    reply["net"] = threading.Lock()
    return reply


def returns_itself(given: Given) -> object:
    reply = result(given.trained)
    reply["again"] = reply
    return reply


def reads_truncated(given: Given) -> object:
    data = DXO(DataKind.WEIGHTS, given.trained).to_bytes()
    return result(from_bytes(data[: len(data) // 2]).data)


# -- it ends or blocks its process -------------------------------------------------------------------------------------


def never_returns(given: Given) -> object:
    select.select([], [], [], 300)
    return result(given.trained)


def never_yields(given: Given) -> object:
    while True:
        pass


def leaves(given: Given) -> NoReturn:
    os._exit(0)


def aborts(given: Given) -> NoReturn:
    os.abort()


def forks(given: Given) -> object:
    os.fork()  # and both of them come back
    return result(given.trained)


def forks_and_leaves(given: Given) -> NoReturn:
    if os.fork() == 0:
        select.select([], [], [], 300)
    os._exit(0)


def fills_stdout(given: Given) -> object:
    for _ in range(512):
        print("x" * 32767)  # 16 MB through Python
        os.write(1, b"y" * 4095 + b"\n")  # 2 MB past it
    return result(given.trained)


def fills_disk(given: Given) -> object:
    with contextlib.suppress(OSError), open(os.environ["FILL"], "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return result(given.trained)


def mutates(given: Given) -> object:
    for value in from_shareable(given.task).data.values():
        value[...] = np.nan
    given.task.set_header(AppConstants.CURRENT_ROUND, 77)
    for name in list(given.task.get_cookie_jar() or {}):
        given.task.add_cookie(name, 77)
    return result(given.trained)


# -- its numbers are wrong ---------------------------------------------------------------------------------------------


def with_value(given: Given, value: float) -> Shareable:
    given.trained["w"][1, 2] = value
    return result(given.trained)


def nan(given: Given) -> object:
    return with_value(given, np.nan)


def inf(given: Given) -> object:
    return with_value(given, -np.inf)


def huge(given: Given) -> object:
    return with_value(given, 3e38)


def shape(given: Given) -> object:
    return result({**given.trained, "w": given.trained["w"].T})


def dtype(given: Given) -> object:
    return result({**given.trained, "w": given.trained["w"].astype(np.complex64)})


def text_dtype(given: Given) -> object:
    return result({**given.trained, "w": given.trained["w"].astype(str)})


def missing(given: Given) -> object:
    return result({"w": given.trained["w"]})


def extra(given: Given) -> object:
    return result({**given.trained, "head": np.full(2, 5, np.float32)})


def no_tensors(given: Given) -> object:
    return result({})


def other_kind(given: Given) -> object:
    return DXO(DataKind.WEIGHT_DIFF, given.trained, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()


def steps_0(given: Given) -> object:
    return result(given.trained, 0)


def steps_negative(given: Given) -> object:
    return result(given.trained, -1)


def steps_1e12(given: Given) -> object:
    return result(given.trained, 1e12)


def steps_nan(given: Given) -> object:
    return result(given.trained, float("nan"))


def steps_text(given: Given) -> object:
    return result(given.trained, "many")
