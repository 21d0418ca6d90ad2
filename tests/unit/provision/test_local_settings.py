"""What a site says itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.errors import ConfigError
from hansa.provision.kit import Kit
from hansa.provision.provisioner import make_kits


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    settings = {"client": {"tags": ["ct"], "max_jobs": 4, "allow_custom_code": True}}
    return make_kits(tmp_path, sites=["a"], settings=settings)["a"]


def local(kit: Path, text: str) -> None:
    (kit / "local").mkdir()
    (kit / "local" / "site.json").write_text(text)


def test_what_a_site_says_itself_wins_and_the_rest_stays(kit: Path) -> None:
    before = Kit.load(kit).settings
    local(kit, '{"max_jobs": 1, "gpus": [0, 2]}')
    assert Kit.load(kit).settings == {**before, "max_jobs": 1, "gpus": [0, 2]}


def test_a_site_forbids_code_that_jobs_bring(kit: Path) -> None:
    local(kit, '{"enable_byoc": false}')
    assert Kit.load(kit).settings["allow_custom_code"] is False


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "local/site.json: is no JSON"),
        ("[1]", "local/site.json: must be an object"),
        ('{"max_job": 1}', "local/site.json: max_job: there is no such key; did you mean max_jobs?"),
        ('{"max_jobs": "two"}', "local/site.json: max_jobs: "),
        ('{"server": {"host": "elsewhere"}}', "local/site.json: server: there is no such key"),
        ("[" * 100_000, "local/site.json: is no JSON"),
    ],
)
def test_a_mistake_is_named(kit: Path, text: str, problem: str) -> None:
    local(kit, text)
    with pytest.raises(ConfigError) as caught:
        Kit.load(kit)
    assert problem in str(caught.value)
