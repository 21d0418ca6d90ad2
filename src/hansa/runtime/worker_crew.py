"""The sites of a run in worker processes, as the dispatcher sees them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from hansa.apis.fl_constant import ReturnCode
from hansa.apis.folding import FoldedPart, FoldPlan
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, DecodeError, RunError
from hansa.runtime.assignments import Answer, Assignment, Delivery, failed_reply
from hansa.runtime.memory_link import End, answer
from hansa.runtime.outbox import Sent
from hansa.runtime.participants import SERVER, default_props
from hansa.runtime.phases import Phases
from hansa.runtime.run_log import keep_lines
from hansa.runtime.task_queue import Action, Fail, Send, TaskQueue
from hansa.runtime.user_code import Failure, Mishap, OnFailure
from hansa.runtime.worker_ask import WorkerAsk
from hansa.runtime.worker_patience import Patience
from hansa.runtime.worker_process import Frame, WorkerProcess
from hansa.runtime.worker_staff import Staff, WorkerPlan
from hansa.runtime.worker_words import FromWorker, ToWorker
from hansa.tensors import Array
from hansa.wire.codec import Message, decode

_FIRST = 8
"""A worker begins when so many tasks are there; the chunks then double, up to `_CHUNK`."""
_CHUNK = 64
_MOST_TRIES = 2
"""A task whose process ends under it is tried once more: it may not have been the task's fault."""
_END_S = 10.0
_MOST_IDLE_LOSSES = 3

_logger = logging.getLogger("hansa.workers")


@dataclass(frozen=True)
class CrewTold:
    """Who is told what a crew comes across.

    Attributes:
        on_failure: User code raised.
        notify: Something came in.
        abort: The run's abort signal.
        phases: Where the time goes.
    """

    on_failure: OnFailure
    notify: Callable[[], None]
    abort: Signal
    phases: Phases

    def user_code_failed(self, head: Mapping[str, Any]) -> None:  # Any: JSON
        """A worker says that user code has raised there."""
        failure = Failure(RuntimeError(head["cause"]), head["cause"], head["detail"])
        self.on_failure(Mishap(head["site"], head["where"]), failure)

    def task_failed(self, assignment: Assignment, cause: str) -> Delivery:
        """A task cannot be worked on: what is received in place of its result."""
        failure = Failure(RunError(cause), cause, "")
        self.on_failure(Mishap(assignment.site, f"task {assignment.body.name}"), failure)
        return Delivery((Answer(assignment, failed_reply(assignment, ReturnCode.EXECUTION_EXCEPTION, cause)),))


class WorkerCrew:
    """Gives tasks to workers, takes what comes back, and sees to what dies or does not answer.

    Args:
        plan: What the workers are for.
        told: Who is told what.
    """

    shares_randomness = False

    def __init__(self, plan: WorkerPlan, told: CrewTold) -> None:
        self.ended = dict(plan.ended)
        self._told = told
        self._inbox: SimpleQueue[tuple[WorkerProcess, Frame | None] | None] = SimpleQueue()  # None: look again
        self._staff = Staff(plan, self._came)
        self._patience = Patience(self._staff, told.abort, notify=lambda: self._inbox.put(None))
        self.pool = self._staff.pool
        self.aux = WorkerAsk(self._staff.of)
        self._queue = None if self._staff.packing is None else TaskQueue(self._staff.packing)
        self._props: dict[str, dict[str, Any]] = {}  # Any: properties hold any value
        self._states = dict(plan.states)
        self._sent: dict[str, Sent] = {}
        self._tries: dict[int, int] = {}
        self._again: set[int] = set()  # workers whose task ran out of memory and is tried again
        self._waiting: dict[int, list[Assignment]] = {}  # by worker: handed over, not yet sent
        self._done: set[str] = set()  # sites whose part of the present sum has come
        self._closed_plan: FoldPlan | None = None
        self._number = 0
        self._idle_losses = 0
        self._is_started = False

    @property
    def may_fold(self) -> bool:
        """Whether workers may fold results: not where a task may have to be tried again."""
        return self._queue is None

    def launch(self) -> None:
        """Start all processes; they come up while the caller goes on."""
        self._staff.launch()

    def wait_until_ready(self, server: End) -> None:
        """Connect, and have the sites made.

        Raises:
            ConfigError: A site cannot be made.
            RunError: A worker cannot start.
        """
        self.aux.server = server
        self._staff.connect(self._staff.workers)
        self._told.abort.subscribe(self._patience.abort)
        self._await(FromWorker.READY, self._staff.workers)

    def start(self) -> None:
        """START_RUN at the sites that are made; what they knew before goes ahead of it."""
        for worker in self._staff.workers:
            worker.send_start(self._states)
        self._await(FromWorker.STARTED, self._staff.workers)
        self._is_started = True

    def end(self) -> None:
        """END_RUN at the sites that have begun; nothing of the workers is left afterwards."""
        there = [worker for worker in self._staff.workers if not worker.is_gone]
        for worker in there:
            worker.send(ToWorker.END, {})
        self._await(FromWorker.ENDED, there)
        self.close(_END_S)

    def close(self, timeout_s: float = 0.0) -> None:
        """End whatever runs still."""
        self._told.abort.unsubscribe(self._patience.abort)
        self._staff.close(timeout_s)

    def sent(self) -> dict[str, Sent]:
        """What has left each site that has begun."""
        return dict(sorted(self._sent.items()))

    @property
    def is_working(self) -> bool:
        """Whether a site has a task that it has not answered."""
        return bool(self._waiting) or any(worker.outstanding for worker in self._staff.workers)

    def states(self) -> Mapping[str, Message]:
        """See `hansa.runtime.checkpoint.KeepsStates`: as of each site's last result, or newer if it was asked since."""
        return self.aux.refresh(self._states)

    # -- the dispatcher's side ---------------------------------------------------------------------------------

    def props(self, site: str) -> dict[str, Any]:  # Any: properties hold any value
        """See `Crew`."""
        return self._props.get(site) or default_props(site)

    def hand_over(self, assignment: Assignment) -> None:
        """See `Crew`."""
        worker = self._staff.of(assignment.site)
        self._number += 1
        if self._queue is not None:
            self._queue.add(worker.number, replace(assignment, number=self._number))
            return
        waiting = self._waiting.setdefault(worker.number, [])
        waiting.append(replace(assignment, number=self._number))
        if len(waiting) >= min(_CHUNK, _FIRST + len(worker.outstanding)) or waiting[0].body is not assignment.body:
            self._send_tasks(worker, self._waiting.pop(worker.number))

    def attend(self) -> None:
        """See `Crew`."""
        while not self._inbox.empty():
            came = self._inbox.get()
            for _ in self._handle(*came) if came is not None else ():
                pass

    def deliveries(self) -> Iterator[Delivery]:
        """See `Crew`."""
        for worker in self._staff.workers:
            last = self._waiting.pop(worker.number, [])
            if last or worker.outstanding:
                self._send_tasks(worker, last, close=True)
        if self._queue is not None:
            yield from self._do(self._queue.begin())
        while any(worker.outstanding for worker in self._staff.workers):
            came = self._next()
            if came is not None:
                yield from self._handle(*came)
                worker = came[0]
                del came  # its arrays: their memory may be used again
                worker.release()
        self._done.clear()
        self._tries.clear()
        for worker in self._staff.workers:
            if worker.body is not None:
                self._closed_plan = worker.body.plan or self._closed_plan
                worker.body = None  # the memory it lies in is wanted for the next one

    def _send_tasks(self, worker: WorkerProcess, tasks: Sequence[Assignment], *, close: bool = False) -> None:
        """Send tasks to a worker, a frame per body; `close` says that no more come in this batch."""
        begin = 0
        for end in range(1, len(tasks) + 1):
            if end == len(tasks) or tasks[end].body is not tasks[begin].body:
                self._send_chunk(worker, tasks[begin:end], close=close and end == len(tasks))
                begin = end
        if close and not tasks:
            worker.send(ToWorker.CLOSE, {})

    def _send_chunk(self, worker: WorkerProcess, tasks: Sequence[Assignment], *, close: bool) -> None:
        body = tasks[0].body
        for task in tasks:
            worker.outstanding[task.number] = task
        head: dict[str, Any] = {
            "heads": [[task.number, task.site, task.task_id] for task in tasks],
            "body": None,
            "close": close,
        }
        if worker.body is body:
            worker.send(ToWorker.TASKS, head)
            return
        worker.body = body
        plan = body.plan if body.plan is not self._closed_plan else None
        said = {"name": body.name, "plan": plan.to_json() if plan else None, "done": sorted(self._done)}
        head["body"] = said
        worker.send(ToWorker.TASKS, head, message=body.message)

    def _next(self) -> tuple[WorkerProcess, Frame | None] | None:
        """What came in; None where there was only reason to look again."""
        try:
            return self._inbox.get(timeout=self._patience.left())
        except Empty:
            self._patience.enforce()
            return None

    # -- what comes in -----------------------------------------------------------------------------------------

    def _handle(self, worker: WorkerProcess, frame: Frame | None) -> Iterator[Delivery]:
        if frame is None:
            yield from self._lost(worker)
            return
        head, parts = frame
        match FromWorker(head["k"]):
            case FromWorker.ANSWERS:
                yield from self._answers(worker, head, parts)
            case FromWorker.ASK:
                assert self.aux.server is not None
                asked = worker.messages.message(head["m"], parts)
                reply = answer(self.aux.server, asked, name=SERVER, on_failure=self._told.on_failure)
                worker.send(ToWorker.REPLY, {"number": head["number"]}, message=reply)
            case FromWorker.FAILED:
                self._told.user_code_failed(head)
            case FromWorker.LOG:
                keep_lines(head["lines"])
            case FromWorker.READY:
                if head["error"] is not None:
                    raise ConfigError(head["error"][0], file=head["error"][1], key=head["error"][2])
                self._props |= decode(worker.messages.message(head["m"], parts), arrays="own")
            case FromWorker.ENDED:
                for site, counts in head["sent"].items():
                    self._sent[site] = Sent(*counts)
                self._told.phases.add(head["phases"])

    def _answers(self, worker: WorkerProcess, head: Mapping[str, Any], parts: Sequence[Array]) -> Iterator[Delivery]:
        self.ended |= head["ended"]
        answers = []
        actions: list[Action] = []
        for number, folded, reference, state, ran_out, used_bytes in head["answers"]:
            assignment = worker.outstanding.pop(number, None)
            if assignment is None:
                raise DecodeError(f"worker {worker.number} answers task {number}, which it does not have")
            if self._queue is not None and ran_out:
                self._again.add(worker.number)
                actions += self._queue.ran_out(worker.number)
                continue
            if self._queue is not None:
                actions += self._queue.ended(worker.number, used_bytes)
            if state is not None:
                self._states[assignment.site] = worker.messages.message(state, parts)
            message = reference if isinstance(reference, dict) else worker.messages.message(reference, parts)
            answers.append(Answer(assignment, message, folded))
        folds = _folds(head, parts)
        for part in folds:
            self._done.update(part.sites)
        for number in head["skipped"]:
            if worker.outstanding.pop(number, None) is not None and self._queue is not None:
                actions += self._queue.ended(worker.number, None)
        if head["heavy"]:  # said before they are looked at: nobody waits for anybody
            worker.send(ToWorker.TAKEN, {"count": head["heavy"]})
        if answers or folds:
            yield Delivery(answers, worker.body.plan if worker.body else None, folds)
        yield from self._do(actions)

    def _do(self, actions: Sequence[Action]) -> Iterator[Delivery]:
        """Start tasks that have room on their device; what never has is answered in its place."""
        for action in actions:
            match action:
                case Send(number, assignment):
                    worker = self._staff.workers[number]
                    if number in self._again and assignment.site in self._states:
                        worker.send(ToWorker.STATE, {"site": assignment.site}, message=self._states[assignment.site])
                    self._again.discard(number)
                    worker.body = None  # each task is a batch of its own there, after which it forgets the body
                    self._send_tasks(worker, [assignment], close=True)
                case Fail(assignment, cause):
                    yield self._told.task_failed(assignment, cause)

    def _lost(self, worker: WorkerProcess) -> Iterator[Delivery]:
        """A process is gone: what it had under way goes to another one in its place."""
        self.aux.gone(worker)
        how = worker.how_it_ended()
        if not self._is_started:
            raise RunError(f"worker {worker.number} cannot start: {how}")
        tasks = [worker.outstanding[number] for number in sorted(worker.outstanding)]
        is_over = False
        culprit = worker.outstanding.get(worker.pulse.number)
        if self._told.abort.triggered:
            worker.outstanding.clear()
            return
        if culprit is not None:
            self._tries[culprit.number] = self._tries.get(culprit.number, 0) + 1
            if worker.killed_because is not None or self._tries[culprit.number] >= _MOST_TRIES:
                tasks.remove(culprit)
                is_over = True
                yield self._told.task_failed(culprit, how if "did not answer" in how else f"its process {how}")
            else:
                _logger.warning("worker %d %s while %s worked; it is replaced", worker.number, how, culprit.site)
        else:
            self._idle_losses += 1
            _logger.warning("worker %d %s; it is replaced", worker.number, how)
            if self._idle_losses > _MOST_IDLE_LOSSES * len(self._staff.workers):
                raise RunError(f"worker {worker.number} {how}, again and again")
        fresh = self._staff.replace(worker, self._states)
        if self._queue is not None:
            yield from self._do(self._queue.lost(worker.number, is_over=is_over))
        elif tasks:
            self._send_tasks(fresh, tasks, close=True)

    def _came(self, worker: WorkerProcess, frame: Frame | None) -> None:
        """On the reading thread of a worker."""
        if frame is not None and frame[0].get("k") == FromWorker.REPLY.value:  # somebody waits for it right now
            head, parts = frame
            message = None if head["m"] is None else worker.messages.message(head["m"], parts)
            self.aux.replied(head["number"], message)
            return
        if frame is None:
            self.aux.gone(worker)
        self._inbox.put((worker, frame))
        self._told.notify()

    def _await(self, word: FromWorker, workers: Sequence[WorkerProcess]) -> None:
        """Until each of the workers has said that word, or is gone."""
        missing = {worker.number for worker in workers}
        while missing:
            came = self._next()
            if came is None or came[0] not in workers:
                continue
            worker, frame = came
            if frame is None and (word is FromWorker.ENDED or self._told.abort.triggered):
                if worker.number in missing and not self._told.abort.triggered:
                    self._told.on_failure(*worker.mishap("END_RUN"))
                missing.discard(worker.number)
                continue
            for _ in self._handle(worker, frame):
                pass
            if frame is not None and frame[0].get("k") == word.value:
                missing.discard(worker.number)


def _folds(head: Mapping[str, Any], parts: Sequence[Array]) -> list[FoldedPart]:  # Any: JSON
    return [
        FoldedPart((span[0], span[1]), sites, rule, [parts[index] for index in regions])
        for span, sites, rule, regions in head["parts"]
    ]
