"""Heart disease at four hospitals: each alone, federated and pooled, on patients that nobody trained on.

python examples/hospitals/run.py --data FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from data import COLUMNS, HOSPITALS, Patients, load, split
from figure import draw
from model import STEPS, Scale, Weights, auc, initial, scores, train
from trainer import HospitalTrainer, Records

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Component, Job, fed_avg, fed_statistics
from hansa.runtime.run import Run

EXAMPLE = Example("hospitals", about=__doc__, rounds=40, quick_rounds=15)
Model = tuple[Weights, Scale]


def job(data: Path, *, seed: int, rounds: int) -> Job:
    """One job: statistics, scaling by them, federated averaging, every model on every hospital's held-out patients."""
    where = {"data": str(data.absolute()), "seed": seed}
    training = fed_avg(
        initial(), executor=Component(HospitalTrainer, **where), rounds=rounds, evaluate_across_sites=True
    )
    return fed_statistics(Component(Records, **where), then=training, scale=True, name="hospitals")


def scale_of(run: Run) -> Scale:
    """What the federation found: mean and deviation of each column."""
    found = run.statistics["datasets"]["train"]["features"]
    return Scale(*(np.array([found[name][what] for name in COLUMNS]) for what in ("mean", "sd")))


def in_one_place(patients: Patients, rounds: int) -> Model:
    """The same regression on some patients, scaled by their own mean and deviation, with as many steps."""
    scale = Scale.of(patients.x)
    return train(initial(), scale, patients, steps=rounds * STEPS), scale


def together(parts: list[Patients]) -> Patients:
    """All of them in one place, which in reality nobody may have."""
    return Patients(np.concatenate([part.x for part in parts]), np.concatenate([part.ill for part in parts]))


def compare(options: Options) -> Gain:
    """Each hospital alone, all federated, all in one place; for each seed others are held out."""
    hospitals = {name: load(options.data, name) for name in HOSPITALS}
    gain = Gain("Heart disease, four hospitals", metric="AUC on the held-out patients of all four")
    with federation(HOSPITALS, options, workers=0) as all_four:
        for seed in options.seeds:
            parts = {name: split(patients, seed) for name, patients in hospitals.items()}
            run = all_four.run(job(options.data, seed=seed, rounds=options.rounds), seed)
            models = {f"{name} alone": in_one_place(training, options.rounds) for name, (training, _) in parts.items()}
            models["federated"] = dict(run.model), scale_of(run)
            models["pooled"] = in_one_place(together([training for training, _ in parts.values()]), options.rounds)
            test = together([held_out for _, held_out in parts.values()])
            said = {name: scores(weights, scale, test.x) for name, (weights, scale) in models.items()}
            found = {name: auc(values, test.ill) for name, values in said.items()}
            alone = {name: found[f"{name} alone"] for name in HOSPITALS}
            gain.add(seed=seed, alone=alone, federated=found["federated"], pooled=found["pooled"])
            if seed == 0:
                draw(said, test.ill, options.out / "roc.png")
                run.plot_cross_site(options.out / "matrix.png", metric="auc")
                run.report(options.out / "statistics.html")
            options.say(f"seed {seed}: {gain.verdict()}")
    return gain


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
