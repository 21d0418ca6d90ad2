"""Scripts for FLARE's admin API steer a federation of real processes, unchanged but for one import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hansa.admin.flare_api import FLAdminAPI
from hansa.admin.flare_response import FLAdminAPIResponse, TargetType
from hansa.jobs.life import JobState
from poc_jobs import BEGAN, HOLD
from poc_parts import PATIENCE_S, Federation, environment, fifo, file, poc_up, trains

pytestmark = pytest.mark.slow

SITES = ["site-1", "site-2"]
APP = "numpy_app"
OPTIONS = f"--poc --username admin --run_number 7 --app {APP} --min_clients 2".split()
ALL, SERVER, CLIENT = TargetType.ALL, TargetType.SERVER, TargetType.CLIENT

SCRIPT = """\
import argparse

import hansa.compat
from nvflare.fuel.hci.client.fl_admin_api_runner import FLAdminAPIRunner, api_command_wrapper
from nvflare.fuel.hci.client.fl_admin_api_spec import TargetType


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--admin_dir", type=str, default="./admin/")
    parser.add_argument("--username", type=str, default="admin@nvidia.com")
    parser.add_argument("--run_number", type=int, default=100)
    parser.add_argument("--app", type=str, default="cifar10_fedavg")
    parser.add_argument("--port", type=int, default=8003)
    parser.add_argument("--poc", action="store_true")
    parser.add_argument("--min_clients", type=int, default=8)
    args = parser.parse_args()
    runner = FLAdminAPIRunner(
        host="", port=args.port, username=args.username, admin_dir=args.admin_dir, poc=args.poc, debug=False
    )
    runner.run(
        args.run_number, args.app, restart_all_first=False, timeout=100, min_clients=args.min_clients,
        shutdown_on_error=True, shutdown_at_end=False,
    )
    stats = api_command_wrapper(runner.api.show_stats(TargetType.SERVER))
    print("run", args.run_number, stats["details"]["message"]["ServerRunner"]["status"])


if __name__ == "__main__":
    main()
"""


@pytest.fixture(scope="module")
def poc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("flare")
    trains(rounds=2).save(folder / "job")
    with poc_up(folder / "poc", "-n", 2) as made:
        (folder / "job" / "app").rename(made.kit("admin") / "transfer-app")
        (made.kit("admin") / "transfer").mkdir()
        (made.kit("admin") / "transfer-app").rename(made.kit("admin") / "transfer" / APP)
        yield made


def message(reply: FLAdminAPIResponse) -> Any:
    assert reply["status"].value == "SUCCESS", reply
    return reply["details"].get("message")


def test_a_script_for_flare_runs_an_app(poc: Federation, tmp_path: Path) -> None:
    script = tmp_path / "run_fl.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, "--admin_dir", poc.kit("admin"), *OPTIONS],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "COMPLETED" in done.stdout
    assert done.stdout.splitlines()[-1] == "run 7 done"
    job = poc.session.jobs()[-1]
    assert (job.name, job.state, job.sites) == (APP, JobState.COMPLETED, tuple(SITES))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run_fl.py"]  # nothing is downloaded by the way


def test_the_calls_on_a_run_that_is_under_way(poc: Federation) -> None:
    kit = poc.kit("admin")
    startup = kit / "startup"
    api = FLAdminAPI(
        host="localhost",
        port=8003,
        ca_cert=str(startup / "rootCA.pem"),
        client_cert=str(startup / "client.crt"),
        client_key=str(startup / "client.key"),
        upload_dir=str(kit / "transfer"),
    )
    message(api.login("admin@poc.local"))
    with file(poc.kit("site-1"), HOLD), fifo(poc.kit("site-1"), BEGAN) as began:
        message(api.set_run_number(8))
        message(api.upload_app(APP))
        message(api.deploy_app(APP, SERVER))
        message(api.deploy_app(APP, CLIENT, ["site-1"]))
        message(api.start_app(SERVER))
        assert "run 8 is job" in message(api.start_app(CLIENT))
        began.line()
        details = api.check_status(SERVER)["details"]
        assert (details["server_engine_status"], details["run_number"], details["app_name"]) == ("started", 8, APP)
        assert details["registered_clients"] == 2
        rows = api.check_status(CLIENT)["details"]["client_statuses"][1:]
        assert rows == [["site-1", APP, "8", "started"], ["site-2", "?", "8", "stopped"]]
        stats = message(api.show_stats(SERVER))
        assert stats["ServerRunner"]["status"] == "started"
        assert stats["ScatterAndGather"].keys() == {"current_round", "num_rounds", "metrics"}
        assert message(api.show_errors(SERVER)) == {}
        assert "round 0" in message(api.cat_target("server", None, "run_8/log.txt"))
        assert len(message(api.tail_target_log("server", "-n 1")).splitlines()) == 1
        assert message(api.tail_target_log("site-1")) == ""  # its part writes nothing
        assert message(api.grep_target("site-1", "-i", "no such thing", "log.txt")) == ""
        assert api.tail_target_log("site-2")["status"].value == "ERROR_RUNTIME"
        assert api.set_run_number(9)["status"].value == "ERROR_RUNTIME"
        message(api.abort(ALL))
        message(api.wait_until_server_status(timeout=PATIENCE_S))
    assert api.check_status(SERVER)["details"]["server_engine_status"] == "stopped"
    assert poc.session.jobs()[-1].state is JobState.ABORTED
    assert api.shutdown(ALL)["status"].value == "ERROR_AUTHORIZATION"
    message(api.logout())
