"""What is printed, with and without `--json`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hansa.cli.output import plain, print_json
from hansa.cli.show import print_run, print_runs
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Problem, Run, RunStatus, Timings


def test_a_number_that_json_lacks_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "rounds": [{"best": float("inf")}, (1, 0.5)], "name": "größe"})

    printed = capsys.readouterr().out
    assert printed == '{"loss": null, "rounds": [{"best": null}, [1, 0.5]], "name": "größe"}\n'
    assert json.loads(printed)["rounds"][1] == [1, 0.5]


def test_a_text_from_elsewhere_does_nothing_to_the_terminal() -> None:
    assert plain("größe\x1b[31m\n\tend\x07") == "größe\\x1b[31m end\\x07"


def test_what_looks_like_markup_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "[/b][red]\x1b[31m"
    history = RunHistory(now=lambda: 0.0)
    history.round_opened(0, ["site-1"])
    history.scalar(0, "site-1", name=evil, value=0.5)
    history.result_refused(0, "site-1", reason=evil)
    run = Run(evil, Path("runs"), RunStatus.FAILED, history, Timings(0.0, 0.0, 0.0), evil, config={"job": evil})
    run.problems.append(Problem("site-1", "task", "other " + evil))
    print_run(run)
    print_runs([run])
    printed = capsys.readouterr().out
    assert "\x1b[31m" not in printed
    assert printed.count("[/b][red]\\x1b[31m") == 8  # name twice, cause, job, metric twice, refusal, problem
