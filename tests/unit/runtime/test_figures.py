"""Curves of runs."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from hansa.errors import ConfigError, MissingExtra
from hansa.runtime.figures import plot_runs
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Run, RunStatus, Timings

PNG = b"\x89PNG\r\n\x1a\n"


def a_run(folder: Path, name: str = "digits", metrics: tuple[str, ...] = ("loss", "accuracy")) -> Run:
    history = RunHistory(now=lambda: 0.0)
    for number in range(3):
        history.round_opened(number, ["site-1", "site-2"])
        for site in ("site-1", "site-2", "server"):
            for metric in metrics:
                history.scalar(number, site, name=metric, value=1 / (number + 1))
        history.round_closed(number)
    return Run(name, folder, RunStatus.COMPLETED, history, Timings(0.0, 0.0, 0.0))


def test_one_run_is_drawn_into_its_folder(tmp_path: Path) -> None:
    file = a_run(tmp_path).plot()
    assert file == tmp_path / "curves.png"
    assert file.read_bytes().startswith(PNG)


def test_several_runs_lie_over_each_other(tmp_path: Path) -> None:
    runs = [a_run(tmp_path, "first"), a_run(tmp_path, "second", ("loss",)), a_run(tmp_path, "third", ())]
    text = plot_runs(runs, tmp_path / "all.svg", metric="loss").read_text()
    assert "<svg" in text


def test_the_ending_chooses_the_format(tmp_path: Path) -> None:
    assert a_run(tmp_path).plot(tmp_path / "x.pdf", metric="accuracy").read_bytes().startswith(b"%PDF")


def test_an_unknown_metric_is_one_line_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no metric 'los'; there are: accuracy, loss"):
        a_run(tmp_path).plot(metric="los")


def test_nothing_reported_means_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to draw"):
        a_run(tmp_path, metrics=()).plot()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["no/such/folder/x.png", "x.unknown"])
def test_a_file_that_cannot_be_written_is_the_users_mistake(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot write"):
        a_run(tmp_path).plot(tmp_path / name)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"hansa\[figures\]"):
        a_run(tmp_path).plot()
