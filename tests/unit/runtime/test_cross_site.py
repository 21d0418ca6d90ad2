"""The matrix of models and sites: which metric, what order, what is missing; its picture and its table."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hansa.cli.main import app
from hansa.errors import ConfigError
from hansa.runtime.cross_site import cross_site, model_label
from hansa.runtime.history import Evaluation, RunHistory
from hansa.runtime.matrix_figure import plot_matrix
from hansa.runtime.run import Run
from hansa.runtime.run_folder import HISTORY, RunFolder

FOUND = [
    Evaluation("site-b", "site-a", {"loss": 2.0, "val_acc": 0.5}),
    Evaluation("site-b", "site-b", {"loss": 1.0}),
    Evaluation("SRV_best_global_model.pt", "site-a", {"loss": 0.5, "val_acc": 0.75}),
    Evaluation("site-a", "", {}, "no model: it has none"),
    Evaluation("site-b", "site-c", {}, "ValueError: no data"),
]


def test_an_accuracy_is_shown_unless_another_metric_is_named() -> None:
    matrix = cross_site(FOUND)
    assert matrix.metric == "val_acc"
    assert matrix.models == ("SRV_best_global_model.pt", "site-a", "site-b")
    assert matrix.sites == ("site-a", "site-b", "site-c")
    assert matrix.values == {("site-b", "site-a"): 0.5, ("SRV_best_global_model.pt", "site-a"): 0.75}
    assert matrix.errors == {
        ("site-a", ""): "no model: it has none",
        ("site-b", "site-b"): "no val_acc in its result",
        ("site-b", "site-c"): "ValueError: no data",
    }
    assert cross_site(FOUND, "loss").mean("site-b") == 1.5
    assert cross_site(FOUND, "loss").mean("site-a") is None
    assert cross_site([Evaluation("a", "a", {"initial_metrics": 1.0, "mse": 2.0})]).metric == "mse"


def test_what_came_later_stands() -> None:
    again = [*FOUND, Evaluation("site-b", "site-c", {"val_acc": 0.25})]
    assert cross_site(again).values["site-b", "site-c"] == 0.25
    assert ("site-b", "site-c") not in cross_site(again).errors


def test_there_may_be_none() -> None:
    with pytest.raises(ConfigError, match="no model was measured across sites in this run"):
        cross_site([])
    with pytest.raises(ConfigError, match="there are loss, val_acc"):
        cross_site(FOUND, "auc")


def test_the_history_takes_them_up_again_and_goes_back_with_its_commits() -> None:
    lines: list[dict[str, Any]] = []
    history = RunHistory(lines.append, now=lambda: 0.0)
    history.evaluated("m", "a", metrics={"x": 1})
    history.evaluated("m", "b", metrics={}, error="none")
    again = RunHistory(now=lambda: 0.0)
    for line in lines:
        again.add_line(line)
    assert (
        again.evaluations == history.evaluations == [Evaluation("m", "a", {"x": 1.0}), Evaluation("m", "b", {}, "none")]
    )
    again.add_line({"resumed": {"lines": 1}})
    assert again.evaluations == history.evaluations[:1]


def test_names_for_people() -> None:
    assert model_label("SRV_best_FL_global_model.pt") == "best FL global model (server)"
    assert model_label("site-1") == "site-1"


def test_it_is_drawn(tmp_path: Path) -> None:
    file = plot_matrix(cross_site(FOUND, "loss"), tmp_path / "m.svg", title="a run")
    text = file.read_text()
    for word in ("a run", "best global model (server)", "site-c", "measured on the data of", "loss (lower is better)"):
        assert word in text
    assert re.findall(r">(0\.500|1\.000|2\.000)<", text).count("2.000") >= 1
    nothing = cross_site([Evaluation("a", "b", {}, "no")])
    assert plot_matrix(nothing, tmp_path / "n.png").stat().st_size > 0
    with pytest.raises(ConfigError, match="cannot write"):
        plot_matrix(nothing, tmp_path / "none" / "n.png")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = RunFolder.create(tmp_path, "evaluated")
    folder.write_record({"status": "COMPLETED", "config": {"job": "x", "sites": ["site-a"], "seed": 0}})
    for found in FOUND:
        folder.append(HISTORY, {"evaluation": vars(found)})
    folder.close()
    return Run.load(folder.path)


def test_the_terminal_has_a_table_and_a_picture(run: Run, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["runs", "show", str(run.folder)]).output.splitlines()
    head = next(index for index, line in enumerate(told) if line.startswith("val_acc of each model"))
    assert told[head] == "val_acc of each model on each site's data (also measured: loss)"
    assert told[head + 1].split() == ["model", "site-a", "site-b", "site-c", "mean"]
    assert told[head + 2].split()[-4:] == ["0.7500", "-", "-", "0.7500"]
    assert "not measured: site-a: no model: it has none" in told
    assert "not measured: site-b on site-c: ValueError: no data" in told
    picture = tmp_path / "x.png"
    drawn = CliRunner().invoke(app, ["runs", "plot", str(run.folder), "--matrix", "-o", str(picture)])
    assert (drawn.exit_code, drawn.output.strip()) == (0, str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run.plot_cross_site() == run.folder / "cross_site.png"


def test_two_runs_have_no_matrix(run: Run) -> None:
    two = CliRunner().invoke(app, ["runs", "plot", str(run.folder), str(run.folder), "--matrix"])
    assert two.exit_code != 0
    assert isinstance(two.exception, ConfigError)
