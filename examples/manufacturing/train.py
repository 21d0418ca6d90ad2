"""A plant's training script: it runs at every plant, and on its own as `python train.py --data FOLDER`."""

import argparse
from pathlib import Path

import torch
from data import load, plants, windows
from model import LifeNet, predict, rmse, train

import hansa.client as flare

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--seed", type=int, default=0, help="which engines each plant has")
parser.add_argument("--every", type=int, default=1, help="one window of so many")
options = parser.parse_args()

flare.init()
plant = flare.system_info()["site_name"] or "plant-1"
engines = load(options.data).ran_to_failure
mine = plants(len(engines), options.seed)[plant]
x, y = (torch.from_numpy(part[:: options.every]) for part in windows([engines[number] for number in mine]))
network = LifeNet()

while flare.is_running():
    network.load_state_dict(flare.receive().params)
    before = rmse(y.numpy(), predict(network, x))
    train(network, x, y, epochs=1)
    flare.send(flare.FLModel(params=network.state_dict(), metrics={"rmse": before}, num_steps=len(y)))
