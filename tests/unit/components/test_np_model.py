"""NumPy models on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hansa import tensors
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DataKind
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey, make_model_learnable
from hansa.components.np_model import NPModelLocator, NPModelPersistor
from hansa.errors import ConfigError
from sides import Side


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path


def context(app: Path, side: Side | None = None) -> FLContext:
    fl_ctx = side.new_context() if side else FLContext()
    fl_ctx.set_prop(FLContextKey.APP_ROOT, str(app), private=True, sticky=True)
    return fl_ctx


def test_initial_weights_come_from_either_kind_of_file(app: Path) -> None:
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(3)}
    tensors.write(app / "config" / "a.safetensors", weights)
    np.savez(app / "config" / "b.npz", **weights)
    for source in ("a.safetensors", "b.npz"):
        loaded = NPModelPersistor(source).load(context(app))[ModelLearnableKey.WEIGHTS]
        assert list(loaded) == ["w", "n"] or set(loaded) == {"w", "n"}
        np.testing.assert_array_equal(loaded["w"], weights["w"])
        assert loaded["w"].dtype == np.float32
        loaded["w"][:] = 0  # our own to write to


def test_without_a_source_the_model_is_empty(app: Path) -> None:
    assert NPModelPersistor().load(context(app)).is_empty()


@pytest.mark.parametrize("name", ["missing.npz", "missing.safetensors", "weights.pt", "bad.npz", "bad.safetensors"])
def test_a_source_without_weights_is_an_error_that_names_it(app: Path, name: str) -> None:
    (app / "config" / "bad.npz").write_bytes(b"nothing")
    (app / "config" / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=name) as caught:
        NPModelPersistor(name).load(context(app))
    assert caught.value.key == "source"


def test_objects_in_a_source_are_not_unpickled(app: Path) -> None:
    np.savez(app / "config" / "o.npz", w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ConfigError, match="o.npz"):
        NPModelPersistor("o.npz").load(context(app))


def test_each_version_is_saved_with_its_round(app: Path) -> None:
    persistor, fl_ctx = NPModelPersistor(), context(app)
    for round_number in (0, 1):
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, round_number, private=True, sticky=False)
        persistor.save(make_model_learnable({"w": np.full(2, round_number), "lr": 0.5}, {"any": object()}), fl_ctx)
    file = app / "global_model.safetensors"
    saved = tensors.read(file)
    np.testing.assert_array_equal(saved["w"], [1, 1])
    assert saved["lr"] == 0.5
    assert tensors.parse_header(memoryview(file.read_bytes())).metadata == {"round": "1"}


def test_the_best_is_what_was_saved_last(app: Path) -> None:
    persistor, fl_ctx = NPModelPersistor(best_file_name="best.safetensors"), context(app)
    persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
    assert not (app / "best.safetensors").exists()  # nothing loaded, nothing saved
    persistor.save(make_model_learnable({"w": np.ones(2)}, {}), fl_ctx)
    persistor.handle_event(AppEventType.GLOBAL_BEST_MODEL_AVAILABLE, fl_ctx)
    persistor.save(make_model_learnable({"w": np.zeros(2)}, {}), fl_ctx)
    np.testing.assert_array_equal(tensors.read(app / "best.safetensors")["w"], [1, 1])
    np.testing.assert_array_equal(tensors.read(app / "global_model.safetensors")["w"], [0, 0])


def test_inventory_and_locator_serve_what_exists(app: Path) -> None:
    persistor, locator = NPModelPersistor(), NPModelLocator("persistor")
    side = Side("project", [], {"persistor": persistor})
    fl_ctx = context(app, side)
    assert locator.get_model_names(fl_ctx) == []
    assert locator.locate_model("global_model.safetensors", fl_ctx) is None
    persistor.save(make_model_learnable({"w": np.ones(2)}, {}), fl_ctx)
    inventory = persistor.get_model_inventory(fl_ctx)
    assert locator.get_model_names(fl_ctx) == list(inventory) == ["global_model.safetensors"]
    assert Path(inventory["global_model.safetensors"].location) == app / "global_model.safetensors"
    dxo = locator.locate_model("global_model.safetensors", fl_ctx)
    assert dxo is not None
    assert dxo.data_kind == DataKind.WEIGHTS
    np.testing.assert_array_equal(dxo.data["w"], [1, 1])


def test_an_unreadable_model_is_not_located(app: Path, caplog: pytest.LogCaptureFixture) -> None:
    (app / "global_model.safetensors").write_bytes(b"nothing")
    side = Side("project", [], {"persistor": NPModelPersistor()})
    assert NPModelLocator("persistor").locate_model("global_model.safetensors", context(app, side)) is None
    assert "global_model.safetensors cannot be read" in caplog.text


def test_a_locator_without_its_persistor_ends_the_run(app: Path) -> None:
    side = Side("project", [], {"persistor": object()})
    assert NPModelLocator("persistor").get_model_names(context(app, side)) == []
    assert side.fired == [EventType.FATAL_SYSTEM_ERROR]


@pytest.mark.parametrize("argument", ["source", "file_name", "best_file_name"])
@pytest.mark.parametrize("name", ["../secrets.safetensors", "/etc/passwd", "a/../../b.npz"])
def test_no_file_name_leads_out_of_the_app(argument: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} must be a file inside the app's folder"):
        NPModelPersistor(**{argument: name})
