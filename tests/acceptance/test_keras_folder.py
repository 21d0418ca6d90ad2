"""A job folder in FLARE's style with a Keras model: what is saved is a whole Keras model with the global weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hansa.runtime.run import Run
from poc_parts import done, environment

pytestmark = pytest.mark.slow

PARTS = "hansa.components"
SERVER = {
    "format_version": 2,
    "components": [
        {
            "id": "persistor",
            "path": f"{PARTS}.keras.keras_model_persistor.KerasModelPersistor",
            "args": {"model": {"path": "tiny.new_net"}},
        },
        {"id": "shareable_generator", "name": "FullModelShareableGenerator"},
        {"id": "aggregator", "name": "InTimeAccumulateWeightedAggregator", "args": {"expected_data_kind": "WEIGHTS"}},
    ],
    "workflows": [{"id": "sag", "name": "ScatterAndGather", "args": {"num_rounds": 2, "min_clients": 2}}],
}
CLIENT = {"format_version": 2, "executors": [{"tasks": ["train"], "executor": {"path": "tiny.Adds"}}]}
TINY = '''
import keras

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.executor import Executor


def new_net():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="hidden"), keras.layers.Dense(1)])


class Adds(Executor):
    """Adds the number of its site to each weight."""

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        number = float(fl_ctx.get_identity_name()[-1])
        weights = {name: value + number for name, value in from_shareable(shareable).data.items()}
        return DXO(DataKind.WEIGHTS, weights, {MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()
'''
LOADS = """
import sys, keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
np.savez(sys.argv[2], *[np.asarray(value) for value in model.get_weights()])
"""


def test_the_saved_model_is_keras_own_with_the_global_weights(tmp_path: Path) -> None:
    app = tmp_path / "app"
    for name, content in (
        ("config/config_fed_server.json", json.dumps(SERVER)),
        ("config/config_fed_client.json", json.dumps(CLIENT)),
        ("custom/tiny.py", TINY),
    ):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(content)
    quiet = {"PYTHONWARNINGS": "default", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done("simulate", app, "--sites", 2, "--workers", 0, HANSA_HOME=str(tmp_path), **quiet)
    (folder,) = (tmp_path / "runs").iterdir()
    run = Run.load(folder)
    (saved,) = folder.rglob("global_model.keras")
    loads = [sys.executable, "-c", LOADS, str(saved), str(tmp_path / "weights.npz")]
    subprocess.run(loads, check=True, timeout=120, env=environment(**quiet), capture_output=True)
    with np.load(tmp_path / "weights.npz") as found:
        weights = [found[name] for name in found.files]
    first, *_ = weights
    assert [name.rpartition(".")[2] for name in run.model] == ["kernel", "bias", "kernel", "bias"]
    for loaded, of_run in zip(weights, run.model.values(), strict=True):
        np.testing.assert_array_equal(loaded, of_run)
    np.testing.assert_allclose(weights[1], 3.0)  # the bias of the first layer: 0, and the mean of 1 and 2, twice
    assert first.shape == (3, 2)
    assert not [name for name in os.listdir(saved.parent) if name.startswith(".unfinished")]
