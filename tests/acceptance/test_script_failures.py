"""Training scripts that fail: one line says which site's, in which task and round, and why; the others go on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hansa.errors import ConfigError, RunError
from hansa.runtime.run import Run, RunStatus
from script_jobs import HEAD, PLUS_ONE, script, scripted
from worker_jobs import MODEL, log_of, simulate

pytestmark = pytest.mark.slow

CRASH = 'raise ValueError("no labels")'


def at_site_1(body: str, otherwise: str = PLUS_ONE) -> str:
    """A body that does something at the first site, in the second of three rounds."""
    return f'if site == "site-1" and incoming.current_round == 1:\n    {body}\n{otherwise}'


def refused(run: Run, number: int = 1) -> str:
    [reason] = run.history.rounds[number].refused["site-1"]
    return reason


@pytest.mark.parametrize("workers", [0, 2])
def test_a_crash_costs_its_round_and_the_script_starts_again(tmp_path: Path, workers: int) -> None:
    made = scripted(tmp_path, script(at_site_1(CRASH)), rounds=3, min_sites=1)
    run = simulate(made, 2, workers, tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert np.allclose(run.model["w"], MODEL["w"] + 3)
    assert [sorted(record.counted) for record in run.history.rounds] == [
        ["site-1", "site-2"], ["site-2"], ["site-1", "site-2"],
    ]  # fmt: skip
    line = "site-1, task train, round 1: train.py ended with exit code 1: ValueError: no labels (train.py:22)"
    assert refused(run) == f"EXECUTION_EXCEPTION RunError: {line}"
    [problem] = run.problems
    assert (problem.site, problem.where, problem.cause) == ("site-1", "task train", f"RunError: {line}")
    assert "Traceback (most recent call last):" in log_of(run, "site-1") if workers else True
    assert "the last lines of train.py:" in (run.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("sys.exit(3)", "ended with exit code 3"),
        ("print('so long'); sys.exit()", "did not call send() and ended with exit code 0: so long"),
        ("break", "did not call send() and ended with exit code 0"),
        ("print('1\\n2\\n3\\n4'); os._exit(7)", "ended with exit code 7: 2 | 3 | 4"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "was killed by SIGKILL"),
        ("import nosuch", "ended with exit code 1: ModuleNotFoundError: No module named 'nosuch' (train.py:22)"),
        ("flare.send(flare.FLModel())", "ValueError: the FLModel that was sent has no params (train.py:22)"),
        ("flare.send(params)", "TypeError: send() takes an FLModel, not a dict (train.py:22)"),
        (
            "flare.send(flare.FLModel({'w': object()}))",
            "EncodeError: cannot encode params.w: a builtins.object has no form on the wire (train.py:22)",
        ),
        (
            "flare.send(flare.FLModel(params, metrics={'accuracy': 'high'}))",
            "TypeError: metrics['accuracy'] must be a number, not 'high' (train.py:22)",
        ),
        (
            "flare.log('loss', np.zeros(3))",
            "TypeError: 'loss' must be a number, not a ndarray of shape (3,) (train.py:22)",
        ),
        (
            "flare.receive()",
            "RuntimeError: receive() was called although the model of round 1 has not been answered: call send() first",
        ),
        (
            "flare.is_running()",
            "RuntimeError: is_running() was called although the model of round 1 has not been answered",
        ),
        (
            "flare.send(flare.FLModel(params, 'part'))",
            "ValueError: params_type must be 'full' or 'diff', but got 'part' (train.py:22)",
        ),
    ],
)
def test_what_a_script_does_wrong_in_a_round(tmp_path: Path, body: str, cause: str) -> None:
    run = simulate(scripted(tmp_path, script(at_site_1(body)), rounds=3, min_sites=1), 2, 0, tmp_path)
    assert cause in refused(run)
    assert refused(run).startswith("EXECUTION_EXCEPTION RunError: site-1, task train, round 1: train.py ")
    assert [len(record.counted) for record in run.history.rounds] == [2, 1, 2]


def test_a_second_send_is_an_error_in_the_script_that_costs_no_result(tmp_path: Path) -> None:
    body = at_site_1("flare.send(flare.FLModel(plus(params)))")  # and once more
    run = simulate(scripted(tmp_path, script(body), rounds=3), 2, 0, tmp_path)
    assert [len(record.counted) for record in run.history.rounds] == [2, 2, 2]
    assert (
        "train.py has sent its result and ended with exit code 1: RuntimeError: send() answers a model that was "
        "received, and there is none: call receive() before each send() (train.py:23)"
    ) in (run.folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        ("{'w': params['w'].T, 'b': params['b']}", "tensor 'w' has shape (11, 3), the model has (3, 11)"),
        ("{'w': params['w']}", "tensor 'b' is missing, the model has it"),
        ("{'head': params['w'], **params}", "tensor 'head' is not expected"),
        ("{'w': params['w'] * np.nan, 'b': params['b']}", "tensor 'w' has NaN at [0, 0]"),
    ],
)
def test_a_result_that_does_not_fit_is_refused_by_its_tensor(tmp_path: Path, sent: str, cause: str) -> None:
    body = at_site_1(f"flare.send(flare.FLModel({sent}))\n    continue")
    run = simulate(scripted(tmp_path, script(body), rounds=2, min_sites=1), 2, 0, tmp_path)
    assert cause in refused(run)
    assert run.problems == []


def test_differences_of_another_shape_name_the_tensor(tmp_path: Path) -> None:
    body = at_site_1("flare.send(flare.FLModel({'w': params['w'].T}))\n    continue")
    run = simulate(scripted(tmp_path, script(body), rounds=2, min_sites=1, params_type="diff"), 2, 0, tmp_path)
    assert "ValueError: tensor 'w' has shape (11, 3), the task has (3, 11)" in refused(run)


# -- before the first round -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("print('trained alone')\n", "did not call hansa.client.init() and ended with exit code 0: trained alone"),
        ("x = 1 / 0\n", "did not call hansa.client.init() and ended with exit code 1: ZeroDivisionError: division by"),
        (HEAD + "print('done')\n", "did not call receive() and ended with exit code 0: done"),
        (
            HEAD.replace("flare.init()", "") + "flare.receive()\n",
            "ended with exit code 1: RuntimeError: call hansa.client.init() first",
        ),
        ("import select\nselect.select([], [], [])\n", "did not call hansa.client.init() within 1 s (start_timeout_s)"),
        (
            HEAD + "print('reading data')\nwait()\n",
            "did not call receive() within 1 s (start_timeout_s); its last line: reading data",
        ),
        (
            HEAD + "flare.send(flare.FLModel({'w': 1}))\n",
            "RuntimeError: send() answers a model that was received, and there is none",
        ),
    ],
)
def test_a_script_that_never_asks_for_a_model(tmp_path: Path, text: str, cause: str) -> None:
    text = text.replace('site = flare.system_info()["site_name"]', "") if "flare.init" not in text else text
    made = scripted(tmp_path, text, rounds=1, executor={"start_timeout_s": 1})
    with pytest.raises(RunError) as caught:
        simulate(made, 1, 0, tmp_path)
    assert cause in str(caught.value)
    assert "round 0: 0 of 1 results counted, 1 needed: site-1: " in str(caught.value)
    assert "site-1, task train, round 0: train.py " in str(caught.value)


def test_a_syntax_error_is_reported_with_its_line(tmp_path: Path) -> None:
    scripted(tmp_path, script()).save(tmp_path / "job")
    [file] = (tmp_path / "job").rglob("train.py")
    file.write_text("import numpy\nx = = 1\n")
    with pytest.raises(RunError) as caught:
        simulate(tmp_path / "job", 1, 0, tmp_path)  # type: ignore[arg-type]  # a folder
    assert "exit code 1: SyntaxError: invalid syntax (train.py:2)" in str(caught.value)


def test_a_script_that_is_not_there_is_found_before_anything_starts(tmp_path: Path) -> None:
    made = scripted(tmp_path, script(), executor={"script": "trian.py"})
    with pytest.raises(ConfigError) as caught:
        simulate(made, 1, 0, tmp_path / "home")
    assert str(caught.value).endswith(
        "executors[0].executor.args.script: there is no script 'trian.py' in the folder custom/ of the app; "
        "did you mean 'train.py'?"
    )
    assert not list((tmp_path / "home").glob("*"))


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"script": "../custom/train.py"}, "script must be a Python file in the folder custom/ of the app"),
        ({"params_type": "half"}, "params_type must be one of full, diff, but got 'half'"),
        ({"start_timeout_s": 0}, "start_timeout_s must be a number of seconds above 0, but got 0"),
        ({"tasks": {"test": "validate"}}, "tasks has keys train, evaluate, submit_model, but got 'test'"),
        ({"args": "'"}, "No closing quotation"),
        ({"scrpt": "train.py"}, "ScriptExecutor takes no argument 'scrpt'; did you mean 'script'?"),
    ],
)
def test_an_argument_that_cannot_be(tmp_path: Path, wrong: dict[str, object], cause: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(cause)):
        simulate(scripted(tmp_path, script(), executor=wrong), 1, 0, tmp_path)


# -- what it prints ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["'x' * 999", "'x' * 999, end=''", "'x' * 999, file=sys.stderr"])
def test_a_script_that_prints_without_end_costs_10_mb_of_log(tmp_path: Path, text: str) -> None:
    body = f"""
    for _ in range(30_000):
        print({text})
    print()
    flare.send(flare.FLModel(plus(params)))
    """
    run = simulate(scripted(tmp_path, script(body), rounds=2), 1, 1, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 2)
    log = run.folder / "workspace" / "site-1" / "log.txt"
    assert 10 << 20 <= log.stat().st_size < (10 << 20) + 1000
    assert log.read_text().endswith("the rest of what the script prints is not kept)\n")


def test_a_script_that_prints_and_never_answers_is_ended_by_the_workflow_s_deadline(tmp_path: Path) -> None:
    body = at_site_1("while True: print('on and on')")
    made = scripted(tmp_path, script(body), rounds=2, min_sites=1)
    made.apps["app"].server["workflows"][0]["args"]["train_timeout"] = 2
    run = simulate(made, 2, 2, tmp_path)
    assert "did not answer within 2 s" in refused(run)


def test_a_script_that_does_not_finish_is_ended(tmp_path: Path) -> None:
    text = script() + "print('saving')\nwait()\n"
    run = simulate(scripted(tmp_path, text, executor={"end_timeout_s": 0.5}), 1, 0, tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert (
        "train.py had no more tasks and did not finish within 0.5 s and was killed"
        in (run.folder / "log.txt").read_text()
    )


def test_a_script_that_fails_after_its_last_task_is_heard_of(tmp_path: Path) -> None:
    run = simulate(scripted(tmp_path, script() + "1 / 0\n"), 1, 1, tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert (
        "no more tasks and ended with exit code 1: ZeroDivisionError: division by zero (train.py:"
        in (run.folder / "log.txt").read_text()
    )
