"""The arguments of an executor on several processes, and what it does where nobody starts processes."""

from __future__ import annotations

import shlex
import sys
from typing import Any

import pytest

from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.components.executors.multi_process_executor import MultiProcessExecutor, WorkerComponentBuilder
from hansa.components.torch.pt_multi_process_executor import PTMultiProcessExecutor
from hansa.errors import RunError

PART = {"id": "trainer", "path": "trainers.Trainer", "args": {"lr": 0.1}}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"executor_id": "trainer"}, TypeError, "components must be a list"),
        ({"executor_id": "trainer", "components": []}, TypeError, "components must be a list"),
        ({"executor_id": "x", "components": [PART]}, ValueError, r"one of the components \('trainer'\), but got 'x'"),
        ({"components": [PART]}, ValueError, "but got None"),
        ({"executor_id": "trainer", "components": [{"path": "a.B"}]}, ValueError, "needs an id"),
        ({"executor_id": "trainer", "components": [{"id": "trainer"}]}, ValueError, "a path or a name"),
        ({"executor_id": "trainer", "components": [PART, PART]}, ValueError, "two components are called 'trainer'"),
        ({"executor_id": "trainer", "components": [{**PART, "arg": 1}]}, ValueError, "unknown key 'arg'"),
        ({"executor_id": "trainer", "components": [PART], "num_of_processes": 0}, ValueError, "1 or more"),
        ({"executor_id": "trainer", "components": [PART], "num_of_processes": 2.0}, TypeError, "an int"),
        ({"executor_id": "trainer", "components": [PART], "start_timeout_s": 0}, ValueError, "above 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        PTMultiProcessExecutor(**arguments)


def test_torch_starts_the_ranks_of_one_host() -> None:
    executor = PTMultiProcessExecutor("trainer", 3, [PART])
    assert shlex.split(executor.get_multi_process_command()) == [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--log-dir=/dev/null",
        "--nproc_per_node=3",
    ]  # fmt: skip


def test_without_an_engine_that_starts_processes_the_task_fails_in_one_line() -> None:
    executor = PTMultiProcessExecutor("trainer", 2, [PART])
    with pytest.raises(RunError, match="cannot run on several processes: nobody here starts them"):
        executor.execute("train", Shareable(), FLContext(), Signal())


def test_a_program_that_is_not_there_is_one_line() -> None:
    class Elsewhere(MultiProcessExecutor):
        def get_multi_process_command(self) -> str:
            return "no-such-launcher -n 2"

    class Engine:
        def start_ranks(self, plan: object) -> None:
            raise AssertionError("there is nothing to start")

    fl_ctx = FLContext()
    fl_ctx.set_prop("__engine__", Engine(), private=True, sticky=True)
    with pytest.raises(RunError, match="there is no program 'no-such-launcher'"):
        Elsewhere("trainer", 2, [PART]).execute("train", Shareable(), fl_ctx, Signal())


def test_the_command_must_be_given() -> None:
    with pytest.raises(TypeError, match="abstract"):
        MultiProcessExecutor("trainer", 1, [PART])  # type: ignore[abstract]


def test_the_builder_of_flare_has_nothing_to_scan() -> None:
    assert WorkerComponentBuilder().get_module_scanner() is None  # type: ignore[func-returns-value]
    assert WorkerComponentBuilder.FL_PACKAGES == ["nvflare"]
