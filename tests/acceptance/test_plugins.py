"""The example of a plug-in: installed by pip, listed, used in a recipe and a job folder, admitted on a federation."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hansa.demos.digits import NUM_HIDDEN, DigitsTrainer
from hansa.demos.small_network import initial_weights
from hansa.jobs import Component, fed_avg
from hansa.runtime.other_process import OtherProcess
from hansa.runtime.poc import end_all, free_port
from poc_parts import HANSA, PATIENCE_S, assert_nothing_left, command, done, environment
from source_code import PACKAGE, ROOT

pytestmark = pytest.mark.slow

EXAMPLE = ROOT / "examples" / "plugin"
STRICT = """
from pathlib import Path

from hansa.apis.app_validation import AppValidator


class Strict(AppValidator):
    def validate(self, app_folder):
        Path(__file__).with_name("asked.txt").open("a").write(app_folder + "\\n")
        config = Path(app_folder, "config", "config_fed_client.json").read_text()
        return ("nobody trains for 7 epochs here" if '"local_epochs": 7' in config else "", {})
"""
PROJECT = """\
api_version: 2
name: robust
participants:
  - {{name: localhost, type: server, org: lead, fed_learn_port: {port}, listen: 127.0.0.1}}
  - {{name: site-1, type: client, org: one}}
  - {{name: site-2, type: client, org: two}}
  - {{name: ada@example.org, type: admin, org: lead}}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the plug-in is installed."""
    folder = tmp_path_factory.mktemp("packages")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q", "install", "--no-deps")
    subprocess.run([*pip, "--target", folder, EXAMPLE], check=True, timeout=PATIENCE_S)
    return folder


def path(packages: Path) -> str:
    return f"{PACKAGE.parent}:{packages}"


def test_it_is_listed(packages: Path) -> None:
    (found,) = json.loads(done("plugins", "--json", PYTHONPATH=path(packages)))
    assert (found["package"], sorted(found["classes"])) == ("hansa-robust", ["Tournament", "TrimmedMean"])
    assert "hansa_robust.tournament.Tournament" in done("plugins", PYTHONPATH=path(packages))
    assert "no plug-ins" in done("plugins")


def test_outliers_do_not_move_its_mean(packages: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, EXAMPLE / "compare.py"],
        env=environment(PYTHONPATH=path(packages)),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    accuracies = {
        line[:14].strip(): float(line.split()[-1]) for line in ended.stdout.splitlines() if "accuracy" in line
    }
    assert accuracies["trimmed mean"] > 0.75 > 0.65 > accuracies["mean"]


def test_its_workflow_is_named_for_short_in_a_job_folder(packages: Path, tmp_path: Path) -> None:
    told = {"PYTHONPATH": path(packages), "HANSA_HOME": str(tmp_path)}
    done("simulate", EXAMPLE / "tournament", "--sites", 8, **told)
    (log,) = tmp_path.glob("runs/*/log.txt")
    assert [f"round {number}: " in log.read_text() for number in range(4)] == [True] * 4
    assert " wins with 0.9" in log.read_text()
    ended = command("simulate", EXAMPLE / "tournament", "--sites", 8, HANSA_HOME=str(tmp_path))  # not installed
    assert ended.returncode != 0
    assert "no component is called 'Tournament'" in ended.stderr


@contextmanager
def federation(folder: Path, packages: Path, admitted: list[str]) -> Iterator[Path]:
    """A server and two sites, with validators of their own at the server and one site; gives the admin's kit."""
    (folder / "project.yml").write_text(PROJECT.format(port=free_port()), encoding="utf-8")
    done("provision", cwd=folder)
    home = folder / "robust" / "prod_00"
    checks = {"app_validator": "strict.Strict"}
    for name, file, content in (
        ("localhost", "server.json", {"plugins": admitted, **checks}),
        ("site-2", "site.json", checks),
    ):
        (home / name / "local").mkdir(exist_ok=True)
        (home / name / "local" / file).write_text(json.dumps(content))
    (packages / "strict.py").write_text(STRICT)
    hansa = folder / "hansa"
    hansa.write_text(f'#!/bin/sh\nexec {HANSA[0]} -m hansa.cli.main "$@"\n')
    hansa.chmod(0o700)
    told = environment(HANSA=str(hansa), PYTHONPATH=path(packages))
    programs: list[subprocess.Popen[bytes]] = []
    with ExitStack() as cleanup:
        cleanup.callback(assert_nothing_left, home)
        cleanup.callback(lambda: end_all(OtherProcess.of(each.pid) for each in programs if each.poll() is None))
        for name in ("localhost", "site-1", "site-2"):
            log = cleanup.enter_context((folder / f"{name}.txt").open("wb"))
            start = [home / name / "startup" / "start.sh"]
            programs.append(
                subprocess.Popen(start, cwd="/", env=told, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        yield home / "ada@example.org"
        for each in reversed(programs):
            each.terminate()
        assert [each.wait(PATIENCE_S) for each in programs] == [0, 0, 0]


def submitted(admin: Path, job: Path) -> subprocess.CompletedProcess[str]:
    """What submitting and following gives, as soon as the server is up."""
    deadline = time.monotonic() + PATIENCE_S
    while command("sites", "--kit", admin).returncode != 0:
        assert time.monotonic() < deadline
    return command("submit", job, "--kit", admin, "--follow")


@pytest.mark.parametrize("admitted", [["hansa-robust"], []])
def test_a_federation_admits_it_by_its_name(packages: Path, tmp_path: Path, admitted: list[str]) -> None:
    for name, epochs in (("job", 1), ("refused", 7)):
        fed_avg(
            initial_weights(64, NUM_HIDDEN, 10, seed=0),
            executor=Component(DigitsTrainer, num_sites=2, local_epochs=epochs),
            rounds=2,
            min_sites=2,
            params_type="diff",
            aggregator=Component("hansa_robust.trimmed_mean.TrimmedMean", trim=0.1),
        ).save(tmp_path / name)
    with federation(tmp_path, packages, admitted) as admin:
        ended = submitted(admin, tmp_path / "job")
        if admitted:
            assert ended.returncode == 0, ended.stdout + ended.stderr
            assert "COMPLETED" in ended.stdout
            asked = (packages / "asked.txt").read_text().splitlines()  # the server when it came, then the site
            for name, line in zip(("localhost", "site-2"), asked, strict=True):
                assert line.startswith(f"{tmp_path}/robust/prod_00/{name}/")
            refused = command("submit", tmp_path / "refused", "--kit", admin)
            assert refused.returncode != 0
            assert "the app is refused here: nobody trains for 7 epochs here" in refused.stderr
        else:
            assert ended.returncode != 0
            assert "it comes with the plug-in hansa-robust, which is not admitted here" in ended.stdout + ended.stderr
