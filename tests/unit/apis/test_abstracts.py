"""The contracts that applications implement, as far as they do something themselves."""

from __future__ import annotations

from typing import Any

import pytest

from hansa.apis.aggregator import Aggregator, RuleSpec
from hansa.apis.dxo import DXO
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.formatter import Formatter
from hansa.apis.learnable import Learnable
from hansa.apis.learnable_persistor import LearnablePersistor
from hansa.apis.learner_spec import Learner
from hansa.apis.model import ModelLearnable, make_model_learnable
from hansa.apis.model_desc import ModelDescriptor
from hansa.apis.model_locator import ModelLocator
from hansa.apis.model_persistor import ModelPersistor
from hansa.apis.model_processor import ModelProcessor
from hansa.apis.response_processor import ResponseProcessor
from hansa.apis.shareable import Shareable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.apis.signal import Signal


class Counting(Aggregator):
    """Counts contributions; renames parameters, as applications do."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def accept(self, result: Shareable, ctx: FLContext) -> bool:
        self.taken += 1
        return True

    def aggregate(self, ctx: FLContext) -> Shareable:
        return DXO("COUNT", {"taken": self.taken}).to_shareable()


class InMemory(ModelPersistor):
    """Keeps the last model."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = make_model_learnable({"w": 1.0}, None)

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        return self.kept

    def save_model(self, model: ModelLearnable, fl_ctx: FLContext) -> None:
        self.kept = model


@pytest.mark.parametrize(
    "contract", [Aggregator, LearnablePersistor, ModelPersistor, ModelProcessor, ResponseProcessor, ShareableGenerator]
)
def test_abstract_methods_must_be_written(contract: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        contract()


@pytest.mark.parametrize("contract", [Formatter, Learner, ModelLocator])
def test_contracts_without_compulsory_methods_stand_alone(contract: type[FLComponent]) -> None:
    assert isinstance(contract(), FLComponent)


def test_a_formatter_must_format() -> None:
    bare: type[Any] = Formatter
    with pytest.raises(NotImplementedError):
        bare().format(FLContext())


def test_an_aggregator_gets_whole_results_unless_it_says_otherwise() -> None:
    aggregator = Counting()
    assert aggregator.rule() is None
    assert aggregator.reads_tensors
    assert aggregator.accept(Shareable(), FLContext())
    assert aggregator.aggregate(FLContext())["DXO"]["data"] == {"taken": 1}


def test_a_rule_is_a_frozen_pair() -> None:
    rule = RuleSpec("hansa.algorithms.weighted_mean.WeightedMean", {"exclude": "bias"})
    path, args = rule
    assert (path, args) == ("hansa.algorithms.weighted_mean.WeightedMean", {"exclude": "bias"})
    with pytest.raises(AttributeError):
        rule.path = "other"  # type: ignore[misc]  # the point of the test


def test_a_learner_can_nothing_until_it_is_taught() -> None:
    learner, context = Learner(), FLContext()
    learner.initialize({}, context)
    for reply in (
        learner.train(Shareable(), context, Signal()),
        learner.validate(Shareable(), context, Signal()),
        learner.get_model_for_validation("best_model", context),
    ):
        assert reply.get_return_code() == ReturnCode.TASK_UNSUPPORTED
    learner.abort(context)
    learner.finalize(context)


def test_a_model_persistor_loads_and_saves_models() -> None:
    persistor, context = InMemory(), FLContext()
    assert persistor.load(context) is persistor.kept
    newer: Learnable = make_model_learnable({"w": 2.0}, None)
    persistor.save(newer, context)
    assert persistor.kept is newer
    assert persistor.get_model_inventory(context) == {}
    assert persistor.get_model("any", context) is None


def test_a_locator_knows_no_models_until_it_is_taught() -> None:
    assert ModelLocator().get_model_names(FLContext()) == []
    assert ModelLocator().locate_model("best", FLContext()) is None


def test_a_descriptor_holds_what_it_was_given() -> None:
    entry = ModelDescriptor("best", "/models/best.pt", "pt_checkpoint")
    assert (entry.name, entry.location) == ("best", "/models/best.pt")
    assert (entry.model_format, entry.props) == ("pt_checkpoint", {})
    assert ModelDescriptor("best", "x", "keras_model", {"size": 3}).props == {"size": 3}
