"""What components ask of whatever runs them.

Each port is small and optional: a component looks whether the engine of its context offers it, and does
without where it does not, so that controllers, aggregators and widgets also work in a notebook or a test
with an engine that knows only contexts and events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

from hansa.apis.ranks import RankPlan, RunningRanks
from hansa.apis.script import RunningScript


class RoundKey:
    """Context keys that Hansa adds to FLARE's own; all private."""

    TARGETS = "__round_targets__"
    """list[str]: the sites of the open round, sorted by code point; fixes the tree of the fold."""
    REFUSAL = "__refusal__"
    """str: why the aggregation rule refused the contribution at hand (not sticky)."""
    MODEL_VERSION = "__model_version__"
    """int: how many commits the global model has seen."""
    ERROR = "__error__"
    """str: header of a result whose return code is not OK: what went wrong, in one line."""
    FOLDED = "__folded__"
    """str: header of a result whose tensors came in a `FoldedPart`: why it does not count, "" if it does."""
    ENOUGH = "__enough__"
    """str: set in the context of ROUND_DONE by who wants no further round: why, in one line (not sticky)."""
    STATISTICS = "__statistics__"
    """dict: the federation's statistics as plain JSON; the run's record keeps it as `statistics.json`."""


@runtime_checkable
class Waiter(Protocol):
    """Time, and the place where a controller's blocking calls wait.

    A waiter never runs user code of its own accord: it runs the passes that controllers hand to `watch`.
    """

    def now(self) -> float:
        """Seconds on this waiter's clock; never goes back."""
        ...

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Block the calling thread until `condition()` is true; looked at again after each `notify`."""
        ...

    def notify(self) -> None:
        """Something changed: look at conditions and due times again. Any thread, never blocks."""
        ...

    def watch(self, due: Callable[[], float | None], act: Callable[[], None]) -> None:
        """From now on run `act()` whenever the clock passes `due()` (None: nothing is due)."""
        ...

    def unwatch(self, act: Callable[[], None]) -> None:
        """Stop what `watch` began; when this returns `act` is not running, unless called from it."""
        ...


@runtime_checkable
class History(Protocol):
    """Where the facts of a run are kept: one line of the run's record per call."""

    def round_opened(self, round_number: int, targets: list[str]) -> None:
        """A round began, with these sites as its targets."""
        ...

    def result_counted(self, round_number: int, site: str, *, weight: float) -> None:
        """A site's result is part of the round's aggregate."""
        ...

    def result_refused(self, round_number: int, site: str, *, reason: str) -> None:
        """A site's result is not part of the aggregate, and why (late, filtered, invalid, an error)."""
        ...

    def scalar(self, round_number: int | None, site: str, *, name: str, value: float, step: int | None = None) -> None:
        """A site (or `server`) reports a number."""
        ...

    def round_closed(self, round_number: int) -> None:
        """The round's model is committed."""
        ...

    def evaluated(self, model: str, site: str, *, metrics: Mapping[str, float], error: str | None = None) -> None:
        """A model was measured on a site's data, or why that could not be."""
        ...

    def ended_early(self, round_number: int, *, reason: str) -> None:
        """No round comes after this one although there might be more, and why."""
        ...

    def reported(self, round_number: int, name: str) -> Mapping[str, float]:
        """What was reported under a name in a round, by site (or `server`); the last value of each."""
        ...

    def metric_names(self) -> list[str]:
        """Every metric that was reported in some round, sorted."""
        ...

    def metric(self, round_number: int, name: str) -> float | None:
        """A metric of a round's global model: the server's value, else the mean over the sites.

        The mean is over those whose value is finite, weighted as they were counted; NaN or infinite where none is.
        None where nobody reported it.
        """
        ...


@runtime_checkable
class OffersWaiter(Protocol):
    """An engine that brings its own clock and place to wait."""

    @property
    def waiter(self) -> Waiter:
        """The waiter of this run."""
        ...


@runtime_checkable
class OffersHistory(Protocol):
    """An engine that keeps a record of the run."""

    @property
    def history(self) -> History:
        """The record of this run."""
        ...


@runtime_checkable
class OffersFacts(Protocol):
    """An engine that knows what is run."""

    @property
    def facts(self) -> Mapping[str, Any]:  # Any: JSON
        """`run` (its name), `job`, `sites` (their names), `seed`, and what else the run's record keeps of it."""
        ...


@runtime_checkable
class OffersProblems(Protocol):
    """An engine that keeps what user code raised with the run, so that people find it without reading logs."""

    def problem(self, where: str, error: BaseException) -> None:
        """Keep an exception.

        Args:
            where: What was under way, with the task and the site if there was one.
            error: What was raised.
        """
        ...


@runtime_checkable
class OffersSeed(Protocol):
    """An engine whose job has a seed."""

    def seed_for(self, text: str) -> int:
        """A seed that depends on the job's seed and on this text alone."""
        ...


@runtime_checkable
class OffersCommit(Protocol):
    """An engine that makes a workflow's progress durable."""

    def commit(self, workflow_state: Mapping[str, Any]) -> int:  # Any: what a workflow keeps is its own affair
        """Keep the workflow's state and every component's; returns the number of the model version."""
        ...


@runtime_checkable
class OffersDecisions(Protocol):
    """An engine that keeps what a workflow has decided, so that after a restart it decides the same."""

    def decided(self, key: str) -> Any:  # Any: JSON
        """What was decided before a restart; `UNDECIDED` if nothing was."""
        ...

    def decide(self, key: str, value: Any) -> None:  # Any: JSON
        """Keep a decision, before anything follows from it.

        Args:
            key: What it is about, in words that are the same after a restart: workflow index, round.
            value: What was decided.
        """
        ...


UNDECIDED = object()


@runtime_checkable
class OffersWriter(Protocol):
    """An engine that writes files beside the round, so that no round waits for a disk."""

    def write_later(self, key: str, write: Callable[[], None]) -> None:
        """Call `write` soon on another thread; a newer one of the same key replaces one that waits.

        What is written must not change afterwards. A failure ends the run.
        """
        ...

    def finish_writes(self) -> None:
        """Return when everything handed over so far is written."""
        ...


@runtime_checkable
class ScriptHost(Protocol):
    """An engine that runs a site's training script in a process of its own."""

    def start_script(self, script: str, args: Sequence[str], *, seed: int) -> RunningScript:
        """Start a script; it works in the site's workspace, and what it prints goes into the site's log.

        Args:
            script: A Python file, relative to the folder `custom/` of the site's app.
            args: Its command line.
            seed: The seed of what it draws before its first task.

        Raises:
            RunError: There is no such file, or the system cannot start it.
        """
        ...


@runtime_checkable
class RankHost(Protocol):
    """An engine that runs an executor on several processes of this machine."""

    def start_ranks(self, plan: RankPlan) -> RunningRanks:
        """Start the rank processes; they work in the site's workspace, and what they print goes into the site's log.

        Raises:
            RunError: The system cannot start them.
        """
        ...


@runtime_checkable
class Stateful(Protocol):
    """A component whose memory must survive a restart: an optimizer, control variates, a best score."""

    def state(self) -> Mapping[str, Any]:  # Any: whatever the codec can carry
        """Everything needed to go on; must be encodable by the codec."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take a state up again that `state` returned."""
        ...


P = TypeVar("P")


def port(engine: object, offer: type[P]) -> P | None:
    """The engine as that port, or None where it does not offer it."""
    # As isinstance, which takes ten times as long for a protocol, and this is asked several times per round.
    return cast(P, engine) if all(map(partial(hasattr, engine), _members(offer))) else None


def _members(offer: type) -> tuple[str, ...]:
    members = _MEMBERS.get(offer)
    if members is None:
        members = _MEMBERS[offer] = tuple(name for name in vars(offer) if not name.startswith("_"))
    return members


_MEMBERS: dict[type, tuple[str, ...]] = {}
