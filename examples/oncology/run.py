"""Survival with breast cancer by region: each region alone, federated and pooled, on patients that nobody trained on.

python examples/oncology/run.py --data FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from data import NUM_FEATURES, REGIONS, load, split, together
from figure import draw
from model import concordance, fit
from trainer import CoxSite

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Component, Job, fed_avg

EXAMPLE = Example("oncology", about=__doc__, rounds=8, quick_rounds=5)


def job(data: Path, *, seed: int, rounds: int) -> Job:
    """Newton's method: weights, and the regions' mean gradient and Hessian there."""
    weights = {
        "beta": np.zeros(NUM_FEATURES),
        "gradient": np.zeros(NUM_FEATURES),
        "hessian": np.zeros((NUM_FEATURES, NUM_FEATURES)),
    }
    site = Component(CoxSite, data=str(data.absolute()), seed=seed, num_sites=len(REGIONS))
    return fed_avg(weights, executor=site, rounds=rounds, name="oncology")


def compare(options: Options) -> Gain:
    """Each region alone, all federated, all in one place; seed 0 is FLamby's split, the others are drawn."""
    data = load(options.data)
    gain = Gain("Survival with breast cancer, TCGA-BRCA", metric="C-index on the test patients of all regions")
    with federation(REGIONS, options, workers=0) as regions:
        for seed in options.seeds:
            training, test = split(data, seed)
            run = regions.run(job(options.data, seed=seed, rounds=options.rounds), seed)
            steps = options.rounds - 1  # the first round only looks
            models = {name: fit(patients, steps) for name, patients in training.items()}
            models |= {"federated": run.model["beta"], "pooled": fit(together(list(training.values())), steps)}
            everybody = together(list(test.values()))
            found = {name: concordance(everybody.x @ beta, everybody) for name, beta in models.items()}
            alone = {name: found[name] for name in REGIONS}
            gain.add(seed=seed, alone=alone, federated=found["federated"], pooled=found["pooled"])
            if seed == 0:
                draw(everybody.x @ run.model["beta"], everybody, options.out / "survival.png")
            options.say(f"seed {seed}: {gain.verdict()}")
    return gain


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
