"""The way of results into the aggregate."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from hansa.apis.aggregator import Aggregator
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.controller_spec import Task
from hansa.apis.engine import History, RoundKey, port
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldedPart, FoldPlan, FoldsAtSource
from hansa.apis.model import ModelLearnable
from hansa.apis.shareable import Shareable
from hansa.components.workflows.contribution import failure_of
from hansa.components.workflows.round_tally import RoundTally
from hansa.errors import RuleError


class Intake:
    """Hands results to the aggregator one at a time; each is counted, or refused with its reason.

    Called by the thread that serves the sites and by that of the control flow; `accept` and `aggregate` never overlap.

    Args:
        owner: The workflow, which fires the events.
        aggregator: What takes the results.
        history: The run's history, if the engine keeps one.
        examine: Looks at each result before the aggregator does; raises RuleError if it cannot count.
    """

    def __init__(
        self,
        owner: FLComponent,
        aggregator: Aggregator,
        *,
        history: History | None,
        examine: Callable[[Shareable], None] = lambda result: None,
    ) -> None:
        self._owner = owner
        self._aggregator = aggregator
        self._history = history
        self._examine = examine
        self._tally: RoundTally | None = None
        self._model: ModelLearnable | None = None
        self._most: int | None = None  # results that a round counts
        self._is_aggregated = False  # the round at hand, and the next one is not open yet
        self._lock = threading.RLock()

    @property
    def tally(self) -> RoundTally:
        """The open round's.

        Raises:
            RuntimeError: There is none yet.
        """
        if self._tally is None:
            raise RuntimeError("a result came before the first round")
        return self._tally

    def open(
        self,
        number: int,
        targets: list[str] | None,
        *,
        model: ModelLearnable | None = None,
        most: int | None = None,
    ) -> RoundTally:
        """A round begins; returns its tally.

        Args:
            number: The round.
            targets: Who is asked.
            model: The global model.
            most: So many results count, and those after them do not; None: all may.
        """
        with self._lock:
            self._most = most
            self._model = model
            self._is_aggregated = False
            self._tally = RoundTally(number, targets, history=self._history)
            return self._tally

    def let_join(self, site: str, task: Task, *, enough: int) -> None:
        """A site asks for work: it takes part if the round is for it, or has not `enough` answers yet."""
        with self._lock:
            tally = self._tally
            if tally is None or tally.asked is None or task.targets is None:
                return
            if self.newcomers((site,), enough=enough):
                tally.asked.add(site)
                task.targets.append(site)

    def newcomers(self, sites: Iterable[str], *, enough: int) -> list[str]:
        """Those of the sites that the round does not know and that may join it."""
        with self._lock:
            tally = self._tally
            asked = tally.asked if tally is not None and tally.num_answered < enough else None
            return [] if asked is None else [site for site in sites if site not in asked]

    def take(self, site: str, result: Shareable, *, fl_ctx: FLContext) -> str | None:
        """A result of the open round.

        Returns:
            What went wrong at the site, None if nothing did. (A refusal by the aggregator is not the site's failure.)
        """
        with self._lock:
            tally = self.tally
            tally.num_answered += 1
            failure = failure_of(result)
            refusal = failure or self._surplus() or self._offer(result, fl_ctx)
            if refusal is None:
                tally.counted(site, result)
            else:
                tally.refused(site, refusal)
            return failure

    @property
    def is_full(self) -> bool:
        """Whether no further result of the open round counts."""
        return self._most is not None and self.tally.num_counted >= self._most

    def _surplus(self) -> str | None:
        return f"{self._most} others were first" if self.is_full else None

    def take_late(self, site: str, result: Shareable, *, fl_ctx: FLContext, is_over: bool) -> str | None:
        """A result whose task has ended; the aggregator may still want it, if the training is not over.

        Returns:
            Why it does not count, None if it does.
        """
        with self._lock:
            tally = self.tally
            own_round = result.get_cookie(AppConstants.CONTRIBUTION_ROUND, tally.number)
            if self._is_aggregated and not is_over:  # else it would be part of the next round's sum
                refusal: str | None = f"round {tally.number} was aggregated"
            else:
                refusal = "the training was over" if is_over else failure_of(result) or self._surplus()
                refusal = refusal or self._offer(result, fl_ctx)
            if refusal is None:
                tally.counted(site, result)
                return None
            reason = f"late, came in round {tally.number}: {refusal}"
            if self._history is not None:
                self._history.result_refused(int(own_round), site, reason=reason)
            return f"result of round {own_round}: {reason}"

    def fold_plan(self, fl_ctx: FLContext) -> FoldPlan | None:
        """How the results of the open round may be folded near the sites.

        Sites that join the round later change nothing: like a stranger's, their results come whole, and the tree of the
        fold, which stands over the targets, takes them at its end.

        Returns:
            The aggregator's plan; None if it has none, or anyone may take part.
        """
        folds = port(self._aggregator, FoldsAtSource)
        with self._lock:
            if folds is None or self._tally is None or self._tally.targets is None or self._most is not None:
                return None  # what is in a sum cannot be left out any more
            return folds.fold_plan(self._of_round(fl_ctx))

    def take_part(self, part: FoldedPart, *, fl_ctx: FLContext) -> None:
        """A sum of results that were folded near their sites; these follow through `take`, without tensors.

        Raises:
            RuleError: It does not fit what was counted before; or the aggregator knows nothing of sums.
        """
        folds = port(self._aggregator, FoldsAtSource)
        if folds is None:
            raise RuleError(f"{type(self._aggregator).__name__} takes no sums")
        with self._lock:
            folds.accept_part(part, self._of_round(fl_ctx))

    def aggregate(self, fl_ctx: FLContext) -> Shareable:
        """What the round made of its results."""
        with self._lock:
            self._owner.fire_event(AppEventType.BEFORE_AGGREGATION, fl_ctx)
            self._is_aggregated = True
            return self._aggregator.aggregate(fl_ctx)

    def _offer(self, result: Shareable, fl_ctx: FLContext) -> str | None:
        """Ask the aggregator; None if it took the result, else why not."""
        contribution_round = result.get_cookie(AppConstants.CONTRIBUTION_ROUND)
        result.set_header(AppConstants.CONTRIBUTION_ROUND, contribution_round)
        for key, value in (
            (AppConstants.CURRENT_ROUND, self.tally.number),
            (AppConstants.TRAINING_RESULT, result),
            (AppConstants.CONTRIBUTION_ROUND, contribution_round),
        ):
            fl_ctx.set_prop(key, value, private=True, sticky=False)
        if fl_ctx.get_prop(RoundKey.REFUSAL) is not None:  # of another result, on a context that serves several
            fl_ctx.set_prop(RoundKey.REFUSAL, None, private=True, sticky=False)
        self._owner.fire_event(AppEventType.BEFORE_CONTRIBUTION_ACCEPT, fl_ctx)
        accepted = self._is_fit(result, fl_ctx) and bool(self._aggregator.accept(result, fl_ctx))
        fl_ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, accepted, private=True, sticky=False)
        self._owner.fire_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, fl_ctx)
        if accepted:
            return None
        return fl_ctx.get_prop(RoundKey.REFUSAL) or f"refused by {type(self._aggregator).__name__}"

    def _is_fit(self, result: Shareable, fl_ctx: FLContext) -> bool:
        try:
            self._examine(result)
        except RuleError as error:
            fl_ctx.set_prop(RoundKey.REFUSAL, error.reason, private=True, sticky=False)
            return False
        return True

    def _of_round(self, fl_ctx: FLContext) -> FLContext:
        """The context, with what an aggregator needs to know of the open round."""
        fl_ctx.set_prop(AppConstants.CURRENT_ROUND, self.tally.number, private=True, sticky=False)
        for key, value in (
            (RoundKey.TARGETS, self.tally.targets),
            (AppConstants.GLOBAL_MODEL, self._model),
        ):
            if fl_ctx.get_prop(key) is None:
                fl_ctx.set_prop(key, value, private=True, sticky=False)
        return fl_ctx


def callbacks_of(task: Task) -> tuple[object, ...]:
    """What is called for a task, in the order of `Task`'s arguments."""
    return (task.before_task_sent_cb, task.after_task_sent_cb, task.result_received_cb, task.task_done_cb)
