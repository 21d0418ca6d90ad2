"""The sites that live in one process: made when they are needed, run one task at a time, put away between tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Protocol

from hansa.apis.dxo import DXO, from_shareable
from hansa.apis.fl_constant import ReturnCode
from hansa.apis.folding import FoldPlan, SourceFold
from hansa.apis.shareable import ReservedHeaderKey, Shareable
from hansa.apis.signal import Signal
from hansa.runtime import user_code
from hansa.runtime.assignments import Answer, Assignment, Delivery, TaskBody, failed_reply
from hansa.runtime.outbox import Sent
from hansa.runtime.participants import default_props
from hansa.runtime.seeding import seed_everything, task_seed
from hansa.runtime.site_side import SiteSide
from hansa.wire.blobs import Allocate, AllocatingSink, Sink
from hansa.wire.codec import Encoder, Message, TableCache
from hansa.wire.master import Master

MOST_EAGER = 64
"""Up to so many sites all are made before the run begins; of more, each with its first task, and put away after it."""


class Open(Protocol):
    """Makes the rule of a plan, and opens the fold of one round with it."""

    def __call__(self, plan: FoldPlan, held: Sequence[str], *, allocate: Allocate) -> SourceFold:
        """See `hansa.apis.folding.FoldsAtSource.source_fold`."""
        ...


class Make(Protocol):
    """Makes a site, perhaps of the object of another one that keeps nothing between tasks."""

    def __call__(self, name: str, spare: SiteSide | None = None) -> SiteSide:
        """See `hansa.runtime.site_factory.SiteFactory.make`."""
        ...


@dataclass(frozen=True)
class HostSettings:
    """What all sites of a process share.

    Attributes:
        seed: The job's seed.
        abort: The run's abort signal.
        allocate: Where results and sums are written.
        on_failure: Told when a site cannot be made.
        keep_states: Whether answers bring what a site's components know: this process may end before the run does.
        sink: Where the tensors of results go; None: into memory of `allocate`.
    """

    seed: int
    abort: Signal
    allocate: Allocate
    on_failure: user_code.OnFailure
    keep_states: bool = False
    sink: Sink | None = None


class SiteHost:
    """Makes sites, runs their tasks, and folds what comes out where the plan of a task allows it.

    Args:
        names: The sites of this process, sorted by code point.
        make: Makes a site.
        open_fold: Makes the fold of a round.
        settings: Seed, abort signal, memory.
    """

    def __init__(
        self,
        names: Sequence[str],
        make: Make,
        *,
        open_fold: Open,
        settings: HostSettings,
    ) -> None:
        self.names = list(names)
        self._known = frozenset(names)
        self.ended: dict[str, str] = {}
        self.on_enter: Callable[[str], None] = lambda name: None
        self.on_skip: Callable[[int], None] = lambda number: None
        self._make = make
        self._open_fold = open_fold
        self._seed = settings.seed
        self._abort = settings.abort
        self._on_failure = settings.on_failure
        self._keep_states = settings.keep_states
        self._last_plan: FoldPlan | None = None
        self._tables = TableCache()
        self._master: tuple[TaskBody, Master] | None = None  # of the body at hand
        self._allocate = settings.allocate
        self._sink = settings.sink or AllocatingSink(settings.allocate)
        self._sites: dict[str, SiteSide] = {}
        self._spare: SiteSide | None = None  # of a site that was put away
        self._lock = threading.RLock()
        self._number = 0  # of the task under way
        self._aborted_ahead: set[int] = set()
        self._states: dict[str, Message] = {}
        self._begun: dict[str, Sent] = {}  # sites that have had START_RUN, and what has left them

    # -- the sites ---------------------------------------------------------------------------------------------

    def make_all(self) -> None:
        """Make the sites if they are few, else the first, so that what cannot be built is found before the run."""
        for name in self.names if len(self.names) <= MOST_EAGER else self.names[:1]:
            self.on_enter(name)
            self._sites[name] = self._made(name)

    def start(self) -> None:
        """START_RUN at each site that there is, but for those whose part was over before this process."""
        for name in sorted(self._sites.keys() - self.ended.keys()):
            self.on_enter(name)
            self.site(name)

    def site(self, name: str) -> SiteSide:
        """A site, made and started if need be."""
        with self._lock:  # an aux message may want a site while another one works
            side = self._sites.get(name)
            if side is None:
                side = self._sites[name] = self._made(name)
            if name not in self._begun:
                self._begin(side)
            return side

    def find(self, name: str) -> SiteSide | None:
        """A site as `site` gives it; None if there is none of that name."""
        return self.site(name) if name in self._known else None

    def props(self, name: str) -> dict[str, Any]:  # Any: properties hold any value
        """A site's public properties; those that every site has while this one is not made or put away."""
        side = self._sites.get(name)
        if side is None:
            return default_props(name)
        return side.outbox.public_props(side.engine.new_context())

    def expect(self, name: str) -> None:
        """A task is on its way to a site; from now on it can be aborted, if the site is made."""
        side = self._sites.get(name)
        if side is not None:
            side.assigned()

    def present(self) -> list[SiteSide]:
        """The sites that are made, by name."""
        return [self._sites[name] for name in sorted(self._sites)]

    def abort_task(self, site: str, number: int) -> None:
        """Stop a task that is under way or still waits for its turn; any thread."""
        if number > self._number:
            self._aborted_ahead.add(number)
        elif number == self._number and site in self._sites:
            self._sites[site].abort_task()

    def sent(self) -> dict[str, Sent]:
        """What has left each site that has begun."""
        return {name: self._begun[name] for name in sorted(self._begun)}

    def end(self) -> None:
        """END_RUN at each site that has begun and whose components hear of it."""
        for name in sorted(self._begun):
            side = self._sites.get(name) or self._spare
            if name not in self.ended and (side is None or side.hears_the_end):
                self.site(name).end()
                self._park(name)

    def restore(self, name: str, state: Message) -> None:
        """What a site's components knew after its last task: in a process that is gone, or before one that failed."""
        if name in self._begun and name in self._sites:
            self._sites[name].restore(state)
        else:
            self._states[name] = state

    def state_of(self, name: str) -> Message | None:
        """What a site's components know; None where they keep nothing, or it is not made."""
        side = self._sites.get(name)
        return self._state_of(side) if side is not None and name in self._begun else None

    def _made(self, name: str) -> SiteSide:
        seed_everything(task_seed(self._seed, f"build/{name}"))
        spare, self._spare = self._spare, None
        side = self._make(name, spare)
        if name in self._begun:
            side.outbox.sent = self._begun[name]
            side.resume()
        return side

    def _begin(self, side: SiteSide) -> None:
        self._begun[side.name] = side.outbox.sent
        seed_everything(task_seed(self._seed, f"start/{side.name}"))
        side.start()
        if side.name in self._states:
            side.restore(self._states.pop(side.name))

    def _park(self, name: str) -> None:
        side = self._sites[name]
        if side.keeps_nothing and len(self.names) > MOST_EAGER:
            del self._sites[name]
            if self._spare is not None:
                self._spare.close()
            self._spare = side

    # -- tasks -------------------------------------------------------------------------------------------------

    def run(self, batch: Iterable[Assignment]) -> Iterator[Delivery]:
        """Run tasks one after the other.

        Args:
            batch: In the order in which they are run; those of one body stand together.

        Yields:
            A delivery per task, or per part of a sum.
        """
        fold: _RoundFold | None = None
        for assignment in batch:
            body = assignment.body
            if fold is None or fold.plan is not body.plan:
                if fold is not None:
                    yield from fold.close()
                fold = self._opened(body)
            answer = self._run_one(assignment, fold)
            if fold is not None:
                yield from fold.take(assignment.site, answer)
            elif answer is not None:
                yield Delivery((answer,))
        if fold is not None:
            yield from fold.close()

    def forget_task(self) -> None:
        """Let go of the memory in which the last task lies."""
        self._master = None

    def _opened(self, body: TaskBody) -> _RoundFold | None:
        """The fold of a body's plan; None where there is no plan, or its fold was closed before."""
        plan = body.plan
        if plan is None or plan is self._last_plan:
            return None
        self._last_plan = plan
        held = [name for name in plan.targets if name in self._known and name not in body.done]
        return _RoundFold(plan, self._open_fold(plan, held, allocate=self._allocate), held)

    def _run_one(self, assignment: Assignment, fold: _RoundFold | None) -> Answer | None:
        """Run a task; None if the site takes part no more."""
        name = assignment.site
        if name in self.ended or self._abort.triggered:
            self.on_skip(assignment.number)
            return None
        self.on_enter(name)
        built = user_code.call(self.site, name)
        if isinstance(built, user_code.Failure):  # made so late that the run cannot be refused any more
            return self._cannot_build(assignment, built)
        side = built.value
        side.assigned()
        self._number = assignment.number
        if assignment.number in self._aborted_ahead:
            side.abort_task()
        packer = _Packer(side, fold, self._sink)
        message = side.run_task(
            assignment.body.name, self._master_of(assignment.body), task_id=assignment.task_id, pack=packer
        )
        if side.ended_because is not None:
            self.ended[name] = side.ended_because
        state = self._state_of(side) if self._keep_states else None
        ran_out = side.ran_out_of_memory
        self._park(name)
        return Answer(assignment, message, packer.folded, state, ran_out)

    def _master_of(self, body: TaskBody) -> Master:
        if self._master is None or self._master[0] is not body:
            self._master = body, Master(body.message, self._tables)
        return self._master[1]

    def _state_of(self, side: SiteSide) -> Message | None:
        taken = user_code.call(side.state_message, self._allocate)
        if isinstance(taken, user_code.Failure):
            self._on_failure(user_code.Mishap(side.name, "state"), taken)
            return None
        return taken.value

    def _cannot_build(self, assignment: Assignment, failure: user_code.Failure) -> Answer:
        self._on_failure(user_code.Mishap(assignment.site, "building"), failure)
        return Answer(assignment, failed_reply(assignment, ReturnCode.EXECUTION_EXCEPTION, failure.cause))


class _Packer:
    """Turns one result into its message: whole, or without the tensors, which then are in the fold."""

    def __init__(self, side: SiteSide, fold: _RoundFold | None, sink: Sink) -> None:
        self._side = side
        self._fold = fold
        self._sink = sink
        self.folded = False

    def __call__(self, result: Shareable) -> Message | dict[str, Any]:
        outbox, fold, name = self._side.outbox, self._fold, self._side.name
        if fold is not None and not fold.source.needs_whole(name) and _has_weights(result):
            light = copy_plain(result, without=_CONTENT)
            message = Encoder().encode(_without_tensors(result)) if light is None else None
            if fold.source.add(name, result) is None:
                self.folded = True
                if light is None:
                    assert message is not None
                    return outbox.count(message)
                outbox.sent.messages += 1
                return light
        return outbox.pack(result, Encoder(sink=self._sink))


_CONTENT = ("DXO", "data")
"""Where a result has its tensors."""


def _has_weights(result: Shareable) -> bool:
    """Whether a result is well and has a DXO."""
    content = result.get("DXO")
    return (
        type(content) is dict
        and content.keys() == {"kind", "data", "meta"}
        and result.get_header(ReservedHeaderKey.CONTENT_TYPE) == "DXO"
        and result.get_return_code() in (None, ReturnCode.OK)
    )


def _without_tensors(result: Shareable) -> Shareable:
    """A result whose DXO has lost its data, for what JSON alone cannot carry."""
    dxo = from_shareable(result)
    light = Shareable()
    light.update(result)
    return DXO(dxo.data_kind, {}, dxo.meta).update_shareable(light)


def copy_plain(value: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any] | None:  # Any: JSON
    """A copy of nested dicts, if it would come back from JSON as it is (but for the class of the outermost).

    Args:
        value: What is copied.
        without: The path of a dict that is left empty.

    Returns:
        None if there is anything else than dicts with keys of str, texts of ASCII, integers, finite floats, booleans
        and None.
    """
    copied: dict[str, Any] = {}
    for key, item in value.items():
        if type(key) is not str:
            return None
        kind = type(item)
        if kind is dict:
            if without and without[0] == key:
                copied[key] = {} if len(without) == 1 else copy_plain(item, without[1:])
            else:
                copied[key] = copy_plain(item)
            if copied[key] is None:
                return None
        elif (
            (kind is str and item.isascii())
            or kind is int
            or item is None
            or kind is bool
            or (kind is float and isfinite(item))
        ):
            copied[key] = item
        else:
            return None
    return copied


class _RoundFold:
    """The fold of one round in one process, and the answers that wait for their part of it."""

    def __init__(self, plan: FoldPlan, source: SourceFold, held: Sequence[str]) -> None:
        self.plan = plan
        self.source = source
        self._unheard = set(held)
        self._waiting: dict[str, Answer | None] = {}

    def take(self, site: str, answer: Answer | None) -> Iterator[Delivery]:
        """A site is done; yields what can be delivered now."""
        self._unheard.discard(site)
        if answer is not None and not answer.folded:
            yield Delivery((answer,))
        if self.source.needs_whole(site):
            return
        if answer is None or not answer.folded:
            self.source.absent(site)
        else:
            self._waiting[site] = answer
        yield from self._ready()

    def close(self) -> Iterator[Delivery]:
        """Nobody else comes: what was held for others goes out."""
        for site in sorted(self._unheard):
            if not self.source.needs_whole(site):
                self.source.absent(site)
        yield from self._ready()

    def _ready(self) -> Iterator[Delivery]:
        for part in self.source.ready():
            answers = [self._waiting.pop(site) for site in part.sites if site in self._waiting]
            yield Delivery([answer for answer in answers if answer is not None], self.plan, [part])
