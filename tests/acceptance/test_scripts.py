"""Training scripts as sites: what they get and give, whose turn it is, and where they live."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.errors import ConfigError
from hansa.runtime.run import Run, RunStatus
from script_jobs import HEAD, PLUS_ONE, script, scripted
from source_code import PACKAGE
from worker_jobs import BIG, MODEL, digest, log_of, simulate

pytestmark = pytest.mark.slow

CANONICAL = """
import hansa.client as flare
flare.init()
while flare.is_running():
    incoming = flare.receive()               # weights, round, config
    net.load_state_dict(incoming.params); train(net); accuracy = test(net)
    flare.send(flare.FLModel(params=net.state_dict(), metrics={"accuracy": accuracy}, num_steps=n))
"""
"""The five lines, to the letter."""

TORCH = """
import torch
from torch import nn

torch.manual_seed(1)
net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
x = torch.arange(30.0).reshape(10, 3) / 30
y = x.sum(1, keepdim=True)
n = len(x)

def train(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        optimizer.step()

def test(net):
    with torch.no_grad():
        return -nn.functional.mse_loss(net(x), y)
"""


def scalars(run: Run, name: str) -> list[dict[str, float]]:
    """By round, and in it by site."""
    return [
        {site: values[name] for site, values in record.metrics.items() if name in values}
        for record in run.history.rounds
    ]


# -- what comes and goes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_script_takes_part(tmp_path: Path, workers: int) -> None:
    body = """
    assert (incoming.params_type, incoming.total_rounds) == ("full", 2)
    assert incoming.meta["learning_rate"] == 0.5, incoming.meta
    assert flare.is_train() and not flare.is_evaluate() and not flare.is_submit_model()
    flare.log("loss", np.float32(0.25), step=incoming.current_round)
    print("round", incoming.current_round, "at", site)
    steps = int(site[-1])
    flare.send(flare.FLModel(plus(params, steps), metrics={"accuracy": incoming.current_round + 0.5}, num_steps=steps))
    """
    made = scripted(tmp_path, script(body), rounds=2, settings={"learning_rate": 0.5})
    run = simulate(made, 3, workers, tmp_path)
    assert run.status is RunStatus.COMPLETED
    # Each round adds (1·1 + 2·2 + 3·3) / (1 + 2 + 3) = 14/6.
    assert np.allclose(run.model["w"], MODEL["w"] + 2 * 14 / 6, atol=1e-6)
    sites = ["site-1", "site-2", "site-3"]
    assert scalars(run, "accuracy") == [dict.fromkeys(sites, 0.5), dict.fromkeys(sites, 1.5)]
    assert scalars(run, "loss") == [dict.fromkeys(sites, 0.25)] * 2
    assert log_of(run, "site-2") == "round 0 at site-2\nround 1 at site-2\n"


def test_a_script_is_python_s_main_program_in_its_site_s_workspace(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("VALUE = 2.0\n")
    body = """
    import beside
    assert __name__ == "__main__" and sys.argv[1:] == ["--rate", "a b"], sys.argv
    assert sys.stdin.read() == ""
    assert os.environ["OMP_NUM_THREADS"] == "3"
    with open("where.txt", "w") as file:
        file.write(os.getcwd())
    flare.send(flare.FLModel(plus(params, beside.VALUE)))
    """
    text = "import beside\n" + script(body)
    made = scripted(tmp_path, text, script_args=["--rate", "a b"], threads_per_site=3)
    run = simulate(made, 2, 1, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 2)
    for site in ("site-1", "site-2"):
        place = run.folder / "workspace" / site
        assert (place / "where.txt").read_text() == str(place.resolve())


def test_what_is_sent_is_copied_before_send_returns(tmp_path: Path) -> None:
    body = """
    before = {name: value.__array_interface__["data"][0] for name, value in params.items()}
    maps = [line.split() for line in open("/proc/self/maps") if "memfd:hansa" in line]
    spans = [tuple(int(end, 16) for end in words[0].split("-")) for words in maps]
    assert all(any(a <= address < b for a, b in spans) for address in before.values())  # mapped, not read
    for value in params.values():
        value += 1                 # in place: it is the script's own memory
    flare.send(flare.FLModel(params))
    for value in params.values():
        value[...] = np.nan        # training goes on
    """
    run = simulate(scripted(tmp_path, script(body), rounds=3, model=BIG), 3, 2, tmp_path)
    assert all((run.model[name] == value + 3).all() for name, value in BIG.items())


def test_differences_may_be_sent_or_made(tmp_path: Path) -> None:
    sends = {"full": PLUS_ONE, "diff": "flare.send(flare.FLModel({n: v * 0 + 1 for n, v in params.items()}, 'diff'))"}
    for sent, body in sends.items():
        for wanted in sends:
            home = tmp_path / sent / wanted
            home.mkdir(parents=True)
            run = simulate(scripted(home, script(body), rounds=2, params_type=wanted), 2, 0, home)
            assert np.allclose(run.model["w"], MODEL["w"] + 2), (sent, wanted)


def test_the_best_model_can_be_chosen_by_what_a_script_measures(tmp_path: Path) -> None:
    body = "flare.send(flare.FLModel(plus(params), metrics={'accuracy': [0.1, 0.7, 0.3][incoming.current_round]}))"
    run = simulate(scripted(tmp_path, script(body), rounds=3, best_by="accuracy"), 2, 0, tmp_path)
    assert "the best model so far: 0.7" in (run.folder / "log.txt").read_text()


def test_scaffold_s_controls_pass_through(tmp_path: Path) -> None:
    from hansa.jobs import scaffold

    body = """
    c_global = incoming.meta["scaffold_c_global"]
    assert c_global.keys() == params.keys()
    assert all((value == incoming.current_round).all() for value in c_global.values())
    ones = {name: np.ones_like(value) for name, value in params.items()}
    flare.send(flare.FLModel(plus(params), meta={"scaffold_c_diff": ones}))
    """
    (tmp_path / "train.py").write_text(script(body))
    run = simulate(scaffold(MODEL, script=tmp_path / "train.py", rounds=3), 2, 0, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 3)


# -- torch ------------------------------------------------------------------------------------------------------------


def alone(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "alone.py").write_text(text)
    return subprocess.run(
        [sys.executable, "alone.py"], cwd=folder, env={"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_same_torch_script_runs_in_a_federation_and_alone(tmp_path: Path) -> None:
    text = TORCH + CANONICAL + "print('done', sum(p.sum().item() for p in net.parameters()))\n"
    own: dict[str, Any] = {}
    exec(TORCH, own)
    net, train, test = own["net"], own["train"], own["test"]
    job = scripted(tmp_path, text, model=net)  # as it is before the training below
    run = simulate(job, 2, 1, tmp_path)
    train(net)
    test(net)  # moves the statistics of the batch normalisation
    expected = net.state_dict()
    for name, value in run.model.items():  # both sites have the same data
        assert np.allclose(value, expected[name].numpy(), atol=1e-6), name
    assert [sorted(row) for row in scalars(run, "accuracy")] == [["site-1", "site-2"]]

    done = alone(tmp_path, text)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "hansa: no federation has started this script; it runs alone, for one pass\n"
    total = float(sum(p.detach().sum() for p in net.parameters()))
    assert float(done.stdout.removeprefix("done ")) == pytest.approx(total, abs=1e-5)


def test_torch_scripts_get_tensors_in_the_server_s_dtypes(tmp_path: Path) -> None:
    import torch

    net = torch.nn.ModuleDict(
        {f"{name}_": torch.nn.Linear(200, 200).to(getattr(torch, name)) for name in ("bfloat16", "float16", "float64")}
    )
    body = """
    for name, value in params.items():
        assert isinstance(value, torch.Tensor), type(value)
        assert str(value.dtype) == "torch." + name.split("_")[0], (name, value.dtype)
        value += 1
    flare.send(flare.FLModel(params))
    """
    before = {name: value.clone() for name, value in net.state_dict().items()}
    run = simulate(scripted(tmp_path, "import torch\n" + script(body), model=net), 2, 0, tmp_path)
    assert run.model.keys() == before.keys()
    for name, value in before.items():
        kind = name.split("_")[0]
        assert run.model[name].dtype.name == kind
        assert np.allclose(run.model[name].astype(np.float64), (value + 1).double().numpy(), atol=1e-2), name


def test_alone_parameters_are_an_empty_mapping_to_everybody_but_load_state_dict(tmp_path: Path) -> None:
    text = """
    import hansa.client as flare
    flare.init()
    passes = 0
    while flare.is_running():
        incoming = flare.receive()
        params = incoming.params or {"w": 1.0}
        assert params == {"w": 1.0}
        assert not incoming.params and len(incoming.params) == 0 and dict(incoming.params) == {}
        assert (incoming.current_round, incoming.total_rounds, incoming.meta) == (0, 1, {})
        assert flare.is_train() and flare.is_running.__doc__
        try:
            incoming.params["w"]
        except KeyError as error:
            assert "runs alone" in str(error)
        flare.log("loss", 0.5)
        flare.send(flare.FLModel(params, metrics={"accuracy": 1}))
        passes += 1
    assert passes == 1 and flare.receive() is None
    assert flare.system_info() == {"site_name": None, "alone": True}
    """

    done = alone(tmp_path, textwrap.dedent(text))
    assert done.returncode == 0, done.stderr


def test_alone_a_network_keeps_its_state_whichever_way_it_is_loaded(tmp_path: Path) -> None:
    text = (
        TORCH
        + """
import hansa.client as flare
flare.init()
params = flare.receive().params
before = {name: value.clone() for name, value in net.state_dict().items()}
for options in ({}, {"strict": False}, {"assign": True}):
    net.load_state_dict(params, **options)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
other = nn.Linear(2, 2)
kept = other.weight.clone()
other.load_state_dict(params)
assert torch.equal(other.weight, kept)
assert dict(params) == {}
train(net)  # the parameters are still the optimizer's
assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())
"""
    )
    done = alone(tmp_path, text)
    assert done.returncode == 0, done.stderr


# -- whose turn it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_no_more_scripts_compute_at_a_time_than_there_are_workers(tmp_path: Path, workers: int) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    body = f"""
    def turn(what):
        name = os.path.join({str(marks)!r}, site)
        open(name, "w").close()
        wait(0.05)
        with open(os.path.join({str(tmp_path)!r}, "seen.txt"), "a") as file:
            file.write(f"{{what}} {{len(os.listdir({str(marks)!r}))}}\\n")
        os.remove(name)
    turn("trains")
    flare.send(flare.FLModel(plus(params)))
    turn("goes on after send")
    """
    run = simulate(scripted(tmp_path, script(body), rounds=2), 6, workers, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 2)
    seen = [line.rpartition(" ") for line in (tmp_path / "seen.txt").read_text().splitlines()]
    assert len(seen) == 2 * 2 * 6
    most = max(int(number) for _, _, number in seen)
    assert most == max(1, workers)  # and not fewer: two do work side by side


def test_the_bits_do_not_depend_on_the_workers(tmp_path: Path) -> None:
    body = """
    drawn = random.random(), np.random.rand(), torch.rand(()).item(), early
    flare.send(flare.FLModel({name: value + sum(drawn) for name, value in params.items()}, num_steps=3))
    """
    text = "import torch\n" + HEAD + "early = random.random()\n" + script(body, head="")
    found = set()
    for workers in (0, 1, 2):
        home = tmp_path / str(workers)
        home.mkdir()
        run = simulate(scripted(home, text, rounds=2), 2, workers, home, seed=5)
        found.add(digest(run))
    assert len(found) == 1
    home = tmp_path / "other"
    home.mkdir()
    assert digest(simulate(scripted(home, text, rounds=2), 2, 0, home, seed=6)) not in found


def test_above_64_sites_a_script_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(scripted(tmp_path, script()), 65, 2, tmp_path / "home")
    assert re.search(r"executors\[0\].executor: 65 sites .* 64 at most .* Executor or a Learner", str(caught.value))
    assert not list((tmp_path / "home").glob("*"))


# -- one process per site, for all its tasks --------------------------------------------------------------------------


def test_a_script_stays_for_all_rounds_and_finishes_in_its_own_time(tmp_path: Path) -> None:
    text = HEAD + "count = 0\n" + script("count += 1\nflare.send(flare.FLModel(plus(params, count)))", head="")
    text += "print('seen', count)\nassert flare.receive() is None\n"
    run = simulate(scripted(tmp_path, text, rounds=3), 2, 1, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 1 + 2 + 3)
    assert log_of(run, "site-1") == "seen 3\n"


def test_a_script_without_a_loop_starts_for_each_round(tmp_path: Path) -> None:
    text = HEAD + "print('here')\nflare.send(flare.FLModel(plus(flare.receive().params)))\n"
    run = simulate(scripted(tmp_path, text, rounds=3), 2, 1, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 3)
    assert log_of(run, "site-1") == "here\n" * 3
    assert run.problems == []


def test_only_the_first_process_of_a_script_takes_part(tmp_path: Path) -> None:
    body = """
    import subprocess
    command = [sys.executable, "-c", "import hansa.client as f; f.init()"]
    second = subprocess.run(command, capture_output=True, text=True)
    assert second.stderr.splitlines()[-1].startswith("RuntimeError: init() was called in a second process"), second
    pid = os.fork()
    if not pid:
        try:
            flare.send(flare.FLModel(plus(params, 7)))
        except RuntimeError as error:
            print(error)
        os._exit(0)
    os.waitpid(pid, 0)
    flare.send(flare.FLModel(plus(params)))
    """
    run = simulate(scripted(tmp_path, script(body)), 1, 1, tmp_path)
    assert np.allclose(run.model["w"], MODEL["w"] + 1)
    assert log_of(run, "site-1") == (
        "only the process that called init() takes part in the federation; this is a copy of it\n"
    )
