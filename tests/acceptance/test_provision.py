"""From a project file to a federation of real processes, each started by the script in its kit."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from hansa.runtime.other_process import OtherProcess
from hansa.runtime.poc import end_all, free_port
from poc_parts import HANSA, PATIENCE_S, assert_nothing_left, command, done, environment

pytestmark = pytest.mark.slow

PROJECT = """\
api_version: 2
name: two_hospitals
description: A federation on one machine.
participants:
  - {{name: localhost, type: server, org: lead, fed_learn_port: {port}, admin_port: 8003, listen: 127.0.0.1}}
  - {{name: berlin, type: client, org: charite, tags: [mri]}}
  - {{name: paris, type: client, org: pitie, max_jobs: 2}}
  - {{name: ada@example.org, type: admin, org: lead, roles: [super]}}
builders:
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.he.HEBuilder
"""


def connected(admin: Path) -> list[str]:
    """The sites that an admin sees connected; none while the server is not up."""
    ended = command("sites", "--kit", admin, "--json")
    if ended.returncode != 0:
        return []
    return sorted(site["name"] for site in json.loads(ended.stdout) if site["connected"])


def test_a_provisioned_federation_comes_up_and_goes(tmp_path: Path) -> None:
    (tmp_path / "project.yml").write_text(PROJECT.format(port=free_port()), encoding="utf-8")
    printed = done("provision", cwd=tmp_path)
    assert "4 startup kits are in " in printed
    assert "ignored for now: builders HEBuilder" in printed
    home = (tmp_path / "two_hospitals" / "prod_00").rename(tmp_path / "kits of all")
    hansa = tmp_path / "hansa"
    hansa.write_text(f'#!/bin/sh\nexec {HANSA[0]} -m hansa.cli.main "$@"\n')
    hansa.chmod(0o700)
    programs: list[subprocess.Popen[bytes]] = []
    with ExitStack() as cleanup:
        cleanup.callback(assert_nothing_left, home)
        cleanup.callback(lambda: end_all(OtherProcess.of(each.pid) for each in programs if each.poll() is None))
        for name in ("localhost", "berlin", "paris"):
            log = cleanup.enter_context((tmp_path / f"{name}.txt").open("wb"))
            programs.append(
                subprocess.Popen(
                    [home / name / "startup" / "start.sh"],
                    cwd="/",
                    env=environment(HANSA=str(hansa)),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        deadline = time.monotonic() + PATIENCE_S
        while connected(home / "ada@example.org") != ["berlin", "paris"]:
            assert time.monotonic() < deadline, [path.read_text() for path in tmp_path.glob("*.txt")]
            assert [each.poll() for each in programs] == [None] * 3
        for each in reversed(programs):
            each.terminate()
        assert [each.wait(PATIENCE_S) for each in programs] == [0, 0, 0]


def test_mistakes_are_one_line_and_write_nothing(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        ended = command("provision", *arguments, cwd=tmp_path)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
        return ended.stderr

    assert refused() == "hansa: project.yml: is not there; for a sample: hansa provision --generate\n"
    done("provision", "--generate", cwd=tmp_path)
    sample = (tmp_path / "project.yml").read_text(encoding="utf-8")
    assert "is not overwritten" in refused("--generate")
    (tmp_path / "project.yml").write_text(sample.replace("type: admin", "type: king"), encoding="utf-8")
    assert "project.yml: participants[3].type: must be one of server, client, admin, not 'king'" in refused()
    assert [path.name for path in tmp_path.iterdir()] == ["project.yml"]
