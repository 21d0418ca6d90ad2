"""The rank processes of one site: started, told of events, given tasks, and ended with all that they started."""

from __future__ import annotations

import itertools
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from hansa.apis.fl_constant import EventScope, FLContextKey
from hansa.apis.fl_context import FLContext
from hansa.apis.ranks import RankPlan, RankVariable
from hansa.apis.shareable import Shareable
from hansa.apis.signal import Signal
from hansa.errors import RunError
from hansa.jobs.flare_alias import is_served
from hansa.runtime.guarded_process import GuardedProcess, how_ended
from hansa.runtime.rank_context import pack, unpack
from hansa.runtime.rank_link import RankLinks, Said, encoded
from hansa.runtime.rank_words import FromRank, ToRank
from hansa.wire.slots import SlotPool

_PROGRAM = "hansa.runtime.rank"
_GRACE_S = 3.0
"""How long ranks may go on after an abort, or after another one has raised."""


class RankSite(Protocol):
    """The site's engine as its ranks reach it."""

    def new_context(self) -> FLContext:
        """A context of the site."""
        ...

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Fire an event at the site's components."""
        ...

    def send_aux_request(self, topic: str, request: Shareable, *, timeout: float, fl_ctx: FLContext) -> Shareable:
        """Ask the server."""
        ...


@dataclass(frozen=True)
class RankStart:
    """What rank processes are started with.

    Attributes:
        plan: What they are made of.
        folder: Where they work; the site's log lies there, too.
        environment: What their environment has besides that of this process.
        build: What they are told of the site and its job.
    """

    plan: RankPlan
    folder: Path
    environment: Mapping[str, str]
    build: Mapping[str, Any]  # Any: JSON


class RankProcesses:
    """Rank processes that run; see `hansa.apis.ranks.RunningRanks`.

    What ranks fire and ask is done in the thread that waits for them, so never beside other code of the site.

    Args:
        start: What to start.
        engine: The site's engine.
        pool: Memory for what they are given.
        folder: Where a socket may lie.

    Raises:
        RunError: The system cannot start them.
    """

    def __init__(self, start: RankStart, engine: RankSite, *, pool: SlotPool, folder: Path) -> None:
        self._plan = start.plan
        self._start = start
        self._engine = engine
        self._pool = pool
        self._inbox: SimpleQueue[Said | int | None] = SimpleQueue()  # int: of a command; None: look at the abort signal
        self._turn = threading.RLock()
        self._numbers = itertools.count(1)
        self._task = 0
        self._is_busy = False
        self._is_ending = False
        self._is_over = False
        self._gone: set[int] = set()
        self._ready: dict[int, Mapping[str, Any]] = {}  # Any: JSON
        self._unheard: dict[int, set[int]] = {}
        self._done: dict[int, Said] = {}
        self._states: dict[int, Any] = {}  # Any: what components keep
        token = secrets.token_hex(16)
        self._links = RankLinks(self._plan.num_ranks, token, pool=pool, folder=folder, put=self._came)
        self._processes: list[GuardedProcess] = []
        address, life = self._links.addresses
        own = {RankVariable.ADDRESS: address, RankVariable.LIFE: life, RankVariable.TOKEN: token}
        try:
            for rank in [None] if self._plan.starts_all else range(self._plan.num_ranks):
                self._launch(own, rank)
        except OSError as error:
            self.kill()
            raise RunError(f"the ranks cannot start: {error.strerror}") from error

    @property
    def is_alive(self) -> bool:
        """See `RunningRanks`."""
        return not self._is_over and not self._gone and all(each.exit_code is None for each in self._processes)

    @property
    def last_lines(self) -> list[str]:
        """See `RunningRanks`."""
        return [line for each in self._processes for line in each.output.last_lines]

    def wait_until_ready(self, seed: int, abort: Signal) -> bool:
        """See `RunningRanks`."""
        plan, timeout_s = self._plan, self._plan.start_timeout_s
        self._build = _build_head(self._start, seed)
        with self._taking_turns():
            try:
                if not self._wait(lambda: len(self._ready) == plan.num_ranks, abort, timeout_s):
                    return False
            except TimeoutError:
                late = ", ".join(str(rank) for rank in range(plan.num_ranks) if rank not in self._ready)
                how = f"did not start within {timeout_s:g} s (start_timeout_s)"
                raise self._failure(f"rank {late} of {plan.num_ranks} {how}") from None
            for rank, head in sorted(self._ready.items()):
                if head["error"] is not None:
                    self.kill()
                    raise RunError(f"rank {rank} of {plan.num_ranks} cannot start: {head['error']}")
        return True

    def restore(self, states: Mapping[str, Any]) -> None:  # Any: what components keep
        """See `RunningRanks`."""
        for rank, link in self._links.by_rank.items():
            if str(rank) in states:
                link.send(ToRank.RESTORE, {}, message=encoded(states[str(rank)], self._pool))

    def states(self) -> Mapping[str, Any]:  # Any: what components keep
        """See `RunningRanks`."""
        asked = [rank for rank, head in self._ready.items() if head["stateful"]]
        if not asked:
            return {}
        with self._taking_turns():
            self._states.clear()
            for rank in asked:
                self._links.by_rank[rank].send(ToRank.STATE, {})
            self._wait(lambda: len(self._states) == len(asked), Signal())
            return {str(rank): state for rank, state in sorted(self._states.items())}

    def tell(self, event_type: str, fl_ctx: FLContext) -> None:
        """See `RunningRanks`."""
        is_federated = fl_ctx.get_prop(FLContextKey.EVENT_SCOPE) == EventScope.FEDERATION
        hearers = [rank for rank, head in self._ready.items() if _hears(head["heard"], event_type, is_federated)]
        if not hearers:
            return
        message = encoded(pack(fl_ctx), self._pool)
        number = next(self._numbers)
        waits = self._turn.acquire(blocking=False)
        try:
            is_awaited = waits and not self._is_busy
            if is_awaited:
                self._unheard[number] = set(hearers)
            for rank in hearers:
                self._links.by_rank[rank].send(ToRank.EVENT, {"type": event_type, "number": number}, message=message)
            if is_awaited:
                self._wait(lambda: not self._unheard[number], fl_ctx.get_run_abort_signal() or Signal())
                del self._unheard[number]
        finally:
            if waits:
                self._turn.release()

    def execute(
        self, task_name: str, shareable: Shareable, *, fl_ctx: FLContext, abort: Signal, seed: int
    ) -> Shareable | None:
        """See `RunningRanks`."""
        message = encoded({"task": shareable, "context": pack(fl_ctx)}, self._pool)
        with self._taking_turns():
            self._task = number = next(self._numbers)
            self._done.clear()
            self._is_busy = True
            try:
                self._send_all(ToRank.TASK, {"name": task_name, "number": number, "seed": seed}, message)
                del message
                if not self._wait(self._is_answered, abort):
                    self._call_off(str(abort.value))
                    return None
                return self._result()
            finally:
                self._is_busy = False

    def end(self, timeout_s: float) -> str | None:
        """See `RunningRanks`."""
        with self._turn:
            self._is_ending = True
            self._send_all(ToRank.END, {})
            how = None
            try:
                self._wait(lambda: len(self._gone) == self._plan.num_ranks, Signal(), timeout_s)
            except TimeoutError:
                how = f"a rank did not finish within {timeout_s:g} s and was killed"
            codes = {rank: self._links.by_rank[rank].exit_code for rank in sorted(self._gone)}
            self.kill()
            bad = [f"rank {rank} {how_ended(code)}" for rank, code in codes.items() if code]
            return how or (bad[0] if bad else None)

    def kill(self) -> None:
        """See `RunningRanks`."""
        self._is_over = True
        for process in self._processes:
            process.end_group()  # first the launcher, which would have much to say about the ends of its ranks
        self._links.close()
        for process in self._processes:
            process.kill()

    # -- the processes -------------------------------------------------------------------------------------------

    def _launch(self, own: Mapping[str, str], rank: int | None) -> None:
        more = {} if rank is None else {RankVariable.RANK: str(rank)}
        number = len(self._processes)
        process = GuardedProcess(
            [*self._plan.command, "-m", _PROGRAM],
            folder=self._start.folder,
            environment={**self._start.environment, **own, **more},
            on_end=lambda: self._inbox.put(number),
        )
        self._processes.append(process)
        process.begin()

    def _failure(self, how: str, rank: int | None = None) -> RunError:
        """End all ranks; what to raise."""
        self.kill()  # then all that they printed is here
        is_own = rank is not None and not self._plan.starts_all
        outputs = [self._processes[rank]] if is_own and rank is not None else self._processes
        said = next((text for each in outputs if (text := each.output.summary())), None)
        return RunError(f"{how}: {said}" if said else f"{how} and has printed nothing")

    # -- what they say -------------------------------------------------------------------------------------------

    def _came(self, said: Said) -> None:
        """On a thread of a link's."""
        if said.word is None:
            self._gone.add(said.rank)
        self._inbox.put(said)

    def _wait(self, condition: Callable[[], bool], abort: Signal, timeout_s: float | None = None) -> bool:
        """Do what ranks ask until a condition holds; False if `abort` was triggered before.

        Raises:
            TimeoutError: The time is up.
            RunError: A rank is gone.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        look = partial(self._inbox.put, None)
        abort.subscribe(look)
        try:
            while not condition():
                if abort.triggered:
                    return False
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                said = self._inbox.get(timeout=left)
                if isinstance(said, Said):
                    self._take(said)
                elif said is not None:
                    self._command_ended(said)
            return True
        except Empty:
            raise TimeoutError from None
        finally:
            abort.unsubscribe(look)

    def _take(self, said: Said) -> None:
        match said.word:
            case FromRank.HELLO:
                self._links.by_rank[said.rank].send(ToRank.BUILD, self._build)
            case FromRank.READY:
                self._ready[said.rank] = said.head
            case FromRank.HEARD:
                self._unheard.get(said.head["number"], set()).discard(said.rank)
            case FromRank.EVENT:
                self._fire(said)
            case FromRank.ASK:
                self._ask(said)
            case FromRank.STATE:
                self._states[said.rank] = said.value
            case FromRank.DONE if said.head["number"] == self._task:
                self._done[said.rank] = said
            case None if not self._is_ending:
                code = self._links.by_rank[said.rank].exit_code
                how = "is gone" if code is None else how_ended(code)
                raise self._failure(f"rank {said.rank} of {self._plan.num_ranks} {how}", said.rank)

    def _command_ended(self, number: int) -> None:
        """The command is gone, or that of one rank; the ends of ranks that are connected are heard from them."""
        ranks = range(self._plan.num_ranks) if self._plan.starts_all else [number]
        missing = [rank for rank in ranks if rank not in self._links.by_rank]
        if self._is_ending or not missing:
            return
        code = self._processes[number].exit_code
        how = "is gone" if code is None else how_ended(code)
        who = f"rank {missing[0]} of {self._plan.num_ranks}"
        if self._plan.starts_all:
            who = f"the command that starts the ranks ({' '.join(self._plan.command[:3])} ...)"
        raise self._failure(f"{who} {how}", missing[0])

    def _fire(self, said: Said) -> None:
        with self._context_of(said) as fl_ctx:
            unpack(said.value, fl_ctx)
            self._engine.fire_event(said.head["type"], fl_ctx)

    def _ask(self, said: Said) -> None:
        with self._context_of(said) as fl_ctx:
            unpack(said.value["context"], fl_ctx)
            reply = self._engine.send_aux_request(said.head["topic"], said.value["request"], timeout=0.0, fl_ctx=fl_ctx)
        answer = encoded(reply, self._pool)
        self._links.by_rank[said.rank].send(ToRank.REPLY, {"number": said.head["number"]}, message=answer)

    @contextmanager
    def _context_of(self, said: Said) -> Iterator[FLContext]:
        with self._engine.new_context() as fl_ctx:
            fl_ctx.set_prop(FLContextKey.FROM_RANK_NUMBER, said.rank, private=True, sticky=False)
            yield fl_ctx

    # -- a task --------------------------------------------------------------------------------------------------

    def _is_answered(self) -> bool:
        """Whether all are done, or one has raised."""
        return len(self._done) == self._plan.num_ranks or any(each.head["error"] for each in self._done.values())

    def _result(self) -> Shareable:
        raised = next((each for each in self._done.values() if each.head["error"]), None)
        if raised is not None:
            self._call_off("another rank has failed")  # it may wait for that one
            raise RunError(f"rank {raised.rank} of {self._plan.num_ranks}: {raised.head['error']}")
        result: Shareable = self._done[0].value
        return result

    def _call_off(self, reason: str) -> None:
        """Have all come back from the task; those that do not are ended."""
        self._send_all(ToRank.ABORT, {"number": self._task, "reason": reason})
        try:
            self._wait(lambda: len(self._done) == self._plan.num_ranks, Signal(), _GRACE_S)
        except TimeoutError:
            self.kill()

    def _send_all(self, word: ToRank, head: Mapping[str, Any], message: Any = None) -> None:  # Any: JSON; a message
        for link in list(self._links.by_rank.values()):
            link.send(word, head, message=message)

    @contextmanager
    def _taking_turns(self) -> Iterator[None]:
        with self._turn:
            if self._is_over:
                raise RunError("the ranks are gone")
            yield


def _hears(heard: list[str] | None, event_type: str, is_federated: bool) -> bool:
    return heard is None or event_type in heard or (is_federated and bool(heard))


def _build_head(start: RankStart, seed: int) -> dict[str, Any]:  # Any: JSON
    return {
        **start.build,
        "num": start.plan.num_ranks,
        "components": list(start.plan.components),
        "executor": start.plan.executor_id,
        "seed": seed,
        "alias": is_served(),
        "sys_path": [str(Path(each).absolute()) for each in sys.path],  # ranks work elsewhere
        "python_path": os.environ.get("PYTHONPATH"),
    }
