"""What a job says it wants of a federation."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from hansa.errors import ConfigError
from hansa.jobs.job import App, Job
from hansa.jobs.wanted import Resources, Wanted, read

APP = App(server={}, client={})


def job(*, deploy: Mapping[str, tuple[str, ...]] | None = None, min_sites: int | None = None, **meta: object) -> Job:
    return Job("digits", {"app": APP}, deploy or {"app": ("@ALL",)}, min_sites, meta)


def test_a_job_without_wishes_takes_any_site() -> None:
    wanted = read(job())
    assert wanted == Wanted()
    assert wanted.needed is None
    assert wanted.allows("site-7", ())


def test_all_that_can_be_asked_for() -> None:
    wanted = read(
        job(
            min_sites=2,
            sites=["a", "b", "c"],
            tags=["gpu", "eu", "gpu"],
            mandatory_clients=["b"],
            resources={"gpus": 1, "memory_mb": 4000, "cpus": 1.5},
            priority=5,
            start_deadline_s=60,
        )
    )
    assert wanted == Wanted(frozenset({"a", "b", "c"}), ("gpu", "eu"), 2, ("b",), Resources(1, 4000, 1.5), 5, 60.0)
    assert wanted.allows("a", {"gpu", "eu", "x"})
    assert not wanted.allows("a", {"gpu"})
    assert not wanted.allows("d", {"gpu", "eu"})


@pytest.mark.parametrize(
    ("deploy", "sites", "found"),
    [
        ({"app": ("server", "a", "b")}, None, {"a", "b"}),
        ({"app": ("server", "a", "b")}, ["b", "c"], {"b"}),
        ({"app": ("@ALL",), "other": ("a",)}, None, None),
        ({"app": ("@ALL",)}, ["a"], {"a"}),
    ],
)
def test_sites_are_those_that_get_an_app(
    deploy: Mapping[str, tuple[str, ...]], sites: list[str] | None, found: set[str] | None
) -> None:
    wanted = read(job(deploy=deploy, **({} if sites is None else {"sites": sites})))
    assert wanted.sites == (None if found is None else frozenset(found))


def test_how_many_are_needed() -> None:
    assert read(job(sites=["a", "b"])).needed == 2
    assert read(job(sites=["a", "b"], min_sites=1)).needed == 1
    assert read(job(min_sites=1, mandatory_clients=["a", "b"])).needed == 2


@pytest.mark.parametrize(
    ("meta", "line"),
    [
        ({"sites": []}, "digits/meta.json: sites: must not be empty"),
        ({"sites": "a"}, "sites: must be a list, not a text"),
        ({"priority": 101}, "priority: must be at most 100, not 101"),
        ({"priority": True}, "priority: must be a whole number, not true or false"),
        ({"start_deadline_s": 0}, "start_deadline_s: must be above 0, not 0"),
        ({"start_deadline_s": float("inf")}, "start_deadline_s: "),
        ({"resources": {"gpus": -1}}, "resources.gpus: must be at least 0, not -1"),
        ({"resources": {"gpu": 1}}, "resources.gpu: unknown key; did you mean 'gpus'?"),
        ({"resources": {"memory_mb": float("nan")}}, "resources.memory_mb: "),
        ({"quorum_wait_s": -1}, "quorum_wait_s: must be above 0, not -1"),
        ({"prioriti": 1}, "prioriti: unknown key; did you mean 'priority'?"),
        ({"sites": ["a"], "mandatory_clients": ["b"]}, "'b' is none of the sites that may take part"),
        ({"sites": ["a"], "min_sites": 2}, "min_clients: 2 are needed, but only 1 may take part: a"),
        ({"sites": ["z"], "deploy": {"app": ("server", "a")}}, "sites: no site that gets an app may take part"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(meta: Mapping[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(job(**meta))  # type: ignore[arg-type]
    assert line in str(error.value)
    assert "\n" not in str(error.value)
