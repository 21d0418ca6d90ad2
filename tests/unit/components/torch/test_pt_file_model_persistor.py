"""Torch models on disk, and the locator that serves them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from hansa import tensors
from hansa.apis.analytix import AnalyticsDataType
from hansa.apis.app_constant import DefaultCheckpointFileName, ModelFormat
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DataKind
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey, make_model_learnable
from hansa.components.torch.pt_file_model_locator import PTFileModelLocator
from hansa.components.torch.pt_file_model_persistor import PTFileModelPersistor
from hansa.errors import ConfigError
from sides import Listener, Side

GLOBAL, BEST = DefaultCheckpointFileName.GLOBAL_MODEL, DefaultCheckpointFileName.BEST_GLOBAL_MODEL
EXECUTED: list[str] = []


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return EXECUTED.append, ("evil",)


class System:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


class LaterSide(Side):
    """Writes when it is told to."""

    def __init__(self, *handlers: Any) -> None:
        super().__init__("project", list(handlers))
        self.waiting: dict[str, Callable[[], None]] = {}

    def write_later(self, key: str, write: Callable[[], None]) -> None:
        self.waiting[key] = write

    def finish_writes(self) -> None:
        while self.waiting:
            self.waiting.popitem()[1]()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path


def net(value: float = 0.0) -> nn.Linear:
    model = nn.Linear(2, 3)
    with torch.no_grad():
        model.weight.fill_(value)
        model.bias.fill_(value)
    return model


def context(app: Path, side: Side | None = None) -> FLContext:
    fl_ctx = (side or Side("project", [])).new_context()
    fl_ctx.set_prop(FLContextKey.APP_ROOT, str(app), private=True, sticky=True)
    fl_ctx.set_prop(FLContextKey.ARGS, SimpleNamespace(env="config/environment.json"), private=True, sticky=True)
    return fl_ctx


def weights(model: Any) -> dict[str, Any]:
    return {name: value.tolist() for name, value in model[ModelLearnableKey.WEIGHTS].items()}


def loaded(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def source(app: Path, content: object, name: str = "start.pt") -> str:
    torch.save(content, app / name)
    return str(app / name)


# -- where the weights come from --------------------------------------------------------------------------------------


def test_the_modules_weights_are_handed_over_without_a_copy(app: Path) -> None:
    model = net(2)
    found = PTFileModelPersistor(model=model).load(context(app))
    assert weights(found) == {"weight": [[2, 2]] * 3, "bias": [2, 2, 2]}
    assert np.shares_memory(found["weights"]["weight"], model.weight.detach().numpy())


def test_a_component_id_is_looked_up(app: Path) -> None:
    side = Side("project", [], {"net": net(3)})
    assert weights(PTFileModelPersistor(model="net").load(context(app, side)))["bias"] == [3, 3, 3]


def test_without_a_model_it_begins_empty(app: Path) -> None:
    assert PTFileModelPersistor().load(context(app)).is_empty()


def test_the_order_source_then_environment_then_model(app: Path) -> None:
    given = source(app, net(1).state_dict())
    source(app, net(2).state_dict(), "environment.pt")
    (app / "config" / "environment.json").write_text(json.dumps({"APP_CKPT": "environment.pt"}))
    for persistor, expected in (
        (PTFileModelPersistor(model=net(3), source_ckpt_file_full_name=given), 1),
        (PTFileModelPersistor(model=net(3)), 2),
    ):
        assert weights(persistor.load(context(app)))["bias"] == [expected] * 3
    (app / "config" / "environment.json").unlink()
    assert weights(PTFileModelPersistor(model=net(3)).load(context(app)))["bias"] == [3, 3, 3]


def test_environment_json_names_the_folder_of_the_files(app: Path) -> None:
    (app / "config" / "environment.json").write_text(json.dumps({"APP_CKPT_DIR": "models/deep", "OTHER": 1}))
    persistor, fl_ctx = PTFileModelPersistor(model=net(1)), context(app)
    persistor.save(persistor.load(fl_ctx), fl_ctx)
    assert loaded(app / "models" / "deep" / GLOBAL)["model"]["bias"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read: Expecting"),
        ("[1]", "must be an object"),
        ('{"APP_CKPT": 3}', "APP_CKPT: must be a text, not int"),
        ('{"APP_CKPT_DIR": "../out"}', "APP_CKPT_DIR: must be a folder below the app's"),
        ('{"APP_CKPT_DIR": "/tmp"}', "APP_CKPT_DIR: must be a folder below the app's"),
        ('{"APP_CKPT": "none.pt"}', "APP_CKPT: there is no such checkpoint"),
    ],
)
def test_mistakes_in_environment_json(app: Path, text: str, words: str) -> None:
    (app / "config" / "environment.json").write_text(text)
    with pytest.raises(ConfigError) as caught:
        PTFileModelPersistor(model=net()).load(context(app))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_excluded_variables_stay_in_the_file(app: Path) -> None:
    persistor, fl_ctx = PTFileModelPersistor("^bias", net(1)), context(app)
    model = persistor.load(fl_ctx)
    assert weights(model) == {"weight": [[1, 1]] * 3}
    model["weights"]["weight"] = np.zeros((3, 2), np.float32)
    persistor.save(model, fl_ctx)
    assert loaded(app / GLOBAL)["model"]["bias"].tolist() == [1, 1, 1]
    assert weights(persistor.get_model(GLOBAL, fl_ctx)) == {"weight": [[0, 0]] * 3}


def test_bfloat16_and_half_go_in_and_out_bit_by_bit(app: Path) -> None:
    for dtype, kind in ((torch.bfloat16, ml_dtypes.bfloat16), (torch.float16, np.float16)):
        model = nn.Linear(256, 256, bias=False).to(dtype)
        persistor, fl_ctx = PTFileModelPersistor(model=model), context(app)
        found = persistor.load(fl_ctx)
        assert found["weights"]["weight"].dtype == kind
        assert np.shares_memory(found["weights"]["weight"], model.weight.detach().view(torch.int16).numpy())
        persistor.save(found, fl_ctx)
        assert torch.equal(loaded(app / GLOBAL)["model"]["weight"], model.weight)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"weight": torch.ones(1), "extra": Evil()}, "holds code or objects"),
        ({"weight": torch.ones(1), "extra": System()}, "holds code or objects (posix.system)"),
        (net(), "holds code or objects (torch.nn.modules.linear.Linear), which are not loaded; save weights and plain"),
        ([1, 2], "holds no weights by name, but a list"),
        ({}, "holds no weights"),
        ({"model": {}}, "holds no weights"),
        ({"epoch": 3, "state_dict": {}}, "'epoch' is a int; weights are expected under 'model', or alone"),
        ({"model": {"w": 3}}, "holds no weights by name: 'w' is a int"),
        ({1: torch.ones(1)}, "it has the key 1"),
        ({"w": torch.ones(2, 2).to_sparse()}, "layer 'w' is sparse or quantized"),
        (
            {"weight": torch.ones(3, 4), "bias": torch.ones(3)},
            "'weight' has shape (3, 4) in the checkpoint and (3, 2) in",
        ),
        ({"weight": torch.ones(3, 2)}, "the model's 'bias' is not in the checkpoint"),
        ({**net().state_dict(), "head": torch.ones(1)}, "'head' in the checkpoint is unknown to the model"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_checkpoint_that_is_none_or_does_not_fit(app: Path, content: object, words: str) -> None:
    name = source(app, content)
    with pytest.raises(ConfigError) as caught:
        PTFileModelPersistor(model=net(), source_ckpt_file_full_name=name).load(context(app))
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{name}: source_ckpt_file_full_name: ")
    assert "\n" not in str(caught.value)
    assert not EXECUTED


@pytest.mark.parametrize("name", ["bad.pt", "bad.safetensors"])
@pytest.mark.parametrize("damage", ["empty", "garbage", "cut"])
def test_an_unreadable_checkpoint(app: Path, name: str, damage: str) -> None:
    persistor, fl_ctx = PTFileModelPersistor(model=net(), global_model_file_name=name), context(app)
    persistor.save(persistor.load(fl_ctx), fl_ctx)
    whole = (app / name).read_bytes()
    (app / name).write_bytes({"empty": b"", "garbage": b"nothing at all", "cut": whole[: len(whole) // 2]}[damage])
    with pytest.raises(ConfigError, match="no checkpoint can be read from it: .") as caught:
        PTFileModelPersistor(source_ckpt_file_full_name=str(app / name)).load(context(app))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_excluded_variables_need_not_fit(app: Path) -> None:
    name = source(app, {"weight": torch.ones(3, 2), "head.w": torch.ones(1)})
    persistor = PTFileModelPersistor("^head|^bias", net(), source_ckpt_file_full_name=name)
    assert list(persistor.load(context(app))["weights"]) == ["weight"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source_ckpt_file_full_name": "/no/such/file.pt"}, "there is no checkpoint '/no/such/file.pt'"),
        ({"global_model_file_name": "../x.pt"}, "global_model_file_name must be a file inside the app's folder"),
        ({"best_global_model_file_name": "/x.pt"}, "best_global_model_file_name must be a file inside"),
        ({"exclude_vars": "("}, "exclude_vars '\\(' is no regular expression"),
    ],
)
def test_wrong_arguments(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PTFileModelPersistor(**arguments)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("net", "model: there is no component 'net'"),
        ("text", "model: must be a torch.nn.Module or the id of one, not a str"),
        (3, "model: must be a torch.nn.Module or the id of one, not a int"),
    ],
)
def test_a_wrong_model_ends_the_run_with_one_line(app: Path, model: Any, words: str) -> None:
    persistor, ears = PTFileModelPersistor(model=model), Listener()
    side = Side("project", [persistor, ears], {"text": "no model"})
    side.fire_event(EventType.START_RUN, context(app, side))
    panics = [heard[1] for heard in ears.heard if heard[0] == EventType.FATAL_SYSTEM_ERROR]
    assert panics == [f"PTFileModelPersistor: {words}"]


# -- what is saved ----------------------------------------------------------------------------------------------------


def test_each_version_is_saved_with_meta_conf_and_foreign_keys(app: Path) -> None:
    name = source(app, {"model": net(1).state_dict(), "epoch": 7, "optimizer": {"state": {0: {"m": torch.ones(2)}}}})
    persistor, fl_ctx = PTFileModelPersistor(model=net(), source_ckpt_file_full_name=name), context(app)
    model = persistor.load(fl_ctx)
    model["weights"]["bias"] = np.full(3, 5, np.float32)
    # Whatever a meta holds, the file can be read as weights alone.
    model["meta"] = {
        "steps": np.int64(3),
        "kind": AnalyticsDataType.SCALAR,
        "list": [np.float32(0.5), {"a": np.ones(1)}],
    }
    persistor.save(model, fl_ctx)
    content = loaded(app / GLOBAL)
    assert list(content) == ["model", "meta_props", "train_conf", "epoch", "optimizer"]
    assert content["model"]["bias"].tolist() == [5, 5, 5]
    assert content["model"]["weight"].tolist() == [[1, 1]] * 3
    assert content["meta_props"]["steps"] == 3
    assert content["meta_props"]["list"][0] == 0.5
    assert content["train_conf"] == {"train": {"model": "Linear"}}
    assert (content["epoch"], content["optimizer"]["state"][0]["m"].tolist()) == (7, [1, 1])
    assert (app / GLOBAL).stat().st_mode & 0o777 == 0o644


def test_versions_wait_for_the_engines_writer_and_a_later_one_replaces_them(app: Path) -> None:
    persistor, side = PTFileModelPersistor(model=net()), LaterSide()
    fl_ctx = context(app, side)
    persistor.load(fl_ctx)
    for value in (1.0, 2.0):
        bias = np.full(3, value, np.float32)
        persistor.save(make_model_learnable({"bias": bias}, {}), fl_ctx)
        assert list(side.waiting) == [str(app / GLOBAL)]
        assert not (app / GLOBAL).exists()
    assert list(persistor.get_model_inventory(fl_ctx)) == [GLOBAL]  # it waits for what is being written
    assert loaded(app / GLOBAL)["model"]["bias"].tolist() == [2, 2, 2]


def test_a_failed_write_leaves_the_old_file_and_no_other(app: Path) -> None:
    persistor, fl_ctx = PTFileModelPersistor(model=net(1), global_model_file_name="m.pt"), context(app)
    persistor.save(persistor.load(fl_ctx), fl_ctx)
    model = make_model_learnable({"bias": np.zeros(3)}, {"callback": lambda: None})
    with pytest.raises(Exception, match="pickle"):
        persistor.save(model, fl_ctx)
    assert loaded(app / "m.pt")["model"]["bias"].tolist() == [1, 1, 1]
    assert sorted(path.name for path in app.iterdir()) == ["config", "m.pt"]


def test_the_best_is_what_was_saved_last(app: Path) -> None:
    persistor, fl_ctx = PTFileModelPersistor(), context(app)
    persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
    assert not (app / BEST).exists()  # nothing loaded, nothing saved
    persistor.save(make_model_learnable({"w": np.ones(2)}, {}), fl_ctx)
    persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
    persistor.save(make_model_learnable({"w": np.zeros(2)}, {}), fl_ctx)
    assert loaded(app / BEST)["model"]["w"].tolist() == [1, 1]
    assert loaded(app / GLOBAL)["model"]["w"].tolist() == [0, 0]


def test_a_file_of_any_name(app: Path) -> None:
    persistor = PTFileModelPersistor(model=net(1))
    with pytest.raises(ConfigError, match="there is no model to save"):
        persistor.save_model_file(str(app / "x.pt"))
    persistor.load(context(app))
    persistor.save_model_file(str(app / "x.pt"))
    assert loaded(app / "x.pt")["model"]["bias"].tolist() == [1, 1, 1]


# -- safetensors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int64"])
def test_safetensors_in_and_out(app: Path, dtype: str) -> None:
    kind = getattr(torch, dtype)
    start, name = torch.tensor([0.5, -2.0, 1.0]).to(kind), "model.safetensors"
    given = source(app, {"model": {"w": start, "n": torch.tensor(3)}, "note": "mine", "epoch": 4})
    persistor = PTFileModelPersistor(global_model_file_name=name, source_ckpt_file_full_name=given)
    fl_ctx = context(app)
    model = persistor.load(fl_ctx)
    model["meta"] = {"steps": np.int64(3)}
    persistor.save(model, fl_ctx)
    header = tensors.parse_header(memoryview((app / name).read_bytes()))
    assert header.entries["w"].dtype == {"float32": "F32", "float16": "F16", "int64": "I64", "bfloat16": "BF16",
                                         "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2"}[dtype]  # fmt: skip
    assert header.metadata == {"meta_props": '{"steps": 3}', "note": "mine", "epoch": "4"}
    again = PTFileModelPersistor(source_ckpt_file_full_name=str(app / name))
    assert weights(again.load(fl_ctx)) == {"w": start.float().tolist(), "n": 3}
    again.save_model_file(str(app / "back.pt"))
    content = loaded(app / "back.pt")
    assert content["model"]["w"].dtype is kind
    assert (content["meta_props"], content["note"]) == ({"steps": 3}, "mine")
    (descriptor,) = persistor.get_model_inventory(fl_ctx).values()
    assert (descriptor.name, descriptor.model_format) == (name, "safetensors")


def test_what_a_safetensors_file_cannot_keep_is_found_at_the_start(app: Path) -> None:
    given = source(app, {"model": {"w": torch.ones(1)}, "optimizer": {"m": torch.ones(1)}})
    persistor = PTFileModelPersistor(global_model_file_name="m.safetensors", source_ckpt_file_full_name=given)
    with pytest.raises(
        ConfigError, match=r"^optimizer: a \.safetensors file can keep texts and plain data, but no dict$"
    ):
        persistor.load(context(app))


# -- the inventory and the locator ------------------------------------------------------------------------------------


def test_inventory_and_locator_serve_what_exists(app: Path) -> None:
    persistor, locator = PTFileModelPersistor(), PTFileModelLocator("persistor")
    side = Side("project", [persistor, locator], {"persistor": persistor})
    fl_ctx = context(app, side)
    side.fire_event(EventType.START_RUN, fl_ctx)
    assert locator.get_model_names(fl_ctx) == []
    assert persistor.get_model(GLOBAL, fl_ctx) is None
    assert locator.locate_model(GLOBAL, fl_ctx) is None
    persistor.save(make_model_learnable({"w": np.ones(2)}, {"score": 1}), fl_ctx)
    inventory = persistor.get_model_inventory(fl_ctx)
    assert locator.get_model_names(fl_ctx) == list(inventory) == [GLOBAL]
    assert inventory[GLOBAL].location == str(app / GLOBAL)
    assert inventory[GLOBAL].model_format == ModelFormat.PT_CHECKPOINT
    dxo = locator.locate_model(GLOBAL, fl_ctx)
    assert dxo is not None
    assert (dxo.data_kind, dxo.data["w"].tolist(), dxo.meta) == (DataKind.WEIGHTS, [1, 1], {"score": 1})
    assert side.fired == [EventType.START_RUN]


def test_an_unreadable_model_is_empty_and_not_located(app: Path, caplog: pytest.LogCaptureFixture) -> None:
    persistor = PTFileModelPersistor()
    side = Side("project", [], {"persistor": persistor})
    fl_ctx = context(app, side)
    (app / GLOBAL).write_bytes(b"nothing")
    assert persistor.get_model(GLOBAL, fl_ctx) == {}
    assert PTFileModelLocator("persistor").locate_model(GLOBAL, fl_ctx) is None
    assert f"{GLOBAL}: no checkpoint can be read from it" in caplog.text


@pytest.mark.parametrize(("component", "found"), [(None, "there is none"), (object(), "it is a object")])
def test_a_locator_without_its_persistor_ends_the_run(app: Path, component: object, found: str) -> None:
    locator, ears = PTFileModelLocator("p"), Listener()
    side = Side("project", [locator, ears], {"p": component})
    side.fire_event(EventType.START_RUN, context(app, side))
    panics = [heard[1] for heard in ears.heard if heard[0] == EventType.FATAL_SYSTEM_ERROR]
    assert panics == [f"PTFileModelLocator: component 'p' must be a ModelPersistor, but {found}"]
