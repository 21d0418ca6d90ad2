"""What a machine gives jobs of its disk: so much for each, for so long, and nothing of a job that was removed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import poc_jobs
from hansa.errors import RunError
from hansa.jobs import Component, Job, fed_avg
from hansa.jobs.incident import IncidentCode
from hansa.jobs.life import JobState
from poc_parts import MODEL, PATIENCE_S, Federation, command, done, federation

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2")


def draws(
    *, rounds: int = 3, min_sites: int = 2, client: Component | None = None, server: Component | None = None
) -> Job:
    job = fed_avg(
        MODEL,
        executor=Component(poc_jobs.Draws),
        rounds=rounds,
        params_type="diff",
        min_sites=min_sites,
        name="draws",
        client_components=[] if client is None else [client],
        server_components=[] if server is None else [server],
    )
    return replace(job, meta={**job.meta, "quorum_wait_s": 0.5})


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Federation]:
    with federation(tmp_path / "fed", SITES) as found:
        yield found


def anew(fed: Federation, name: str, **settings: float) -> None:
    """Start a participant anew with a local file."""
    fed.end(name)
    local = fed.kit(name) / "local"
    local.mkdir(exist_ok=True)
    (local / ("server.json" if name == "server" else "site.json")).write_text(json.dumps(settings))
    fed.start(name)
    fed.until_site(lambda sites: all(sites.get(site) for site in SITES))


def until(fits: Callable[[], bool]) -> None:
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not fits():
        assert time.monotonic() < deadline
        pause.wait(0.05)


def quota_incidents(fed: Federation) -> list[tuple[str | None, str]]:
    return [(each.site, each.text) for each in fed.session.incidents() if each.code == IncidentCode.OVER_QUOTA.value]


def test_a_site_ends_its_part_of_a_job_that_takes_too_much_and_the_others_go_on(fed: Federation) -> None:
    anew(fed, "site-2", job_disk_mb=8)
    alone = fed.session.submit(draws()).wait(PATIENCE_S)
    assert alone.history.rounds[-1].counted.keys() == set(SITES)  # within the limit all is as ever
    run = fed.session.submit(draws(rounds=2000, min_sites=1, client=Component(poc_jobs.Fills, where="site-2")))
    assert run.wait(PATIENCE_S).state is JobState.COMPLETED
    ((site, text),) = quota_incidents(fed)
    assert site == "site-2"
    assert "it takes 20." in text
    assert text.endswith("MB of the disk, and may take 8 (job_disk_mb); it takes no part any more")


def test_a_job_that_takes_too_much_of_the_server_fails_with_its_last_good_model(fed: Federation) -> None:
    anew(fed, "server", job_disk_mb=6)
    whole = fed.session.submit(draws()).wait(PATIENCE_S)
    assert whole.state is JobState.COMPLETED
    run = fed.session.submit(draws(rounds=100_000, server=Component(poc_jobs.Fills, where="server", number=2)))
    with pytest.raises(RunError, match=r"takes 2\d\.\d MB of the disk, and may take 6 \(job_disk_mb\)"):
        run.wait(PATIENCE_S)
    assert run.state is JobState.FAILED
    assert run.model
    assert run.history.rounds
    assert [site for site, _ in quota_incidents(fed)] == [None]
    assert "job.over_quota" in done("incidents", "--kit", fed.kit("admin"))


def test_what_is_old_is_deleted_at_the_server_and_at_sites(fed: Federation) -> None:
    old = fed.session.submit(draws(rounds=1)).wait(PATIENCE_S).record
    fed.end("site-2")  # it is away, and keeps what it has as long as it likes
    fed.environment["HANSA_FAILPOINTS"] = "clock=+200000"
    anew_server = {"keep_jobs_days": 2}
    fed.end("server")
    (fed.kit("server") / "local").mkdir()
    (fed.kit("server") / "local" / "server.json").write_text(json.dumps(anew_server))
    fed.start("server")
    assert fed.session.jobs() == []
    assert not (fed.kit("server") / f"run_{old.number}").exists()
    assert (fed.kit("site-2") / f"run_{old.number}").exists()
    fed.start("site-2")  # and hears of it when it is back
    until(lambda: not (fed.kit("site-2") / f"run_{old.number}").exists())
    fed.until_site(lambda sites: all(sites.get(site) for site in SITES))

    young = fed.session.submit(draws(rounds=1)).wait(PATIENCE_S).record
    fed.environment["HANSA_FAILPOINTS"] = "clock=+400000"
    anew(fed, "site-2", keep_jobs_days=1)
    assert not (fed.kit("site-2") / f"run_{young.number}").exists()
    assert (fed.kit("site-1") / f"run_{young.number}").exists()
    assert [each.id for each in fed.session.jobs()] == [young.id]


def test_old_jobs_are_removed_by_their_age(fed: Federation) -> None:
    first, second = (fed.session.submit(draws(rounds=1)).wait(PATIENCE_S).record for _ in range(2))
    kit = ("--kit", fed.kit("admin"))
    assert done("remove", "--older-than", 1, *kit) == ""
    both = command("remove", first.id, "--older-than", 1, *kit)
    assert (both.returncode, both.stderr.splitlines()) == (2, ["hansa: JOBS: name jobs, or say --older-than DAYS"])
    assert done("remove", "--older-than", 0, *kit).splitlines() == [f"removed {first.id}", f"removed {second.id}"]
    assert fed.session.jobs() == []


def test_a_process_that_dies_again_and_again_leaves_the_model_of_its_last_commit(fed: Federation) -> None:
    two = fed.session.submit(draws(rounds=2)).wait(PATIENCE_S)
    run = fed.session.submit(draws(rounds=4, server=Component(poc_jobs.Kills, number=2)))
    with pytest.raises(RunError, match="its process on the server was killed by SIGKILL"):
        run.wait(PATIENCE_S)
    assert run.state is JobState.FAILED
    assert run.model_digest == two.model_digest
    assert [each.number for each in run.history.rounds][:2] == [0, 1]
    died = [each for each in fed.session.incidents() if each.code == IncidentCode.JOB_PROCESS_DIED.value]
    assert [each.text.rpartition("; ")[2] for each in died] == ["the job goes on"] * 2 + ["the job fails"]
    again = fed.session.resubmit(run.id)  # and from there another job could go on
    assert again.record.state is not JobState.FAILED
    again.abort("enough")
