"""The examples of fields for their tests: their modules, which import each other by bare names, and their command."""

from __future__ import annotations

import gzip
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

import numpy as np
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


def data_folder(place: Path) -> tuple[Path, bool]:
    """The real data and True; elsewhere than on CI, small files of the same layout in `place` and False will do."""
    folder = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
    if (folder / "load.py").exists():
        return folder, True
    if os.environ.get("CI") == "true":
        pytest.fail(f"there are no data in {folder}: set HANSA_DATA")
    made = place / "made"
    make_wells(made)
    make_engines(made)
    make_roles(made)
    return made, False


def make_wells(folder: Path) -> None:
    """Wells whose lithology, of three classes, shows in every log."""
    rng = np.random.default_rng(0)
    names = [f"{area}/{n}" for area, count in ((16, 6), (25, 5), (31, 12), (32, 1), (34, 3)) for n in range(count)]
    features = ["GR", "RHOB", "NPHI", "DTC", "RDEP", "RMED", "SP", "PEF", "CALI", "DRHO", "DEPTH_MD"]
    labels = rng.integers(0, 3, (len(names), 20)).repeat(20, axis=1).ravel()
    table = 1 + labels + rng.normal(0, 0.3, (len(features), len(labels)))
    table[-1] = np.arange(len(labels))
    (folder / "force2020").mkdir(parents=True)
    np.savez(
        folder / "force2020" / "wells30.npz",
        X=table.astype(np.float32),
        y=labels.astype(np.uint8),
        well=np.arange(len(names)).repeat(400),
        well_names=np.array(names),
        features=np.array(features),
        classes=np.array([f"class {number}" for number in range(12)]),
        penalty=1 - np.eye(12),
    )


def make_engines(folder: Path) -> None:
    """A hundred engines and a hundred more, whose sensors drift towards their end."""
    rng = np.random.default_rng(0)
    (folder / "cmapss").mkdir()
    left = rng.integers(5, 40, 100)
    for name, rest in (("train", np.zeros(100, int)), ("test", left)):
        lines = []
        for engine, more in enumerate(rest, start=1):
            for cycle in range(1, 61):
                row = 1 / (10 + 60 - cycle + more) + rng.normal(0, 0.001, 24)
                lines.append(" ".join(map(str, (engine, cycle, *row))) + "\n")
        with gzip.open(folder / "cmapss" / f"{name}_FD001.txt.gz", "wt") as file:
            file.writelines(lines)
    with gzip.open(folder / "cmapss" / "RUL_FD001.txt.gz", "wt") as file:
        file.writelines(f"{each}\n" for each in left)


def make_roles(folder: Path) -> None:
    """Twelve roles who say a few words again and again."""
    rng = np.random.default_rng(0)
    (folder / "shakespeare").mkdir()
    with gzip.open(folder / "shakespeare" / "roles.jsonl.gz", "wt", encoding="utf-8") as file:
        for number in range(12):
            said = " ".join(rng.choice(["to", "be", "or", "not", "the", "question"], 1000))
            file.write(json.dumps({"play": "made", "role": f"Role {number}", "text": said}) + "\n")


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
