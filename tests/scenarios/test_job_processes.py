"""Whole jobs over job processes of their own, with a router in the place of the network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hansa
import job_parts
import worker_parts
from hansa.demos.digits import digits_job
from hansa.jobs import Component, Job, fed_avg
from job_router import Head, Router
from script_jobs import script, scripted

pytestmark = pytest.mark.slow

MODEL = {"w": np.linspace(-1, 1, 33, dtype=np.float32).reshape(3, 11), "b": np.zeros(3)}
BIG = {"w": np.zeros((300, 1000), np.float32), "v": np.ones(100_000)}


def draws(folder: Path, model: dict[str, Any] = MODEL, *, rounds: int = 3, min_sites: int | None = None) -> Path:
    job = fed_avg(model, executor=Component(job_parts.Draws), rounds=rounds, min_sites=min_sites, params_type="diff")
    return saved(job, folder)


def saved(job: Job, folder: Path) -> Path:
    job.save(folder / "job")
    return folder / "job"


def sites(number: int) -> list[str]:
    return [f"site-{index + 1}" for index in range(number)]


def digest(model: Path) -> str:
    return hashlib.sha256(model.read_bytes()).hexdigest()


def simulated(job: Path, folder: Path, number: int) -> str:
    run = hansa.simulate(job, number, workers=0, home=folder / "runs", progress=False)
    return digest(run.folder / "model.safetensors")


def rounds_of(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "run" / "history.jsonl").read_text().splitlines()]
    return [line["round"] for line in lines if "round" in line]


def problems_of(folder: Path) -> list[dict[str, str]]:
    file = folder / "run" / "problems.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("model", [MODEL, BIG], ids=["small", "big"])
def test_a_job_gives_the_bits_of_the_simulator(tmp_path: Path, model: dict[str, Any]) -> None:
    job = draws(tmp_path, model)
    with Router(tmp_path, job, sites(3)) as router:
        router.start()
        assert router.finish() == {"k": "done", "status": "COMPLETED", "cause": None}
    assert digest(tmp_path / "run" / "model.safetensors") == simulated(job, tmp_path, 3)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "COMPLETED"
    assert record["outboxes"]["site-2"]["messages"] >= 3
    assert problems_of(tmp_path) == []
    said = [head["k"] for head in router.said if head["k"] not in ("wrote", "progress")]
    assert said == ["running", *["decision", "commit"] * 3, "done"]
    for who in ("server", *sites(3)):
        blobs = [file for file in (tmp_path / who).glob("run_*/blobs/**/*") if file.is_file()]
        assert blobs == [], f"{who} leaves files of blobs behind"


def test_the_demo_gives_the_bits_of_the_simulator(tmp_path: Path) -> None:
    job = saved(digits_job(rounds=2, num_sites=2), tmp_path)
    with Router(tmp_path, job, sites(2)) as router:
        router.start()
        assert router.finish()["status"] == "COMPLETED", router.logs()
    assert digest(tmp_path / "run" / "model.safetensors") == simulated(job, tmp_path, 2)


def test_a_script_runs_unchanged(tmp_path: Path) -> None:
    job = saved(scripted(tmp_path, script("flare.send(flare.FLModel(plus(params)))"), rounds=2), tmp_path)
    with Router(tmp_path, job, sites(2)) as router:
        router.start()
        assert router.finish()["status"] == "COMPLETED", router.logs()
    assert digest(tmp_path / "run" / "model.safetensors") == simulated(job, tmp_path, 2)


def test_components_find_themselves_in_their_kit(tmp_path: Path) -> None:
    job = saved(fed_avg(MODEL, executor=Component(job_parts.KnowsItsPlace), rounds=1, params_type="diff"), tmp_path)
    with Router(tmp_path, job, sites(1), number=7) as router:
        router.start()
        assert router.finish()["status"] == "COMPLETED", router.logs()
    root = tmp_path / "site-1"
    assert (root / "found.txt").read_text().splitlines() == [
        "run=7",
        f"root={root}",
        f"app={root}/run_7/app_site-1",
        f"custom={root}/run_7/app_site-1/custom",
        f"cwd={root}",
    ]


def test_a_site_that_dies_costs_its_result_and_no_more(tmp_path: Path) -> None:
    job = draws(tmp_path, rounds=2, min_sites=2)
    (tmp_path / "site-2").mkdir()
    (tmp_path / "site-2" / job_parts.HOLD).touch()
    with Router(tmp_path, job, sites(3), min_sites=2) as router:
        router.start()
        router.wait_for("task", receiver="site-2")
        router.kill("site-2")
        assert router.finish()["status"] == "COMPLETED", router.logs()
    first, second = rounds_of(tmp_path)
    assert first["targets"] == ["site-1", "site-2", "site-3"]
    assert sorted(first["counted"]) == ["site-1", "site-3"]
    assert "lost: its process was killed by SIGKILL" in first["refused"]["site-2"][0]
    assert second["targets"] == ["site-1", "site-3"]
    assert [each["site"] for each in problems_of(tmp_path)] == ["site-2"]


def test_a_site_that_comes_late_takes_part_from_then_on(tmp_path: Path) -> None:
    job = draws(tmp_path, rounds=2, min_sites=1)
    (tmp_path / "site-1").mkdir()
    (tmp_path / "site-1" / job_parts.HOLD).touch()
    with Router(tmp_path, job, sites(2), min_sites=1, start_timeout_s=0.0) as router:
        router.start("site-1")
        router.wait_for("running")
        router.start_site("site-2")
        router.wait_for("task", receiver="site-2")
        (tmp_path / "site-1" / job_parts.HOLD).unlink()
        router.kill("site-1")
        router.say({"k": "site_back", "site": "site-1"})
        router.start_site("site-1")
        assert router.finish()["status"] == "COMPLETED", router.logs()
    assert "site-2" in rounds_of(tmp_path)[-1]["counted"]


def test_an_abort_stops_the_task_under_way(tmp_path: Path) -> None:
    job = draws(tmp_path)
    for name in sites(2):
        (tmp_path / name).mkdir()
        (tmp_path / name / job_parts.HOLD).touch()
    with Router(tmp_path, job, sites(2)) as router:
        router.start()
        router.wait_for("task", receiver="site-2")
        router.say({"k": "abort", "reason": "stopped by admin"})
        assert router.finish() == {"k": "done", "status": "ABORTED", "cause": "stopped by admin"}
        for name in sites(2):
            assert router.processes[name].wait(30) == 0, router.logs()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "ABORTED"


def test_a_lost_quorum_waits_for_the_site_which_gets_its_task_again(tmp_path: Path) -> None:
    job = draws(tmp_path, rounds=2)
    (tmp_path / "site-2").mkdir()
    (tmp_path / "site-2" / job_parts.HOLD).touch()
    with Router(tmp_path, job, sites(2)) as router:
        router.start()
        router.wait_for("task", receiver="site-2")
        router.kill("site-2")
        assert router.wait_for("waiting")["reason"] == "quorum: 1 of 2 sites"
        (tmp_path / "site-2" / job_parts.HOLD).unlink()
        router.start_site("site-2")
        router.wait_for("running", count=2)
        assert router.finish()["status"] == "COMPLETED", router.logs()
        tasks = [head["task_id"] for who, head in router.heads if (who, head["k"]) == ("site-2", "task")]
    assert tasks[0] == tasks[1]
    assert [sorted(each["counted"]) for each in rounds_of(tmp_path)] == [["site-1", "site-2"]] * 2
    assert digest(tmp_path / "run" / "model.safetensors")


def test_a_quorum_that_does_not_come_back_fails_the_run(tmp_path: Path) -> None:
    job = draws(tmp_path, rounds=2)
    (tmp_path / "site-2").mkdir()
    (tmp_path / "site-2" / job_parts.HOLD).touch()
    with Router(tmp_path, job, sites(2), quorum_wait_s=0.2) as router:
        router.start()
        router.wait_for("task", receiver="site-2")
        router.kill("site-2", "no contact for 30 s")
        done = router.finish()
    assert done["status"] == "FAILED"
    assert done["cause"] == "1 of 2 sites are there (site-2: no contact for 30 s); waited 0.2 s"
    assert (tmp_path / "run" / "model.safetensors").exists(), "the last model is kept"


def test_a_site_that_is_gone_for_good_fails_the_run_at_once(tmp_path: Path) -> None:
    job = draws(tmp_path, rounds=2)
    (tmp_path / "site-2").mkdir()
    (tmp_path / "site-2" / job_parts.HOLD).touch()
    with Router(tmp_path, job, sites(2)) as router:
        router.start()
        router.wait_for("task", receiver="site-2")
        router.kill("site-2", final=True)
        done = router.finish()
    assert done["cause"] == "1 of 2 sites are there (site-2: its process was killed by SIGKILL)"


def test_a_site_whose_components_cannot_be_built_is_named(tmp_path: Path) -> None:
    job = draws(tmp_path)
    file = job / "app" / "config" / "config_fed_client.json"
    file.write_text(file.read_text().replace("job_parts.Draws", "job_parts.Drawers"))
    with Router(tmp_path, job, sites(2)) as router:
        router.start()
        done = router.finish()
    assert done["status"] == "FAILED"
    assert "app/config/config_fed_client.json: executors[0].executor.path: " in done["cause"]
    assert "site-1: " in done["cause"]


def test_a_result_in_another_name_is_refused(tmp_path: Path) -> None:
    job = fed_avg(MODEL, executor=Component(job_parts.Draws), rounds=1, min_sites=1, params_type="diff")
    job.apps["app"].client["components"].append(
        {"id": "liar", "path": "job_parts.SaysItIs", "args": {"name": "site-1", "site": "site-2"}}
    )
    with Router(tmp_path, saved(job, tmp_path), sites(2)) as router:
        router.start()
        assert router.finish()["status"] == "COMPLETED", router.logs()
    (only,) = rounds_of(tmp_path)
    assert list(only["counted"]) == ["site-1"]
    assert "says that it comes from 'site-1'" in only["refused"]["site-2"][0]


def test_results_that_come_twice_or_unasked_change_nothing(tmp_path: Path) -> None:
    job = draws(tmp_path)
    with Router(tmp_path, job, sites(2)) as router:

        def pass_on(receiver: str, head: Head) -> bool:
            if receiver == "server" and head["k"] == "result" and "again" not in head:
                for other in ({}, {"site": "site-1", "number": 99}, {"task_id": "0/train/1/site-2/7"}):
                    router.say({**head, "again": True, **other})
            return True

        router.on_frame = pass_on
        router.start()
        assert router.finish()["status"] == "COMPLETED", router.logs()
    assert digest(tmp_path / "run" / "model.safetensors") == simulated(job, tmp_path, 2)
    assert (tmp_path / "run" / "log.txt").read_text().count("which it was not given") == 1


def test_a_task_that_comes_twice_is_run_once(tmp_path: Path) -> None:
    job = draws(tmp_path)
    with Router(tmp_path, job, sites(1)) as router:
        twice: list[Head] = []

        def pass_on(receiver: str, head: Head) -> bool:
            head.pop("acks", None)  # so the result stays at the site
            if head["k"] == "task" and len(twice) < 2:
                twice.append(head)
            return True

        router.on_frame = pass_on
        router.start()
        assert router.finish()["status"] == "COMPLETED", router.logs()
    assert digest(tmp_path / "run" / "model.safetensors") == simulated(job, tmp_path, 1)


def test_sites_and_server_talk(tmp_path: Path) -> None:
    job = fed_avg(
        MODEL,
        executor=Component(worker_parts.Talks, asks_back=True),
        rounds=2,
        server_components=[Component(worker_parts.Answers, file=str(tmp_path / "names"))],
    )
    with Router(tmp_path, saved(job, tmp_path), sites(2)) as router:
        router.start()
        done = router.finish()
    assert done["status"] == "COMPLETED", router.logs()
    assert [each["metrics"] for each in rounds_of(tmp_path)] == [
        {site: {"number": 9.0} for site in ("site-1", "site-2")}
    ] * 2
    assert (tmp_path / "names").read_text().splitlines() == [f"{site} is {site} [0, 2, 4, 6]" for site in sites(2)] * 2
