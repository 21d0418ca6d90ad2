"""Lithology from well logs over eight areas: each area alone, federated and pooled, on wells that nobody trained on.

python examples/energy/run.py --data FOLDER
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from data import LOGS, Survey, Well, load, split
from figure import draw
from model import Scale, accuracy, new_network, penalty_score, predict, tensors, train
from torch import nn
from trainer import Wells, WellTrainer

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Component, Job, fed_avg, fed_statistics
from hansa.runtime.run import Run

EXAMPLE = Example("energy", about=__doc__, rounds=10, quick_rounds=3)
QUICK_EVERY = 20
"""With --quick, one row of so many is trained on."""
Model = tuple[nn.Module, Scale]
"""A network, and the scale of what it sees."""
Scores = tuple[float, float]
"""Accuracy, and the contest's penalty score."""


def job(network: nn.Module, *, data: Path, seed: int, rounds: int, every: int) -> Job:
    """Statistics of all areas first, then federated averaging on logs that are scaled by them."""
    where = {"data": str(data.absolute()), "seed": seed}
    training = fed_avg(model=network, executor=Component(WellTrainer, **where, every=every), rounds=rounds)
    return fed_statistics(Component(Wells, **where), then=training, scale=True, name="energy")


def scale_of(run: Run) -> Scale:
    """What the federation found: mean and deviation of each log."""
    found = run.statistics["datasets"]["train"]["features"]
    return Scale(*(np.array([found[name][what] for name in LOGS]) for what in ("mean", "sd")))


def in_one_place(network: nn.Module, wells: list[Well], *, epochs: int, every: int) -> Model:
    """A copy of the network, trained on some wells that are scaled by their own mean and deviation."""
    network, scale = copy.deepcopy(network), Scale.of(wells)
    train(network, *tensors(wells, scale, every), epochs=epochs)
    return network, scale


def scores(model: Model, wells: list[Well], survey: Survey) -> Scores:
    """On all rows of some wells."""
    network, scale = model
    x, true = tensors(wells, scale)
    predicted = predict(network, x)
    return accuracy(true.numpy(), predicted), penalty_score(true.numpy(), predicted, survey.penalty)


def compare(options: Options) -> Gain:
    """Each area alone, all areas federated, all areas in one place; for each seed other wells are held out."""
    survey = load(options.data)
    every = QUICK_EVERY if options.quick else 1
    title = "Lithology from well logs, FORCE 2020"
    gain = Gain(title, metric="accuracy on held-out wells")
    penalty = Gain(title, metric="penalty score on held-out wells")
    with federation(sorted(split(survey.wells, 0)[0]), options) as areas:
        for seed in options.seeds:
            training, held_out = split(survey.wells, seed)
            torch.manual_seed(seed)
            network = new_network()
            run = areas.run(job(network, data=options.data, seed=seed, rounds=options.rounds, every=every), seed)
            how = {"epochs": options.rounds, "every": every}
            alone = {area: in_one_place(network, wells, **how) for area, wells in training.items()}
            pooled = in_one_place(network, [well for wells in training.values() for well in wells], **how)
            network.load_state_dict(run.state_dict())
            federated = network, scale_of(run)
            models = {**alone, "federated": federated, "pooled": pooled}
            found = {name: scores(model, held_out, survey) for name, model in models.items()}
            for number, each in enumerate((gain, penalty)):
                of_areas = {area: found[area][number] for area in alone}
                each.add(
                    seed=seed, alone=of_areas, federated=found["federated"][number], pooled=found["pooled"][number]
                )
            if seed == 0:
                show(federated, held_out[0], survey, options.out / "well.png")
            options.say(f"seed {seed}: {gain.verdict()}")
    penalty.save(options.out / "penalty")
    options.say(f"{penalty.table()}\n{penalty.verdict()}")
    return gain


def show(model: Model, well: Well, survey: Survey, file: Path) -> None:
    """Draw a well that is held out."""
    network, scale = model
    draw(well, predict(network, tensors([well], scale)[0]), survey.classes, file)


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
