"""Every mistake in a job gives one line that names the file, the key and the cause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hansa.errors import ConfigError
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode
from hansa.jobs.job import Job

SERVER_FILE = "config/config_fed_server.json"
CLIENT_FILE = "config/config_fed_client.json"


def build_both(folder: Path, policy: ClassPolicy | None = None) -> None:
    app = Job.load(folder).server_app
    with CustomCode(folder / "custom") as code:
        builder = Builder(policy or ClassPolicy.simulator(), custom=code.modules)
        builder.server(app.config(Side.SERVER, num_sites=2), app.config_file(Side.SERVER))
        builder.client(app.config(Side.CLIENT, num_sites=2), app.config_file(Side.CLIENT))


def part(path: str = "parts.Listener", **more: Any) -> dict[str, Any]:
    return {"id": "part", "path": path, **more}


def one(**more: Any) -> dict[str, Any]:
    return {"components": [part(**more)]}


def run_by(path: str, **more: Any) -> dict[str, Any]:
    return {"executors": [{"tasks": ["train"], "executor": {"path": path, **more}}]}


def chain(*filters: dict[str, Any], tasks: tuple[str, ...] = ("train",)) -> dict[str, Any]:
    return {"tasks": list(tasks), "filters": list(filters)}


CLIP = {"path": "parts.Clip", "args": {"limit": 1}}

# server config or None, client config or None, key, what the message says
SHAPE_MISTAKES = [
    ('{"format_version": 2,\n "workflows": [}', None, "", "bad JSON in line 2, column 16"),
    ('{"format_version": ' + "1" * 5000 + "}", None, "", "cannot be read: Exceeds the limit"),
    ("[1]", None, "", "must be an object, not a list"),
    ('{"format_version": 2, "format_version": 2}', None, "", "key 'format_version' stands twice"),
    ({"format_version": 1}, None, "format_version", "must be 2, not 1"),
    ({"format_version": "2"}, None, "format_version", "must be 2, not '2'"),
    ('{"workflows": [{"path": "a.B"}]}', None, "format_version", "missing key"),
    ('{"format_vrsion": 2, "workflows": []}', None, "format_version", "missing key; did you mean 'format_vrsion'?"),
    ('{"format_version": 2}', None, "workflows", "missing key"),
    ({"workflow": []}, None, "workflow", "unknown key; did you mean 'workflows'?"),
    ({"extra": [1]}, None, "extra", "unknown key (only numbers, texts and booleans may be added)"),
    ({"extra": None}, None, "extra", "unknown key"),
    ({"executors": []}, None, "executors", "unknown key"),
    ({"workflows": []}, None, "workflows", "must not be empty"),
    ({"workflows": {}}, None, "workflows", "must be a list, not an object"),
    ({"workflows": ["x"]}, None, "workflows[0]", "must be an object, not a text"),
    ({"workflows": [{"path": 3}]}, None, "workflows[0].path", "must be a text, not a whole number"),
    ({"workflows": [part("parts.Flow", disabled=True)]}, None, "workflows", "at least one workflow"),
    ({"workflows": [part("parts.Flow")] * 2}, None, "workflows[1].id", "id 'part' is taken by workflows[0]"),
    (one(args=[1]), None, "components[0].args", "must be an object, not a list"),
    (one(arg={}), None, "components[0].arg", "unknown key; did you mean 'args'?"),
    (one(disabled="yes"), None, "components[0].disabled", "must be true or false, not a text"),
    ({"components": [{"path": "parts.Net"}]}, None, "components[0].id", "needs an id"),
    ({"components": [part(), part()]}, None, "components[1].id", "id 'part' is taken by components[0]"),
    ({"server": {"heart_beat_timeout": 0}}, None, "server.heart_beat_timeout", "must be above 0, not 0"),
    ({"server": {"task_request_interval": 0.5}}, None, "server.task_request_interval", "must be at least 1, not 0.5"),
    ({"server": {"heartbeat_timeout": 3}}, None, "server.heartbeat_timeout", "did you mean 'heart_beat_timeout'?"),
    ({"task_data_filters": [chain()]}, None, "task_data_filters[0].filters", "must not be empty"),
    ({"task_data_filters": [chain(CLIP, tasks=())]}, None, "task_data_filters[0].tasks", "must not be empty"),
    (
        {"task_result_filters": [chain(CLIP), chain(CLIP, tasks=("validate", "train"))]},
        None,
        "task_result_filters[1].tasks",
        "task 'train' has two filter chains: this one and task_result_filters[0]",
    ),
    (one(args={"label": "{round}"}), None, "components[0].args.label", "unknown variable {round}"),
    (
        {"min_clients": 2, **one(args={"label": ["{min_client}"]})},
        None,
        "components[0].args.label[0]",
        "unknown variable {min_client}; did you mean 'min_clients'?",
    ),
    (one(args={"label": "a}b"}), None, "components[0].args.label", "a brace without its partner"),
    (one(args={"label": "{num_sites:q}"}), None, "components[0].args.label", "cannot write variable 'num_sites'"),
    (None, {"executors": []}, "executors", "must not be empty"),
    (None, '{"format_version": 2}', "executors", "missing key"),
    (None, run_by("parts.Trainer", disabled=True), "executors", "at least one executor"),
    (None, {"executors": [{"task": ["train"], "executor": part()}]}, "executors[0].task", "did you mean 'tasks'?"),
    (None, {"executors": [{"tasks": "train", "executor": part()}]}, "executors[0].tasks", "must be a list, not a text"),
    (None, {"executors": run_by("parts.Trainer")["executors"] * 2}, "executors[1].tasks", "has two executors"),
    (None, run_by("parts.Trainer", idd="x"), "executors[0].executor.idd", "unknown key; did you mean 'id'?"),
    (None, {"server": {"heart_beat_timeout": 3}}, "server", "unknown key"),
]

CLASS_MISTAKES = [
    (one(path="parts.Listner"), None, "components[0].path", "module parts has no 'Listner'; did you mean 'Listener'?"),
    (one(path="part.Listener"), None, "components[0].path", "there is no module 'part'; did you mean 'parts'?"),
    (one(path="Listener"), None, "components[0].path", "is not a path like 'module.Class'"),
    (one(path="parts.VALUE"), None, "components[0].path", "parts.VALUE is no class, but of type int"),
    ({"components": [{"id": "x"}]}, None, "components[0]", "needs a 'path' or a 'name'"),
    (
        {"components": [{"id": "x", "name": "ScaterAndGather"}]},
        None,
        "components[0].name",
        "no component is called 'ScaterAndGather'; did you mean 'ScatterAndGather'?",
    ),
    (one(path="nvflare.apis.dxo.DXOO"), None, "components[0].path", "is no public name of FLARE 2.0"),
    (
        one(path="nvflare.app_common.homomorphic_encryption.he_model_encryptor.HEModelEncryptor"),
        None,
        "components[0].path",
        "is not in this release; it comes with",
    ),
    ({"components": [{"id": "x", "name": "HEModelDecryptor"}]}, None, "components[0].name", "not in this release"),
    (one(args={"lable": 1}), None, "components[0].args.lable", "takes no argument 'lable'; did you mean 'label'?"),
    (one(path="parts.Clip"), None, "components[0].args", "Clip needs the argument 'limit'"),
    (one(path="parts.Broken"), None, "components[0]", "cannot build Broken: ValueError: no data in x (parts.py:"),
    (one(path="parts.Quitter"), None, "components[0]", "cannot build Quitter: SystemExit: 3 (parts.py:"),
    (
        one(args={"inner": {"path": "parts.Broken", "args": {"path": "y"}}}),
        None,
        "components[0].args.inner",
        "cannot build Broken: ValueError: no data in y",
    ),
    (
        one(args={"inner": {"path": "parts.Net", "args": {"depth": 1}}}),
        None,
        "components[0].args.inner.args.depth",
        "Net takes no argument 'depth'",
    ),
    (one(args={"inner": {"path": "parts.Nett", "args": {}}}), None, "components[0].args.inner.path", "no 'Nett'"),
    ({"workflows": [part("parts.Trainer")]}, None, "workflows[0]", "must be a Controller, and Trainer is none"),
    ({"workflows": [part("parts.make_net", args={"width": 1})]}, None, "workflows[0]", "and Net is none"),
    ({"workflows": [{"path": "parts.Flow"}] * 2}, None, "workflows[1]", "two workflows are called 'Flow'"),
    ({"task_data_filters": [chain(part())]}, None, "task_data_filters[0].filters[0]", "a filter must be a Filter"),
    (None, run_by("parts.Net"), "executors[0].executor", "an executor must be an Executor, and Net is none"),
    (None, run_by("hansa.apis.executor.Executor"), "executors[0].executor", "cannot build Executor: TypeError: Can't"),
    (None, run_by("bad_import.Net"), "executors[0].executor.path", "No module named 'not_there' (bad_import.py:2)"),
    (
        None,
        run_by("bad_syntax.Net"),
        "executors[0].executor.path",
        "SyntaxError: '(' was never closed (bad_syntax.py:1)",
    ),
    (
        None,
        run_by("bad_value.Net"),
        "executors[0].executor.path",
        "ZeroDivisionError: division by zero (bad_value.py:2)",
    ),
    (None, run_by("needs_bad.Net"), "executors[0].executor.path", "cannot import needs_bad: ModuleNotFoundError"),
]

CUSTOM = {
    "bad_import.py": "import os\nimport not_there\n",
    "bad_syntax.py": "f(\n",
    "bad_value.py": "x = 0\n1 / x\n",
    "needs_bad.py": "from bad_import import Net\n",
}


def one_line_error(folder: Path, file: str, key: str, says: str, policy: ClassPolicy | None = None) -> None:
    with pytest.raises(ConfigError) as caught:
        build_both(folder, policy)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{folder / file}: {key}: " if key else f"{folder / file}: ")
    assert says in text
    assert caught.value.file == str(folder / file)
    assert (caught.value.key or "") == key
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("server", "client", "key", "says"), SHAPE_MISTAKES + CLASS_MISTAKES)
def test_a_mistake_is_one_line_with_file_and_key(make_app: Any, server: Any, client: Any, key: str, says: str) -> None:
    folder = make_app(server, client, CUSTOM)
    one_line_error(folder, SERVER_FILE if server else CLIENT_FILE, key, says)


def test_a_class_outside_the_policy_is_refused_by_name(make_app: Any) -> None:
    # subprocess.Popen as a "component" would run a program: production allows only what ships with Hansa.
    folder = make_app(one(path="subprocess.Popen", args={"args": ["true"]}))
    says = "subprocess.Popen is not allowed here (allowed: hansa.components, hansa.demos)"
    one_line_error(folder, SERVER_FILE, "components[0].path", says, ClassPolicy.production())


def test_custom_code_is_refused_in_production(make_app: Any) -> None:
    says = "parts.Flow is the job's own code, which is not allowed here"
    one_line_error(make_app(), SERVER_FILE, "workflows[0].path", says, ClassPolicy.production())


def test_no_folder_and_no_job(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        Job.load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="is no job: it has neither meta.json nor a folder 'config'"):
        Job.load(tmp_path)


def test_a_missing_config_file(make_app: Any) -> None:
    folder = make_app()
    (folder / CLIENT_FILE).unlink()
    one_line_error(folder, CLIENT_FILE, "", "there is no such file")


@pytest.mark.parametrize(
    ("meta", "key", "says"),
    [
        ("{", "", "bad JSON in line 1, column 2"),
        ('{"name": ""}', "name", "must not be empty"),
        ('{"names": "x"}', "names", "unknown key; did you mean 'name'?"),
        ('{"min_clients": 0}', "min_clients", "must be at least 1, not 0"),
        ('{"min_clients": "2"}', "min_clients", "must be a whole number, not a text"),
        ('{"deploy_map": {"app": "@ALL"}}', "deploy_map.app", "must be a list, not a text"),
        ('{"deploy_map": {"other": ["@ALL"]}}', "deploy_map.other", "there is no folder 'other'"),
        ('{"deploy_map": {"../app": ["@ALL"]}}', "deploy_map.../app", "there is no folder"),
        ('{"deploy_map": {}}', "deploy_map", "must not be empty"),
        ('{"hansa_job": 2}', "hansa_job", "must be 1, not 2"),
    ],
)
def test_mistakes_in_meta(make_app: Any, tmp_path: Path, meta: str, key: str, says: str) -> None:
    make_app()
    (tmp_path / "meta.json").write_text(meta)
    with pytest.raises(ConfigError) as caught:
        Job.load(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/meta.json: {key}")
    assert (caught.value.key or "") == key
    assert says in str(caught.value)
