"""Tensors that stay at a site: taken out of results, put back into tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.fl_constant import ReservedKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.components.filters.local_tensors import KeepLocal, LocalTensors, PutBackLocal
from hansa.errors import ConfigError
from hansa.wire.codec import from_bytes, to_bytes


class Engine:
    """Knows components by id."""

    def __init__(self, **components: object) -> None:
        self.components = components

    def get_component(self, component_id: str) -> object:
        return self.components.get(component_id)


class Site:
    """A store and both filters."""

    def __init__(self, names: Any = "^bn") -> None:
        self.store = LocalTensors(names)
        self.fl_ctx = FLContext()
        self.fl_ctx.set_prop(ReservedKey.ENGINE, Engine(local_tensors=self.store))

    def receives(self, **tensors: Any) -> dict[str, Any]:
        message = DXO(DataKind.WEIGHTS, tensors).to_shareable()
        return from_shareable(PutBackLocal().process(message, self.fl_ctx)).data

    def sends(self, kind: str = DataKind.WEIGHTS, **tensors: Any) -> dict[str, Any]:
        message = DXO(kind, tensors, {MetaKey.NUM_STEPS_CURRENT_ROUND: 5}).to_shareable()
        message.set_header("mine", 1)
        result = KeepLocal().process(message, self.fl_ctx)
        assert result.get_header("mine") == 1
        assert from_shareable(result).meta == {MetaKey.NUM_STEPS_CURRENT_ROUND: 5}
        return from_shareable(result).data


def array(*values: float, dtype: type = np.float32) -> Any:
    return np.array(values, dtype)


def plain(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() for name, value in tensors.items()}


def test_the_first_time_the_global_ones_pass_and_then_it_is_the_sites_own() -> None:
    site = Site()
    assert plain(site.receives(w=array(1), bn=array(2))) == {"w": [1], "bn": [2]}
    assert plain(site.sends(w=array(3), bn=array(4))) == {"w": [3]}
    assert plain(site.receives(w=array(5), bn=array(6))) == {"w": [5], "bn": [4]}


def test_differences_are_added_to_what_the_site_was_given() -> None:
    site = Site()
    site.receives(w=array(1), bn=array(2), **{"bn.steps": np.array(7)})
    assert plain(site.sends(DataKind.WEIGHT_DIFF, w=array(1), bn=array(0.5), **{"bn.steps": np.array(3.0)})) == {
        "w": [1]
    }
    own = site.receives(w=array(5), bn=array(6), **{"bn.steps": np.array(99)})
    assert plain(own) == {"w": [5], "bn": [2.5], "bn.steps": 10}
    assert own["bn.steps"].dtype == np.int64
    site.sends(DataKind.WEIGHT_DIFF, w=array(1), bn=array(0.5))
    assert site.store.own["bn"].tolist() == [3.0]


def test_what_did_not_travel_back_is_put_in_all_the_same() -> None:
    site = Site()
    site.receives(w=array(1), bn=array(2))
    assert plain(site.receives(w=array(5))) == {"w": [5], "bn": [2]}


def test_what_the_executor_does_to_its_arrays_later_does_not_show() -> None:
    site = Site()
    received = site.receives(w=array(1), bn=array(2))
    received["bn"] += 1
    site.receives(w=array(1), bn=array(2))["bn"] += 1
    assert site.store.own["bn"].tolist() == [2]
    trained = array(4)
    site.sends(w=array(3), bn=trained)
    trained += 1
    assert site.store.own["bn"].tolist() == [4]


def test_the_own_ones_come_in_the_models_dtype() -> None:
    site = Site()
    site.receives(bn=array(2))
    site.sends(bn=array(4, dtype=np.float64))
    assert site.receives(bn=array(2))["bn"].dtype == np.float32


def test_batch_normalisation_is_known_by_itself() -> None:
    site = Site(names=None)
    model = {"0.weight": array(1), "1.weight": array(2), "1.running_mean": array(3)}
    site.receives(**model)
    assert plain(site.sends(**model)) == {"0.weight": [1]}
    # From then on the names are known: without the statistics nobody could tell the layer.
    assert plain(site.sends(**{"0.weight": array(1), "1.weight": array(9)})) == {"0.weight": [1]}
    assert plain(site.store.own)["1.weight"] == [9]  # type: ignore[arg-type]  # a Mapping


def test_the_state_goes_through_the_codec() -> None:
    site, other = Site(), Site()
    site.receives(w=array(1), bn=array(2))
    site.sends(w=array(1), bn=array(4))
    other.store.restore(from_bytes(to_bytes(dict(site.store.state()))))
    assert plain(other.receives(w=array(1), bn=array(6))) == {"w": [1], "bn": [4]}


def test_what_is_no_weights_passes() -> None:
    site = Site()
    failed = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    metrics = DXO(DataKind.METRICS, {"bn": 1.0}).to_shareable()
    for filter_class in (KeepLocal, PutBackLocal):
        for message in (failed, metrics, Shareable()):
            before = to_bytes(message)
            assert filter_class().process(message, site.fl_ctx) is message
            assert to_bytes(message) == before


def test_a_name_that_no_tensor_has_is_an_error_before_anything_leaves() -> None:
    for names in (["bn", "bm"], ["bm"]):
        with pytest.raises(ValueError, match="there is no tensor 'bm' to keep at this site"):
            Site(names).sends(w=array(1), bn=array(2))
        with pytest.raises(ValueError, match="there is no tensor 'bm' to keep at this site"):
            Site(names).receives(w=array(1), bn=array(2))
    with pytest.raises(ValueError, match="there is no tensor that matches 'norm' to keep"):
        Site("norm").sends(w=array(1), bn=array(2))
    with pytest.raises(ValueError, match="there is no tensor of batch normalisation to keep"):
        Site(None).receives(w=array(1), bn=array(2))


def test_what_else_is_refused() -> None:
    site = Site()
    with pytest.raises(ValueError, match="nothing to add the difference of 'bn' to: PutBackLocal must be"):
        site.sends(DataKind.WEIGHT_DIFF, w=array(1), bn=array(1))
    site.receives(bn=array(2))
    with pytest.raises(ValueError, match=r"the difference of 'bn' has shape \(2,\), this site's own has \(1,\)"):
        site.sends(DataKind.WEIGHT_DIFF, bn=array(1, 2))
    with pytest.raises(ValueError, match=r"tensor 'bn' has shape \(2,\), this site's own has \(1,\)"):
        site.receives(bn=array(1, 2))
    with pytest.raises(ValueError, match="KeepLocal takes weights and differences, not a COLLECTION"):
        KeepLocal().process(DXO(DataKind.COLLECTION, {}).to_shareable(), site.fl_ctx)
    encoded = DXO(DataKind.WEIGHTS, {"bn": b""}, {MetaKey.PROCESSED_ALGORITHM: "CKKS"}).to_shareable()
    with pytest.raises(ValueError, match="encoded with CKKS; put KeepLocal before"):
        KeepLocal().process(encoded, site.fl_ctx)
    with pytest.raises(ConfigError, match="component 'elsewhere' must be a LocalTensors, but there is none"):
        KeepLocal("elsewhere").process(DXO(DataKind.WEIGHTS, {"bn": array(1)}).to_shareable(), site.fl_ctx)


@pytest.mark.parametrize("names", ["(", "", [], [1], 7])
def test_names_that_are_none(names: Any) -> None:
    with pytest.raises(ValueError, match="names"):
        LocalTensors(names)
