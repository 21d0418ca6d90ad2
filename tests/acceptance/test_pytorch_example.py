"""The PyTorch example: how much of it is the user's own work, and that it does what it says."""

from __future__ import annotations

import ast
import difflib
import io
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from hansa.runtime.run import Run, RunStatus
from source_code import ROOT

EXAMPLE = ROOT / "examples" / "pytorch"
MOST_LINES = 20


def code_lines(file: Path) -> list[str]:
    """The lines of a program that hold code, without their indentation; comments and docstrings apart."""
    text = file.read_text(encoding="utf-8")
    [docstring, *_] = ast.parse(text).body
    prose = range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1)
    held = {
        number
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        and token.string
        for number in range(token.start[0], token.end[0] + 1)
    }
    return [line.strip() for number, line in enumerate(text.splitlines(), 1) if number in held and number not in prose]


def test_the_users_lines_beyond_model_data_and_training_loop() -> None:
    alone, train = code_lines(EXAMPLE / "alone.py"), code_lines(EXAMPLE / "train.py")
    changed = [line for line in difflib.ndiff(alone, train) if line.startswith("+ ")]
    assert len(changed) + len(code_lines(EXAMPLE / "federate.py")) <= MOST_LINES
    assert not any("flare" in line or "hansa" in line for line in (*alone, *code_lines(EXAMPLE / "digits.py")))


def run(script: str, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HANSA_HOME": str(folder), "HANSA_WORKERS": "2"}
    done = subprocess.run(
        [sys.executable, script], cwd=EXAMPLE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_script_runs_alone(tmp_path: Path) -> None:
    [accuracy] = re.findall(r"^accuracy (0\.\d+)$", run("train.py", tmp_path), re.MULTILINE)
    assert float(accuracy) > 0.5


@pytest.mark.slow
def test_eight_sites_learn_together(tmp_path: Path) -> None:
    said = run("federate.py", tmp_path)
    [accuracy] = re.findall(r"accuracy of the global model (0\.\d+)", said)
    assert float(accuracy) > 0.6
    [folder] = (tmp_path / "runs").iterdir()
    record = Run.load(folder)
    assert record.status is RunStatus.COMPLETED
    assert [len(each.counted) for each in record.history.rounds] == [8] * 5
    assert [len(each.metrics) for each in record.history.rounds] == [8] * 5
    assert (folder / "curves.png").stat().st_size > 5000
