"""From the model to a round's task, and from its results to the next model."""

from __future__ import annotations

from collections.abc import Callable

from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.learnable_persistor import LearnablePersistor
from hansa.apis.model import ModelLearnable
from hansa.apis.shareable import Shareable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.components.workflows.intake import Intake


def model_at_hand(
    initial: ModelLearnable, persistor: LearnablePersistor, *, before: int | None, fl_ctx: FLContext
) -> ModelLearnable:
    """The model to begin with: after a restart the restored one.

    The persistor gets that, too: it has loaded the first model anew, and may have to keep the one before as the best.

    Args:
        initial: The first one.
        persistor: What saves it.
        before: The last round that was finished before a restart; None: there was none.
        fl_ctx: The context of the control flow; gets the model.
    """
    model: ModelLearnable = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL, initial)
    # This context need not come from the manager that `start_controller`'s went back to.
    fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, model, private=True, sticky=True)
    if before is not None:
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, before, private=True, sticky=False)
        persistor.save(model, fl_ctx)
    return model


def of_round(data: Shareable, number: int, num_rounds: int) -> Shareable:
    """The data of a task, with what the sites need to know of the round."""
    data.set_header(AppConstants.CURRENT_ROUND, number)
    data.set_header(AppConstants.NUM_ROUNDS, num_rounds)
    data.add_cookie(AppConstants.CONTRIBUTION_ROUND, number)
    return data


def aggregate(owner: FLComponent, intake: Intake, fl_ctx: FLContext) -> Shareable:
    """What the round made of its results; the context of the control flow gets it, too."""
    update = intake.aggregate(fl_ctx)
    fl_ctx.set_prop(AppConstants.AGGREGATION_RESULT, update, private=True, sticky=False)
    owner.fire_event(AppEventType.AFTER_AGGREGATION, fl_ctx)
    return update


def update_model(
    owner: FLComponent,
    update: Shareable,
    *,
    parts: tuple[ShareableGenerator, LearnablePersistor],
    fl_ctx: FLContext,
    must_stop: Callable[[], bool],
) -> ModelLearnable | None:
    """Make the next model of an aggregate and save it.

    Args:
        owner: The workflow, which fires the events.
        update: The aggregate.
        parts: What makes the model, and what saves it.
        fl_ctx: The context of the control flow; gets the model.
        must_stop: Asked after every step that runs user code.

    Returns:
        The model; None if the run is to end, also because the generator made something else.
    """
    generator, persistor = parts
    owner.fire_event(AppEventType.BEFORE_SHAREABLE_TO_LEARNABLE, fl_ctx)
    learned = generator.shareable_to_learnable(update, fl_ctx)
    if not isinstance(learned, ModelLearnable):
        number = fl_ctx.get_prop(AppConstants.CURRENT_ROUND)
        made = f"{type(generator).__name__} made no ModelLearnable of the aggregate"
        owner.system_panic(f"round {number}: {made}", fl_ctx)
        return None
    fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, learned, private=True, sticky=True)
    hand_on(fl_ctx)
    owner.fire_event(AppEventType.AFTER_SHAREABLE_TO_LEARNABLE, fl_ctx)
    if must_stop():
        return None
    owner.fire_event(AppEventType.BEFORE_LEARNABLE_PERSIST, fl_ctx)
    persistor.save(learned, fl_ctx)
    owner.fire_event(AppEventType.AFTER_LEARNABLE_PERSIST, fl_ctx)
    return None if must_stop() else learned


def hand_on(fl_ctx: FLContext) -> None:
    """Give sticky properties to contexts made from now on, where somebody makes them."""
    if fl_ctx.get_prop(ReservedKey.MANAGER) is not None:
        fl_ctx.sync_sticky()
