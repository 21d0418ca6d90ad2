"""Jobs as folders: saving, loading, and what travels with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa import tensors
from hansa.errors import ConfigError
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode
from hansa.jobs.job import WEIGHTS, App, Job

SERVER = {"format_version": 2, "rounds": 3, "workflows": [{"path": "parts.Flow", "args": {"num_rounds": "{rounds}"}}]}
CLIENT = {"format_version": 2, "executors": [{"tasks": ["train"], "executor": {"path": "parts.Trainer"}}]}


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def small_job(**more: Any) -> Job:
    files = {
        WEIGHTS: {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float64(1.5)},
        "custom/net.py": b"X = 1\n",
    }
    return Job("digits", {"app": App(server=SERVER, client=CLIENT, files=files)}, min_sites=2, **more)


def test_save_load_save_gives_the_same_files(tmp_path: Path) -> None:
    small_job(meta={"resource_spec": {"site-1": {"gpu": 1}}}).save(tmp_path / "one")
    Job.load(tmp_path / "one").save(tmp_path / "two")
    one = tree(tmp_path / "one")
    assert one == tree(tmp_path / "two")
    assert sorted(one) == [
        "app/config/config_fed_client.json",
        "app/config/config_fed_server.json",
        "app/config/initial_model.safetensors",
        "app/custom/net.py",
        "meta.json",
    ]
    assert json.loads(one["meta.json"]) == {
        "hansa_job": 1,
        "name": "digits",
        "deploy_map": {"app": ["@ALL"]},
        "min_clients": 2,
        "resource_spec": {"site-1": {"gpu": 1}},
    }
    weights = tensors.read(tmp_path / "one/app/config/initial_model.safetensors")
    assert weights["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert weights["b"].shape == ()


def test_a_loaded_job_is_what_was_saved(tmp_path: Path) -> None:
    small_job().save(tmp_path)
    job = Job.load(tmp_path)
    assert (job.name, job.min_sites, job.deploy_map) == ("digits", 2, {"app": ("@ALL",)})
    assert (job.server_app.server, job.server_app.client) == (SERVER, CLIENT)


def test_saving_again_into_the_same_folder_replaces_the_job_and_nothing_else(tmp_path: Path) -> None:
    small_job().save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "app/custom/old.py").write_text("")
    before = tree(tmp_path)
    Job.load(tmp_path).save(tmp_path)  # its source files lie where it is written to
    assert tree(tmp_path) == before
    small_job().save(tmp_path)
    assert tree(tmp_path) == {name: data for name, data in before.items() if name != "app/custom/old.py"}


def test_a_folder_with_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ConfigError, match="is not empty and holds no job; nothing was written"):
        small_job().save(tmp_path)
    with pytest.raises(ConfigError, match="is a file"):
        small_job().save(tmp_path / "thesis.tex")
    assert list(tree(tmp_path)) == ["thesis.tex"]


def test_a_failed_save_leaves_the_old_version(tmp_path: Path) -> None:
    small_job().save(tmp_path)
    before = tree(tmp_path)
    bad = App(server=SERVER, client=CLIENT, files={WEIGHTS: {"w": np.array([object()])}})
    with pytest.raises(ConfigError, match="w"):
        Job("bad", {"app": bad}).save(tmp_path)
    assert tree(tmp_path) == before
    with pytest.raises(ConfigError, match="w"):
        Job("bad", {"app": bad}).save(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="cannot be written"):
        small_job().save(tmp_path / "meta.json" / "below")


def test_only_the_server_gets_initial_weights(tmp_path: Path) -> None:
    app = small_job().server_app
    app.deploy(tmp_path / "server", Side.SERVER)
    app.deploy(tmp_path / "site", Side.CLIENT)
    assert set(tree(tmp_path / "server")) - set(tree(tmp_path / "site")) == {WEIGHTS}
    assert (tmp_path / "site/custom/net.py").read_text() == "X = 1\n"


def test_a_bare_app_is_a_job_for_everybody(make_app: Any) -> None:
    folder = make_app()
    (folder / "config/environment.json").write_text("{}")
    (folder / "custom/__pycache__").mkdir()
    (folder / "custom/__pycache__/parts.pyc").write_text("")
    job = Job.load(folder)
    assert job.name == "app"
    assert job.app_for("site-9") is job.app_for("server")
    assert sorted(job.server_app.files) == ["config/environment.json", "custom/parts.py"]


def test_a_deploy_map_says_who_runs_what(make_app: Any, tmp_path: Path) -> None:
    make_app(folder="most")
    special = make_app(folder="special", client={"components": [{"id": "x", "path": "parts.Net"}]})
    (special / "config/config_fed_server.json").unlink()
    (tmp_path / "meta.json").write_text('{"name": "two", "deploy_map": {"most": ["@ALL"], "special": ["site-2"]}}')
    job = Job.load(tmp_path)
    assert job.server_app is job.app_for("site-1") is job.apps["most"]
    assert job.app_for("site-2") is job.apps["special"]
    assert job.min_sites is None


@pytest.mark.parametrize("name", ["", ".", "..", "app/config", "/etc"])
def test_an_app_lies_beside_meta_json(make_app: Any, tmp_path: Path, name: str) -> None:
    make_app({}, {})
    job = tmp_path / "job"
    job.mkdir(exist_ok=True)
    (job / "meta.json").write_text(json.dumps({"deploy_map": {name: ["@ALL"]}}))
    with pytest.raises(ConfigError, match="there is no folder"):
        Job.load(job)


def test_who_is_not_on_the_map_takes_no_part(make_app: Any, tmp_path: Path) -> None:
    make_app()
    (tmp_path / "meta.json").write_text('{"deploy_map": {"app": ["server", "site-1"]}}')
    assert Job.load(tmp_path).app_for("site-2") is None
    (tmp_path / "meta.json").write_text('{"deploy_map": {"app": ["site-1"]}}')
    with pytest.raises(ConfigError, match="no app goes to the server"):
        Job.load(tmp_path).server_app  # noqa: B018


def test_handlers_of_old_samples_are_reported_and_ignored(make_app: Any, caplog: pytest.LogCaptureFixture) -> None:
    Job.load(make_app({"handlers": []}, folder="old"))
    assert not caplog.records
    job = Job.load(make_app({"handlers": [{"id": "x", "name": "{Old}"}]}, folder="older"))
    for num_sites in (1, 2):
        job.server_app.config(Side.SERVER, num_sites=num_sites)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "handlers is ignored; every component hears events"  # once, however many sites there are
    ]


SCRIPT = """
import sys
from hansa.apis.executor import Executor
from hansa.jobs import Component, fed_avg
from zz_layers import WIDTH

class Trainer(Executor):
    def __init__(self, lr):
        super().__init__()
        self.lr = lr * WIDTH
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        return shareable

if __name__ == "__main__":
    fed_avg({"w": [1.0]}, executor=Component(Trainer, lr=0.5)).save(sys.argv[1])
"""


def test_the_executor_of_a_script_travels_as_its_source(tmp_path: Path) -> None:
    (tmp_path / "my-train.py").write_text(SCRIPT)
    (tmp_path / "zz_layers.py").write_text("import zz_more\nWIDTH = 4\n")
    (tmp_path / "zz_more.py").write_text("")
    (tmp_path / "zz_unused.py").write_text("")
    command = [sys.executable, str(tmp_path / "my-train.py"), str(tmp_path / "job")]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(Path(tensors.__file__).parents[1])})
    assert sorted(path.name for path in (tmp_path / "job/app/custom").iterdir()) == [
        "my_train.py",
        "zz_layers.py",
        "zz_more.py",
    ]
    app = Job.load(tmp_path / "job").server_app
    with CustomCode(tmp_path / "job/app/custom") as code:
        client = Builder(ClassPolicy(), custom=code.modules).component(
            app.config(Side.CLIENT, num_sites=1)["executors"][0]["executor"]
        )
    assert type(client).__module__ == "my_train"
    assert vars(client)["lr"] == 2.0
