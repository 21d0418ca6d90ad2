"""The picture of a partition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hansa.errors import ConfigError
from hansa.runtime.partition_figure import plot_partition

COUNTS = np.array([[5, 0, 1], [2, 7, 1200]])


def test_names_and_sizes_are_in_the_picture(tmp_path: Path) -> None:
    text = plot_partition(COUNTS, tmp_path / "split.svg", labels=["cat", "dog", "frog"], title="alpha").read_text()
    for word in ("site-1", "site-2", "cat", "frog", "1,209", "alpha"):
        assert f"<!-- {word} -->" in text


def test_every_number_above_zero_has_a_bubble(tmp_path: Path) -> None:
    def bubbles(counts: np.ndarray) -> int:
        text = plot_partition(counts, tmp_path / "split.svg").read_text()
        _, _, collection = text.partition('id="PathCollection_1"')
        return collection.partition('<g id="patch')[0].count("<path")

    assert bubbles(COUNTS) == 5
    assert bubbles(COUNTS[:, 1:]) == 3


def test_a_hundred_sites_are_named_in_part(tmp_path: Path) -> None:
    file = plot_partition(np.ones((100, 3), np.int64), tmp_path / "split.svg")
    assert "<!-- site-1 -->" in file.read_text()
    assert "<!-- site-2 -->" not in file.read_text()


@pytest.mark.parametrize("counts", [np.zeros((2, 2), int), np.ones(3, int), np.array([[1, -1]]), np.ones((0, 2), int)])
def test_what_is_no_table_is_refused(counts: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be numbers of examples"):
        plot_partition(counts, tmp_path / "split.svg")


def test_names_that_do_not_fit_and_a_file_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="labels: there are 3, and 2 names"):
        plot_partition(COUNTS, tmp_path / "split.svg", labels=["a", "b"])
    with pytest.raises(ConfigError, match="cannot write"):
        plot_partition(COUNTS, tmp_path / "none" / "split.svg")
