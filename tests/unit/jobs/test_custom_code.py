"""`custom/` on the import path while a job runs, and gone afterwards."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hansa.errors import ConfigError
from hansa.jobs.custom_code import CustomCode


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_modules_import_each_other_by_bare_name_with_or_without_init(tmp_path: Path) -> None:
    folder = write(
        tmp_path, zz_a="from zz_b import X\nfrom zz_pkg.inner import Y\n", zz_b="X = 1\n", zz_pkg__inner="Y = 2\n"
    )
    (folder / "notes").mkdir()
    before = list(sys.path)
    with CustomCode(folder) as code:
        assert code.modules == {"zz_a", "zz_b", "zz_pkg"}
        module = importlib.import_module("zz_a")
        assert (module.X, module.Y) == (1, 2)
    assert sys.path == before
    assert not [name for name in sys.modules if name.startswith("zz_")]


def test_the_next_job_gets_its_own_module_of_the_same_name(tmp_path: Path) -> None:
    values = []
    for number in (1, 2):
        with CustomCode(write(tmp_path / str(number), zz_net=f"V = {number}\n")):
            values.append(importlib.import_module("zz_net").V)
    assert values == [1, 2]


def test_a_module_of_the_program_is_set_aside_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = ModuleType("zz_net")
    monkeypatch.setitem(sys.modules, "zz_net", mine)
    with CustomCode(write(tmp_path, zz_net="V = 1\n")):
        assert importlib.import_module("zz_net").V == 1
    assert sys.modules["zz_net"] is mine


def test_code_is_unloaded_after_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), CustomCode(write(tmp_path, zz_bad="V = 1\n1 / 0\n")):
        importlib.import_module("zz_bad")
    assert "zz_bad" not in sys.modules
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("random", "shadows the standard library module 'random'"),
        ("hansa", "shadows Hansa itself"),
        ("numpy", "shadows the installed package 'numpy'"),
    ],
)
def test_a_module_that_shadows_others_is_refused(tmp_path: Path, name: str, says: str) -> None:
    code = CustomCode(write(tmp_path, **{name: ""}))
    with pytest.raises(ConfigError) as caught, code:
        pass
    assert says in str(caught.value)
    assert caught.value.file == str(tmp_path / f"{name}.py")
    assert str(tmp_path) not in sys.path


def test_no_folder_is_no_code(tmp_path: Path) -> None:
    before = list(sys.path)
    with CustomCode(tmp_path / "custom") as code:
        assert not code.modules
        assert sys.path == before
