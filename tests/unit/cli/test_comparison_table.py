"""`hansa runs compare`: what its table shows, and that it fits the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hansa.cli.comparison_table import Row, as_rows, print_comparison
from hansa.runtime.comparison import group_runs
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Run, RunStatus, Timings


def a_run(name: str, values: Sequence[float], *, job: str = "digits", seed: object = 0, metric: str = "acc") -> Run:
    history = RunHistory(now=lambda: 0.0)
    for number, value in enumerate(values):
        history.round_opened(number, ["site-1", "site-2"])
        history.scalar(number, "server", name=metric, value=value)
        history.round_closed(number)
    config = {"job": job, "seed": seed, "job_digest": "d", "sites": ["site-1", "site-2"]}
    return Run(name, Path(name), RunStatus.COMPLETED, history, Timings(0.5, 2.0, 0.5), config=config)


RUNS = [
    a_run("20261122-153045-digits", [0.1, 0.7, 0.5]),
    a_run("20261122-153046-digits", [0.3, 0.5, 0.9], seed=1),
    a_run("20261122-153047-a-job-with-a-rather-long-name", [0.2, 0.95], job="a job with a rather long name"),
    a_run("20261122-153048-none", [0.2], job="none", metric="other"),
]


def rows(*, lower: bool = False) -> list[Row]:
    return as_rows(group_runs(RUNS), "acc", lower=lower)


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int, shown: list[Row] | None = None
) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    print_comparison(rows() if shown is None else shown, "acc", lower=False, others=["other"], notes=["a\nnote [b]"])
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_a_row_says_what_was_run_and_how_good_it_became() -> None:
    first, second, last = rows()
    assert (first["label"], second["label"], last["label"]) == ("a job with a rather long name", "digits", "none")
    assert second == {
        "label": "digits",
        "job": "digits",
        "runs": ["20261122-153045-digits", "20261122-153046-digits"],
        "status": ["COMPLETED"],
        "sites": 2,
        "rounds": [3, 3],
        "seeds": [0, 1],
        "best": {"mean": pytest.approx(0.8), "sd": pytest.approx(0.141421, rel=1e-5)},
        "best_rounds": [1, 2],
        "last": {"mean": pytest.approx(0.7), "sd": pytest.approx(0.282843, rel=1e-5)},
        "seconds": 3.0,
    }
    assert (last["best"], last["last"], last["best_rounds"]) == (None, None, [])


def test_the_best_comes_first_and_what_lacks_the_metric_last() -> None:
    # lowest values: digits (0.1 + 0.3) / 2 = 0.2, the other 0.2: as given
    assert [row["label"] for row in rows(lower=True)] == ["digits", "a job with a rather long name", "none"]


def test_the_whole_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(capsys, monkeypatch, 120) == [
        "acc of the global model, higher is better; there are also: other",
        "run                            sites  rounds  seeds  best             in round  last             seconds",
        "a job with a rather long name      2       2      0  0.9500                  1  0.9500               3.0",
        "digits                             2       3    0,1  0.8000 ± 0.1414       1-2  0.7000 ± 0.2828      3.0",
        "none                               2       1      0  -                       -  -                    3.0",
        "a note [b]",
    ]


def test_eighty_columns_hold_it_in_one_line_a_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed(capsys, monkeypatch, 80)[1:-1] == [
        "run             sites  rounds  seeds  best             in round  last",
        "a job with a …      2       2      0  0.9500                  1  0.9500",
        "digits              2       3    0,1  0.8000 ± 0.1414       1-2  0.7000 ± 0.2828",
        "none                2       1      0  -                       -  -",
    ]


@pytest.mark.parametrize("width", [50, 60, 70])
def test_a_narrow_terminal_keeps_the_best(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = printed(capsys, monkeypatch, width)[1:-1]
    assert len(lines) == 4
    assert all(len(line) <= width for line in lines)
    assert all("0.8000 ± 0.1414" in line for line in lines if line.startswith("digits"))


@pytest.mark.parametrize(
    ("seeds", "text"),
    [([0, 1, 2, 3, 4], "0-4"), ([3, 7], "3,7"), ([None], "?"), ([0, 0, 1], "0,0,1"), (range(0, 40, 3), "14 seeds")],
)
def test_seeds_are_said_shortly(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seeds: Sequence[object], text: str
) -> None:
    runs = [a_run(f"r{n}", [0.5], seed=seed) for n, seed in enumerate(seeds)]
    line = printed(capsys, monkeypatch, 120, as_rows(group_runs(runs), "acc", lower=False))[2]
    assert f"  {text}  " in line


def test_what_came_from_elsewhere_does_nothing_to_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = as_rows(group_runs([a_run("r", [0.5], job="[bold]\x1b[31m")]), "acc", lower=False)
    assert printed(capsys, monkeypatch, 120, shown)[2].startswith("[bold]\\x1b[31m  ")
