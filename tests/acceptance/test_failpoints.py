"""kill -9 of each kind of process at each failpoint: the job ends with the same bits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from hansa.errors import HansaError
from hansa.failpoints import NAMES
from poc_jobs import COUNT
from poc_parts import PATIENCE_S, Federation, federation, file, processes_below, scaffolds, wait_until_gone
from postgres import Postgres

pytestmark = pytest.mark.slow

SITES = ("site-1", "site-2", "site-3")
ROUNDS = 3
KINDS = ("server", "server job", "site", "site job")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that says what is armed."""
    return tmp_path_factory.mktemp("failpoints") / "armed"


@pytest.fixture(scope="module", params=["SQLite", "PostgreSQL"])
def fed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, points: Path) -> Iterator[Federation]:
    with ExitStack() as cleanup:
        place = {}
        if request.param == "PostgreSQL":
            database = Postgres()
            cleanup.callback(database.stop)
            place = {"HANSA_JOURNAL": database.create().new_database()}
        folder = tmp_path_factory.mktemp("failing") / "fed"
        yield cleanup.enter_context(federation(folder, SITES, HANSA_FAILPOINTS=f"@{points}", **place))


@pytest.fixture(scope="module")
def undisturbed(fed: Federation) -> str | None:
    return fed.session.submit(scaffolds(rounds=ROUNDS)).wait(PATIENCE_S).model_digest


def wait_for_file(path: Path) -> str:
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    while not (path.exists() and (text := path.read_text()).endswith("\n")):
        assert time.monotonic() < deadline, f"nobody has reached it: {path.name}"
        pause.wait(0.005)
    return text


def processes(fed: Federation) -> dict[int, tuple[str, str]]:
    """The kind of each process, and whose it is."""
    kinds = {name: "server" if name == "server" else "site" for name in ("server", *SITES)}
    found = {process.pid: (kinds[name], name) for name, process in fed.processes.items()}
    for name, kind in kinds.items():
        found |= dict.fromkeys(processes_below(fed.kit(name), working=True), (f"{kind} job", name))
    return found


def kill(fed: Federation, kind: str, *, stopped: int) -> None:
    """Kill a process of a kind: the one that has stopped, if it is of that kind. If not, that one goes on."""
    found = {pid: name for pid, (each, name) in processes(fed).items() if each == kind}
    pid = stopped if stopped in found else min(found, default=0)
    if pid and not kind.endswith("job"):
        fed.processes[found[pid]].send(signal.SIGKILL)
    elif pid:
        os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
    if pid and not kind.endswith("job"):
        fed.end(found[pid], signal.SIGKILL)
        fed.start(found[pid])


def submit(fed: Federation) -> None:
    with suppress(HansaError):  # the server was killed over it
        fed.session.submit(scaffolds(rounds=ROUNDS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", [name for name in NAMES if not name.startswith("checkpoint.")])
def test_a_process_is_killed(
    fed: Federation, points: Path, undisturbed: str, *, point: str, kind: str, tmp_path: Path
) -> None:
    fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
    marker = tmp_path / point
    time_ = 1 if point.startswith(("submit", "job")) else 2
    with ExitStack() as cleanup:
        counts = [cleanup.enter_context(file(fed.kit(name), COUNT)) for name in SITES]
        points.write_text(f"{point}=stop@{time_}!{marker}")
        submitted = threading.Thread(target=submit, args=(fed,))
        number = len(fed.session.jobs())
        submitted.start()
        stopped = int(wait_for_file(marker))
        began = time.monotonic()
        kill(fed, kind, stopped=stopped)
        submitted.join()
        points.unlink()
        fed.until_site(lambda sites: all(sites.get(name) for name in SITES))
        jobs = fed.session.jobs()
        assert len(jobs) == number + 1
        run = fed.session.run("last").wait(PATIENCE_S)
        print(f"{point:35} {kind:12} {time.monotonic() - began:.2f} s")
        tasks = [line for path in counts for line in path.read_text().splitlines()]
    assert run.model_digest == undisturbed, (run.history.rounds, run.problems, sorted(tasks))
    assert [sorted(each.counted) for each in run.history.rounds] == [list(SITES)] * ROUNDS
    assert len(tasks) <= ROUNDS * len(SITES) + 1, sorted(tasks)
    wait_until_gone(list(processes_below(fed.folder, working=True)), PATIENCE_S)
