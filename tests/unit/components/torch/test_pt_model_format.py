"""The form of a torch model in a file, and weights into modules."""

from __future__ import annotations

import re
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import nn

from hansa.apis.app_constant import ModelFormat
from hansa.apis.dxo import MetaKey
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnableKey, make_model_learnable
from hansa.components.torch.pt_model_format import PTModelPersistenceFormatManager, feed_vars
from hansa.components.torch.pt_model_reader_writer import PTModelReaderWriter


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def arrays(module: nn.Module, value: float = 0.5) -> dict[str, Any]:
    return {name: np.full(one.shape, value, one.numpy().dtype) for name, one in module.state_dict().items()}


def test_simple_weights_become_arrays_over_the_same_memory() -> None:
    weight = torch.ones(2, 3)
    model = PTModelPersistenceFormatManager({"w": weight}).to_model_learnable(None)
    assert model[ModelLearnableKey.META] is None
    assert np.shares_memory(model[ModelLearnableKey.WEIGHTS]["w"], weight.numpy())


def test_a_file_keeps_what_was_not_learned_and_its_foreign_keys() -> None:
    data = {"model": {"a": torch.zeros(1), "b": torch.ones(1)}, "epoch": 7, "train_conf": {"lr": 0.1}}
    manager = PTModelPersistenceFormatManager(data, default_train_conf={"lr": 9})
    learned = np.array([2.0], np.float32)
    manager.update(make_model_learnable({"a": learned}, {"score": 1}))
    content = manager.to_persistence_dict()
    assert list(content) == ["model", "meta_props", "train_conf", "epoch"]
    assert {name: value.tolist() for name, value in content["model"].items()} == {"a": [2.0], "b": [1.0]}
    assert content["model"]["a"].data_ptr() == learned.ctypes.data  # handed over, not copied
    assert (content["meta_props"], content["train_conf"], content["epoch"]) == ({"score": 1}, {"lr": 0.1}, 7)
    assert manager.get_persist_model_format() == ModelFormat.PT_CHECKPOINT


def test_what_is_written_later_does_not_follow_the_next_round() -> None:
    manager = PTModelPersistenceFormatManager({"a": torch.zeros(1)})
    meta = {"round": 0}
    manager.update(make_model_learnable({"a": np.ones(1)}, meta))
    content = manager.to_persistence_dict()
    manager.update(make_model_learnable({"a": np.full(1, 2.0)}, {"round": 1}))
    meta["round"] = 5
    assert (content["model"]["a"].item(), content["meta_props"]) == (1.0, {"round": 0})


def test_default_train_conf_and_absent_keys() -> None:
    assert PTModelPersistenceFormatManager({}, default_train_conf={"x": 1}).to_persistence_dict()["train_conf"] == {
        "x": 1
    }
    assert list(PTModelPersistenceFormatManager({}).to_persistence_dict()) == ["model"]


def test_a_parameter_may_be_called_model() -> None:
    manager = PTModelPersistenceFormatManager({"model": torch.ones(2), "bias": torch.zeros(1)})
    assert list(manager.var_dict) == ["model", "bias"]
    assert manager.other_props == {}


def test_encrypted_values_pass_as_they_are() -> None:
    data = {
        "model": {"a": b"secret", "b": torch.ones(1)},
        "meta_props": {MetaKey.PROCESSED_KEYS: {"a": True, "b": False}},
    }
    manager = PTModelPersistenceFormatManager(data)
    assert manager.to_model_learnable(None)[ModelLearnableKey.WEIGHTS]["a"] == b"secret"
    assert manager.to_persistence_dict()["model"]["a"] == b"secret"


def test_excluded_variables_stay_behind() -> None:
    manager = PTModelPersistenceFormatManager({"head.w": torch.ones(1), "body.w": torch.ones(1)})
    assert list(manager.to_model_learnable(re.compile("head"))[ModelLearnableKey.WEIGHTS]) == ["body.w"]


def test_only_dicts_are_taken() -> None:
    with pytest.raises(TypeError, match="data must be a dict"):
        PTModelPersistenceFormatManager([torch.ones(1)])  # type: ignore[arg-type]  # a user's mistake


def test_weights_are_loaded_into_the_modules_own_memory() -> None:
    module = net()
    before = {name: value.data_ptr() for name, value in module.state_dict().items()}
    given = arrays(module)
    given["1.num_batches_tracked"] = np.array(4)
    loaded, variables = feed_vars(module, given)
    assert len(loaded) == len(given) == 7
    assert {name: value.data_ptr() for name, value in variables.items()} == before  # so that optimizers keep it
    assert variables["0.weight"].tolist() == [[0.5, 0.5]] * 3
    assert variables["1.num_batches_tracked"].item() == 4
    given["0.weight"][:] = 9
    assert module.state_dict()["0.weight"].max() == 0.5  # training does not write into what was received


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_weights_go_in_bit_by_bit(dtype: torch.dtype) -> None:
    module = nn.Linear(256, 256, bias=False).to(dtype)
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    kind = ml_dtypes.bfloat16 if dtype is torch.bfloat16 else np.float16
    feed_vars(module, {"weight": bits.view(kind)})
    assert module.weight.dtype is dtype
    assert np.array_equal(module.weight.detach().view(torch.int16).numpy().view(np.uint16), bits)


def test_tensors_and_other_widths_are_taken_too() -> None:
    module = nn.Linear(1, 2)
    feed_vars(module, {"weight": torch.tensor([[1.0], [2.0]], dtype=torch.bfloat16), "bias": np.array([3.0, 4.0])})
    assert module.weight.tolist() == [[1.0], [2.0]]
    assert module.bias.tolist() == [3.0, 4.0]


def test_a_wrong_shape_names_layer_and_both_shapes_and_loads_nothing() -> None:
    module = net()
    given = arrays(module)
    given["1.weight"] = np.zeros((4, 5), np.float32)
    before = module.state_dict()["0.weight"].clone()
    for strict in (True, False):
        with pytest.raises(
            ValueError, match=r"^layer '1\.weight' has shape \(4, 5\) in the given weights and \(3,\) in the"
        ):
            feed_vars(module, given, strict=strict)
    assert torch.equal(module.state_dict()["0.weight"], before)


def test_missing_and_foreign_names() -> None:
    module = net()
    given = arrays(module)
    del given["0.bias"], given["1.bias"]
    with pytest.raises(ValueError, match=r"^the model's '0\.bias' is not in the given weights \(1 more like it\)$"):
        feed_vars(module, given)
    given = {**arrays(module), "head": np.zeros(1)}
    with pytest.raises(ValueError, match="^'head' in the given weights is unknown to the model$"):
        feed_vars(module, given)
    with pytest.raises(ValueError, match="layer '0.weight' of the given weights holds no numbers"):
        feed_vars(module, {**arrays(module), "0.weight": "text"})
    loaded, _ = feed_vars(module, {"0.bias": np.ones(3), "head": np.zeros(1)}, strict=False)
    assert len(loaded) == 1
    assert module.state_dict()["0.bias"].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="is not in the given weights"):
        feed_vars(module, {"head": np.zeros(1)}, strict=False)


def test_the_reader_writer_reaches_the_module_inside() -> None:
    module, processor, fl_ctx = net(), PTModelReaderWriter(), FLContext()
    wrapped = nn.DataParallel(module)
    processor.apply_model(wrapped, False, {"0.bias": np.arange(3.0)}, fl_ctx)
    found = processor.extract_model(wrapped, False, {}, fl_ctx)
    assert found.keys() == module.state_dict().keys()
    assert found["0.bias"].tolist() == [0, 1, 2]
    assert np.shares_memory(found["0.bias"], module.state_dict()["0.bias"].numpy())
    with pytest.raises(TypeError, match=r"network must be a torch\.nn\.Module"):
        processor.extract_model({}, False, {}, fl_ctx)
