"""Card fraud at five banks: each alone, federated and pooled, on payments that came later.

python examples/finance/run.py --data FOLDER
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from data import BANKS, GENUINE_IN_ALL, Payments, load, split, together
from figure import draw
from model import average_precision, new_network, scores, train
from torch import nn

from hansa.demos.field_example import Example, Options, federation
from hansa.demos.gain import Gain
from hansa.jobs import Job, fed_avg

EXAMPLE = Example("finance", about=__doc__, rounds=30, quick_rounds=8)
SCRIPT = Path(__file__).with_name("train.py")


def job(network: nn.Module, data: Path, rounds: int) -> Job:
    """Federated averaging of the banks' training scripts."""
    return fed_avg(network, script=SCRIPT, script_args=["--data", data.absolute()], rounds=rounds, name="finance")


def in_one_place(network: nn.Module, payments: Payments, epochs: int) -> nn.Module:
    """A copy of the network, trained on some payments."""
    network = copy.deepcopy(network)
    train(network, payments, epochs)
    return network


def compare(options: Options) -> Gain:
    """Each bank alone, all federated, all in one place; the seed is that of first weights and of batches."""
    payments = load(options.data)
    banks, later = split(payments)
    weight = GENUINE_IN_ALL / int(np.sum(~payments.fraud))
    gain = Gain("Card fraud, five banks", metric="average precision on later payments, at the true rate of fraud")
    with federation(BANKS, options) as all_five:
        for seed in options.seeds:
            torch.manual_seed(seed)
            network = new_network()
            run = all_five.run(job(network, options.data, options.rounds), seed)
            models = {f"{name} alone": in_one_place(network, mine, options.rounds) for name, mine in banks.items()}
            models["pooled"] = in_one_place(network, together(list(banks.values())), options.rounds)
            network.load_state_dict(run.state_dict())
            models["federated"] = network
            said = {name: scores(model, later) for name, model in models.items()}
            found = {name: average_precision(values, later.fraud, weight) for name, values in said.items()}
            alone = {name: found[f"{name} alone"] for name in BANKS}
            gain.add(seed=seed, alone=alone, federated=found["federated"], pooled=found["pooled"])
            if seed == 0:
                draw(said, later.fraud, weight, options.out / "precision.png")
            options.say(f"seed {seed}: {gain.verdict()}")
    return gain


if __name__ == "__main__":
    sys.exit(EXAMPLE.main(compare))
