"""PyTorch applications as users of FLARE 2.0 write them, run as they are.

`flare_torch/trainer` is the trainer of FLARE 2.0's announcement, its code in `custom/`. `flare_torch/cifar10` has a
Learner in the manner of FLARE's CIFAR-10 example with four configurations; its code lies on the import path, as there.
Nothing in them knows of Hansa. The images are made by the applications, or are CIFAR-10's own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hansa
from hansa.apis.signal import Signal
from hansa.errors import RunAborted
from hansa.jobs.flare_alias import is_served
from hansa.runtime.run import Run, RunStatus
from source_code import PACKAGE, ROOT

pytestmark = pytest.mark.slow

APPS = ROOT / "tests" / "scenarios" / "flare_torch"
CIFAR10 = APPS / "cifar10"
TRAINER = APPS / "trainer"
FOLDERS = {"trainer": TRAINER, **{path.name: path for path in sorted((CIFAR10 / "configs").iterdir())}}
SITES = [f"site-{number}" for number in range(1, 9)]

Tensors = dict[str, torch.Tensor]
RunOf = Callable[[str, int], Run]


@pytest.fixture(scope="module", autouse=True)
def _code_on_the_path() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(CIFAR10))
        patch.syspath_prepend(str(TRAINER / "custom"))
        patch.delenv("CIFAR10_ROOT", raising=False)
        yield


def run_by_command(folder: Path, *, home: Path) -> Run:
    """`hansa simulate FOLDER -n 8 --workers 2`, in a process that has loaded nothing."""
    path = os.pathsep.join([str(PACKAGE.parent), str(CIFAR10)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "hansa.cli.main", "simulate", str(folder), "-n", "8", "--workers", "2"]
    done = subprocess.run(
        [*command, "--home", str(home), "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return Run.load(home / json.loads(done.stdout)["id"])


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """The run of an application with so many workers; each is made once, two of them by the command."""
    home = tmp_path_factory.mktemp("home")

    @cache
    def run(name: str, workers: int) -> Run:
        if workers and name in ("trainer", "cifar10_scaffold"):
            return run_by_command(FOLDERS[name], home=home)
        return hansa.simulate(FOLDERS[name], 8, workers=workers, home=home)

    return run


def network_of(name: str) -> nn.Module:
    """The application's own network, as its config makes it."""
    if name == "trainer":
        from simple_network import SimpleNetwork

        return SimpleNetwork()
    from pt.networks.cifar10_nets import ModerateCNN

    return ModerateCNN()


def unseen_images_of(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that no site has, and their labels."""
    if name == "trainer":
        from image_data import load_images

        return load_images(site=0).tensors
    from pt.data.cifar10_idx import CIFAR10_Idx

    data = CIFAR10_Idx("", train=False)
    return data.data, data.target


def score(name: str, weights: Tensors | None = None) -> tuple[float, float]:
    """Accuracy and cross-entropy of weights, or of the network as it begins."""
    network = network_of(name)
    if weights is not None:
        network.load_state_dict(weights)
    network.eval()
    images, labels = unseen_images_of(name)
    with torch.no_grad():
        outputs = network(images)
    return (outputs.argmax(1) == labels).float().mean().item(), nn.functional.cross_entropy(outputs, labels).item()


def server_folder(run: Run) -> Path:
    return run.folder / "workspace" / "server" / "run_1" / "app_server"


def checkpoint(run: Run, name: str = "FL_global_model.pt") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(server_folder(run) / name, weights_only=True)
    return content


def norm(tensors: Tensors) -> float:
    return sum(float(tensor.double().square().sum()) for tensor in tensors.values()) ** 0.5


def trained(name: str) -> list[str]:
    return [key for key, _ in network_of(name).named_parameters()]


def test_no_application_knows_of_hansa() -> None:
    files = [path for path in APPS.rglob("*") if path.suffix in (".py", ".json")]
    assert len(FOLDERS) == 5
    assert len(files) >= 16
    assert not [path for path in files if "hansa" in path.read_text().lower()]
    assert importlib.util.find_spec("nvflare") is None  # so that what they import is ours


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", FOLDERS)
def test_an_application_runs_as_it_is_and_learns(name: str, workers: int, run_of: RunOf) -> None:
    run = run_of(name, workers)
    assert run.status is RunStatus.COMPLETED
    assert run.problems == []
    # 96 images in batches of 16 are 6 steps an epoch: the trainer counts all of its 4 epochs, the learner one.
    assert [record.counted for record in run.history.rounds] == [
        dict.fromkeys(SITES, 24 if name == "trainer" else 6)
    ] * 2
    accuracy, loss = score(name, run.state_dict())
    if name == "trainer":  # it began at random; a guess costs log(10) = 2.3026
        assert loss < 2.2
    else:
        first_accuracy, first_loss = score(name)
        assert (first_accuracy, first_loss) == pytest.approx((0.0859, 2.318), abs=0.001)
        assert accuracy > 0.5
        assert loss < 2.1
        before = dict(run.history.series("initial_metrics"))
        assert before[0] == pytest.approx(first_accuracy)
        assert before[1] > first_accuracy
    assert not is_served()
    assert not [module for module in sys.modules if module.partition(".")[0] == "nvflare"]


@pytest.mark.parametrize("name", FOLDERS)
def test_processes_and_the_command_change_no_bit(name: str, run_of: RunOf) -> None:
    here, elsewhere = run_of(name, 0).model, run_of(name, 2).model
    assert here.keys() == elsewhere.keys() == network_of(name).state_dict().keys()
    assert {key: value.tobytes() for key, value in here.items()} == {
        key: value.tobytes() for key, value in elsewhere.items()
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_the_checkpoint_is_the_runs_model(name: str, run_of: RunOf) -> None:
    run = run_of(name, 2)
    content = checkpoint(run)
    assert content["train_conf"] == {"train": {"model": type(network_of(name)).__name__}}
    assert content["model"].keys() == run.model.keys()
    for key, tensor in content["model"].items():
        assert tensor.numpy().dtype == run.model[key].dtype
        assert tensor.numpy().tobytes() == run.model[key].tobytes(), key
    network_of(name).load_state_dict(content["model"])


def test_fed_opt_makes_the_steps_of_its_optimizer(run_of: RunOf) -> None:
    """SGD with momentum 0.6; its rate goes from 1 to 0.9 in two rounds along a half cosine, and is 0.95 in the second.

    Both begin alike and train alike, so the first round gives w1 = w0 + d0 either way. FedAvg's second gives w1 + d1,
    FedOpt's w1 + 0.95 (d1 + 0.6 d0). Statistics of batch normalisation are no parameters: they move by d1.
    """
    plain, optimised = run_of("cifar10_fedavg", 0), run_of("cifar10_fedopt", 0)
    w0 = network_of("cifar10_fedopt").state_dict()
    # What was best when the second round ended is what the first one made.
    w1 = checkpoint(plain, "best_FL_global_model.pt")["model"]
    w2, found = plain.state_dict(), optimised.state_dict()
    parameters = trained("cifar10_fedopt")
    expected = {
        key: w1[key] + 0.95 * ((w2[key] - w1[key]) + 0.6 * (w1[key] - w0[key])) if key in parameters else w2[key]
        for key in w2
    }
    torch.testing.assert_close(dict(found), dict(expected), rtol=1e-4, atol=1e-6)
    assert norm({key: found[key] - w2[key] for key in parameters}) > 0.05
    best = checkpoint(optimised, "best_FL_global_model.pt")["model"]
    torch.testing.assert_close(dict(best), dict(w1), rtol=1e-5, atol=1e-6)


def test_fed_prox_stays_nearer(run_of: RunOf) -> None:
    start = network_of("cifar10_fedprox").state_dict()
    distances = [
        norm({key: checkpoint(run_of(name, 0), "best_FL_global_model.pt")["model"][key] - start[key] for key in keys})
        for name in ("cifar10_fedprox", "cifar10_fedavg")
        for keys in [trained(name)]
    ]
    assert 0.1 < distances[0] < 0.98 * distances[1]


def test_scaffold_learns_its_controls(run_of: RunOf) -> None:
    """The sites' controls begin at 0, so theirs become (w0 - y) / (K lr), with K = 12 steps of lr = 0.02.

    All sites make as many steps and all take part: the global control is the mean of these, (w0 - w1) / 0.24. The
    learner reports its norm as it comes.
    """
    run = run_of("cifar10_scaffold", 2)
    w0 = network_of("cifar10_scaffold").state_dict()
    w1 = checkpoint(run, "best_FL_global_model.pt")["model"]
    control = {key: (w0[key] - w1[key]) / 0.24 for key in trained("cifar10_scaffold")}
    for site in SITES:
        norms = dict(run.history.series("c_global_norm", site))
        assert norms[0] == 0
        assert norms[1] == pytest.approx(norm(control), rel=1e-3)
    assert norm(control) > 0.5
    # Without controls the second round is another one.
    other = run_of("cifar10_fedavg", 2).state_dict()
    assert norm({key: value - other[key] for key, value in run.state_dict().items()}) > 0.05


def test_sites_hand_in_their_best_models(run_of: RunOf) -> None:
    run = run_of("cifar10_fedavg", 2)
    scores = json.loads((server_folder(run) / "scores.json").read_text())
    site_app = run.folder / "workspace" / "site-1" / "run_1" / "app_site-1"
    best = torch.load(site_app / "best_local_model.pt", weights_only=True)
    models = {
        "site-1": best["model_weights"],
        "FL_global_model.pt": run.state_dict(),
        "best_FL_global_model.pt": checkpoint(run, "best_FL_global_model.pt")["model"],
    }
    # All validate on the same images.
    assert scores == {
        name: dict.fromkeys(SITES, pytest.approx(score("cifar10_fedavg", weights)[0]))
        for name, weights in models.items()
    }
    assert best["best_acc"] == pytest.approx(scores["site-1"]["site-1"])


def test_what_sites_report_is_kept_for_tensorboard(run_of: RunOf) -> None:
    run = run_of("cifar10_fedavg", 2)
    workspace = run.folder / "workspace"
    assert sorted(path.name for path in (workspace / "server" / "run_1" / "tb_events").iterdir()) == SITES
    for site in SITES:
        for folder in (workspace / "server", workspace / site):
            (file,) = (folder / "run_1" / "tb_events" / site).iterdir()
            # 24 steps and two validations of each kind: 24 records of a loss, 4 of an accuracy.
            content = file.read_bytes()
            assert content.count(b"train_loss") == 24
            assert content.count(b"val_acc_") == 4
    losses = dict(run.history.series("train_loss"))
    assert losses[1] < losses[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_training_stops_when_it_is_told_to(workers: int, tmp_path: Path) -> None:
    app = tmp_path / "endless"
    shutil.copytree(TRAINER, app)
    config = app / "config" / "config_fed_client.json"
    config.write_text(config.read_text().replace('"epochs": 4', '"epochs": 1000000'))
    abort, home = Signal(), tmp_path / "home"

    def has_begun() -> bool:
        return any("Epoch: 10/1000000" in path.read_text() for path in home.rglob("log.txt"))

    def stop() -> None:
        ended.wait(0.1)
        while not has_begun() and not ended.wait(0.1):
            pass
        abort.trigger("enough")

    ended = threading.Event()
    thread = threading.Thread(target=stop)
    thread.start()
    try:
        with pytest.raises(RunAborted) as caught:
            hansa.simulate(app, 8, workers=workers, home=home, abort_signal=abort)
    finally:
        ended.set()
        thread.join()
    folder = Path(str(caught.value.folder))
    assert Run.load(folder).status is RunStatus.ABORTED
    assert "aborted in epoch" in (folder / "log.txt").read_text()


def test_the_learner_learns_from_images_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = photos()
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    monkeypatch.setenv("CIFAR10_ROOT", str(tmp_path))
    assert unseen_images_of("cifar10_fedavg")[1].tolist() == labels[768:896].tolist()
    run = hansa.simulate(FOLDERS["cifar10_fedavg"], 8, workers=0, home=tmp_path / "home")
    assert run.problems == []
    assert score("cifar10_fedavg", run.state_dict())[1] < score("cifar10_fedavg")[1] - 0.02


def photos() -> tuple[Any, Any]:
    """1,000 images of 32 x 32 x 3 bytes with labels: CIFAR-10's first where the data sets are, else colours."""
    folder = Path(os.environ.get("HANSA_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "load.py").exists():
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 10, 1000)
        colours = rng.integers(0, 200, (10, 1, 1, 3))
        return (colours[labels] + rng.integers(0, 56, (1000, 32, 32, 3))).astype(np.uint8), labels.astype(np.uint8)
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images, labels = module.cifar10(batches=(1,))
    return images[:1000], labels[:1000]
