"""Remaining life of turbofan engines over five plants: each plant alone, federated and pooled.

python examples/manufacturing/run.py --data FOLDER
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
from data import PLANTS, Fleet, last_windows, load, plants, windows
from figure import draw
from model import LifeNet, predict, rmse, train

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Job, fed_avg

HERE = Path(__file__).resolve().parent
EXAMPLE = Example("manufacturing", about=__doc__, rounds=10, quick_rounds=3)
QUICK_EVERY = 8
"""With --quick, one window of so many is trained on."""


def job(network: LifeNet, *, data: Path, seed: int, rounds: int, every: int) -> Job:
    """Federated averaging with the plants' script."""
    args = ["--data", data.absolute(), "--seed", seed, "--every", every]
    return fed_avg(model=network, script=HERE / "train.py", script_args=args, rounds=rounds, name="manufacturing")


def of_plants(fleet: Fleet, seed: int, every: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Windows and life left, by plant."""
    found = {}
    for name, mine in plants(len(fleet.ran_to_failure), seed).items():
        seen, left = windows([fleet.ran_to_failure[number] for number in mine])
        found[name] = torch.from_numpy(seen[::every]), torch.from_numpy(left[::every])
    return found


def together(data: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """All plants' windows in one place."""
    seen, left = (torch.cat([each[part] for each in data.values()]) for part in (0, 1))
    return seen, left


def in_one_place(network: LifeNet, data: tuple[torch.Tensor, torch.Tensor], epochs: int) -> LifeNet:
    """A copy of the network, trained."""
    network = copy.deepcopy(network)
    train(network, *data, epochs=epochs)
    return network


def compare(options: Options) -> Gain:
    """Each plant alone, all plants federated, all plants in one place; for each seed the plants have other engines."""
    fleet = load(options.data)
    every = QUICK_EVERY if options.quick else 1
    gain = Gain(
        "Remaining life of engines, C-MAPSS FD001 (simulated)",
        metric="RMSE on the published test engines",
        higher_is_better=False,
        unit="cycles",
    )
    seen = torch.from_numpy(last_windows(fleet.cut_off))
    with federation(list(PLANTS), options) as all_plants:
        for seed in options.seeds:
            torch.manual_seed(seed)
            network = LifeNet()
            data = of_plants(fleet, seed, every)
            run = all_plants.run(job(network, data=options.data, seed=seed, rounds=options.rounds, every=every), seed)
            models = {name: in_one_place(network, mine, options.rounds) for name, mine in data.items()}
            models["pooled"] = in_one_place(network, together(data), options.rounds)
            network.load_state_dict(run.state_dict())
            models["federated"] = network
            said = {name: predict(model, seen) for name, model in models.items()}
            found = {name: rmse(fleet.life_left, values) for name, values in said.items()}
            alone = {name: found[name] for name in data}
            gain.add(seed=seed, alone=alone, federated=found["federated"], pooled=found["pooled"])
            if seed == 0:
                shown = {"plant-5 alone": said["plant-5"], "federated": said["federated"], "pooled": said["pooled"]}
                draw(fleet.life_left, shown, options.out / "life.png")
            options.say(f"seed {seed}: {gain.verdict()}")
    return gain


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
