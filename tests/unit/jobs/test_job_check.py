"""A job checked without running its code, and by building it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hansa.errors import ConfigError
from hansa.jobs.job import Job
from hansa.jobs.job_check import check_build, check_job

SIDE_EFFECT = "import os\nos.environ['ZZ_IT_RAN'] = 'yes'\n"


def components(*parts: Mapping[str, Any]) -> dict[str, Any]:
    return {"components": [{"id": f"part-{position}", **part} for position, part in enumerate(parts)]}


def test_a_good_job_passes_and_none_of_its_code_has_run(make_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZZ_IT_RAN", raising=False)
    server = components(
        {"path": "parts.Net", "args": {"width": 3, "inner": {"path": "parts.Net", "args": {}}}},
        {"path": "parts.make_net", "args": {"width": 3}},
        {"path": "zz_more.Subclass", "args": {"whatever": 1}},  # its constructor is inherited: the text does not say
        {"path": "zz_more.Net"},  # imported there
        {"path": "parts.Listener", "args": {"inner": {"path": "parts.Optimizer", "args": {"lr": 1}}}},  # stays a dict
        {"path": "parts.Listener", "args": {"inner": {"name": "Nobody"}}},  # and so does this
        {"name": "ExcludeVars", "args": {"exclude_vars": ["a"]}},
        {"path": "nvflare.app_common.filters.ExcludeVars"},
        {"path": "parts.Gone", "disabled": True},
        {"path": "collections.OrderedDict"},
    )
    more = "from parts import Net\n" + SIDE_EFFECT + "class Subclass(Net): ...\n"
    job = Job.load(make_app(server, custom={"zz_more.py": more}))
    check_job(job, num_sites=3)
    assert "ZZ_IT_RAN" not in os.environ
    assert not {"zz_more", "parts"} & set(sys.modules)


@pytest.mark.parametrize(
    ("part", "key", "says"),
    [
        ({"path": "parts.Nett"}, ".path", "module parts has no 'Nett'; did you mean 'Net'?"),
        ({"path": "partz.Net"}, ".path", "there is no module 'partz'; did you mean 'parts'?"),
        ({"path": "parts.deep.Net"}, ".path", "there is no module 'parts.deep'"),
        ({"path": "zz_nowhere.Net"}, ".path", "there is no module 'zz_nowhere'"),
        ({"path": "Net"}, ".path", "there is no module 'Net'"),
        ({"path": "__main__.Net"}, ".path", "there is no module '__main__'"),
        ({"name": "ExcludeVar"}, ".name", "no component is called 'ExcludeVar'; did you mean 'ExcludeVars'?"),
        ({"name": "HEModelEncryptor"}, ".name", "HEModelEncryptor is not in this release; it comes with"),
        ({"path": "nvflare.private.X"}, ".path", "nvflare.private.X is no public name of FLARE 2.0"),
        ({"path": "hansa.components.filters.exclude_vars.Exclude"}, ".path", "has no 'Exclude'"),
        ({"path": "parts.Net", "args": {"widht": 3}}, ".args.widht", "Net takes no argument 'widht'; did you mean"),
        ({"path": "parts.Clip"}, ".args", "Clip needs the argument 'limit'"),
        ({"path": "parts.make_net"}, ".args", "make_net needs the argument 'width'"),
        ({"name": "ExcludeVars", "args": {"vars": []}}, ".args.vars", "ExcludeVars takes no argument 'vars'"),
        (
            {"path": "parts.Net", "args": {"inner": {"path": "parts.Gone", "args": {}}}},
            ".args.inner.path",
            "module parts has no 'Gone'",
        ),
    ],
)
def test_mistakes_are_found_with_file_and_key(make_app: Any, part: dict[str, Any], key: str, says: str) -> None:
    job = Job.load(make_app(components(part)))
    with pytest.raises(ConfigError) as caught:
        check_job(job)
    assert caught.value.file is not None
    assert caught.value.file.endswith("app/config/config_fed_server.json")
    assert caught.value.key == f"components[0]{key}"
    assert says in caught.value.message


def test_code_that_is_no_python_and_code_that_shadows(make_app: Any) -> None:
    with pytest.raises(ConfigError, match=r"app/custom/zz_bad.py: is no Python: .* \(line 2\)"):
        check_job(Job.load(make_app(custom={"zz_bad.py": "x = 1\ndef f(:\n"}, folder="one/app")))
    with pytest.raises(ConfigError, match="shadows the standard library module 'random'"):
        check_job(Job.load(make_app(custom={"random.py": ""}, folder="two/app")))


def test_the_number_of_sites_must_be_enough(make_app: Any, tmp_path: Path) -> None:
    make_app()
    (tmp_path / "meta.json").write_text('{"deploy_map": {"app": ["@ALL"]}, "min_clients": 3}')
    job = Job.load(tmp_path)
    check_job(job, num_sites=3)
    with pytest.raises(ConfigError, match="min_clients: the job needs 3 sites, not 2"):
        check_job(job, num_sites=2)


def test_building_finds_what_the_text_does_not_say(make_app: Any) -> None:
    good = Job.load(make_app(components({"path": "parts.Net"}), folder="good"))
    check_build(good)
    assert "parts" not in sys.modules
    broken = Job.load(make_app(components({"path": "parts.Broken"}), folder="broken"))
    check_job(broken)
    with pytest.raises(ConfigError, match=r"components\[0\]: cannot build Broken: ValueError: no data in x"):
        check_build(broken)
    assert "parts" not in sys.modules


def test_building_leaves_nothing_in_the_folder(make_app: Any) -> None:
    folder = make_app()
    before = sorted(folder.rglob("*"))
    check_build(Job.load(folder))
    assert sorted(folder.rglob("*")) == before


def test_code_of_flare_is_built_under_its_name(make_app: Any) -> None:
    code = "from nvflare.apis.fl_component import FLComponent\nclass Mine(FLComponent): ...\n"
    job = Job.load(make_app(components({"path": "zz_mine.Mine"}), custom={"zz_mine.py": code}))
    check_build(job)
    assert not [name for name in sys.modules if name.startswith("nvflare")]
