"""The examples of fields for their tests: their modules, which import each other by bare names, and their command."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from poc_parts import environment
from source_code import ROOT

BARE_NAMES = ("algo", "data", "figure", "model", "run", "train", "trainer")


@contextmanager
def modules_of(example: str, *names: str) -> Iterator[list[ModuleType]]:
    """Some modules of an example; gone again afterwards."""
    held = {name: sys.modules.pop(name) for name in BARE_NAMES if name in sys.modules}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "examples" / example))
        yield [importlib.import_module(name) for name in names]
    for name in BARE_NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(held)


def data_folder() -> Path:
    """The real data: not there, the test is skipped; on CI it fails."""
    folder = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "load.py").exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"there are no data in {folder}: set HANSA_DATA")
        pytest.skip("needs HANSA_DATA")
    return folder


def ran(example: str, *options: object, out: Path) -> tuple[dict[str, Any], str]:
    """What the example's command gives at reduced size: its JSON, and what it says on stderr."""
    known = environment(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="", PYTHONWARNINGS="default")
    words = (sys.executable, ROOT / "examples" / example / "run.py", "--quick", "--json", "--out", out, *options)
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=out.parent,
        env=known,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(ended.stdout), ended.stderr


def refused(example: str, *options: object) -> str:
    """The line that the example's command ends with when something is wrong."""
    known = {key: value for key, value in environment().items() if key != "HANSA_DATA"}
    words = (sys.executable, ROOT / "examples" / example / "run.py", *options)
    ended = subprocess.run([str(word) for word in words], env=known, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]
