"""A bank's training script: it runs at every bank, and on its own as `python train.py --data FOLDER`."""

import argparse
from pathlib import Path

from data import load, split
from model import average_precision, new_network, scores, train

import hansa.client as flare

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", type=Path, required=True)
options = parser.parse_args()

flare.init()
bank = flare.system_info()["site_name"] or "bank-1"
mine = split(load(options.data))[0][bank]
network = new_network()

while flare.is_running():
    network.load_state_dict(flare.receive().params)
    before = average_precision(scores(network, mine), mine.fraud, 1)
    train(network, mine, epochs=1)
    flare.send(
        flare.FLModel(params=network.state_dict(), metrics={"average_precision": before}, num_steps=len(mine.fraud))
    )
