"""Executors for jobs whose processes are apart: they travel there as this file."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal

HOLD = "hold"
"""A file of this name in a site's working directory, and its tasks last until they are aborted."""


class Draws(Executor):
    """Adds what the site draws, and remembers how often it did."""

    def __init__(self) -> None:
        super().__init__()
        self._momentum: dict[str, Any] = {}

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if Path(HOLD).exists():
            stopped = threading.Event()
            abort_signal.subscribe(stopped.set)
            stopped.wait()
            return make_reply(ReturnCode.TASK_ABORTED)
        received = from_shareable(shareable).data
        change = {}
        for name, value in received.items():
            noise = np.random.normal(size=np.shape(value)).astype(value.dtype) * random.random()
            self._momentum[name] = noise + self._momentum.get(name, 0) * value.dtype.type(0.9)
            change[name] = np.asarray(self._momentum[name])
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: 3}).to_shareable()


class SaysItIs(FLComponent):
    """Lets a site's results say that they come from somebody else."""

    def __init__(self, name: str, site: str) -> None:
        super().__init__()
        self._name, self._site = name, site

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == "_before_send_task_result" and fl_ctx.get_identity_name() == self._site:
            fl_ctx.set_prop(ReservedKey.IDENTITY_NAME, self._name, private=False, sticky=True)


class KnowsItsPlace(Executor):
    """Reports what it finds in its context and around it."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        found = {
            "run": fl_ctx.get_run_number(),
            "root": fl_ctx.get_prop(FLContextKey.WORKSPACE_ROOT),
            "app": fl_ctx.get_prop(FLContextKey.APP_ROOT),
            "custom": workspace.get_app_custom_dir(fl_ctx.get_run_number()),
            "cwd": os.getcwd(),
        }
        Path("found.txt").write_text("\n".join(f"{key}={value}" for key, value in found.items()))
        change = {name: np.zeros_like(value) for name, value in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHT_DIFF, change, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()
