"""Which runs count as repetitions of one another, and the numbers that they are compared by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from hansa.errors import ConfigError
from hansa.runtime.comparison import (
    Grouping,
    Point,
    Spread,
    best_of,
    check_metric,
    curve_of,
    group_runs,
    is_lower_better,
    main_metric,
    metric_names,
    notes_on,
)
from hansa.runtime.history import RunHistory
from hansa.runtime.run import Run, RunStatus, Timings

NAN, INF = float("nan"), float("inf")


def a_run(
    name: str,
    values: Mapping[str, Sequence[float]] = {},
    *,
    job: str | None = "digits",
    seed: int | None = 0,
    status: RunStatus = RunStatus.COMPLETED,
    **config: object,
) -> Run:
    """A run in which the server reports these values, round by round."""
    history = RunHistory(now=lambda: 0.0)
    for number in range(max(map(len, values.values()), default=0)):
        history.round_opened(number, ["site-1"])
        for metric, series in values.items():
            if number < len(series):
                history.scalar(number, "server", name=metric, value=series[number])
        history.round_closed(number)
    facts = {"job": job, "seed": seed, "job_digest": "d1", "sites": ["site-1"], **config}
    return Run(name, Path(name), status, history, Timings(0.0, 2.0, 0.0), config=facts)


def of_sites(*rounds: Mapping[str, float | None], name: str = "acc") -> Run:
    """A run in which sites report; None: the site's result counts, without a value."""
    history = RunHistory(now=lambda: 0.0)
    for number, values in enumerate(rounds):
        history.round_opened(number, list(values))
        for site, value in values.items():
            history.result_counted(number, site, weight=1.0)
            if value is not None:
                history.scalar(number, site, name=name, value=value)
        history.round_closed(number)
    return Run("gaps", Path("gaps"), RunStatus.COMPLETED, history, Timings(0.0, 1.0, 0.0))


def labels(runs: Sequence[Run], **options: object) -> dict[str, list[str]]:
    return {group.label: [run.id for run in group.runs] for group in group_runs(runs, **options)}  # type: ignore[arg-type]


def test_runs_that_differ_in_their_seed_alone_are_a_group() -> None:
    runs = [a_run("a0", seed=0), a_run("b0", job="other"), a_run("a1", seed=1), a_run("a2", seed=2, workers=4)]
    assert labels(runs) == {"digits": ["a0", "a1", "a2"], "other": ["b0"]}


@pytest.mark.parametrize("other", [{"job_digest": "d2"}, {"sites": ["site-1", "site-2"]}, {"times": {"compute": 1}}])
def test_runs_of_one_name_that_differ_in_more_are_none(other: dict[str, object]) -> None:
    runs = [a_run("a0", seed=0), a_run("a1", seed=1), a_run("a2", seed=2, **other)]
    assert labels(runs) == {"a0 +1": ["a0", "a1"], "a2": ["a2"]}
    assert labels(runs, grouping=Grouping.JOB) == {"digits": ["a0", "a1", "a2"]}
    assert labels(runs, grouping=Grouping.NONE) == {"a0": ["a0"], "a1": ["a1"], "a2": ["a2"]}


def test_old_records_do_not_say_whether_their_jobs_are_the_same() -> None:
    runs = [a_run("a0"), a_run("a1", seed=1)]
    for run in runs:
        del run.config["job_digest"]
    assert labels(runs) == {"a0": ["a0"], "a1": ["a1"]}
    assert labels([a_run("a0", job=None)]) == {"a0": ["a0"]}


def test_a_run_that_is_named_twice_counts_once() -> None:
    run = a_run("a0")
    assert labels([run, run]) == {"digits": ["a0"]}


def test_labels_of_runs_make_groups_and_labels_of_groups_name_them() -> None:
    runs = [a_run("a0"), a_run("a1", seed=1), a_run("b0", job="other")]
    assert labels(runs, labels=["x", "y", "x"]) == {"x": ["a0", "b0"], "y": ["a1"]}
    assert labels(runs, labels=["FedAvg", "SCAFFOLD"]) == {"FedAvg": ["a0", "a1"], "SCAFFOLD": ["b0"]}
    with pytest.raises(ConfigError, match=r"label: give one per run \(3\) or per group \(2\), not 4"):
        group_runs(runs, labels=list("abcd"))
    with pytest.raises(ConfigError, match=r"label: give one per run \(1\), not 2"):
        group_runs(runs[:1], labels=list("ab"))


def test_the_numbers_of_a_group() -> None:
    runs = [a_run("a", {"acc": [0.1, 0.7, 0.5]}), a_run("b", {"acc": [0.3, 0.5, 0.9]}, seed=1)]
    [group] = group_runs(runs)
    # bests 0.7 and 0.9: mean 0.8, sd sqrt(2 * 0.1^2 / 1) = 0.1414; lasts 0.5 and 0.9
    assert group.best("acc", lower=False) == Spread(pytest.approx(0.8), pytest.approx(0.141421, rel=1e-5))
    assert group.best("acc", lower=True) == Spread(pytest.approx(0.2), pytest.approx(0.141421, rel=1e-5))
    assert group.last("acc") == Spread(pytest.approx(0.7), pytest.approx(0.282843, rel=1e-5))
    assert group.best_rounds("acc", lower=False) == [1, 2]
    assert group.points("acc") == [
        Point(0, pytest.approx(0.2), 0.1, 0.3),
        Point(1, pytest.approx(0.6), 0.5, 0.7),
        Point(2, pytest.approx(0.7), 0.5, 0.9),
    ]
    assert group.seeds == [0, 1]


def test_a_single_run_has_no_spread_and_the_first_of_equals_is_the_best() -> None:
    [group] = group_runs([a_run("a", {"acc": [0.5, 0.9, 0.9]})])
    assert group.best("acc", lower=False) == Spread(0.9, None)
    assert best_of(group.runs[0], "acc", lower=False) == (1, 0.9)


def test_runs_of_other_lengths_are_averaged_over_the_rounds_that_all_have() -> None:
    [group] = group_runs([a_run("a", {"acc": [0.1, 0.3]}), a_run("b", {"acc": [0.3, 0.5, 0.9]}, seed=1)])
    assert [point.round_number for point in group.points("acc")] == [0, 1]
    assert notes_on([group], "acc") == [
        "digits: the runs end in rounds 1 to 2; the curve is over the rounds that all have"
    ]


def test_a_run_without_the_metric_is_named_and_left_out() -> None:
    groups = group_runs([a_run("a", {"acc": [0.1]}), a_run("b", {"loss": [1.0]}, seed=1), a_run("c", job="none")])
    assert [run.id for run in groups[0].with_metric("acc")] == ["a"]
    assert groups[1].best("acc", lower=False) is None
    assert groups[1].last("acc") is None
    assert groups[1].points("acc") == groups[1].best_rounds("acc", lower=True) == []
    assert notes_on(groups, "acc") == ["b: no value of acc", "c: no value of acc"]


def test_a_run_that_did_not_complete_is_named() -> None:
    groups = group_runs([a_run("a", {"acc": [0.1]}, status=RunStatus.FAILED)])
    assert notes_on(groups, "acc") == ["a: FAILED"]


def test_what_is_no_number_is_left_out_and_said_in_one_line() -> None:
    run = of_sites({"s1": 0.2, "s2": 0.4}, {"s1": 0.4, "s2": NAN}, {"s1": 0.6, "s2": INF}, {"s1": NAN, "s2": NAN})
    # round 1 and 2: the mean over s1 alone; round 3: nobody's value is a number
    assert curve_of(run, "acc") == [(0, pytest.approx(0.3)), (1, 0.4), (2, 0.6)]
    groups = group_runs([run])
    assert groups[0].best("acc", lower=False) == Spread(0.6, None)
    assert notes_on(groups, "acc") == [
        "gaps: acc is NaN or infinite at s2 (3 rounds), s1 (1 round); means are over the others"
    ]


def test_what_is_missing_at_some_sites_is_said_in_one_line() -> None:
    many = {f"s{n}": None for n in range(2, 7)}
    run = of_sites({"s1": 0.5, **many}, {"s1": 0.5, **dict.fromkeys(many, 0.1)})
    assert notes_on(group_runs([run]), "acc") == [
        (
            "gaps: acc is not reported at s2 (1 round), s3 (1 round), s4 (1 round) and 2 more sites; "
            "means are over the others"
        )
    ]


def test_a_round_that_nobody_measured_and_a_site_that_was_not_asked_are_no_gaps() -> None:
    run = of_sites({"s1": 0.5, "s2": 0.5}, {"s1": None, "s2": None}, {"s1": 0.6})
    assert notes_on(group_runs([run]), "acc") == []


def test_a_metric_that_is_never_a_number_counts_as_missing() -> None:
    run = of_sites({"s1": NAN}, {"s1": NAN})
    assert notes_on(group_runs([run]), "acc") == ["gaps: no value of acc"]


@pytest.mark.parametrize("name", ["loss", "train_loss", "val/loss", "logloss", "RMSE", "word-error", "round_seconds"])
def test_a_loss_is_better_the_lower_it_is(name: str) -> None:
    assert is_lower_better(name)


@pytest.mark.parametrize("name", ["accuracy", "initial_metrics", "auc", "glossary", "f1", "lossless_share"])
def test_everything_else_the_higher(name: str) -> None:
    assert not is_lower_better(name)


def test_the_main_metric_is_one_that_most_runs_have() -> None:
    assert main_metric([a_run("a", {"loss": [1.0], "accuracy": [0.1], "initial_metrics": [0.1]})]) == "accuracy"
    assert main_metric([a_run("a", {"auc": [1.0], "initial_metrics": [0.1]})]) == "initial_metrics"
    assert main_metric([a_run("a", {"b": [1.0], "acc": [1.0]}), a_run("c", {"b": [0.1]})]) == "b"
    with pytest.raises(ConfigError, match="no metric was reported in this run"):
        main_metric([a_run("a")])
    with pytest.raises(ConfigError, match="no metric was reported in these runs"):
        main_metric([a_run("a"), a_run("b")])


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    runs = [a_run("a", {"loss": [1.0]}), a_run("b", {"acc": [1.0]})]
    assert metric_names(runs) == ["acc", "loss"]
    check_metric(runs, "loss")
    with pytest.raises(ConfigError, match="no metric 'los'; there are: acc, loss"):
        check_metric(runs, "los")


@pytest.mark.parametrize(
    ("spread", "text"),
    [
        (Spread(0.87333, None), "0.8733"),
        (Spread(0.87333, 0.00412), "0.8733 ± 0.0041"),
        (Spread(123.456, 7.0), "123.46 ± 7.00"),
        (Spread(1234567.0, None), "1.235e+06"),
        (Spread(0.0000123456, None), "1.23e-05"),
        (Spread(0.0, 0.0), "0.0000 ± 0.0000"),
        (Spread(-0.5, None), "-0.5000"),
    ],
)
def test_numbers_as_people_read_them(spread: Spread, text: str) -> None:
    assert spread.text() == text
