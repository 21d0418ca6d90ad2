"""A script without a federation: one pass over its own model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from hansa.apis.script import ScriptTask
from hansa.client.model import FLModel, answer_of
from hansa.client.session import NOTHING_TO_ANSWER, not_answered

_MOST_FRAMES = 8
_NOBODY = "this script runs alone: no federation has sent parameters; `incoming.params or your_own` works in both cases"


class OwnParams(Mapping[str, Any]):  # Any: tensors
    """Stands for parameters where nobody has sent any: an empty mapping, and so false.

    With one exception: while `torch.nn.Module.load_state_dict` reads it, it is that module's own state. Torch takes no
    empty mapping there (with `strict`, its default, every name would be missing), and nothing else tells which model
    is meant. So `net.load_state_dict(incoming.params)` leaves the network as it is, and the script need not ask whether
    it runs alone.
    """

    def __init__(self) -> None:
        self._state: Mapping[str, Any] = {}  # Any: tensors

    def __getitem__(self, name: str) -> Any:  # Any: a tensor
        if _module_that_loads(sys._getframe(1)) is None or name not in self._state:
            raise KeyError(f"{name!r}: {_NOBODY}")
        return self._state[name]

    def __iter__(self) -> Iterator[str]:
        module = _module_that_loads(sys._getframe(1))
        self._state = {} if module is None else module.state_dict()
        return iter(list(self._state))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<no parameters: {_NOBODY}>"


def _module_that_loads(frame: FrameType | None) -> Any:  # Any: a torch module, or None
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    code = torch.nn.Module.load_state_dict.__code__
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if frame.f_code is code:
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None


class Alone:
    """What the functions of `hansa.client` do where there is no federation; see `hansa.client.session.Session`."""

    def __init__(self) -> None:
        self._is_over = False
        self.asked: ScriptTask | None = None
        sys.stderr.write("hansa: no federation has started this script; it runs alone, for one pass\n")

    def is_running(self) -> bool:
        """True until the one model is answered."""
        self._check_answered("is_running()")
        return not self._is_over

    def receive(self, timeout: float | None = None) -> FLModel | None:
        """A model without parameters, once."""
        self._check_answered("receive()")
        if self._is_over:
            return None
        self.asked = ScriptTask.TRAIN
        return FLModel(params=OwnParams(), current_round=0, total_rounds=1)

    def send(self, model: FLModel) -> None:
        """Check it, as a federation would."""
        if self.asked is None:
            raise RuntimeError(NOTHING_TO_ANSWER)
        answer_of(model, self.asked)
        self.asked, self._is_over = None, True

    def log(self, name: str, value: float, *, step: int | None) -> None:
        """Nobody keeps it."""

    def info(self) -> dict[str, Any]:  # Any: texts and numbers
        """See `hansa.client.system_info`."""
        return {"site_name": None, "alone": True}

    def _check_answered(self, call: str) -> None:
        if self.asked is not None:
            raise RuntimeError(not_answered(call, 0))
