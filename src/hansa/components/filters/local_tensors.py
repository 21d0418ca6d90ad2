"""FedBN's part at a site: tensors that stay there, and the two filters that take them out and put them back.

In a job's client config::

    "components": [{"id": "local_tensors", "path": "...LocalTensors", "args": {"names": "bn"}}],
    "task_data_filters": [{"tasks": ["train", "validate"], "filters": [{"path": "...PutBackLocal"}]}],
    "task_result_filters": [{"tasks": ["train"], "filters": [{"path": "...KeepLocal"}]}]

The mathematics is in `hansa.algorithms.fed_bn`. The server's aggregator must allow results that lack tensors
(`names="subset"`), and its shareable generator should keep them in the model (`keep_missing=true`) where results are
whole weights, so that a site that comes late finds something to begin with.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, final

import numpy as np

from hansa.algorithms.arrays import Array, as_value, kind_of
from hansa.algorithms.fed_bn import local_names
from hansa.algorithms.named_tensors import Selection, check_selection
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.filter import Filter
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable
from hansa.components.workflows.parts import component_of

STORE = "local_tensors"
"""The component id under which the filters look for the store unless told otherwise."""

_KINDS = (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF)


@final
class LocalTensors(FLComponent):
    """A site's own tensors, from task to task; part of the site's state, so that a crash does not lose them.

    Args:
        names: Which tensors stay at the site: a list of names, or a regular expression that is searched for in each
            name. None: those of batch normalisation (`hansa.algorithms.fed_bn.batch_norm_names`).

    Raises:
        ValueError: `names` is neither.
    """

    hears = frozenset[str]()

    def __init__(self, names: Selection | None = None) -> None:
        super().__init__()
        if names is not None:
            check_selection(names, key="names")
        self._names = names
        self._own: dict[str, Array] = {}

    def state(self) -> Mapping[str, Any]:  # Any: see hansa.apis.engine.Stateful
        """The site's own tensors."""
        return {"tensors": dict(self._own)}

    def restore(self, state: Mapping[str, Any]) -> None:  # Any: as above
        """Go on where `state` was taken."""
        self._own = dict(state["tensors"])

    @property
    def own(self) -> Mapping[str, Array]:
        """The site's own tensors by name; only to be read."""
        return self._own

    def among(self, names: Iterable[str]) -> list[str]:
        """The tensors among these that stay here.

        Raises:
            ValueError: There are none, or one of the list is neither here nor among these: a misspelt name would let a
                tensor out that should stay.
        """
        names = list(names)
        meant = set(local_names(names, self._names))
        if isinstance(self._names, list | tuple):
            missing = [name for name in self._names if name not in meant and name not in self._own]
            if missing:
                raise ValueError(f"there is no tensor '{missing[0]}' to keep at this site")
        elif not meant and not self._own:
            what = "of batch normalisation" if self._names is None else f"that matches {self._names!r}"
            raise ValueError(f"there is no tensor {what} to keep at this site")
        return [name for name in names if name in meant or name in self._own]

    def keep(self, tensors: Mapping[str, Array]) -> None:
        """Make copies of these the site's own."""
        self._own = {**self._own, **{name: np.array(tensor) for name, tensor in tensors.items()}}


@final
class PutBackLocal(Filter):
    """Puts the site's own tensors in the places of the global ones; for task data.

    The first time there are no own ones: then the global ones pass and become the site's own.

    Args:
        store_id: Component id of the `LocalTensors`.
    """

    writes_input = False
    stateless = True

    def __init__(self, store_id: str = STORE) -> None:
        super().__init__()
        self.store_id = store_id

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The same message with the site's own tensors; what is no weights passes unchanged.

        Raises:
            ConfigError: There is no such store.
            ValueError: A tensor that should stay here is neither here nor in the message, or has another shape here.
        """
        dxo = _weights_in(shareable, fl_ctx, self)
        if dxo is None:
            return shareable
        store = component_of(fl_ctx.get_engine(), self.store_id, kind=LocalTensors)
        local = store.among(dxo.data)
        store.keep({name: as_value(name, dxo.data[name]).array for name in local if name not in store.own})
        data = copy.copy(dxo.data)
        for name, own in store.own.items():
            data[name] = _in_place_of(data.get(name), name, own)
        dxo.data = data
        return dxo.update_shareable(shareable)


@final
class KeepLocal(Filter):
    """Takes the site's own tensors out of a result and remembers them; for task results.

    Differences are added to what `PutBackLocal` gave, so with results of kind WEIGHT_DIFF both filters are needed.

    Args:
        store_id: Component id of the `LocalTensors`.
    """

    writes_input = False
    stateless = True

    def __init__(self, store_id: str = STORE) -> None:
        super().__init__()
        self.store_id = store_id

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """The same message without these tensors; what is no weights and no differences passes unchanged.

        Raises:
            ConfigError: There is no such store.
            ValueError: None of the tensors is there to stay, or there is nothing to add a difference to.
        """
        dxo = _weights_in(shareable, fl_ctx, self)
        if dxo is None:
            return shareable
        store = component_of(fl_ctx.get_engine(), self.store_id, kind=LocalTensors)
        local = store.among(dxo.data)
        trained = {name: as_value(name, dxo.data[name]).array for name in local}
        if dxo.data_kind == DataKind.WEIGHT_DIFF:
            trained = {name: _sum(name, store.own.get(name), difference) for name, difference in trained.items()}
        store.keep(trained)
        dxo.data = copy.copy(dxo.data)
        for name in local:
            del dxo.data[name]
        return dxo.update_shareable(shareable)


def _weights_in(shareable: Shareable, fl_ctx: FLContext, who: Filter) -> DXO | None:
    """The weights in a message; None where it has none and may pass.

    Raises:
        ValueError: It has tensors that the filter cannot look into, so that local ones might leave in them.
    """
    if shareable.get_return_code() != ReturnCode.OK:
        return None
    try:
        dxo = from_shareable(shareable)
    except ValueError:
        return None
    name = type(who).__name__
    if dxo.data_kind == DataKind.COLLECTION:
        raise ValueError(f"{name} takes weights and differences, not a COLLECTION")
    if dxo.data_kind not in _KINDS:
        return None
    algorithm = dxo.get_meta_prop(MetaKey.PROCESSED_ALGORITHM)
    if algorithm is not None:
        raise ValueError(f"the data is encoded with {algorithm}; put {name} before the filter that does it")
    return dxo


def _in_place_of(received: object, name: str, own: Array) -> Array:
    """A copy for the executor, who may write into it, in the dtype that the global one has now."""
    if received is None:
        return own.copy()
    expected = as_value(name, received).array
    if expected.shape != own.shape:
        raise ValueError(f"tensor '{name}' has shape {expected.shape}, this site's own has {own.shape}")
    return own.astype(expected.dtype) if kind_of(expected.dtype) is kind_of(own.dtype) else own.copy()


def _sum(name: str, own: Array | None, difference: Array) -> Array:
    if own is None:
        raise ValueError(f"there is nothing to add the difference of '{name}' to: PutBackLocal must be a data filter")
    if own.shape != difference.shape:
        raise ValueError(f"the difference of '{name}' has shape {difference.shape}, this site's own has {own.shape}")
    total = np.add(own, difference, dtype=np.float64) if own.dtype.kind == "b" else np.add(own, difference)
    if own.dtype.kind in "biu":
        total = np.rint(total)
    return np.asarray(total).astype(own.dtype)
