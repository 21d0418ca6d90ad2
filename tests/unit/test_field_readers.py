"""What the examples of fields read and compute, on files of a few rows and numbers worked by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from field_parts import modules_of
from hansa.errors import ConfigError

# -- energy ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def energy() -> Iterator[list[ModuleType]]:
    with modules_of("energy", "data", "model") as found:
        yield found


def wells_file(folder: Path) -> Path:
    features = ["GR", "RHOB", "NPHI", "DTC", "RDEP", "RMED", "RSHA", "SP", "PEF", "CALI", "DRHO", "DEPTH_MD"]
    table = np.arange(12, dtype=np.float32)[:, None] + np.arange(5, dtype=np.float32) * 100
    table[4] = [1, 10, 100, 1000, np.nan]  # RDEP
    (folder / "force2020").mkdir()
    file = folder / "force2020" / "wells30.npz"
    np.savez(
        file,
        X=table,
        y=np.array([0, 2, 2, 5, 5], np.uint8),
        well=np.array([0, 0, 0, 1, 1]),
        well_names=np.array(["16/2-6 Sverdrup", "31/2-1"]),
        features=np.array(features),
        classes=np.array(["Sandstone", "-", "Shale", "-", "-", "Limestone"]),
        penalty=np.eye(6),
    )
    return file


def test_wells_are_read_by_area(energy: list[ModuleType], tmp_path: Path) -> None:
    data, _ = energy
    wells_file(tmp_path)
    survey = data.load(tmp_path)
    assert [(well.name, well.area, len(well.lithology)) for well in survey.wells] == [
        ("16/2-6 Sverdrup", "area-16", 3),
        ("31/2-1", "area-31", 2),
    ]
    first = survey.wells[0]
    assert first.logs.shape == (3, len(data.LOGS))
    assert first.logs[:, data.LOGS.index("RDEP")].tolist() == [0, 1, 2]  # the logarithm
    assert first.logs[:, data.LOGS.index("SP")].tolist() == [7, 107, 207]  # RSHA is left out
    assert first.depth.tolist() == [11, 111, 211]
    assert np.isnan(survey.wells[1].logs[1, data.LOGS.index("RDEP")])


def test_whole_wells_are_held_out(energy: list[ModuleType]) -> None:
    data, _ = energy
    empty = np.zeros((0, 10))
    wells = tuple(
        data.Well(f"{area}/{number}", f"area-{area}", empty, empty, empty)
        for area, count in ((16, 6), (31, 12), (32, 1), (34, 3))
        for number in range(count)
    )
    training, held_out = data.split(wells, seed=3)
    assert {area: len(mine) for area, mine in training.items()} == {
        "area-16": 5, "area-31": 10, "area-32": 1, "area-34": 2,
    }  # fmt: skip
    names = [well.name for mine in training.values() for well in mine] + [well.name for well in held_out]
    assert sorted(names) == sorted(well.name for well in wells)
    assert [well.name for well in data.split(wells, seed=4)[1]] != [well.name for well in held_out]


def test_a_row_is_described_by_the_rows_around_it(energy: list[ModuleType]) -> None:
    data, _ = energy
    scaled = np.full((20, len(data.LOGS)), np.nan)
    scaled[:, 0] = np.arange(20) / 10
    scaled[3, 0] = np.nan
    found = data.features(scaled)
    assert found.shape == (20, data.NUM_FEATURES)
    assert found[10, 0] == np.float32(1.0)
    assert found[0, len(data.LOGS)] == pytest.approx((0 + 0.1 + 0.2 + 0.4 + 0.5) / 5)  # rows 0 to 5 without row 3
    measured = found[:, -len(data.LOGS) :]
    assert measured[:, 0].sum() == 19
    assert measured[:, 1:].sum() == 0
    assert np.isfinite(found).all()


def test_scores_of_lithology(energy: list[ModuleType]) -> None:
    _, model = energy
    true, predicted = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 0])
    penalty = np.array([[0, 1, 2], [1, 0, 3], [4, 1, 0]])
    assert model.accuracy(true, predicted) == 0.5
    assert model.penalty_score(true, predicted, penalty) == -(3 + 4) / 4


def test_a_scale_is_of_what_was_measured(energy: list[ModuleType]) -> None:
    data, model = energy
    logs = np.full((3, len(data.LOGS)), np.nan, np.float32)
    logs[:, 0] = [1, 3, np.nan]
    scale = model.Scale.of([data.Well("a", "area-1", np.arange(3), logs, np.zeros(3, int))])
    assert (scale.mean[0], scale.sd[0]) == (2, pytest.approx(2**0.5))
    assert (scale.mean[1], scale.sd[1]) == (0, 1)  # nobody has it


# -- manufacturing ---------------------------------------------------------------------------------------------------


@pytest.fixture
def manufacturing() -> Iterator[list[ModuleType]]:
    with modules_of("manufacturing", "data", "model") as found:
        yield found


def engines_files(folder: Path, *, columns: int = 26) -> None:
    (folder / "cmapss").mkdir()
    for name, cycles in (("train", (40, 35)), ("test", (33, 4))):
        rows = [
            [engine, cycle, *range(columns - 3), cycle]
            for engine, last in enumerate(cycles, start=1)
            for cycle in range(1, last + 1)
        ]
        with gzip.open(folder / "cmapss" / f"{name}_FD001.txt.gz", "wt") as file:
            file.writelines(" ".join(map(str, row)) + " \n" for row in rows)
    with gzip.open(folder / "cmapss" / "RUL_FD001.txt.gz", "wt") as file:
        file.write("12\n98\n")


def test_engines_are_read(manufacturing: list[ModuleType], tmp_path: Path) -> None:
    data, _ = manufacturing
    engines_files(tmp_path)
    fleet = data.load(tmp_path)
    assert [engine.shape for engine in fleet.ran_to_failure] == [(40, 14), (35, 14)]
    assert [len(engine) for engine in fleet.cut_off] == [33, 4]
    assert fleet.life_left.tolist() == [12, 98]
    # Column 26, here the cycle, is sensor 21; sensor 2 stands in column 7, whose value here is 4.
    assert fleet.ran_to_failure[0][7].tolist()[::13] == [4, 8]
    seen, left = data.windows([fleet.ran_to_failure[0]])
    assert seen.shape == (11, 14, 30)
    assert left.tolist() == list(range(10, -1, -1))
    assert seen[0, -1].tolist() == list(range(1, 31))
    last = data.last_windows(fleet.cut_off)
    assert last[0, -1].tolist() == list(range(4, 34))
    assert last[1, -1].tolist() == [1] * 27 + [2, 3, 4]  # the first cycle is repeated


def test_life_is_capped(manufacturing: list[ModuleType]) -> None:
    data, _ = manufacturing
    _, left = data.windows([np.zeros((200, 14), np.float32)])
    assert left[:47].tolist() == [125] * 46 + [124]


def test_engines_are_divided_over_plants(manufacturing: list[ModuleType]) -> None:
    data, _ = manufacturing
    parts = data.plants(100, seed=1)
    assert {name: len(mine) for name, mine in parts.items()} == data.PLANTS
    assert sorted(number for mine in parts.values() for number in mine) == list(range(100))
    assert data.plants(100, seed=2) != parts == data.plants(100, seed=1)


def test_error_of_a_life(manufacturing: list[ModuleType]) -> None:
    _, model = manufacturing
    assert model.rmse(np.array([10, 20]), np.array([13, 24], np.float32)) == pytest.approx((25 / 2) ** 0.5)


# -- text ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def text() -> Iterator[list[ModuleType]]:
    with modules_of("text", "data", "model") as found:
        yield found


def roles_file(folder: Path) -> None:
    (folder / "shakespeare").mkdir()
    roles = [("Orsino", "ab" * 1500), ("Page", "short"), ("Viola", "To be\N{EM DASH}" * 500)]
    with gzip.open(folder / "shakespeare" / "roles.jsonl.gz", "wt", encoding="utf-8") as file:
        for name, said in roles:
            file.write(json.dumps({"play": "12night", "role": name, "text": said}) + "\n")


def test_roles_are_read(text: list[ModuleType], tmp_path: Path) -> None:
    data, _ = text
    roles_file(tmp_path)
    roles = data.load(tmp_path)
    assert [(role.site, role.name) for role in roles.values()] == [
        ("role-001", "Orsino, 12night"),
        ("role-002", "Viola, 12night"),  # whoever says too little is no site
    ]
    assert (len(roles["role-001"].train), len(roles["role-001"].test)) == (2400, 600)
    assert data.decoded(roles["role-002"].train[:6]) == "To be\N{REPLACEMENT CHARACTER}"
    assert data.decoded(data.encoded(data.ALPHABET)) == data.ALPHABET


def test_every_character_of_the_test_counts_once(text: list[ModuleType]) -> None:
    import torch

    data, model = text

    class SaysB(torch.nn.Module):
        def forward(self, codes: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(
                torch.full_like(codes, int(data.encoded("b")[0])), data.NUM_CODES
            ).float()

    assert model.accuracy(SaysB(), data.encoded("ab" * 200)) == 0.5
    assert model.accuracy(SaysB(), data.encoded("b" * 100)) == 1.0


# -- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("example", "file"),
    [
        ("energy", "force2020/wells30.npz"),
        ("manufacturing", "cmapss/train_FD001.txt.gz"),
        ("text", "shakespeare/roles.jsonl.gz"),
    ],
)
def test_a_file_that_is_not_there_or_damaged_is_one_line(example: str, file: str, tmp_path: Path) -> None:
    with modules_of(example, "data") as (data,):
        with pytest.raises(ConfigError, match=r"there is no such file; --data is the folder above"):
            data.load(tmp_path)
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_bytes(b"nothing of the kind")
        with pytest.raises(ConfigError, match=file.partition("/")[2]) as caught:
            data.load(tmp_path)
        assert "\n" not in str(caught.value)


def test_engines_with_other_columns_are_refused(manufacturing: list[ModuleType], tmp_path: Path) -> None:
    data, _ = manufacturing
    engines_files(tmp_path, columns=20)
    with pytest.raises(ConfigError, match="has 20 columns, not 26"):
        data.load(tmp_path)
