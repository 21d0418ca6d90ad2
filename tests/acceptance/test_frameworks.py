"""The examples of other frameworks: real libraries, whole federations; weights are those of a bare loop."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from source_code import ROOT

KERAS = """
import numpy as np
from digits import load, new_model
import hansa
import hansa.client.keras as fk
from hansa.jobs import fed_avg

if __name__ == "__main__":
    model = new_model()
    weights = model.get_weights()
    run = hansa.simulate(fed_avg(model=model, script="train.py", rounds=2), sites=2)
    sites = [(new_model(), *load(f"site-{number}")[:2]) for number in (1, 2)]
    for _ in range(2):
        results = []
        for own, x, y in sites:
            own.set_weights(weights)
            own.fit(x, y, batch_size=16, shuffle=False, verbose=0)
            results.append(own.get_weights())
        weights = [np.average(each, axis=0, weights=[len(x) for _, x, _ in sites]) for each in zip(*results)]
    fk.load(model, run.model)
    print("largest difference", max(np.abs(a - b).max() for a, b in zip(weights, model.get_weights())))
    print("accuracy", [each.metrics["site-1"]["accuracy"] for each in run.history.rounds])
"""

LIGHTNING = """
import torch
from digits import Net, load, quiet_trainer
import hansa
import hansa.client as flare
from hansa.client.lightning import FederatedCallback
from hansa.jobs import fed_avg

if __name__ == "__main__":
    torch.manual_seed(0)
    net = Net()
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    run = hansa.simulate(fed_avg(model=net, script="train.py", rounds=2, best_by="accuracy"), sites=2)
    for _ in range(2):
        results = []
        for number in (1, 2):
            net.load_state_dict(weights)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
            for step, (x, y) in enumerate(load(f"site-{number}")[0], 1):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net.layers(x), y).backward()
                optimizer.step()
            results.append((step, {name: value.clone() for name, value in net.state_dict().items()}))
        total = sum(step for step, _ in results)
        weights = {name: sum(step / total * each[name] for step, each in results) for name in weights}
    found = run.state_dict()
    print("largest difference", max((weights[name] - found[name]).abs().max().item() for name in weights))
    print("accuracy", [each.metrics["site-1"]["accuracy"] for each in run.history.rounds])

    flare.init()  # no federation has started this program: a callback trains once, with what there is
    trainer = quiet_trainer(callbacks=[FederatedCallback()])
    assert flare.is_running()
    trainer.fit(net, load("site-1")[0])
    assert not flare.is_running() and trainer.global_step == step
"""

HUGGING_FACE = """
import pathlib
import numpy as np
from letters import arguments, base_model, load, new_model
from peft import PeftModel
from transformers import Trainer
import hansa
import hansa.client.huggingface as fh
from hansa.jobs import fed_avg

if __name__ == "__main__":
    script = pathlib.Path("train.py")
    script.write_text(script.read_text().replace('arguments("trainer")', 'arguments("trainer", batch=999)'))
    model = new_model()
    weights = {name: value.clone() for name, value in fh.weights_of(model).items()}
    run = hansa.simulate(fed_avg(model=model, script="train.py", rounds=2), sites=2)
    assert run.model.keys() == weights.keys() and all("lora_" in name for name in run.model), list(run.model)
    sites = []
    for number in (1, 2):
        own = new_model()
        given = dict(args=arguments("bare", batch=999), train_dataset=load(f"site-{number}"), eval_dataset=load())
        sites.append((own, Trainer(model=own, **given)))
    for _ in range(2):
        results = []
        for own, trainer in sites:
            fh.load(own, weights)
            trainer.train()
            results.append({name: value.clone() for name, value in fh.weights_of(own).items()})
        weights = {name: sum(each[name] for each in results) / 2 for name in weights}
    found = run.state_dict()
    print("largest difference", max((weights[name] - found[name]).abs().max().item() for name in weights))
    sent = sum(value.nbytes for value in run.model.values())
    assert 10 * sent < sum(value.nbytes for value in model.state_dict().values())
    fh.load(model, found)
    model.save_pretrained("adapter")
    again = fh.weights_of(PeftModel.from_pretrained(base_model(), "adapter"))
    assert all(np.array_equal(again[name], found[name]) for name in found)
    print("loss", [each.metrics["site-1"]["eval_loss"] for each in run.history.rounds])
"""


def run(program: list[str], folder: Path) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "HANSA_HOME": str(folder / "home"),
        "HANSA_WORKERS": "2",
        "HF_HUB_OFFLINE": "1",  # nothing may be downloaded
    }
    done = subprocess.run(
        [sys.executable, *program], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def copied(example: str, folder: Path) -> Path:
    target = folder / example
    shutil.copytree(
        ROOT / "examples" / example, target, ignore=shutil.ignore_patterns("runs", "__pycache__", "adapter", "trainer")
    )
    return target


@pytest.mark.slow
@pytest.mark.parametrize(
    ("example", "program"),
    [("keras", KERAS), ("lightning", LIGHTNING), ("huggingface", HUGGING_FACE)],
    ids=["keras", "lightning", "huggingface"],
)
def test_weights_are_those_of_a_bare_loop(tmp_path: Path, example: str, program: str) -> None:
    folder = copied(example, tmp_path)
    (folder / "compare.py").write_text(program, encoding="utf-8")
    said = run(["compare.py"], folder)
    [difference] = re.findall(r"^largest difference (\S+)$", said, re.MULTILINE)
    assert float(difference) <= 1e-6
    [pair] = re.findall(r"^(?:accuracy|loss) \[(.+), (.+)\]$", said, re.MULTILINE)
    before, after = map(float, pair)  # what the sites measured of the global model, before training
    assert (after < before) if example == "huggingface" else (after > before)


@pytest.mark.slow
def test_trees_at_four_sites(tmp_path: Path) -> None:
    folder = copied("xgboost", tmp_path)
    assert "20 iterations" in run(["federate.py", "cyclic"], folder)
    assert (folder / "model.json").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bayes"])
def test_scikit_learn_at_four_sites(tmp_path: Path, kind: str) -> None:
    [accuracy] = re.findall(r"global model (0\.\d+)", run(["federate.py", kind], copied("sklearn", tmp_path)))
    assert float(accuracy) > 0.8
