"""The CIFAR-10 example: the command, what it leaves, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from acceptance.cifar10_files import EXAMPLE, Modules, example_modules, folder_with_images

pytestmark = pytest.mark.slow

PAIR = ("fedavg-0.1", "scaffold-0.1")


@pytest.fixture(scope="module")
def example() -> Iterator[Modules]:
    with example_modules() as modules:
        yield modules


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with_images(tmp_path_factory.mktemp("images"))


def command(*arguments: object, out: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    where = [] if out is None else ["--out", out]
    line = [sys.executable, EXAMPLE / "run.py", *arguments, *where]
    known = {key: value for key, value in os.environ.items() if key != "HANSA_DATA"}
    return subprocess.run(
        [str(word) for word in line],
        env={**known, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two rounds of two configurations, in two processes."""
    out = tmp_path_factory.mktemp("cifar10")
    options = ("--rounds", 2, "--images", 800, "--only", *PAIR, "--workers", 2)
    done = command("--preset", "cpu", "--data", folder, *options, out=out)
    assert done.returncode == 0, done.stderr[-3000:]
    return out, done.stdout


def test_the_command_leaves_a_table_and_a_figure(finished: tuple[Path, str]) -> None:
    out, printed = finished
    table = (out / "table.md").read_text(encoding="utf-8")
    assert table in printed
    lines = table.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| FedAvg, alpha 0.1", "| SCAFFOLD, alpha 0.1"]
    record = json.loads((out / "table.json").read_text())
    assert [row["seeds"] for row in record["table"]] == [[0], [0]]
    assert record["settings"]["rounds"] == 2
    for row in record["table"]:
        curve = record["curves"][row["configuration"]]["0"]
        assert len(curve) == 3  # at the start of two rounds, and after the last
        assert all(0.0 <= value <= 1.0 for value in curve)
        assert row["final"] == {"mean": curve[-1], "sd": None}
        assert row["best"]["mean"] == max(curve)
    first = {curves["0"][0] for curves in record["curves"].values()}
    assert len(first) == 1  # both begin with the same weights
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_all_eight_sites_counted_in_every_round(finished: tuple[Path, str]) -> None:
    out, _ = finished
    for result in (out / "results").glob("*.json"):
        run = Path(json.loads(result.read_text())["run"])
        rounds = [line["round"] for line in map(json.loads, history(run)) if "round" in line]
        assert [len(record["counted"]) for record in rounds] == [8, 8]
        assert all(record["refused"] == {} for record in rounds)


def history(run: Path) -> list[str]:
    return (run / "history.jsonl").read_text().splitlines()


def test_what_is_finished_is_not_run_again(finished: tuple[Path, str], folder: Path) -> None:
    out, _ = finished
    runs = sorted((out / "runs").iterdir())
    (out / "accuracy.png").unlink()
    options = ("--rounds", 2, "--images", 800, "--only", *PAIR, "--workers", 0)
    done = command("--preset", "cpu", "--data", folder, *options, out=out)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [f"{name}, seed 0: finished before" for name in PAIR]
    assert sorted((out / "runs").iterdir()) == runs
    assert (out / "accuracy.png").exists()


def test_results_of_other_settings_are_not_mixed(finished: tuple[Path, str], folder: Path) -> None:
    out, _ = finished
    options = ("--rounds", 3, "--images", 800, "--only", PAIR[0])
    done = command("--preset", "cpu", "--data", folder, *options, out=out)
    assert done.returncode == 2
    assert done.stderr.endswith("fedavg-0.1-seed-0.json: was made with rounds 2, not 3: give another --out\n")
    assert done.stderr.count("\n") == 1


def test_every_other_configuration_runs(folder: Path, tmp_path: Path) -> None:
    names = ("central", "fedavg-1.0", "fedprox-0.1", "fedopt-0.1")
    options = ("--rounds", 1, "--images", 240, "--only", *names, "--seeds", 1, "--workers", 0)
    done = command("--preset", "cpu", "--data", folder, *options, out=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = json.loads((tmp_path / "table.json").read_text())["table"]
    assert [row["configuration"] for row in rows] == list(names)
    assert "problem" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--preset", "cpu"], "error: --data: say where CIFAR-10 is: --data FOLDER, or HANSA_DATA"),
        (
            ["--preset", "cpu", "--data", "/nowhere"],
            "error: /nowhere: there is no such folder",
        ),
        (
            ["--preset", "cpu", "--data", str(EXAMPLE)],
            f"error: {EXAMPLE}: holds no CIFAR-10: neither cifar-10-batches-py/data_batch_1 nor cifar10/train_1.npz",
        ),
        (
            ["--preset", "cpu", "--only", "fedavg-0"],
            "error: --only: alpha must be a number above 0, not '0', in 'fedavg-0'",
        ),
        (
            ["--preset", "cpu", "--only", "fedavg"],
            "error: --only: alpha must be a number above 0, not '', in 'fedavg'",
        ),
        (
            ["--preset", "cpu", "--only", "fedsgd-0.1"],
            "error: --only: no configuration 'fedsgd-0.1'; there are: ",
        ),
        (["--preset", "cpu", "--rounds", "0"], "error: --rounds: must be at least 1, not 0"),
        (["--preset", "cpu", "--seeds", "-1"], "error: --seeds: must be at least 0, not -1"),
        (["--preset", "full"], "error: --device: needs a CUDA device, and "),
        (["--preset", "cpu", "--device", "cuda"], "error: --device: needs a CUDA device, and "),
    ],
)
def test_a_mistake_is_one_line(
    example: Modules,
    arguments: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("HANSA_DATA", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert example["run"].main([*arguments, "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line)
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_split_that_cannot_be_made_is_known_before_anything_runs(
    example: Modules, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--images", "79", "--only", "central", "fedavg-1.0", "--out", str(tmp_path)]
    assert example["run"].main(["--preset", "cpu", "--data", str(folder), *options]) == 2
    printed = capsys.readouterr().err
    assert printed == "error: cannot divide 79 examples over 8 sites, alpha 1.0, at least 10 each\n"
    assert not (tmp_path / "runs").exists()


# -- the table -------------------------------------------------------------------------------------------------------


def test_the_table_of_the_published_settings_has_the_published_figures(example: Modules, tmp_path: Path) -> None:
    results, presets = example["results"], example["configurations"]
    kept = results.Results(tmp_path, presets.FULL)
    settings = results.settings_of(presets.FULL)
    for seed, final in ((0, 0.76), (1, 0.80)):
        kept.keep(results.Result("fedavg-0.1", seed, settings, [0.1, 0.8 + seed / 100], final, 120.0, "run"))
    kept.keep(results.Result("central", 0, settings, [0.1, 0.8], 0.88, 60.0, "run"))
    kept.keep(results.Result("fedavg-0.05", 0, settings, [0.1, 0.5], 0.6, 60.0, "run"))
    kept.write()
    columns = ["accuracy after the last round", "best round", "FLARE 2.0", "difference", "seeds", "minutes per run"]
    # sd of 0.76 and 0.80: 0.04 / sqrt(2); best: 0.80 and 0.81
    assert (tmp_path / "table.md").read_text(encoding="utf-8").splitlines() == [
        f"| configuration | {' | '.join(columns)} |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| central | 0.8800 | 0.8800 | 0.8798 | +0.0002 | 0 | 1.0 |",
        "| FedAvg, alpha 0.1 | 0.7800 ± 0.0283 | 0.8050 ± 0.0071 | 0.7733 | +0.0067 | 0, 1 | 2.0 |",
        "| FedAvg, alpha 0.05 | 0.6000 | 0.6000 | - | - | 0 | 1.0 |",
    ]


def test_the_full_preset_has_the_published_settings(example: Modules) -> None:
    full = example["results"].settings_of(example["configurations"].FULL)
    assert full == {
        "name": "full",
        "rounds": 50,
        "central_epochs": 25,
        "images": 50_000,
        "test_images": 10_000,
        "training": {
            "network": "moderate",
            "epochs": 4,
            "batch": 64,
            "rate": 0.01,
            "momentum": 0.9,
            "fast": False,
        },
    }
