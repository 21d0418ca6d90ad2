"""What federating gains: the table, the verdict and the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hansa.demos.gain import Gain


def two_seeds(*, higher_is_better: bool = True) -> Gain:
    gain = Gain("Rocks", metric="accuracy", higher_is_better=higher_is_better)
    gain.add(seed=0, alone={"a": 0.5, "b": 0.7}, federated=0.8, pooled=0.9)
    gain.add(seed=1, alone={"a": 0.6, "b": 0.8}, federated=0.7, pooled=0.9)
    return gain


def test_the_table_has_means_and_deviations_over_seeds() -> None:
    # Deviations of a sample of two: |difference| / sqrt(2). Mean alone 0.6 and 0.7; federated - alone 0.2 and 0.0.
    assert two_seeds().table().splitlines() == [
        "| Rocks | accuracy, higher is better |",
        "| --- | ---: |",
        "| a alone | 0.550 ± 0.071 |",
        "| b alone | 0.750 ± 0.071 |",
        "| mean site alone | 0.650 ± 0.071 |",
        "| federated | 0.750 ± 0.071 |",
        "| pooled | 0.900 ± 0.000 |",
        "| pooled - federated | 0.150 ± 0.071 |",
        "| federated - mean site alone | 0.100 ± 0.141 |",
    ]


def test_the_verdict_is_plain_whichever_way_is_better() -> None:
    assert two_seeds().verdict() == (
        "The federated model beats the mean site alone by 0.100 (better with 1 of 2 seeds); "
        "pooled - federated is +0.150 ± 0.071."
    )
    assert (
        two_seeds(higher_is_better=False)
        .verdict()
        .startswith(
            "The federated model does not beat the mean site alone: it is worse by 0.100 (better with 0 of 2 seeds)"
        )
    )


def test_many_sites_or_other_ones_each_time_give_lowest_and_highest() -> None:
    gain = Gain("Roles", metric="accuracy")
    gain.add(seed=0, alone={"a": 0.1, "b": 0.3}, federated=0.4, pooled=0.5)
    gain.add(seed=1, alone={"c": 0.2, "d": 0.4}, federated=0.4, pooled=0.5)
    assert list(gain.rows().items())[:3] == [
        ("lowest site alone", [0.1, 0.2]),
        ("highest site alone", [0.3, 0.4]),
        ("mean site alone", [pytest.approx(0.2), pytest.approx(0.3)]),
    ]


def test_what_cannot_be_is_refused() -> None:
    gain = two_seeds()
    with pytest.raises(ValueError, match="seed 1 is there already"):
        gain.add(seed=1, alone={"a": 1}, federated=1, pooled=1)
    with pytest.raises(ValueError, match="seed 2: accuracy of pooled is nan"):
        gain.add(seed=2, alone={"a": 1}, federated=1, pooled=float("nan"))
    with pytest.raises(ValueError, match="at least one site"):
        gain.add(seed=2, alone={}, federated=1, pooled=1)
    with pytest.raises(ValueError, match="nothing was measured"):
        Gain("Rocks", metric="accuracy").table()


def test_files_are_written(tmp_path: Path) -> None:
    gain = two_seeds()
    figure = gain.save(tmp_path / "deep" / "out")
    assert figure.read_bytes()[:4] == b"\x89PNG"
    assert (figure.parent / "gain.md").read_text().startswith(gain.table())
    told = json.loads((figure.parent / "gain.json").read_text())
    assert told["summary"]["federated"] == {"mean": pytest.approx(0.75), "sd": pytest.approx(0.0707, abs=1e-4)}
    assert told["seeds"][1] == {"seed": 1, "alone": {"a": 0.6, "b": 0.8}, "federated": 0.7, "pooled": 0.9}
