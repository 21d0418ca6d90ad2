"""The table of commands: who may, with which arguments; and that its page is complete."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from admin_parts import ADMIN, MemoryFederation, digits
from hansa.admin.commands import COMMANDS, dispatch, watch
from hansa.admin.permissions import GRANTED, NotPermitted, Permission
from hansa.errors import ConfigError, HansaError
from hansa.jobs.archive import pack
from hansa.jobs.life import JobState
from hansa.wire.frames import Peer
from source_code import ROOT

MINIMAL: dict[str, dict[str, Any]] = {
    "submit": {"blob": "x.zip"},
    "resubmit": {"job": "last"},
    "jobs": {},
    "job": {"job": "last"},
    "follow": {"job": "last"},
    "abort": {"job": "last"},
    "pause": {"job": "last"},
    "incidents": {},
    "resume": {"job": "last"},
    "remove": {"job": "last"},
    "sites": {},
    "logs": {"job": "last"},
    "results": {"job": "last"},
}


def played(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def answer(federation: MemoryFederation, name: str, peer: Peer = ADMIN, **args: Any) -> Any:
    if COMMANDS[name].is_stream:
        return [message async for message in watch(federation, peer, name, args)]
    return await dispatch(federation, peer, name, args)


async def with_a_job(folder: Path) -> MemoryFederation:
    federation = MemoryFederation(folder)
    digits().save(folder / "job")
    pack(folder / "job", federation.uploads / "x.zip")
    assert await dispatch(federation, ADMIN, "submit", {"blob": "x.zip"}) == {"job": "0001-digits"}
    return federation


def test_a_job_from_submission_to_results(tmp_path: Path) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        assert (await answer(federation, "jobs"))["jobs"][0]["state"] == "SUBMITTED"
        federation.play("0001-digits")
        assert (await answer(federation, "job", job="0001"))["job"]["state"] == "COMPLETED"
        blob = (await answer(federation, "results", job="digits"))["blob"]
        assert blob["name"] == "results.zip"
        assert blob["digest"].startswith("sha256:")
        assert blob["size"] == (federation.store.folder("0001-digits") / "results.zip").stat().st_size
        messages = await answer(federation, "follow", job="1")
        assert [message["k"] for message in messages] == ["lines", "state"]
        federation.store.close()

    played(play())


def test_an_abort_says_by_whom_and_why_and_happens_once(tmp_path: Path) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        job = (await answer(federation, "abort", job="last", reason="wrong data"))["job"]
        assert (job["state"], job["reason"]) == ("ABORTED", "aborted by ada@x.org: wrong data")
        with pytest.raises(ConfigError, match="is over"):
            await answer(federation, "abort", job="last")
        assert federation.store.get("0001-digits").state is JobState.ABORTED
        federation.store.close()

    played(play())


def test_sites_and_logs(tmp_path: Path) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        assert [site["name"] for site in (await answer(federation, "sites"))["sites"]] == ["site-1", "site-2"]
        assert (await answer(federation, "logs", job="1", site="site-1", lines=1))["text"] == "site-1: three\n"
        federation.store.close()

    played(play())


@pytest.mark.parametrize("role", ["client", "server", "", "ADMIN", "super"])
@pytest.mark.parametrize("name", COMMANDS)
def test_nobody_but_an_admin_may_give_any_command(tmp_path: Path, name: str, role: str) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        with pytest.raises(NotPermitted, match=f"site-1 may not {name}: a {role} has no permission to"):
            await answer(federation, name, Peer("poc", "org", "site-1", role), **MINIMAL[name])
        # Also with arguments that are wrong: who may not, learns nothing.
        with pytest.raises(NotPermitted):
            await answer(federation, name, Peer("poc", "org", "site-1", role), nonsense=1)
        federation.store.close()

    played(play())


def test_permissions_are_granted_to_admins_alone_and_each_is_used() -> None:
    assert {role for role, granted in GRANTED.items() if granted} == {"admin"}
    assert {command.permission for command in COMMANDS.values()} == set(Permission)


@pytest.mark.parametrize(
    ("name", "args", "line"),
    [
        ("job", {}, "job: job: missing key"),
        ("job", {"job": ""}, "job: job: must not be empty"),
        ("job", {"job": 3}, "job: job: must be a text, not a whole number"),
        ("job", {"jop": "last"}, "job: jop: unknown key; did you mean 'job'?"),
        ("job", {"job": "9"}, "job: there is no job '9'"),
        ("job", {"job": "x" * 201}, "job: job: "),
        ("logs", {"job": "last", "lines": 0}, "logs: lines: must be at least 1, not 0"),
        ("logs", {"job": "last", "lines": 10**9}, "logs: lines: must be at most 100000, not 1000000000"),
        ("logs", {"job": "last", "site": "../.."}, "there is no site '../..'"),
        ("abort", {"job": "last", "reason": "x" * 501}, "abort: reason: "),
        (
            "follow",
            {"job": "last", "offsets": {"history.jsonl": "0"}},
            "follow: offsets.history.jsonl: must be a whole",
        ),
        ("results", {"job": "last"}, "job 0001-digits has no results"),
    ],
)
def test_a_wrong_argument_is_one_line(tmp_path: Path, name: str, args: dict[str, Any], line: str) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        with pytest.raises(HansaError) as error:
            await answer(federation, name, **args)
        assert str(error.value).startswith(line)
        assert "\n" not in str(error.value)
        federation.store.close()

    played(play())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("job s", "there is no command 'job s'; did you mean 'jobs'?"),
        ("follow", "there is no command 'follow'"),
        ("x" * 10_000, "there is no command 'xxx"),
        ("__class__", "there is no command '__class__'"),
    ],
)
def test_an_unknown_command_is_refused_and_not_echoed_at_length(tmp_path: Path, name: str, line: str) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        with pytest.raises(ConfigError) as error:
            await dispatch(federation, ADMIN, name, {})
        assert line in str(error.value)
        assert len(str(error.value)) < 120
        federation.store.close()

    played(play())


def test_only_streams_can_be_watched(tmp_path: Path) -> None:
    async def play() -> None:
        federation = await with_a_job(tmp_path)
        with pytest.raises(ConfigError, match="there is no command 'jobs'"):
            _ = [message async for message in watch(federation, ADMIN, "jobs", {})]
        federation.store.close()

    played(play())


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_is_on_its_page_with_its_permission_and_arguments(command: Any) -> None:
    page = (ROOT / "docs" / "admin.md").read_text(encoding="utf-8").splitlines()
    (row,) = [line for line in page if line.startswith(f"| `{command.name}` |")]
    assert command.help in row
    assert f"| {command.permission.value} |" in row
    for argument in command.model.model_fields:
        assert f"`{argument}`" in row
    assert MINIMAL.keys() == COMMANDS.keys()
