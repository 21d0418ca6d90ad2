"""What a site's table may come as, and the one line that says what is wrong with it."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.components.statistics_tables import Table, table_of
from hansa.errors import ConfigError


def rows_of(table: Table) -> Any:
    blocks = [block.copy() for block, _ in table.blocks()]
    return np.concatenate(blocks, axis=1).T if blocks else np.empty((0, len(table.features)))


class Frame:
    """As much of a data frame as is asked of one."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


A, B = np.array([1.0, np.nan, 3.0]), np.array([4, 5, 6])
WANTED = np.stack([A, B.astype(float)], axis=1)


@pytest.mark.parametrize(
    "given",
    [
        {"a": A, "b": B},
        {"a": [1, None, 3], "b": ["4", " 5", "6"]},
        np.stack([A, B], axis=1),
        np.asfortranarray(np.stack([A, B], axis=1)),
        np.array(list(zip(A, B, strict=True)), [("a", "f8"), ("b", "i4")]),
        Frame({"a": A, "b": B}),
    ],
    ids=["columns", "lists", "matrix", "by-column", "structured", "frame"],
)
def test_tables_of_all_kinds_hold_the_same(given: object) -> None:
    table = table_of("train", given, features=("a", "b"), label=None)
    assert table.features == ("a", "b")
    np.testing.assert_array_equal(rows_of(table), WANTED)


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_file_with_missing_values_texts_and_a_label(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"data{ending}"
    text = "age, name ,sex\n1,Ann,f\n?,Bob,m\n3,,\n"
    file.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
    table = table_of("train", file, features=(), label="sex")
    assert (table.features, table.labels) == (("age",), ("f", "m"))
    assert table.codes is not None
    assert table.codes.tolist() == [0, 1, -1]
    np.testing.assert_array_equal(rows_of(table)[:, 0], [1, np.nan, 3])


def test_a_long_table_comes_in_pieces() -> None:
    column = np.arange(1_000_003)
    table = table_of("train", {"a": column, "y": column % 2}, features=(), label="y")
    pieces = [(block.shape, None if codes is None else len(codes)) for block, codes in table.blocks()]
    assert len(pieces) > 1
    assert all(shape == (1, count) for shape, count in pieces)
    np.testing.assert_array_equal(rows_of(table)[:, 0], column)


def test_labels_of_whole_numbers_read_alike_everywhere() -> None:
    whole = table_of("train", {"a": A, "y": [0, 1, 0]}, features=(), label="y")
    real = table_of("train", {"a": A, "y": [0.0, 1.0, np.nan]}, features=(), label="y")
    assert whole.labels == ("0", "1")
    assert real.labels == ("0", "1")
    assert real.codes is not None
    assert real.codes.tolist() == [0, 1, -1]


def test_images_become_intensities() -> None:
    grey = table_of("train", [np.zeros((2, 3), np.uint8), np.ones((4, 2), np.uint8)], features=(), label=None)
    assert (grey.features, grey.num_rows, grey.rows_per_subject) == (("intensity",), 14, 8)
    colour = table_of("train", np.zeros((5, 2, 2, 3), np.uint8), features=(), label=None)
    assert (colour.features[2], colour.num_rows, colour.rows_per_subject) == ("intensity-2", 20, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,b\n1\n", "row 1 has 1 cells, the header 2"),
        ("a,a\n1,2\n", "column 'a' is there twice"),
        ("a,b\n1,2\n3,x\n", "column b: row 2 holds 'x', which is no number"),
        ("name\nAnn\n", "no column of numbers"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "data.csv"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        table_of("train", str(file), features=(), label=None)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "features", "label", "words"),
    [
        ({"a": A}, ("c",), None, "there is no column 'c'; there are a"),
        ({"a": A}, (), "y", "there is no column 'y'"),
        ({"a": A, "b": [1, 2]}, (), None, "columns differ in length: a 3, b 2"),
        ({"a": ["u", "v", "w"]}, ("a",), None, "row 1 holds 'u'"),
        ({"a": np.zeros((3, 2))}, (), None, "one value per row"),
        ({"a": np.arange(60), "y": np.arange(60)}, (), "y", "60 different values, a label at most 50"),
        (np.zeros((3, 2)), ("a",), None, "has 2 columns, but features() names 1"),
        (7, (), None, "must be a table or images, not int"),
        ("nowhere.csv", (), None, "nowhere.csv: there is no such file"),
        ([np.zeros(3)], (), None, "images must be (H, W) or (H, W, C)"),
    ],
)
def test_what_is_no_table_is_refused(given: object, features: tuple[str, ...], label: str | None, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        table_of("train", given, features=features, label=label)
    assert words in str(caught.value)
