"""What sets the other recipes apart from `fed_avg`, models that are torch modules, and scripts that travel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

from hansa import tensors
from hansa.apis.learner_spec import Learner
from hansa.errors import ConfigError
from hansa.jobs import Component, Job, ditto, fed_avg, fed_bn, fed_opt, fed_prox, scaffold
from hansa.jobs.config import Side
from hansa.jobs.job import WEIGHTS
from scenarios.federations import Adds

MODEL = {"w": np.zeros((2, 3), dtype=np.float32)}
RECIPES = {each.__name__: each for each in (fed_avg, fed_prox, fed_opt, scaffold, fed_bn, ditto)}


class Net(torch.nn.Module):
    """A layer, its normalisation, and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 3)
        self.tied = torch.nn.Linear(3, 3)
        self.tied.weight = self.layer.weight
        self.norm = torch.nn.BatchNorm1d(3)
        self.register_buffer("scale", torch.ones(2))


class MyLearner(Learner):
    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate


def server_of(job: Job) -> dict[str, Any]:
    return job.server_app.config(Side.SERVER, num_sites=4)


def client_of(job: Job) -> dict[str, Any]:
    return job.server_app.config(Side.CLIENT, num_sites=4)


def args_of(config: dict[str, Any], part_id: str) -> dict[str, Any]:
    [part] = [each for each in config["components"] if each["id"] == part_id]
    args: dict[str, Any] = part.get("args", {})
    return args


def test_a_module_ships_its_real_weights_and_keeps_its_dtypes() -> None:
    net = Net().to(torch.bfloat16)
    kept: Any = fed_avg(net, executor=Adds).server_app.files[WEIGHTS]
    assert list(kept) == list(net.state_dict())
    for name, tensor in net.state_dict().items():
        assert kept[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        assert np.array_equal(kept[name].astype(np.float64), tensor.double().numpy())
    assert kept["layer.weight"].dtype == ml_dtypes.bfloat16  # the very bits, not by way of float32
    half: Any = fed_avg(Net().half(), executor=Adds).server_app.files[WEIGHTS]
    assert half["layer.weight"].dtype == np.float16
    with torch.no_grad():
        net.layer.weight.fill_(7)
    assert not (kept["layer.weight"] == 7).any()


def test_a_model_in_bfloat16_comes_back_from_its_file(tmp_path: Path) -> None:
    net = Net().to(torch.bfloat16)
    fed_avg(net, executor=Adds).save(tmp_path / "job")
    [file] = (tmp_path / "job").rglob("*.safetensors")
    assert tensors.read(file)["layer.bias"].dtype == ml_dtypes.bfloat16
    assert np.array_equal(
        tensors.read(file)["layer.bias"].view(np.int16), net.layer.bias.detach().view(torch.int16).numpy()
    )


def test_fed_prox_and_ditto_tell_the_sites_their_constant() -> None:
    def settings(job: Job) -> Any:
        return args_of(server_of(job), "shareable_generator").get("train_settings")

    assert settings(fed_prox(MODEL, executor=Adds, mu=0.5)) == {"fed_prox_mu": 0.5}
    assert settings(ditto(MODEL, executor=Adds)) == {"ditto_lambda": 0.1}
    more = {"learning_rate": {"schedule": "cosine", "initial": 0.1, "rounds": 5}, "note": "{x}"}
    assert settings(fed_prox(MODEL, executor=Adds, settings=more)) == {"fed_prox_mu": 0.01, **more}
    assert settings(fed_avg(MODEL, executor=Adds)) is None


def test_fed_opt_knows_what_is_not_to_be_optimised() -> None:
    generator = args_of(server_of(fed_opt(Net(), executor=Adds)), "shareable_generator")
    assert generator == {
        "optimizer": "adam",
        "learning_rate": 0.01,
        "buffers": [
            "scale", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"
        ],
    }  # fmt: skip
    job = fed_opt(
        MODEL, executor=Adds, optimizer="sgd", optimizer_args={"momentum": 0.6}, buffers="stat", settings={"a": 1}
    )
    assert args_of(server_of(job), "shareable_generator") == {
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "momentum": 0.6,
        "buffers": "stat",
        "train_settings": {"a": 1},
    }
    schedule = {"schedule": "step", "initial": 1.0, "every": 2, "factor": 0.5}
    job = fed_opt(MODEL, executor=Adds, server_learning_rate=schedule)
    assert args_of(server_of(job), "shareable_generator")["schedule"] == schedule


def test_scaffold_averages_weights_and_controls_each_for_themselves() -> None:
    server = server_of(scaffold(MODEL, executor=Adds, min_sites=2))
    [workflow] = server["workflows"]
    assert workflow["path"].endswith("scatter_and_gather_scaffold.ScatterAndGatherScaffold")
    assert workflow["args"]["min_clients"] == 2
    assert args_of(server, "aggregator")["expected_data_kind"] == {
        "_model_weights_": "WEIGHT_DIFF",
        "scaffold_c_diff": "WEIGHT_DIFF",
    }


def test_fed_bn_keeps_normalisation_at_the_sites() -> None:
    job = fed_bn(Net(), executor=Adds)
    client = client_of(job)
    norm = ["norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]
    assert args_of(client, "local_tensors") == {"names": norm}
    assert args_of(server_of(job), "aggregator")["names"] == "subset"
    for chain, name in (("task_data_filters", "PutBackLocal"), ("task_result_filters", "KeepLocal")):
        [only] = client[chain]
        assert [part["path"].rpartition(".")[2] for part in only["filters"]] == [name]
    assert args_of(client_of(fed_bn(MODEL, executor=Adds, local="bn")), "local_tensors") == {"names": "bn"}
    with pytest.raises(ConfigError, match="local: say which tensors stay at their site: arrays do not tell"):
        fed_bn(MODEL, executor=Adds)
    with pytest.raises(ConfigError, match="the module has no batch normalisation"):
        fed_bn(torch.nn.Linear(2, 2), executor=Adds)


def test_a_learner_is_driven_by_its_executor() -> None:
    for given in (MyLearner, Component(MyLearner, id="mine", rate=0.5)):
        client = client_of(fed_avg(MODEL, executor=given))
        [executor] = client["executors"]
        assert executor["executor"]["path"].endswith("LearnerExecutor")
        assert client["components"][-1]["id"] == executor["executor"]["args"]["learner_id"]
    assert client["components"][-1]["args"] == {"rate": 0.5}


def test_stopping_and_the_best_model_are_the_servers_affair() -> None:
    job = fed_avg(
        MODEL, executor=Adds, early_stopping={"metric": "loss", "patience": 2}, best_by="loss", lower_is_better=True
    )
    server = server_of(job)
    assert args_of(server, "early_stopping") == {"metric": "loss", "patience": 2}
    assert args_of(server, "model_selector") == {"validation_metric_name": "loss", "larger_is_better": False}


def test_a_script_travels_with_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import json\nimport numpy\nimport net\nfrom parts.deep import x\nimport torch\n"
    )
    (tmp_path / "net.py").write_text("import layers\n")
    (tmp_path / "layers.py").write_text("")
    (tmp_path / "unused.py").write_text("")
    (tmp_path / "torch.py").write_text("")  # something installed is called the same
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "deep.py").write_text("x = 1\n")
    job = fed_avg(MODEL, script=tmp_path / "train.py", script_args=["--data", "a b", 3], params_type="diff")
    [executor] = client_of(job)["executors"]
    assert executor["executor"]["path"].endswith("script_executor.ScriptExecutor")
    assert executor["executor"]["args"] == {"script": "train.py", "args": "--data 'a b' 3", "params_type": "diff"}
    files = {name for name in job.server_app.files if name != WEIGHTS}
    assert files == {"custom/train.py", "custom/net.py", "custom/layers.py", "custom/parts/deep.py"}


@pytest.mark.parametrize(
    ("recipe", "given", "key", "says"),
    [
        ("fed_avg", {}, "executor", "or a script"),
        ("fed_avg", {"script": "none.py"}, "script", "there is no file 'none.py'"),
        ("fed_avg", {"script": 3}, "script", "must be the path of a Python file, not 3"),
        ("fed_avg", {"script": "notes.txt"}, "script", "must be a Python file"),
        ("fed_avg", {"script": "wrong.py"}, "script", "wrong.py, line 2: invalid syntax"),
        ("fed_avg", {"script": "uses_wrong.py"}, "script", "wrong.py, line 2: invalid syntax"),
        ("fed_avg", {"script": "good.py", "executor": Adds}, "script", "an executor or a script, not both"),
        ("fed_avg", {"executor": Adds, "script_args": "x"}, "script_args", "no script"),
        ("fed_avg", {"script": "good.py", "script_args": {"a": 1}}, "script_args", "must be a list of texts"),
        ("fed_avg", {"model": Net, "executor": Adds}, "model", "give an instance"),
        ("fed_avg", {"model": torch.nn.ReLU(), "executor": Adds}, "model", "has no weights"),
        ("fed_avg", {"model": torch.nn.Linear(2, 2, device="meta"), "executor": Adds}, "model.weight", "no values"),
        ("fed_avg", {"executor": Adds, "mu": 1}, "mu", "fed_avg takes no such argument"),
        ("fed_prox", {"executor": Adds, "mu": -1}, "mu", "at least 0, not -1"),
        ("fed_prox", {"executor": Adds, "min_sites": 0}, "min_sites", "at least 1"),
        ("fed_opt", {"executor": Adds, "optimiser": "adam"}, "optimiser", "did you mean 'optimizer'?"),
        ("fed_opt", {"executor": Adds, "optimizer": "lamb"}, "optimizer", "'yogi' or 'adagrad', not 'lamb'"),
        ("fed_opt", {"executor": Adds, "optimizer_args": 1}, "optimizer_args", "must be a dict"),
        ("scaffold", {"executor": Adds, "params_type": "full"}, "params_type", "'diff'"),
        ("ditto", {"executor": Adds, "ditto_lambda": "big"}, "ditto_lambda", "at least 0, not 'big'"),
        ("fed_avg", {"executor": Adds, "settings": [1]}, "settings", "must be a dict"),
        ("fed_avg", {"executor": Adds, "early_stopping": "x"}, "early_stopping", "must be a dict"),
        ("fed_avg", {"executor": Adds, "lower_is_better": 1}, "lower_is_better", "True or False"),
    ],
)
def test_bad_arguments_are_named(
    recipe: str, given: dict[str, Any], key: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.py").write_text("")
    Path("notes.txt").write_text("")
    Path("wrong.py").write_text("x = 1\ny = = 2\n")
    Path("uses_wrong.py").write_text("import wrong\n")
    given = {"model": MODEL, **given}
    with pytest.raises(ConfigError) as caught:
        RECIPES[recipe](given.pop("model"), **given)
    assert says in str(caught.value)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)
