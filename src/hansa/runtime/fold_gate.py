"""Whether the results of a task may be folded where they come from, and how the sums come in."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.apis.aggregator import Aggregator
from hansa.apis.controller_spec import Task
from hansa.apis.engine import RoundKey
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldedPart, FoldPlan, PlansFolding
from hansa.apis.responder import Responder
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.jobs.build import ServerApp
from hansa.runtime import user_code


class FoldGate:
    """Lets results be folded elsewhere if nobody here looks at them one by one.

    Args:
        app: The server's application.
        on_failure: Told when the workflow raises.
        may_fold: Whether whoever holds the sites can.
    """

    def __init__(self, app: ServerApp, on_failure: user_code.OnFailure, *, may_fold: bool) -> None:
        self._filters = app.task_result_filters
        self._on_failure = on_failure
        self._may_fold = may_fold and not foreign_eyes(app.handlers)

    def plan(self, responder: Responder, task: Task | None, *, name: str, fl_ctx: FLContext) -> FoldPlan | None:
        """The plan for a standing task; None where its results must come whole."""
        if not self._may_fold or self._filters.get(name) or task is None or not isinstance(responder, PlansFolding):
            return None
        planned = user_code.call(responder.fold_plan, task, fl_ctx)
        if isinstance(planned, user_code.Failure):
            self._on_failure(user_code.Mishap("server", f"task {name}, plan of the fold"), planned)
            return None
        return planned.value

    def take(self, responder: Responder, parts: Sequence[FoldedPart], *, fl_ctx: FLContext) -> user_code.Failure | None:
        """Hand parts of a sum to the workflow; returns what it raised, None if all is well."""
        if isinstance(responder, PlansFolding):
            for part in parts:
                taken = user_code.call(responder.accept_part, part, fl_ctx)
                if isinstance(taken, user_code.Failure):
                    self._on_failure(user_code.Mishap("server", "a part of the sum"), taken)
                    return taken
        return None


def set_folded(result: Shareable, folded: bool) -> None:
    """Mark a result whose tensors are in a sum; whatever the site itself has put there is gone."""
    headers = result.get(ReservedHeaderKey.HEADERS)
    if isinstance(headers, dict):
        headers.pop(RoundKey.FOLDED, None)
    if folded:
        result.set_header(RoundKey.FOLDED, "")


def is_ours(part: object) -> bool:
    """Whether a component ships with Hansa."""
    return type(part).__module__.startswith("hansa.components.")


def foreign_eyes(handlers: Sequence[FLComponent]) -> bool:
    """Whether some handler may look into the tensors of single results: a foreign one that does not deny it."""
    return any(
        type(handler).handle_event is not FLComponent.handle_event
        and not is_ours(handler)
        and getattr(handler, "reads_tensors", True)
        for handler in handlers
    )


def has_foreign_part(part: FLComponent) -> bool:
    """Whether a component that is not Hansa's has a part in taking results: by events, as the rule, as the workflow."""
    hears = type(part).handle_event is not FLComponent.handle_event
    return not is_ours(part) and (hears or isinstance(part, Aggregator | Responder))
