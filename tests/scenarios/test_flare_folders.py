"""Application folders as users of FLARE 2.0 write them, run as they are: each with its result, worked by hand.

Nothing in `flare_folders` knows of Hansa: code says `nvflare`, configs give FLARE's paths and bare names.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import hansa
from hansa.jobs.flare_alias import is_served
from hansa.runtime.run import Run, RunStatus
from source_code import PACKAGE, ROOT

FOLDERS = ROOT / "tests" / "scenarios" / "flare_folders"


def server_folder(run: Run) -> Path:
    """What applications of FLARE write beside: the server's app folder."""
    return next(path for path in run.folder.rglob("app_server") if path.is_dir())


def is_exactly(run: Run, **tensors: object) -> None:
    """Whether the global model is this, to the last bit."""
    assert {name: value.tolist() for name, value in run.model.items()} == tensors


def check_numpy_sag(run: Run) -> None:
    # 1 to 9, and every site adds 1 in each of 3 rounds: their mean is 3 more, exactly.
    expected = [[4.0, 5.0, 6.0], [7.0, 8.0, 9.0], [10.0, 11.0, 12.0]]
    is_exactly(run, numpy_key=expected)
    assert run.model["numpy_key"].dtype == np.float32
    assert len(run.history.rounds) == 3
    # The application's own persistor has saved the last one in the run folder.
    assert np.load(server_folder(run).parent / "models" / "server.npy").tolist() == expected


def check_numpy_cross_val(run: Run) -> None:
    # The mean of 1 to 9 is 5; two rounds make it 7. Site k hands in that model plus k; site j's data are j.
    sites = run.config["sites"]
    number = {site: int(site[5:]) for site in sites}
    expected = {
        data: {
            **{owner: {"distance": float(abs(7 + number[owner] - number[data]))} for owner in sites},
            "SRV_server": {"distance": float(abs(7 - number[data]))},
        }
        for data in sites
    }
    found = server_folder(run).parent / "cross_site_val" / "cross_val_results.json"
    assert json.loads(found.read_text()) == expected
    is_exactly(run, numpy_key=[[3.0, 4.0, 5.0], [6.0, 7.0, 8.0], [9.0, 10.0, 11.0]])


def check_relay(run: Run) -> None:
    # 1 -> 2*1+1 = 3 -> 2*3+2 = 8 -> 2*8+3 = 19; again 2*19+1 = 39 -> 2*39+2 = 80 -> 2*80+3 = 163.
    written = json.loads((server_folder(run).parent / "relay.json").read_text())
    assert written == {"value": 163.0, "way": ["site-1", "site-2", "site-3"] * 2}


def check_two_workflows(run: Run) -> None:
    # The first workflow leaves the mean of 1, 2, 3, 4, which is 2.5; the second has two rounds of +1.
    is_exactly(run, w=[4.5, 4.5, 4.5])


def check_two_filters(run: Run) -> None:
    # Two ExcludeVars keep a (by name) and b (by pattern ^b) from the sites, so nothing is ever added to them.
    # The others answer 1, which two Affine filters make 2 * 1 + 0 = 2, then 1 * 2 + 3 = 5: three rounds add 15.
    # (In the other order it would be (1 + 3) * 2 = 8 a round.)
    is_exactly(run, a=[0.0, 0.0], b=[0.0, 0.0], c=[15.0, 15.0], ab=[15.0, 15.0])


def check_bare_names(run: Run) -> None:
    # Sites add 1, 2, 5 with as many steps: (1*1 + 2*2 + 5*5) / 8 = 30 / 8 = 3.75 a round, 7.5 after two.
    # What is called private is left out of the results.
    is_exactly(run, w=[7.5] * 4, private=[0.0, 0.0])
    # Validation sums the model's four weights: 0 in round 0, 4 * 3.75 = 15 in round 1: better, so it was kept.
    assert dict(run.history.series("initial_metrics")) == {0: 0.0, 1: 15.0}
    assert np.load(server_folder(run) / "best.npy").tolist() == [3.75] * 4


def check_typed_variables(run: Run) -> None:
    # 2.5 at the start; each of 4 rounds adds lr * width = 0.25 * 4 = 1.
    is_exactly(run, w=[6.5, 6.5])


def check_failing_site(run: Run) -> None:
    # Sites 1 and 3 add their numbers, (1 + 3) / 2 = 2 a round, to 1; site 2 fails in each of the 3 rounds.
    is_exactly(run, w=[7.0, 7.0, 7.0])
    assert [sorted(record.counted) for record in run.history.rounds] == [["site-1", "site-3"]] * 3
    assert [problem.site for problem in run.problems] == ["site-2"] * 3
    assert {problem.cause for problem in run.problems} == {"ValueError: cannot read batch 7 (broken_adder.py:6)"}


class Case(NamedTuple):
    folder: str
    num_sites: int
    check: Callable[[Run], None]
    problems: int = 0


CASES = [
    Case("numpy_sag", 8, check_numpy_sag),
    Case("numpy_cross_val", 3, check_numpy_cross_val),
    Case("relay", 3, check_relay),
    Case("two_workflows", 4, check_two_workflows),
    Case("two_filters", 3, check_two_filters),
    Case("bare_names", 3, check_bare_names),
    Case("typed_variables", 3, check_typed_variables),
    Case("failing_site", 3, check_failing_site, problems=3),
]


def test_every_folder_has_its_result() -> None:
    assert {path.name for path in FOLDERS.iterdir() if path.is_dir()} == {case.folder for case in CASES}


def test_no_folder_knows_of_hansa() -> None:
    files = [path for path in FOLDERS.rglob("*") if path.suffix in (".py", ".json")]
    assert len(files) > 30
    assert not [path for path in files if "hansa" in path.read_text().lower()]
    assert importlib.util.find_spec("nvflare") is None  # so that what they import is ours


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder)
def test_a_folder_runs_as_it_is(case: Case, workers: int, tmp_path: Path) -> None:
    run = hansa.simulate(FOLDERS / case.folder, case.num_sites, workers=workers, home=tmp_path)
    assert run.status is RunStatus.COMPLETED
    assert len(run.problems) == case.problems, run.problems
    case.check(run)
    assert not is_served()
    assert not [name for name in sys.modules if name.partition(".")[0] == "nvflare"]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.folder)
def test_a_folder_runs_from_the_command_line(case: Case, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "hansa.cli.main", "simulate", str(FOLDERS / case.folder)]
    done = subprocess.run(
        [*command, "-n", str(case.num_sites), "--home", str(tmp_path), "--json"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    case.check(Run.load(tmp_path / json.loads(done.stdout)["id"]))
