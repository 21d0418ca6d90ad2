"""What a workflow needs of its job before it can begin."""

from __future__ import annotations

from typing import Any, TypeVar

from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.engine import History, OffersHistory, port
from hansa.apis.fl_context import FLContext
from hansa.apis.learnable_persistor import LearnablePersistor
from hansa.apis.model import ModelLearnable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.errors import ConfigError

C = TypeVar("C")


def component_of(
    engine: Any,  # Any: a server's engine, or a test's own
    component_id: str,
    *,
    kind: type[C],
) -> C:
    """The job's component of that id.

    Raises:
        ConfigError: There is none, or it is of another kind.
    """
    component = engine.get_component(component_id)
    if isinstance(component, kind):
        return component
    found = "there is none" if component is None else f"it is a {type(component).__name__}"
    raise ConfigError(f"component {component_id!r} must be a {kind.__name__}, but {found}")


def find_parts(
    engine: Any,  # Any: as above
    aggregator_id: str,
    persistor_id: str,
    shareable_generator_id: str,
) -> tuple[Aggregator, LearnablePersistor, ShareableGenerator]:
    """What a training consists of.

    Raises:
        ConfigError: One is not there, or is something else.
    """
    return (
        component_of(engine, aggregator_id, kind=Aggregator),
        component_of(engine, persistor_id, kind=LearnablePersistor),
        component_of(engine, shareable_generator_id, kind=ShareableGenerator),
    )


def history_of(engine: object) -> History | None:
    """The run's history, if the engine keeps one."""
    offer = port(engine, OffersHistory)
    return offer.history if offer is not None else None


def initial_model(persistor: LearnablePersistor, fl_ctx: FLContext) -> ModelLearnable:
    """The persistor's model; where it has none, the one that a workflow before left as GLOBAL_MODEL.

    Raises:
        ConfigError: There is neither.
    """
    name = type(persistor).__name__
    model = persistor.load(fl_ctx)
    if model is not None and not isinstance(model, ModelLearnable):
        raise ConfigError(f"{name} must load a ModelLearnable, but gave a {type(model).__name__}")
    if model is not None and not model.is_empty():
        return model
    left = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
    if isinstance(left, ModelLearnable) and not left.is_empty():
        return left
    raise ConfigError(f"no initial model: {name} has none, and no workflow before left one")
