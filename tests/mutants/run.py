"""Plant one defect at a time in a copy of the package and see that a test catches it.

`make mutants` (or `python tests/mutants/run.py [NAME ...]`) prints a line per defect and fails if one survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """One defect: in `file`, the only occurrence of `old` becomes `new`; one of `tests` must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def plant(mutant: Mutant, copy: Path) -> None:
    """Put the defect into a copy of the repository."""
    file = copy / "src" / "hansa" / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: {mutant.file} holds {mutant.old!r} {text.count(mutant.old)} times, not once")
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def first_failure(name: str, tests: Sequence[str], copy: Path) -> str | None:
    """The first test that fails in a copy of the repository, or None."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == 0:
        return None
    if done.returncode != 1:  # a broken import or no test at all would prove nothing
        raise SystemExit(f"{name}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))]
    return failed[0].split(" - ")[0] if failed else "a test"


def tried(name: str, tests: Sequence[str], mutant: Mutant | None) -> str | None:
    """The first test that fails in a fresh copy, with the defect planted if there is one."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src", "tests"):
            shutil.copytree(REPOSITORY / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "pyproject.toml", copy)
        if mutant is not None:
            plant(mutant, copy)
        return first_failure(name, tests, copy)


def main() -> None:
    """Try every defect, or those named on the command line."""
    from defects import DEFECTS

    wanted = [m for m in DEFECTS if not sys.argv[1:] or m.name in sys.argv[1:]]
    sound = tried("without a defect", sorted({test for mutant in wanted for test in mutant.tests}), None)
    if sound:
        raise SystemExit(f"the tests fail without a defect: {sound}")
    survivors = []
    for mutant in wanted:
        caught = tried(mutant.name, mutant.tests, mutant)
        print(f"{'caught  ' if caught else 'SURVIVED'}  {mutant.name:32}  {caught or ''}", flush=True)
        if not caught:
            survivors.append(mutant.name)
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} defects caught")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
