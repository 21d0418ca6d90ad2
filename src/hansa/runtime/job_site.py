"""A job's process at a site: its components, one task at a time, and the way back to the server.

The main thread makes the site and runs its tasks. A second one listens to the site's agent; a third one answers aux
requests of the server.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue

from threadpoolctl import threadpool_limits

from hansa.apis.signal import Signal
from hansa.errors import ConfigError, DecodeError
from hansa.failpoints import reach
from hansa.jobs.build import Builder
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode, check_names
from hansa.jobs.flare_alias import served_for
from hansa.jobs.job import Job
from hansa.jobs.job_folder import load_app
from hansa.runtime import user_code
from hansa.runtime.assignments import Assignment, TaskBody
from hansa.runtime.disk_patience import DiskPatience
from hansa.runtime.file_blobs import BlobFolder, Head, Packing, Unpacking, delete, files_of
from hansa.runtime.fork_server import ProcessSpec
from hansa.runtime.host import HostSettings, SiteHost
from hansa.runtime.job_args import SiteArgs, blob_folder, log_to_stderr, policy_of
from hansa.runtime.kept_results import KeptResults
from hansa.runtime.log_levels import set_levels
from hansa.runtime.memory_link import answer
from hansa.runtime.net_aux import PEER, ServerAsk
from hansa.runtime.net_crew import FramePipe
from hansa.runtime.participants import Place, RunParts, SiteEnd
from hansa.runtime.phases import Phases
from hansa.runtime.process_end import leave
from hansa.runtime.rank_host import Ranks
from hansa.runtime.run_folder import what_failed
from hansa.runtime.script_check import check_scripts
from hansa.runtime.script_host import Scripts
from hansa.runtime.site_factory import FoldRules, SiteApp, SiteFactory
from hansa.runtime.site_side import SiteSide
from hansa.wire.buffers import Recycler
from hansa.wire.codec import Encoder
from hansa.wire.message import Message
from hansa.wire.pipe import connect_pipe

_DEAR_S = 1.0
"""A result that took so long is kept on disk until the server has it, also where the site keeps no state."""
_MOST_FILES = 16
"""Files of large aux messages that are kept; nobody says when one was received."""

_logger = logging.getLogger("hansa.site")


def main(spec: ProcessSpec) -> None:
    """Connect to the site's agent and serve the job that the arguments name."""
    log_to_stderr()
    pipe = connect_pipe(spec.address, spec.token)
    try:
        SiteJob(pipe, SiteArgs(**spec.args)).run()
    except ConnectionError:  # the agent is gone
        leave()
    # The pipe closes with the process: the listening thread would take it for the agent's end, and this one with it.


@dataclass
class _Work:
    """A task that this site has, from when it comes until the server has its result."""

    number: int  # as the server calls it; the latest, where the task came again
    assignment: Assignment | None  # None once it is done
    result: tuple[Head, list[bytes]] | None = None


class SiteJob:
    """One site's part of a job.

    Args:
        pipe: The way to the agent.
        args: What it is told.
    """

    def __init__(self, pipe: FramePipe, args: SiteArgs) -> None:
        self._pipe = pipe
        self._args = args
        self._pid = os.getpid()
        self._abort = Signal()
        self._phases = Phases()
        self._disk = DiskPatience(self._disk_refuses)
        stem = f"{args.name}-{secrets.token_hex(4)}"
        self._blobs = BlobFolder(blob_folder(args.workspace, args.run_number), stem, patience=self._disk)
        self._sink, _ = self._blobs.sink()
        self._packing = Packing(self._blobs)
        self._unpacking = Unpacking()
        self._known: set[str] = set()  # tables that the server has
        self._lock = threading.RLock()
        self._work: SimpleQueue[Head | str] = SimpleQueue()  # str: the id of a task
        self._asked: SimpleQueue[tuple[Head, Message]] = SimpleQueue()
        self._kept = KeptResults(Path(args.workspace, f"run_{args.run_number}", "kept"))
        self._tasks: dict[str, _Work] = {
            task_id: _Work(int(head.get("number", 0)), None, (head, parts))
            for task_id, (head, parts) in self._kept.results.items()
        }
        self._under_way: str | None = None
        self._task_began = 0.0
        self._aux_files: deque[Path] = deque()
        self._aux = ServerAsk(self._ask, self._end_of)
        self._host: SiteHost | None = None

    def run(self) -> None:
        """Do what the server says until it says end."""
        for target, name in ((self._listen, "hansa-listener"), (self._answer_all, "hansa-aux")):
            threading.Thread(target=target, name=name, daemon=True).start()
        with ExitStack() as cleanup:
            self._build(cleanup)
            while True:
                work = self._work.get()
                if isinstance(work, str):
                    self._run_task(work)
                    continue
                match work["k"]:
                    case "start":
                        if self._host is not None:
                            self._host.start()
                            self._say({"k": "started"})
                    case "end":
                        self._end()
                        return

    # -- building ----------------------------------------------------------------------------------------------

    def _build(self, cleanup: ExitStack) -> None:
        try:
            set_levels(Path(self._args.app_folder))
            host = self._make_host(cleanup)
            host.make_all()
        except ConfigError as error:
            self._say({"k": "ready", "error": str(error)})
            return
        except OSError as error:  # user code is fenced off, so this is the disk
            self._say({"k": "ready", "error": f"cannot make the site: {what_failed(error)}"})
            return
        self._host = host
        if self._kept.state is not None:
            host.restore(self._args.name, self._kept.state)
        cleanup.enter_context(threadpool_limits(limits=self._args.threads))
        self._say({"k": "ready", "error": None}, Encoder().encode(host.props(self._args.name)))

    def _make_host(self, cleanup: ExitStack) -> SiteHost:
        args = self._args
        if self._kept.problem is not None:
            self._say({"k": "damaged", "cause": self._kept.problem})
            raise ConfigError(self._kept.problem)
        app = replace(load_app(Path(args.app_folder), {Side.CLIENT}), origin=_origin(args.config_file))
        cleanup.enter_context(served_for(Job(args.job_id, {"app": app})))
        check_names(app)
        spec = SiteApp(
            Path(args.app_folder), app.config(Side.CLIENT, num_sites=args.num_sites), args.config_file, from_folder=True
        )
        check_scripts({args.name: spec})
        custom = cleanup.enter_context(CustomCode(spec.folder / "custom")).modules
        policy = policy_of(args.policy)
        builder = Builder(policy, custom=custom)
        recycler = Recycler()
        folder = Path(args.workspace, f"run_{args.run_number}")
        scripts = Scripts(folder, threads=args.threads)
        ranks = Ranks(folder, threads=args.threads, custom=custom, policy=policy)
        for started in (scripts, ranks):
            cleanup.callback(started.close)
        factory = SiteFactory(
            lambda name: spec,
            lambda name: Place(args.workspace, name, args.run_number),
            seed=args.seed,
            shared=RunParts(self._aux, self._abort, builder, scripts, ranks),
            allocate=recycler,
            told=(self._failed, self._phases),
        )
        return SiteHost(
            [args.name],
            factory.make,
            open_fold=FoldRules(builder).open,
            settings=HostSettings(args.seed, self._abort, recycler, self._failed, keep_states=True, sink=self._sink),
        )

    # -- the main thread ---------------------------------------------------------------------------------------

    def _run_task(self, task_id: str) -> None:
        work = self._tasks[task_id]
        assignment = work.assignment
        assert assignment is not None
        if self._host is not None and (problem := self._kept.problem_with(task_id)) is not None:
            self._say({"k": "damaged", "cause": problem})
            self._say({"k": "ready", "error": problem})
            self._host = None
        if self._host is None:
            self._lost(work, self._kept.problem or "its components could not be built")
            return
        name = self._args.name
        self._under_way, self._task_began = task_id, time.monotonic()
        for delivery in self._host.run([assignment]):
            if os.getpid() != self._pid:  # an executor has forked, and its copy came back from the task, too
                os._exit(0)
            for each in delivery.answers:
                message = each.message if isinstance(each.message, Message) else Encoder().encode(each.message)
                self._deliver(work, message, state=each.state)
        self._under_way = None
        self._host.forget_task()
        if work.result is None:
            self._lost(work, self._host.ended.get(name, "the run was stopped"))

    def _deliver(self, work: _Work, message: Message, *, state: Message | None) -> None:
        reach("train.after_before_persist")
        message = self._blobs.in_files(message)  # so that to pack it again writes nothing
        while (refusal := self._try_to_deliver(work, message, state)) is not None:
            self._disk.refused(refusal)  # not in the lock: acknowledgements free the disk
        self._disk.taken()

    def _try_to_deliver(self, work: _Work, message: Message, state: Message | None) -> OSError | None:
        """Keep a result and send it; returns what keeps the disk from it."""
        assert work.assignment is not None
        assert self._host is not None
        with self._lock:
            known = set(self._known)
            said, parts = self._packing.pack(message, [self._known])
            ended = self._host.ended.get(self._args.name)
            head = {"k": "result", "task_id": work.assignment.task_id, "ended": ended, **said}
            is_dear = bool(files_of(said)) or time.monotonic() - self._task_began > _DEAR_S
            if state is not None or is_dear:  # else running it again costs less than keeping it
                try:
                    self._kept.keep({**head, "number": work.number}, parts, state=state)
                except OSError as error:
                    self._known = known  # nobody was told of the others
                    return error
            reach("result.after_persist_before_send")
            work.assignment = None  # the memory it lies in is wanted for the next one
            work.result = head, parts
            self._pipe.send({**head, "number": work.number}, parts)
        return None

    def _disk_refuses(self, cause: str | None) -> None:
        if cause is not None:
            _logger.warning("%s: the disk takes nothing (%s); a result waits for it", self._args.name, cause)
            self._pipe.send({"k": "disk", "cause": cause})

    def _lost(self, work: _Work, cause: str) -> None:
        assert work.assignment is not None
        with self._lock:
            self._tasks.pop(work.assignment.task_id, None)
            self._pipe.send({"k": "lost", "number": work.number, "task_id": work.assignment.task_id, "cause": cause})

    def _end(self) -> None:
        sent = [0, 0, 0]
        if self._host is not None:
            self._host.end()
            each = self._host.sent().get(self._args.name)
            sent = sent if each is None else [each.messages, each.bytes, each.tensors_encoded]
        self._say({"k": "ended", "sent": sent})

    def _say(self, head: Head, message: Message | None = None) -> None:
        with self._lock:  # who is said to know a table must have it before anybody leaves it out
            parts: list[bytes] = []
            if message is not None:
                said, parts = self._packing.pack(message, [self._known])
                head = {**head, **said}
                self._keep_few(files_of(said))
            self._pipe.send(head, parts)

    def _keep_few(self, files: Sequence[Path]) -> None:
        self._aux_files += files
        while len(self._aux_files) > _MOST_FILES:
            delete([self._aux_files.popleft()])

    def _failed(self, mishap: user_code.Mishap, failure: user_code.Failure) -> None:
        _logger.error("%s, %s: %s\n%s", mishap.site, mishap.where, failure.cause, failure.detail)
        self._say({"k": "failed", "where": mishap.where, "cause": failure.cause, "detail": failure.detail})

    # -- aux ---------------------------------------------------------------------------------------------------

    def _ask(self, number: int, message: Message, timeout_s: float) -> None:
        self._say({"k": "ask", "number": number, "timeout_s": timeout_s}, message)

    def _end_of(self, name: str) -> SiteEnd:
        assert self._host is not None
        return SiteEnd(self._host.site(name))

    def _answer_all(self) -> None:
        """On a thread of its own: a handler may ask the server in turn."""
        while True:
            head, request = self._asked.get()
            side = None if self._host is None else self._host.find(self._args.name)
            if side is not None:
                self._answer(head, request, side)

    def _answer(self, head: Head, request: Message, side: SiteSide) -> None:
        try:
            reply = answer(SiteEnd(side), request, name=side.name, on_failure=self._failed)
        except DecodeError as error:
            _logger.warning("%s: a request of the server cannot be read: %s", side.name, error)
            return
        if head["number"]:
            self._say({"k": "reply", "number": head["number"]}, reply)

    # -- the listening thread ----------------------------------------------------------------------------------

    def _listen(self) -> None:
        while (frame := self._pipe.receive()) is not None:
            head, parts = frame
            try:
                self._hear(head, self._unpacking.message(head, parts) if "m" in head else None)
            except DecodeError as error:
                self._unreadable(head, str(error))
        leave()

    def _hear(self, head: Head, message: Message | None) -> None:
        for number in head.get("acks", ()):  # any frame may bring some
            self._acknowledged(number)
        match head.get("k"):
            case "task" if message is not None:
                self._task(head, message)
            case "abort_task":
                self._abort_task(head["number"])
            case "ask" if message is not None:
                self._asked.put((head, message))
            case "reply":
                self._aux.replies.came(PEER, head["number"], reply=message)
            case "start":
                self._work.put(head)
            case "end":
                if self._tasks:  # a straggler
                    self._abort.trigger("the run is over")
                self._work.put(head)

    def _task(self, head: Head, message: Message) -> None:
        task_id, number = head["task_id"], head["number"]
        with self._lock:
            work = self._tasks.get(task_id)
            if work is not None:  # it came before: it is not run twice
                work.number = number
                if work.result is not None:
                    said, parts = work.result
                    self._pipe.send({**said, "number": number}, parts)
                return
            body = TaskBody(head["name"], message, timeout_s=head.get("timeout_s", 0.0))
            self._tasks[task_id] = _Work(number, Assignment(self._args.name, task_id, body, number))
        reach("task.after_recv")
        if self._host is not None:
            self._host.expect(self._args.name)
        self._work.put(task_id)

    def _abort_task(self, number: int) -> None:
        for work in list(self._tasks.values()):
            if work.number == number and work.assignment is not None and self._host is not None:
                self._host.abort_task(self._args.name, work.assignment.number)

    def _acknowledged(self, number: int) -> None:
        with self._lock:
            for task_id, work in list(self._tasks.items()):
                if work.number == number and work.result is not None:
                    del self._tasks[task_id]
                    self._kept.sent(task_id)
                    reach("send.after_ack")
                    delete(files_of(work.result[0]))

    def _unreadable(self, head: Head, cause: str) -> None:
        _logger.error("%s: a frame of the server cannot be read: %s", self._args.name, cause)
        if head.get("k") == "task":
            self._pipe.send({"k": "lost", "number": head.get("number"), "task_id": head.get("task_id"), "cause": cause})


def _origin(config_file: str) -> str:
    return config_file.removesuffix(f"/config/{Side.CLIENT.file_name}")
