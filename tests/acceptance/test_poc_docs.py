"""What a stranger types who follows `docs/from-laptop-to-federation.md`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hansa.runtime.poc import free_port
from poc_parts import PATIENCE_S, Federation, assert_nothing_left, command, environment
from source_code import ROOT

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "from-laptop-to-federation.md"


def shell(text: str, folder: Path) -> str:
    """What a terminal prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    known = environment(PATH=path)
    known.pop("HANSA_HOME", None)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env=known,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def blocks(name: str) -> list[str]:
    found = re.findall(rf"^<!-- shell: {name} -->\n```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    return found


def test_the_page_is_true_on_one_machine(tmp_path: Path) -> None:
    for text in blocks("simulate"):
        shell(text, tmp_path)
    with ExitStack() as cleanup:
        cleanup.callback(assert_nothing_left, tmp_path)
        cleanup.callback(command, "poc", "down", cwd=tmp_path)
        first, looks, compares, down = blocks("poc")
        assert "0001-first  COMPLETED" in shell(first, tmp_path)
        assert {"berlin", "paris", "0001-first"} <= set(shell(looks, tmp_path).split())
        digests = [line.split()[0] for line in shell(compares, tmp_path).splitlines()]
        assert len(digests) == 2
        assert len(set(digests)) == 1
        assert shell(down, tmp_path) == "ended: server, berlin, paris\n"


def test_the_page_is_true_with_provisioned_kits(tmp_path: Path) -> None:
    simulated, *_ = blocks("simulate")
    shell(simulated, tmp_path)
    (project,) = re.findall(
        r"<!-- file: project\.yml -->\n```yaml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    assert "fed_learn_port: 8002" in project
    (tmp_path / "project.yml").write_text(project.replace("8002", str(free_port())))
    (provision,) = blocks("provision")
    shell(provision, tmp_path)
    kits = tmp_path / "first_project" / "prod_00"
    for typed in (
        "hansa server start first_project/prod_00/localhost",
        "HANSA_KIT=first_project/prod_00/ada@example.org",
    ):
        assert typed in PAGE.read_text()
    shell("hansa simulate first --site berlin --site paris", tmp_path)
    with ExitStack() as cleanup:
        federation = Federation(kits, ["berlin", "paris"], server="localhost", admin="ada@example.org")
        cleanup.callback(federation.close)
        federation.start("localhost")
        federation.start("berlin", "paris")
        admin = f"export HANSA_KIT={kits / 'ada@example.org'}\n"
        shell(f"{admin}hansa sites; hansa submit first --follow; hansa download last", tmp_path)
        digests = shell("sha256sum runs/*/model.safetensors", tmp_path).splitlines()
        assert len(digests) == 2
        assert len({line.split()[0] for line in digests}) == 1
