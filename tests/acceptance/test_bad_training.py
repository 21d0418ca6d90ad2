"""Mistakes of those who train, through the real command: one line that names place and cause, and an exit code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from hansa.cli.main import main
from source_code import ROOT

FOLDER = ROOT / "tests" / "scenarios" / "torch_folders" / "fed_opt"
Config = dict[str, Any]


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("executed",)


class Job:
    """A job folder to be spoiled: three sites, FedOpt in torch, an executor that answers differences."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))

    def server(self, change: Callable[[Config], None]) -> None:
        file = self.folder / "config" / "config_fed_server.json"
        config = json.loads(file.read_text())
        change(config)
        file.write_text(json.dumps(config))

    def args(self, part: str, **changes: Any) -> None:
        def change(config: Config) -> None:
            [found] = [each for each in config["components"] if each["id"] == part]
            found["args"].update(changes)

        self.server(change)

    def generator(self, **args: Any) -> None:
        def change(config: Config) -> None:
            [found] = [each for each in config["components"] if each["id"] == "shareable_generator"]
            found.clear()
            found.update(
                id="shareable_generator",
                path="hansa.components.shareablegenerators.fed_opt.FedOptShareableGenerator",
                args=args,
            )

        self.server(change)

    def part(self, path: str, **args: Any) -> None:
        self.server(lambda config: config["components"].append({"id": "more", "path": path, "args": args}))

    def checkpoint(self, content: Any) -> None:
        file = self.folder / "config" / "start.pt"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            torch.save(content, file)
        (self.folder / "config" / "environment.json").write_text('{"APP_CKPT": "config/start.pt"}')

    def trainer(self, old: str, new: str) -> None:
        file = self.folder / "custom" / "line_trainer.py"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))


class Case(NamedTuple):
    spoil: Callable[[Job], None]
    words: tuple[str, ...]
    code: int = 1


SGD = {"path": "torch.optim.SGD", "args": {"lr": 1.0}}
CASES = {
    "checkpoint with code": Case(
        lambda job: job.checkpoint({"weight": torch.zeros(2), "extra": RunsCode()}),
        ("start.pt", "holds code or objects (posix.mkdir)"),
    ),
    "checkpoint cut short": Case(lambda job: job.checkpoint(b"PK\x03\x04 and no more"), ("start.pt",)),
    "checkpoint that is text": Case(lambda job: job.checkpoint(b"weights: none"), ("start.pt",)),
    "checkpoint of another shape": Case(
        lambda job: job.checkpoint({"weight": torch.zeros(3)}),
        ("layer 'weight' has shape (3,) in the checkpoint and (2,) in the model",),
    ),
    "checkpoint that is not there": Case(
        lambda job: job.args("persistor", source_ckpt_file_full_name="/nowhere/start.pt"), ("/nowhere/start.pt",), 2
    ),
    "model that is none": Case(lambda job: job.args("persistor", model="aggregator"), ("PTFileModelPersistor: model",)),
    "unknown optimizer of torch": Case(
        lambda job: job.args("shareable_generator", optimizer_args={"path": "torch.optim.SDG"}),
        ("optimizer_args", "torch has no optimizer 'torch.optim.SDG'; did you mean 'SGD'?"),
    ),
    "argument that the optimizer does not take": Case(
        lambda job: job.args("shareable_generator", optimizer_args={"path": "torch.optim.SGD", "args": {"rate": 1}}),
        ("config_fed_server.json", "optimizer_args.args.rate", "SGD takes no argument 'rate'"),
        2,
    ),
    "unknown scheduler": Case(
        lambda job: job.args("shareable_generator", lr_scheduler_args={"path": "torch.optim.lr_scheduler.Cosine"}),
        ("lr_scheduler_args", "Cosine"),
    ),
    "unknown optimizer of ours": Case(lambda job: job.generator(optimizer="lamb"), ("lamb", "adagrad"), 2),
    "unknown schedule": Case(
        lambda job: job.generator(optimizer="sgd", schedule={"schedule": "sine", "initial": 1}), ("sine", "cosine"), 2
    ),
    "result of another shape": Case(
        lambda job: job.trainer("dxo = DXO", "diff['weight'] = diff['weight'][:1]\n        dxo = DXO"),
        ("round 0", "weight", "(1,)", "(2,)", "site-1"),
    ),
    "result with NaN": Case(
        lambda job: job.trainer("dxo = DXO", "diff['weight'] = diff['weight'] * float('nan')\n        dxo = DXO"),
        ("round 0", "weight", "site-1"),
    ),
    "weights that do not fit the network": Case(
        lambda job: job.trainer("self.model = LineNet()", "self.model = torch.nn.Linear(2, 1)"),
        ("round 0", "site-1", "EXECUTION_EXCEPTION"),
    ),
    "unknown keys of early stopping": Case(
        lambda job: job.part("hansa.components.handlers.early_stopping.EarlyStopping", metric="x", patient=2),
        ("patient", "patience"),
        2,
    ),
    "tracking that cannot be": Case(
        lambda job: job.part("hansa.components.widgets.tb_receiver.TBAnalyticsReceiver", tb_folder=3),
        ("tb_folder",),
        2,
    ),
}  # fmt: skip
if not torch.cuda.is_available():
    CASES["no CUDA device"] = Case(
        lambda job: job.args("shareable_generator", device="cuda"),
        ("PTFedOptModelShareableGenerator: device", "there is no CUDA device 'cuda'"),
    )


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = CASES[name]
    job = Job(tmp_path / "job")
    if case.words[0] == "round 0":  # FLARE's own arguments ignore bad results: this asks for all of them
        job.server(lambda config: config["workflows"][0]["args"].update(min_counted=3, num_rounds=1))
    case.spoil(job)
    with pytest.raises(SystemExit) as left:
        main(["simulate", str(job.folder), "-n", "3", "--workers", "0", "--home", str(tmp_path / "home")])
    said = capsys.readouterr()
    assert left.value.code == case.code, said.err
    [line] = said.err.splitlines()
    assert line.startswith("hansa: ")
    assert not [word for word in case.words if word not in line], line
    assert not list(tmp_path.rglob("executed"))
