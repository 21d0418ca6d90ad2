"""How a torch model is kept in a file, and how arrays get into a module."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from re import Pattern
from typing import Any

import torch
from torch import nn

from hansa.apis.app_constant import ModelFormat
from hansa.apis.dxo import MetaKey
from hansa.apis.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from hansa.components.torch.tensor_memory import array_over, tensor_over


class PTModelPersistenceFormatManager:
    """A model between its form in a file and its form in a federation.

    In a file it is a dict with `model` (tensors by name), `meta_props` and `train_conf` where they are known, and
    whatever else the file had before (`epoch`, the state of an optimizer); in a federation a `ModelLearnable` of
    arrays. Both lie over one memory. Values that the model's meta lists under PROCESSED_KEYS, such as encrypted
    ones, are passed on as they are.

    Args:
        data: A dict of that form, or simply tensors (or arrays) by name.
        default_train_conf: What to keep as `train_conf` where the data have none.

    Attributes:
        var_dict: The variables by name.
        meta: The model's meta, or None.
        train_conf: What is known about the training, or None.
        other_props: The foreign keys.

    Raises:
        TypeError: `data` is no dict.
    """

    PERSISTENCE_KEY_MODEL = "model"
    PERSISTENCE_KEY_META_PROPS = "meta_props"
    PERSISTENCE_KEY_TRAIN_CONF = "train_conf"

    def __init__(
        self,
        data: dict[str, Any],  # Any: whatever else the file holds
        default_train_conf: Any = None,  # Any: plain data
    ) -> None:
        if not isinstance(data, dict):
            raise TypeError(f"data must be a dict, but got {type(data)}")
        own = (self.PERSISTENCE_KEY_MODEL, self.PERSISTENCE_KEY_META_PROPS, self.PERSISTENCE_KEY_TRAIN_CONF)
        is_whole = isinstance(data.get(self.PERSISTENCE_KEY_MODEL), Mapping)  # a parameter may be called `model`, too
        self.var_dict: dict[str, Any] = dict(data[self.PERSISTENCE_KEY_MODEL] if is_whole else data)
        self.meta: dict[str, Any] | None = data.get(self.PERSISTENCE_KEY_META_PROPS) if is_whole else None
        self.train_conf = (data.get(self.PERSISTENCE_KEY_TRAIN_CONF) if is_whole else None) or default_train_conf
        self.other_props = {key: value for key, value in data.items() if key not in own} if is_whole else {}

    def to_model_learnable(self, exclude_vars: Pattern[str] | None) -> ModelLearnable:
        """The variables as arrays over the same memory, with the meta.

        Args:
            exclude_vars: Variables in whose name this is found stay behind. None: none do.
        """
        weights = {
            name: value if name in self._processed else array_over(tensor_over(value))
            for name, value in self.var_dict.items()
            if exclude_vars is None or not exclude_vars.search(name)
        }
        return make_model_learnable(weights, self.meta)

    def to_persistence_dict(self) -> dict[str, Any]:  # Any: as in a file
        """What a file is to hold; the tensors lie over the variables' own memory."""
        content: dict[str, Any] = OrderedDict()
        content[self.PERSISTENCE_KEY_MODEL] = OrderedDict(
            (name, value if name in self._processed else tensor_over(value)) for name, value in self.var_dict.items()
        )
        if self.meta is not None:
            content[self.PERSISTENCE_KEY_META_PROPS] = dict(self.meta)
        if self.train_conf is not None:
            content[self.PERSISTENCE_KEY_TRAIN_CONF] = self.train_conf
        content.update(self.other_props)
        return content

    def update(self, ml: ModelLearnable) -> None:
        """Take over what was learned; variables that were not learned stay."""
        self.meta = ml.get(ModelLearnableKey.META)
        self.var_dict.update(ml[ModelLearnableKey.WEIGHTS])

    def get_persist_model_format(self) -> str:
        """The format in an inventory."""
        return ModelFormat.PT_CHECKPOINT

    @property
    def _processed(self) -> frozenset[str]:
        keys = (self.meta or {}).get(MetaKey.PROCESSED_KEYS) or {}
        return frozenset(name for name, is_processed in keys.items() if is_processed)


def feed_vars(
    model: nn.Module,
    model_params: Mapping[str, Any],  # Any: arrays, tensors, numbers
    *,
    strict: bool = True,
) -> tuple[list[Any], dict[str, torch.Tensor]]:
    """Load arrays or tensors into a module: one copy into the memory that the module has, so optimizers keep it.

    Values take the dtype of the module's own; bfloat16 and half are never widened on the way.

    Args:
        model: The module.
        model_params: Its parameters and buffers by name.
        strict: Whether both must have the same names. False: names that only one of them has are passed over.

    Returns:
        The values that were loaded, and the module's variables after it.

    Raises:
        ValueError: A name is missing or foreign, a shape is another one, or not a single name fits; the line names
            the layer and both shapes. Nothing is loaded then.
    """
    variables: dict[str, torch.Tensor] = model.state_dict()
    check_fit(variables, model_params, what="the given weights", strict=strict)
    loaded = []
    with torch.no_grad():
        for name, variable in variables.items():
            if name in model_params:
                variable.copy_(tensor_over(model_params[name]))
                loaded.append(model_params[name])
    return loaded, variables


def check_fit(
    variables: Mapping[str, torch.Tensor],
    given: Mapping[str, Any],  # Any: as in feed_vars
    *,
    what: str,
    strict: bool = True,
    is_wanted: Callable[[str], bool] = lambda name: True,
) -> None:
    """Whether weights fit a module.

    Args:
        variables: The module's variables by name.
        given: The weights by name.
        what: What the weights are called in errors.
        strict: Whether both must have the same names.
        is_wanted: Which names count.

    Raises:
        ValueError: They do not fit; one line with the layer, and both shapes where these differ.
    """
    for name, value in given.items():
        if name in variables and is_wanted(name):
            found, wanted = _shape(name, value, what), tuple(variables[name].shape)
            if found != wanted:
                raise ValueError(f"layer {name!r} has shape {found} in {what} and {wanted} in the model")
    missing = [name for name in variables if name not in given and is_wanted(name)]
    foreign = [name for name in given if name not in variables and is_wanted(name)]
    if missing and (strict or len(missing) == len(variables)):
        raise ValueError(f"the model's {missing[0]!r} is not in {what}{_more(missing)}")
    if foreign and strict:
        raise ValueError(f"{foreign[0]!r} in {what} is unknown to the model{_more(foreign)}")


def _shape(name: str, value: object, what: str) -> tuple[int, ...]:
    try:
        return tuple(tensor_over(value).shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"layer {name!r} of {what} holds no numbers: {error}") from None


def _more(names: list[str]) -> str:
    return f" ({len(names) - 1} more like it)" if len(names) > 1 else ""
