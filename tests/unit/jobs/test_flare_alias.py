"""`nvflare` as another name of Hansa: on while it is wanted, gone afterwards, never in the way of a real one."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from hansa.apis import dxo, flare_names
from hansa.errors import ConfigError
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.custom_code import CustomCode
from hansa.jobs.flare_alias import is_served, mentions_flare, served, served_for
from hansa.jobs.job import App, Job

SERVER = {"format_version": 2, "workflows": [{"path": "parts.Flow"}]}
CLIENT = {"format_version": 2, "executors": [{"tasks": ["train"], "executor": {"path": "parts.Trainer"}}]}
ENCRYPTION = "nvflare.app_common.homomorphic_encryption.he_model_encryptor"


def left_over() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] == "nvflare"]


def test_every_name_that_is_done_is_the_object_itself() -> None:
    with served():
        for path, target in (*flare_names.targets().items(), *flare_names.also().items()):
            module, _, name = path.rpartition(".")
            home, _, ours = target.partition(":")
            found = getattr(importlib.import_module(module), name)
            assert found is getattr(importlib.import_module(home), ours), path
    assert not left_over()


def test_all_the_ways_to_import() -> None:
    found: dict[str, object] = {}
    with served():
        exec("from nvflare.apis.dxo import *", found)
        exec("import nvflare.app_common.filters as filters; from nvflare.apis import dxo, signal", found)
        import nvflare

        assert nvflare.__version__ == "2.0.19"
    assert found["DXO"] is dxo.DXO
    assert found["from_shareable"] is dxo.from_shareable
    assert "_DATA_TYPE_KEY" not in found
    assert {"ExcludeVars"} <= set(dir(found["filters"]))
    assert found["dxo"].__name__ == "nvflare.apis.dxo"  # type: ignore[attr-defined]


def test_what_is_owed_says_so_in_one_line_and_what_is_unknown_is_not_there() -> None:
    with served():
        with pytest.raises(ImportError) as caught:
            exec(f"from {ENCRYPTION} import HEModelEncryptor")
        assert str(caught.value) == (
            f"{ENCRYPTION}.HEModelEncryptor is not in this release; it comes with "
            "'Privacy, first half: filters that hold what they promise, homomorphic encryption, differential privacy, "
            "robust rules'"
        )
        with pytest.raises(ImportError, match="cannot import name 'Nothing' from 'nvflare.apis.dxo'"):
            exec("from nvflare.apis.dxo import Nothing")
        with pytest.raises(ModuleNotFoundError, match=r"No module named 'nvflare\.private'"):
            importlib.import_module("nvflare.private.fed")


def test_code_that_imports_what_is_owed_fails_in_one_line(tmp_path: Path) -> None:
    code_text = f"import json\nfrom {ENCRYPTION} import HEModelEncryptor\n"
    (tmp_path / "zz_net.py").write_text(code_text)
    with served(), CustomCode(tmp_path) as code, pytest.raises(ConfigError) as caught:
        Builder(ClassPolicy.simulator(), custom=code.modules).component({"path": "zz_net.Net"})
    assert str(caught.value) == (
        f"path: cannot import zz_net: ImportError: {ENCRYPTION}.HEModelEncryptor is not in this release; it comes with "
        "'Privacy, first half: filters that hold what they promise, homomorphic encryption, differential privacy, "
        "robust rules' (zz_net.py:2)"
    )


def test_it_is_gone_when_the_last_user_has_left() -> None:
    before = list(sys.meta_path)
    with served():
        with served():
            importlib.import_module("nvflare.apis")
        assert is_served()
        assert "nvflare.apis" in sys.modules
    assert sys.meta_path == before
    assert not left_over()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nvflare")
    with served(False):
        assert not is_served()


def test_an_installed_nvflare_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "nvflare"
    package.mkdir()
    (package / "__init__.py").write_text("WHO = 'the real one'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with served():
        assert importlib.import_module("nvflare").WHO == "the real one"
        with pytest.raises(ModuleNotFoundError):  # nothing of ours below it either
            importlib.import_module("nvflare.apis.dxo")
    assert importlib.import_module("nvflare").WHO == "the real one"
    del sys.modules["nvflare"]


def test_a_class_of_an_installed_nvflare_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvflare.py").write_text("class Executor: ...\n")
    (tmp_path / "zz_code").mkdir()
    (tmp_path / "zz_code" / "zz_net.py").write_text("import nvflare\nclass Mine(nvflare.Executor): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    config = {
        "format_version": 2, "executors": [{"tasks": ["t"], "executor": {"path": "zz_net.Mine"}}]
    }  # fmt: skip
    with CustomCode(tmp_path / "zz_code") as code, pytest.raises(ConfigError) as caught:
        Builder(ClassPolicy.simulator(), custom=code.modules).client(config)
    del sys.modules["nvflare"]
    assert "built on the nvflare that is installed here, which Hansa leaves alone" in str(caught.value)


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (App(SERVER, CLIENT), False),
        (App(SERVER, CLIENT, {"custom/net.py": b"import hansa\n", "notes.txt": b"nvflare"}), False),
        (App(SERVER, CLIENT, {"custom/net.py": b"from nvflare.apis.dxo import DXO\n"}), True),
        (App(SERVER, CLIENT, {"config/environment.json": b'{"model": "nvflare.x.Y"}'}), True),
        (App({**SERVER, "components": [{"id": "f", "path": "nvflare.apis.filter.Filter"}]}, CLIENT), True),
        (App({**SERVER, "components": [{"id": "f", "name": "ExcludeVars"}]}, CLIENT), True),
        (App({**SERVER, "components": [{"id": "f", "path": "x.Y", "args": {"name": "no part"}}]}, CLIENT), False),
        (App(None, {**CLIENT, "components": [{"id": "f", "path": "x.Y", "args": {"a": ["nvflare.Z"]}}]}), True),
    ],
)
def test_a_job_says_by_itself_whether_it_needs_the_alias(app: App, expected: bool) -> None:
    job = Job("job", {"app": app})
    assert mentions_flare(job) is expected
    with served_for(job):
        assert is_served() is expected
    assert not is_served()


def test_import_of_compat_turns_it_on_for_good() -> None:
    program = (
        "import hansa.compat, sys; from nvflare.apis.executor import Executor; from hansa.jobs import flare_alias\n"
        "with flare_alias.served(): pass\n"
        "import nvflare.apis.signal; print(Executor.__module__, 'numpy' in sys.modules)"
    )
    source = str(Path(flare_names.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "hansa.apis.executor"
