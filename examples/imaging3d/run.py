"""Segmentation of SYNTHETIC 3-D volumes of four scanners: each scanner alone, federated and pooled.

python examples/imaging3d/run.py
"""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import torch
from algo import ScannerAlgo, dice, new_network, new_optimizer, segmented, train
from data import SCANNERS, Volumes, test_seed, training_seed, volumes
from figure import draw
from monai.networks.nets import UNet

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Component, Job, fed_avg

EXAMPLE = Example("imaging3d", about=__doc__, rounds=16, quick_rounds=3, reads_files=False)
EPOCHS = 2
"""Passes over a site's volumes in each round."""
NUM_TRAINING, NUM_TEST = 6, 4
"""Volumes of each scanner."""
START_S = 300
"""That a site's process may take to be ready: importing MONAI takes seconds, and the usual minute is short where four
processes of one busy machine do it at once."""
EXECUTOR = "hansa.components.monai.client_algo_executor.ClientAlgoExecutor"


def job(network: UNet, *, seed: int, rounds: int) -> Job:
    """Federated averaging over sites that have a `ClientAlgo` and nothing else."""
    algo = Component(ScannerAlgo, id="algo", number=NUM_TRAINING, seed=seed, epochs=EPOCHS)
    made = fed_avg(
        model=network,
        executor=Component(EXECUTOR, client_algo_id="algo"),
        client_components=[algo],
        rounds=rounds,
        best_by="dice",
        name="imaging3d",
    )
    return replace(made, meta={**made.meta, "start_timeout_s": START_S})


def together(parts: list[Volumes]) -> Volumes:
    """All volumes in one place."""
    images, masks = (torch.cat([part[each] for part in parts]) for each in (0, 1))
    return images, masks


def in_one_place(network: UNet, data: Volumes, epochs: int) -> UNet:
    """A copy of the network, trained."""
    network = copy.deepcopy(network)
    train(network, new_optimizer(network), data, epochs)
    return network


def compare(options: Options) -> Gain:
    """Each scanner alone, all federated, all in one place; for each seed other volumes."""
    gain = Gain("Objects in SYNTHETIC volumes of four scanners", metric="Dice on test volumes of all scanners")
    # One process for all sites: importing MONAI takes longer than a round.
    with federation(list(SCANNERS), options, workers=0) as scanners:
        for seed in options.seeds:
            torch.manual_seed(seed)
            network = new_network()
            run = scanners.run(job(network, seed=seed, rounds=options.rounds), seed)
            training = {name: volumes(name, NUM_TRAINING, training_seed(seed)) for name in SCANNERS}
            test = {name: volumes(name, NUM_TEST, test_seed(seed)) for name in SCANNERS}
            epochs = options.rounds * EPOCHS
            models = {name: in_one_place(network, mine, epochs) for name, mine in training.items()}
            models["pooled"] = in_one_place(network, together(list(training.values())), epochs)
            network.load_state_dict(run.state_dict())
            models["federated"] = network
            found = {name: dice(model, *together(list(test.values()))) for name, model in models.items()}
            alone = {name: found[name] for name in SCANNERS}
            gain.add(seed=seed, alone=alone, federated=found["federated"], pooled=found["pooled"])
            if seed == 0:
                shown = {"scanner-1 alone": models["scanner-1"], "federated": network, "pooled": models["pooled"]}
                show(shown, test, options.out / "slices.png")
            options.say(f"seed {seed}: {gain.verdict()}")
    return gain


def show(models: dict[str, UNet], test: dict[str, Volumes], file: Path) -> None:
    """Draw the first test volume of each scanner."""
    images, masks = ({name: pair[part][0] for name, pair in test.items()} for part in (0, 1))
    found = {
        model: {name: segmented(network, image[None])[0] for name, image in images.items()}
        for model, network in models.items()
    }
    draw(images, masks, found, file)


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
