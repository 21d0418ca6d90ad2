"""ExcludeVars and ConvertWeights."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.event_type import EventType
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.shareable import Shareable, make_reply
from hansa.components.filters import ExcludeVars
from hansa.components.filters.convert_weights import ConvertWeights


def message(kind: str = DataKind.WEIGHTS, **data: Any) -> Shareable:
    return DXO(kind, data, {MetaKey.NUM_STEPS_CURRENT_ROUND: 3}).to_shareable()


def context(task_data: Shareable) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.set_prop(FLContextKey.TASK_DATA, task_data, private=True, sticky=False)
    return fl_ctx


class TestExcludeVars:
    def test_a_list_holds_exact_names(self) -> None:
        result = ExcludeVars(["head.w"]).process(message(**{"head.w": 1.0, "head.w2": 2.0}), FLContext())
        assert from_shareable(result).data == {"head.w2": 2.0}

    def test_a_text_is_searched_for(self) -> None:
        result = ExcludeVars("ead").process(message(**{"head.w": 1.0, "body": 2.0}), FLContext())
        assert from_shareable(result).data == {"body": 2.0}

    @pytest.mark.parametrize("nothing", [None, "", [], 3, {"head.w": 1}, ["head.w", 3]])
    def test_anything_else_changes_nothing(self, nothing: Any) -> None:
        given = message(**{"head.w": 1.0})
        result = ExcludeVars(nothing).process(given, FLContext())
        assert result is given
        assert from_shareable(result).data == {"head.w": 1.0}

    def test_headers_meta_and_the_kind_of_dict_stay_and_the_dict_given_is_not_changed(self) -> None:
        data = OrderedDict(a=1.0, b=2.0)
        given = DXO(DataKind.WEIGHT_DIFF, data, {"m": 1}).to_shareable()
        given.set_header("mine", 7)
        result = ExcludeVars(["a"]).process(given, FLContext())
        assert result is given
        assert result.get_header("mine") == 7
        dxo = from_shareable(result)
        assert (dxo.data_kind, dxo.meta) == (DataKind.WEIGHT_DIFF, {"m": 1})
        assert isinstance(dxo.data, OrderedDict)
        assert dxo.data == {"b": 2.0}
        assert data == {"a": 1.0, "b": 2.0}

    def test_failures_other_kinds_and_other_messages_pass(self) -> None:
        failed = message(a=1.0)
        failed.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
        for given in (failed, make_reply(ReturnCode.OK), message(DataKind.METRICS, a=1.0)):
            before = dict(given)
            assert ExcludeVars(["a"]).process(given, FLContext()) is given
            assert given == before


class TestConvertWeights:
    def test_weights_to_diff_subtracts_what_came_with_the_task(self) -> None:
        base = np.array([1.0, 2.0], np.float32)
        task = message(w=base, n=np.float32(1))
        trained = message(w=np.array([1.5, 1.0], np.float32), n=np.float32(4), own=np.ones(1))
        result = ConvertWeights(ConvertWeights.WEIGHTS_TO_DIFF).process(trained, context(task))
        dxo = from_shareable(result)
        # 1.5 - 1 = 0.5, 1 - 2 = -1; `own` did not come with the task and stays
        assert result is trained
        assert dxo.data_kind == DataKind.WEIGHT_DIFF
        assert dxo.data["w"].dtype == np.float32
        np.testing.assert_array_equal(dxo.data["w"], [0.5, -1.0])
        assert dxo.data["n"] == 3
        np.testing.assert_array_equal(dxo.data["own"], [1.0])
        assert dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND) == 3
        np.testing.assert_array_equal(base, [1.0, 2.0])

    def test_a_tensor_trained_from_an_array_gives_an_array(self) -> None:
        import torch

        trained = message(w=torch.tensor([1.5, 1.0], requires_grad=True))
        task = message(w=np.array([1.0, 2.0], np.float32))
        ConvertWeights(ConvertWeights.WEIGHTS_TO_DIFF).process(trained, context(task))
        difference = from_shareable(trained).data["w"]
        assert type(difference) is np.ndarray
        np.testing.assert_array_equal(difference, [0.5, -1.0])

    def test_diff_to_weights_adds_and_writes_into_nothing_of_the_task(self) -> None:
        base = np.array([1.0, 2.0])
        base.flags.writeable = False
        result = ConvertWeights("diff_to_weights").process(
            message(DataKind.WEIGHT_DIFF, w=np.array([0.5, -1.0])), context(message(w=base))
        )
        dxo = from_shareable(result)
        assert dxo.data_kind == DataKind.WEIGHTS
        np.testing.assert_array_equal(dxo.data["w"], [1.5, 1.0])

    def test_an_executor_that_trains_in_place_still_gives_a_difference(self) -> None:
        task = message(w=np.array([1.0, 2.0]))
        fl_ctx = context(task)
        convert = ConvertWeights(ConvertWeights.WEIGHTS_TO_DIFF)
        convert.handle_event(EventType.BEFORE_TASK_EXECUTION, fl_ctx)
        from_shareable(task).data["w"] += 3
        dxo = from_shareable(convert.process(task, fl_ctx))
        np.testing.assert_array_equal(dxo.data["w"], [3.0, 3.0])

    def test_the_base_of_one_task_does_not_serve_the_next(self) -> None:
        convert = ConvertWeights(ConvertWeights.WEIGHTS_TO_DIFF)
        convert.handle_event(EventType.BEFORE_TASK_EXECUTION, context(message(w=np.zeros(1))))
        second = context(message(w=np.full(1, 5.0)))
        dxo = from_shareable(convert.process(message(w=np.full(1, 7.0)), second))
        np.testing.assert_array_equal(dxo.data["w"], [2.0])

    @pytest.mark.parametrize(
        ("task", "result"),
        [
            (message(DataKind.METRICS, w=1.0), message(w=2.0)),
            (make_reply(ReturnCode.OK), message(w=2.0)),
            (message(w=1.0), message(DataKind.WEIGHT_DIFF, w=2.0)),
            (message(w=1.0), make_reply(ReturnCode.TASK_ABORTED)),
        ],
    )
    def test_what_cannot_be_converted_passes_unchanged(self, task: Shareable, result: Shareable) -> None:
        before = dict(result)
        assert ConvertWeights("weights_to_diff").process(result, context(task)) is result
        assert result == before

    def test_encoded_results_pass(self) -> None:
        result = message(w=2.0)
        from_shareable(result).set_meta_prop(MetaKey.PROCESSED_ALGORITHM, "CKKS")
        ConvertWeights("weights_to_diff").process(result, context(message(w=1.0)))
        assert from_shareable(result).data_kind == DataKind.WEIGHTS

    @pytest.mark.parametrize("value", [np.ones(2), np.array([True])])
    def test_a_shape_or_type_without_a_difference_is_an_error_that_names_the_tensor(self, value: Any) -> None:
        with pytest.raises(ValueError, match="w: "):
            ConvertWeights("weights_to_diff").process(message(w=value), context(message(w=np.array([True]))))

    def test_another_direction_is_refused(self) -> None:
        with pytest.raises(ValueError, match="direction"):
            ConvertWeights("weights_to_weights")
