"""Curves of runs."""

from __future__ import annotations

import builtins
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from hansa.errors import ConfigError, MissingExtra
from hansa.runtime.comparison import Grouping
from hansa.runtime.figures import FigureOptions, plot_runs
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


def a_seed(seed: int, job: str = "digits", top: float = 0.5, rounds: int = 4) -> Run:
    """A run of a job: accuracy `top` more by 0.1 for each seed in the last round, loss falling to 0.1."""
    history = RunHistory(now=lambda: 0.0)
    for number in range(rounds):
        history.round_opened(number, ["site-1"])
        history.result_counted(number, "site-1", weight=1.0)
        history.scalar(number, "site-1", name="accuracy", value=(top + seed / 10) * number / (rounds - 1))
        history.scalar(number, "site-1", name="loss", value=1.0 - 0.3 * number)
        history.round_closed(number)
    config = {"job": job, "seed": seed, "job_digest": job, "sites": ["site-1"]}
    return Run(f"{job}-{seed}", Path(f"{job}-{seed}"), RunStatus.COMPLETED, history, Timings(0, 1, 0), config=config)


def texts(file: Path) -> list[str]:
    """Everything that an SVG says, in its order."""
    return re.findall(r"<text[^>]*>([^<]*)</text>", file.read_text(encoding="utf-8"))


def num_bands(file: Path) -> int:
    return len(re.findall(r'id="FillBetweenPolyCollection_', file.read_text(encoding="utf-8")))


def test_several_runs_lie_over_each_other(tmp_path: Path) -> None:
    runs = [
        a_run(tmp_path / "1", "first"),
        a_run(tmp_path / "2", "second", ("loss",)),
        a_run(tmp_path / "3", "third", ()),
    ]
    file = plot_runs(runs, tmp_path / "all.svg", metric="loss")
    # the best loss is the lowest: 1 / 3 in the last of three rounds
    assert {"first: 0.3333", "second: 0.3333", "best loss", "round", "loss"} <= set(texts(file))
    assert not [text for text in texts(file) if "third" in text]
    assert num_bands(file) == 0


def test_runs_that_differ_in_their_seed_share_a_curve_with_a_band(tmp_path: Path) -> None:
    runs = [a_seed(0), a_seed(1), a_seed(0, "other", top=0.3)]
    file = plot_runs(runs, tmp_path / "all.svg", metric="accuracy")
    # bests 0.5 and 0.6: mean 0.55, sd 0.0707
    assert {
        "digits (2 runs): 0.5500 ± 0.0707",
        "other: 0.3000",
        "best accuracy, mean ± sd (band: lowest to highest)",
    } <= set(texts(file))
    assert num_bands(file) == 1


def test_labels_title_grouping_and_direction_are_the_users(tmp_path: Path) -> None:
    runs = [a_seed(0), a_seed(1)]
    options = FigureOptions(("FedAvg", "FedProx"), "Ten digits", Grouping.NONE, lower=True)
    said = texts(plot_runs(runs, tmp_path / "all.svg", metric="accuracy", options=options))
    assert {"FedAvg: 0.0000", "FedProx: 0.0000", "Ten digits"} <= set(said)
    with pytest.raises(ConfigError, match="not 3"):
        plot_runs(runs, tmp_path / "no.svg", options=FigureOptions(("a", "b", "c")))
    assert not (tmp_path / "no.svg").exists()


def test_each_metric_has_a_panel_of_its_own(tmp_path: Path) -> None:
    said = texts(plot_runs([a_seed(0), a_seed(0, "other")], tmp_path / "all.svg"))
    assert said.count("round") == 2
    assert {"accuracy", "loss", "best accuracy", "best loss"} <= set(said)


def test_too_many_metrics_are_not_all_drawn_and_it_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = a_run(tmp_path, metrics=tuple(f"m{n}" for n in range(10)))
    said = texts(run.plot(tmp_path / "all.svg"))
    assert said.count("round") == 8
    assert "10 metrics are too many for one picture; without: m8, m9" in caplog.text


def test_nine_curves_have_nine_looks_and_the_legend_beside_them(tmp_path: Path) -> None:
    runs = [a_seed(0, f"job{n}") for n in range(9)]
    file = plot_runs(runs, tmp_path / "all.svg", metric="accuracy")
    assert len([text for text in texts(file) if text.startswith("job")]) == 9
    assert (tmp_path / "all.svg").read_text().count("stroke-dasharray: 5.92") > 0  # the ninth: colour one, dashed


def test_one_run_says_what_its_curves_are(tmp_path: Path) -> None:
    said = texts(a_seed(0).plot(tmp_path / "one.svg", metric="accuracy"))
    assert {"one site", "global (weighted mean of the sites)", "accuracy", "digits"} <= set(said)
    said = texts(a_run(tmp_path).plot(tmp_path / "one.svg", metric="accuracy"))
    assert {"each of the 2 sites", "global"} <= set(said)


def test_the_metric_before_training_is_called_so(tmp_path: Path) -> None:
    said = texts(a_run(tmp_path, metrics=("initial_metrics",)).plot(tmp_path / "one.svg"))
    assert "metric at the start of the round" in said


def test_a_single_round_is_drawn_between_whole_numbers(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    del run.history.rounds[1:]
    said = texts(run.plot(tmp_path / "one.svg", metric="loss"))
    assert "0" in said
    assert "1" in said


def test_numbers_that_are_none_leave_a_gap_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = a_seed(0)
    run.history.scalar(2, "site-1", name="accuracy", value=float("nan"))
    other = a_seed(1)
    with caplog.at_level(logging.WARNING):
        file = plot_runs([run, other], tmp_path / "all.svg", metric="accuracy")
    assert "digits (2 runs): 0.5500 ± 0.0707" in texts(file)
    [record] = caplog.records
    assert record.getMessage() == (
        "digits-0: accuracy is NaN or infinite at site-1 (1 round); means are over the others"
    )
    run.plot(tmp_path / "one.png")
    plot_runs([run], tmp_path / "again.png", metric="accuracy")


def test_a_metric_that_is_never_a_number_is_an_empty_picture_and_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = a_seed(0, rounds=2)
    for number in range(2):
        run.history.scalar(number, "site-1", name="accuracy", value=float("inf"))
    plot_runs([run, a_seed(1, rounds=2)], tmp_path / "all.svg", metric="accuracy")
    plot_runs([run], tmp_path / "one.svg", metric="accuracy")
    assert caplog.text.count("digits-0: no value of accuracy") == 2


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
