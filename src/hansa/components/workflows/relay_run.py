"""How far a relay is: who has had the model, who has it, who was passed over and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hansa.algorithms.checks import Names, Reference, check_values
from hansa.apis.app_constant import AppConstants
from hansa.apis.app_event_type import AppEventType
from hansa.apis.dxo import DataKind
from hansa.apis.engine import UNDECIDED, OffersDecisions, port
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_context import FLContext
from hansa.apis.model import ModelLearnable, ModelLearnableKey
from hansa.apis.shareable import Shareable
from hansa.apis.shareable_generator import ShareableGenerator
from hansa.components.reported import dxo_of
from hansa.components.workflows.model_update import hand_on
from hansa.components.workflows.round_tally import RoundTally
from hansa.errors import RuleError


class RelayRun:
    """The places of one round's relay.

    Who is passed over stays so: it is decided before the next site gets the model, and after a restart that site is not
    asked again, because the models of those behind it were made without it.

    Args:
        places: The sites in the order of the relay.
        tally: The round's.
        engine: May keep decisions.
        draw: What the relay is, in words that are the same after a restart.
        on_skip: Told of each site that is passed over, and why.
    """

    def __init__(
        self,
        places: Sequence[str],
        *,
        tally: RoundTally,
        engine: object,
        draw: str,
        on_skip: Callable[[str, str], None],
    ) -> None:
        self._tally = tally
        self._decisions = port(engine, OffersDecisions)
        self._draw = draw
        self._on_skip = on_skip
        self._holder: str | None = None
        self._skipped: set[str] = set()
        self._to_come: list[str] = []
        for site in places:
            before = UNDECIDED if self._decisions is None else self._decisions.decided(self._key(site))
            if before is UNDECIDED:
                self._to_come.append(site)
            else:
                self.skip(site, str(before))

    @property
    def to_come(self) -> list[str]:
        """The sites that have not had the model yet, in order."""
        return list(self._to_come)

    def given(self, site: str, *, unanswered: str, untaken: str) -> None:
        """A site gets the model.

        Args:
            site: Which.
            unanswered: Why the one before is passed over, if it has not answered.
            untaken: Why those between are, that have not taken it.
        """
        if site not in self._to_come:  # it gets the same once more
            return
        if self._holder is not None:
            self.skip(self._holder, unanswered)
        while (place := self._to_come.pop(0)) != site:
            self.skip(place, untaken)
        self._holder = site

    def answers(self, site: str) -> bool:
        """A site answers; False if it was passed over."""
        if site == self._holder:
            self._holder = None
        return site not in self._skipped

    def skip(self, site: str, reason: str) -> None:
        """A site is passed over."""
        self._skipped.add(site)
        if self._decisions is not None:
            self._decisions.decide(self._key(site), reason)
        self._tally.refused(site, reason)
        self._on_skip(site, reason)

    def close(self, *, unanswered: str, untaken: str) -> None:
        """The relay is over: who has not answered by now is passed over."""
        if self._holder is not None:
            self.skip(self._holder, unanswered)
        for site in self._to_come:
            self.skip(site, untaken)
        self._holder, self._to_come = None, []

    def _key(self, site: str) -> str:
        return f"{self._draw}/skipped/{site}"


def why_no_model(result: Shareable, model: ModelLearnable | None, *, names: Names) -> str | None:
    """Why a result cannot become the model that the next site gets; None if it can.

    Args:
        result: What a site sent; what is neither WEIGHTS nor WEIGHT_DIFF is left to the generator to judge.
        model: What the site had.
        names: As for `check_values`.
    """
    dxo = dxo_of(result)
    if dxo is None or dxo.data_kind not in (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF):
        return None
    reference = Reference()
    if model is not None:
        reference.learn(model.get(ModelLearnableKey.WEIGHTS) or {}, owner="the model")
    try:
        check_values(dxo.data, reference, names=names if reference.specs else "any")
    except RuleError as error:
        return error.reason
    return None


def learn_from(
    owner: FLComponent, result: Shareable, *, generator: ShareableGenerator, fl_ctx: FLContext
) -> ModelLearnable | str:
    """Make one site's result the model.

    Args:
        owner: The workflow, which fires the events.
        result: What the site sent.
        generator: What makes the model.
        fl_ctx: The context of the submission, with the present round and model; gets the new one.

    Returns:
        The model; or why it cannot be made.
    """
    contribution_round = result.get_cookie(AppConstants.CONTRIBUTION_ROUND)
    result.set_header(AppConstants.CONTRIBUTION_ROUND, contribution_round)
    fl_ctx.set_prop(AppConstants.TRAINING_RESULT, result, private=True, sticky=False)
    fl_ctx.set_prop(AppConstants.CONTRIBUTION_ROUND, contribution_round, private=True, sticky=False)
    owner.fire_event(AppEventType.BEFORE_CONTRIBUTION_ACCEPT, fl_ctx)
    owner.fire_event(AppEventType.BEFORE_SHAREABLE_TO_LEARNABLE, fl_ctx)
    name = type(generator).__name__
    learned: ModelLearnable | str
    try:
        made = generator.shareable_to_learnable(result, fl_ctx)
        learned = made if isinstance(made, ModelLearnable) else f"{name} made no ModelLearnable of it"
    except (TypeError, ValueError) as error:
        learned = f"{name}: {error}"
    if isinstance(learned, ModelLearnable):
        fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, learned, private=True, sticky=True)
        hand_on(fl_ctx)
        owner.fire_event(AppEventType.AFTER_SHAREABLE_TO_LEARNABLE, fl_ctx)
    is_taken = isinstance(learned, ModelLearnable)
    fl_ctx.set_prop(AppConstants.AGGREGATION_ACCEPTED, is_taken, private=True, sticky=False)
    owner.fire_event(AppEventType.AFTER_CONTRIBUTION_ACCEPT, fl_ctx)
    return learned
