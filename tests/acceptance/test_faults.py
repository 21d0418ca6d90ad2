"""`hansa faults` as its users run it: twenty seeds without anything wrong, a job of one's own, and mistakes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from hansa.faults.arena import SERVER, Arena, working_below
from hansa.faults.campaign import Setting, Trial
from hansa.faults.plan import draw
from hansa.faults.sample_job import sample_job
from hansa.jobs.life import JobState
from poc_parts import assert_nothing_left, command, done

pytestmark = pytest.mark.slow

SEEDS = "0:19"
CAMPAIGN_S = 900.0


def test_twenty_seeds_lose_nothing(tmp_path: Path) -> None:
    said = command("faults", "--seeds", SEEDS, "--json", "--dir", tmp_path / "arena", timeout=CAMPAIGN_S)
    found = json.loads(said.stdout)
    wrong = [each for each in found["seeds"] if each["violations"]]
    assert (said.returncode, wrong) == (0, []), said.stderr[-2000:]
    assert found["num_seeds"] == 20
    assert found["num_faults"] >= 30
    assert found["results_received"] >= 400
    assert found["results_lost"] == found["models_unequal"] == found["wedged"] == found["orphans"] == 0
    print(json.dumps({key: value for key, value in found.items() if key != "seeds"}))
    assert list((tmp_path / "arena").iterdir()) == []
    assert_nothing_left(tmp_path)


def test_a_job_of_ones_own(tmp_path: Path) -> None:
    sample_job("momentum", rounds=4, name="mine").save(tmp_path / "mine")
    text = done("faults", tmp_path / "mine", "--seeds", "3", "--sites", "2", "--faults", "1", "--json", timeout=300)
    found = json.loads(text)
    assert found["results_lost"] == found["models_unequal"] == found["wedged"] == 0
    assert [each["sites"] for each in found["seeds"]] == [2, 2, 2]
    assert [each["results_received"] for each in found["seeds"]] == [8, 8, 8]


def test_what_is_wrong_is_found_said_and_kept(tmp_path: Path) -> None:
    """The undisturbed model of another job stands in for a runtime that loses something."""
    plan = draw(1, sites=(2, 2), faults=(1, 1), rounds=3)
    with Arena(tmp_path / "arena", plan.sites) as arena:
        trial = Trial(arena, Setting(tmp_path, rounds=3))
        trial.run(plan)
        trial._digests = dict.fromkeys(trial._digests, "sha256:another")
        verdict = trial.run(plan)
        rules = {violation.rule for violation in verdict.violations}
        assert "equal outcome" in rules
    assert working_below(tmp_path) == []


def test_a_record_that_is_damaged_is_mended_and_said(tmp_path: Path) -> None:
    with Arena(tmp_path / "arena", ["site-1"]) as arena:
        run = arena.session.submit(sample_job("momentum", rounds=2)).wait(120)
        arena.end(SERVER, signal.SIGTERM)
        (arena.kit(SERVER) / "jobs" / run.id / "state.json").write_text("{", encoding="utf-8")
        arena.start(SERVER)
        (job,) = arena.session.jobs()
        assert [change.state for change in job.changes] == [change.state for change in run.record.changes]
        assert job.state is JobState.COMPLETED
        kit = arena.folder / "admin"
        incidents = json.loads(done("incidents", "--kit", kit, "--json"))
        assert [each["code"] for each in incidents] == ["file.damaged"]
        assert "mended from the journal" in done("incidents", "--kit", kit, "--job", run.id)
        assert "no incidents" in done("incidents", "--kit", kit, "--since", "1")
        refused = command("incidents", "--kit", kit, "--job", "nope")
        assert (refused.returncode, refused.stderr) == (2, "hansa: job: there is no job 'nope'\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--seeds", "x"), "seeds: 'x' says no seeds: give 20, 7:9, or 3,17"),
        (("--seeds", "0"), "seeds: '0' says no seeds: give 20, 7:9, or 3,17"),
        (("--sites", "9:3"), "sites: must be within 1 and 32, not '9:3'"),
        (("--faults", "many"), "faults: must be a number, or from and to as in 3:8, not 'many'"),
        (("nowhere",), "nowhere"),
    ],
)
def test_a_mistake_is_one_line(arguments: tuple[str, ...], line: str, tmp_path: Path) -> None:
    said = command("faults", *arguments, cwd=tmp_path)
    assert said.returncode == 2
    assert line in said.stderr
    assert len(said.stderr.splitlines()) == 1
