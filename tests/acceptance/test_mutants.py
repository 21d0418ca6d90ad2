"""The planted defects of `make mutants` are each caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "mutants" / "run.py"


@pytest.mark.slow
def test_every_planted_defect_is_caught() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=1500, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("caught  ") >= 10
