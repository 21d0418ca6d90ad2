"""The four hospitals of the UCI Heart Disease set, as its donors published them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa.errors import ConfigError

HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
COLUMNS = ["age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope"]
COLUMNS += ["ca", "thal"]
HELD_OUT = 0.3
_CHOLESTEROL = COLUMNS.index("chol")


@dataclass(frozen=True)
class Patients:
    """Some patients: what is known of them, float64, shape (n, 13), NaN where it is not; and who is ill, shape (n,)."""

    x: np.ndarray
    ill: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Patients:
        return Patients(self.x[rows], self.ill[rows])


def load(folder: Path, hospital: str) -> Patients:
    """A hospital's patients.

    Args:
        folder: Holds `heart_disease/processed.HOSPITAL.data`.
        hospital: One of `HOSPITALS`.

    Raises:
        ConfigError: The file is not there, or a line is not of 14 numbers or `?`; names the line.
    """
    file = folder / "heart_disease" / f"processed.{hospital}.data"
    if not file.is_file():
        raise ConfigError("there is no such file; --data is the folder above heart_disease", file=str(file))
    rows = []
    for number, line in enumerate(file.read_text(encoding="ascii", errors="replace").split(), start=1):
        words = line.split(",")
        if len(words) != len(COLUMNS) + 1:
            raise ConfigError(f"line {number} has {len(words)} values, not {len(COLUMNS) + 1}", file=str(file))
        for name, word in zip((*COLUMNS, "diagnosis"), words, strict=True):
            if word != "?" and not _is_number(word):
                raise ConfigError(f"line {number}, column {name}: {word[:40]!r} is no number", file=str(file))
        rows.append([float("nan") if word == "?" else float(word) for word in words])
    if not rows:
        raise ConfigError("there are no patients", file=str(file))
    table = np.array(rows)
    x = table[:, :-1]
    x[x[:, _CHOLESTEROL] == 0, _CHOLESTEROL] = np.nan  # nobody has none: it was not measured
    return Patients(x, table[:, -1] > 0)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def split(patients: Patients, seed: int) -> tuple[Patients, Patients]:
    """Patients to train on, and those who are held out: three in ten of the ill and of the healthy."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(patients.ill), bool)
    for group in (patients.ill, ~patients.ill):
        rows = rng.permutation(np.flatnonzero(group))
        out[rows[: round(HELD_OUT * len(rows))]] = True
    return patients[~out], patients[out]
