"""Breast cancer by region: FLamby's Fed-TCGA-BRCA."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa.errors import ConfigError

REGIONS = ("northeast", "south", "west", "midwest", "europe", "canada")
NUM_FEATURES = 39
Split = dict[str, "Patients"]


@dataclass(frozen=True)
class Patients:
    """Some patients.

    Attributes:
        x: Age and what is known of the tumour, float64, shape (n, 39).
        died: Whether the death was seen, shape (n,).
        days: Until then, or until the patient was last seen, shape (n,).
    """

    x: np.ndarray
    died: np.ndarray
    days: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Patients:
        return Patients(self.x[rows], self.died[rows], self.days[rows])


def load(folder: Path) -> tuple[Split, Split]:
    """All regions' patients to train on, and those for the test, in FLamby's fixed split.

    Args:
        folder: Holds `tcga_brca/brca.csv` and `tcga_brca/train_test_split.csv`.

    Raises:
        ConfigError: A file is not there, or a line is not as it should be; names it.
    """
    place = folder / "tcga_brca"
    rows: dict[str, list[list[float]]] = {}
    for number, words in _lines(place / "brca.csv"):
        try:
            row = [float(word) for word in words[1:]]
        except ValueError as error:
            raise ConfigError(f"line {number}: {error}", file=str(place / "brca.csv")) from None
        if len(row) != NUM_FEATURES + 2:
            raise ConfigError(f"line {number} has {len(row)} numbers, not 41", file=str(place / "brca.csv"))
        rows.setdefault(words[0], []).append(row)
    found: dict[str, dict[str, list[list[float]]]] = {
        kind: {name: [] for name in REGIONS} for kind in ("train", "test")
    }
    for _, (patient, kind, fold) in _lines(place / "train_test_split.csv"):
        found[kind][REGIONS[int(fold[-1])]] += rows.get(patient, [])
    return tuple({name: _patients(part) for name, part in found[kind].items()} for kind in ("train", "test"))


def _lines(file: Path) -> list[tuple[int, list[str]]]:
    if not file.is_file():
        raise ConfigError("there is no such file; --data is the folder above tcga_brca", file=str(file))
    with file.open(newline="", encoding="utf-8") as stream:
        return list(enumerate(csv.reader(stream), start=1))[1:]


def _patients(rows: list[list[float]]) -> Patients:
    table = np.array(rows)
    return Patients(table[:, :NUM_FEATURES], table[:, NUM_FEATURES] > 0, table[:, NUM_FEATURES + 1])


def together(parts: list[Patients]) -> Patients:
    """All of them in one place."""
    return Patients(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "died", "days")))


def split(data: tuple[Split, Split], seed: int) -> tuple[Split, Split]:
    """Training and test patients of each region: FLamby's split for seed 0, else another one of the same sizes.

    Deaths are divided in the same proportion as all patients.
    """
    if seed == 0:
        return data
    training, test = {}, {}
    for name in REGIONS:
        patients, rng = together([part[name] for part in data]), np.random.default_rng(seed)
        share = len(data[1][name].died) / len(patients.died)
        out = np.zeros(len(patients.died), bool)
        for group in (patients.died, ~patients.died):
            rows = rng.permutation(np.flatnonzero(group))
            out[rows[: round(share * len(rows))]] = True
        training[name], test[name] = patients[~out], patients[out]
    return training, test
