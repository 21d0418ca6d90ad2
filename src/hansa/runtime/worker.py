"""A process that holds some of a run's sites: `python -m hansa.runtime.worker ADDRESS`.

The main thread makes the sites and runs their tasks. A second one listens to the server: it passes on aborts, and ends
the process, with everything that it started, when the server is gone. A third one answers aux requests.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from threadpoolctl import threadpool_limits

from hansa.apis.fl_constant import ReturnCode
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldPlan
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.errors import ConfigError
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.custom_code import CustomCode
from hansa.jobs.flare_alias import served
from hansa.runtime import user_code
from hansa.runtime.assignments import Assignment, TaskBody
from hansa.runtime.host import HostSettings, SiteHost
from hansa.runtime.memory_link import answer, received, request_message
from hansa.runtime.participants import Place, RunParts, SiteEnd
from hansa.runtime.phases import Phases
from hansa.runtime.process_end import leave
from hansa.runtime.pulse import Pulse
from hansa.runtime.rank_host import Ranks
from hansa.runtime.run_folder import what_failed
from hansa.runtime.script_host import Scripts
from hansa.runtime.site_factory import FoldRules, SiteApp, SiteFactory
from hansa.runtime.worker_log import SiteLogs
from hansa.runtime.worker_outbox import WorkerOutbox
from hansa.runtime.worker_words import FromWorker, ToWorker
from hansa.tensors import Array
from hansa.wire.blobs import fresh
from hansa.wire.buffers import Recycler
from hansa.wire.bundle import Unbundler
from hansa.wire.limits import INLINE_BYTES
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import connect
from hansa.wire.message import Message
from hansa.wire.slots import SlotPool

Head = dict[str, Any]  # Any: JSON
Frame = tuple[Head, list[Array]]


class WorkerAux:
    """A site's way to the server; implements `hansa.runtime.engines.AuxLink`.

    Args:
        outbox: The way out.
    """

    def __init__(self, outbox: WorkerOutbox) -> None:
        self._outbox = outbox
        self._replies: dict[int, SimpleQueue[Message | None]] = {}
        self._number = 0
        self._lock = threading.Lock()
        self.find: Any = None  # Any: Callable[[str], SiteSide | None], set once there are sites

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Ask the server and wait for its reply."""
        message = request_message(SiteEnd(self.find(site)), topic, request, fl_ctx)
        with self._lock:
            self._number += 1
            number = self._number
            reply = self._replies[number] = SimpleQueue()
        self._outbox.say(FromWorker.ASK, {"site": site, "number": number}, message=message)
        came = reply.get()
        return make_reply(ReturnCode.COMMUNICATION_ERROR) if came is None else received(came)

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Sites do not ask each other."""
        return make_reply(ReturnCode.COMMUNICATION_ERROR)

    def replied(self, number: int, message: Message) -> None:
        """The server's reply is here."""
        with self._lock:
            waiting = self._replies.pop(number, None)
        if waiting is not None:
            waiting.put(message)


class Worker:
    """One worker process.

    Args:
        link: The way to the server.
        pool: Memory that the server can see.
    """

    def __init__(self, link: LocalLink, pool: SlotPool) -> None:
        self._link = link
        self._pool = pool
        self._pid = os.getpid()
        self._outbox = WorkerOutbox(link)
        self._aux = WorkerAux(self._outbox)
        self._abort = Signal()
        self._phases = Phases()
        self._messages = Unbundler()
        self._work: SimpleQueue[Frame] = SimpleQueue()
        self._asked: SimpleQueue[tuple[Head, Message | None]] = SimpleQueue()
        self._body: TaskBody | None = None
        self._host: SiteHost | None = None
        self._logs: SiteLogs | None = None
        self._pulse: Pulse | None = None

    def run(self) -> None:
        """Do what the server says until it says end."""
        for target, name in ((self._listen, "hansa-listener"), (self._answer_all, "hansa-aux")):
            threading.Thread(target=target, name=name, daemon=True).start()
        with ExitStack() as cleanup:
            while True:
                head, parts = self._work.get()
                match ToWorker(head["k"]):
                    case ToWorker.BUILD:
                        self._build(head, parts, cleanup)
                    case ToWorker.START:
                        self._built.start()
                        self._outbox.say(FromWorker.STARTED, {})
                    case ToWorker.STATE:
                        self._built.restore(head["site"], self._messages.message(head["m"], parts))
                    case ToWorker.TASKS:
                        self._run_tasks(head, parts)
                    case ToWorker.END:
                        self._end()
                        return
                del head, parts  # the memory that the task lay in is wanted for the next one
                self._link.flush_releases()

    @property
    def _built(self) -> SiteHost:
        assert self._host is not None
        return self._host

    # -- the listening thread ----------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while (frame := self._link.receive()) is not None:
                head, parts = frame
                match ToWorker(head["k"]):
                    case ToWorker.TAKEN:
                        self._outbox.taken(head["count"])
                    case ToWorker.ABORT:
                        self._abort.trigger(head["reason"])
                    case ToWorker.ABORT_TASK:
                        self._built.abort_task(head["site"], head["number"])
                    case ToWorker.REPLY:
                        self._aux.replied(head["number"], self._messages.message(head["m"], parts))
                    case ToWorker.ASK:
                        self._asked.put((head, self._messages.message(head["m"], parts)))
                    case ToWorker.TELL_STATE:
                        self._asked.put((head, None))
                    case _:
                        self._work.put((head, parts))
                del frame, head, parts
        finally:
            leave()

    def _answer_all(self) -> None:
        """On a thread of its own: a handler may ask the server in turn."""
        while True:
            self._answer(*self._asked.get())

    def _answer(self, head: Head, request: Message | None) -> None:
        side = self._built.find(head["site"]) if request is not None else None
        reply = self._built.state_of(head["site"]) if request is None else None
        if side is not None and request is not None:
            reply = answer(SiteEnd(side), request, name=side.name, on_failure=self._failed)
        self._outbox.say(FromWorker.REPLY, {"number": head["number"]}, message=reply)

    # -- the main thread ---------------------------------------------------------------------------------------

    def _build(self, head: Head, parts: Sequence[Array], cleanup: ExitStack) -> None:
        self._pulse = Pulse(parts[1])
        sys.path[:] = head["sys_path"]
        if head["python_path"] is None:
            os.environ.pop("PYTHONPATH", None)
        else:
            os.environ["PYTHONPATH"] = head["python_path"]
        self._outbox.most_ahead = head["ahead"]
        self._logs = cleanup.enter_context(SiteLogs(Path(head["workspaces"]), self._outbox.log))
        cleanup.enter_context(served(head["alias"]))
        try:
            self._host = self._make_host(head, cleanup)
            self._host.make_all()
        except ConfigError as error:
            self._outbox.say(FromWorker.READY, {"error": [error.message, error.file, error.key]})
            return
        except OSError as error:  # user code is fenced off, so this is the disk
            reason = f"cannot make the sites: {what_failed(error)}"
            self._outbox.say(FromWorker.READY, {"error": [reason, None, None]})
            return
        cleanup.enter_context(threadpool_limits(limits=head["threads"]))
        props = {side.name: side.outbox.public_props(side.engine.new_context()) for side in self._host.present()}
        self._outbox.say(FromWorker.READY, {"error": None}, value=props)

    def _make_host(self, head: Head, cleanup: ExitStack) -> SiteHost:
        apps = [SiteApp(Path(folder), config, file, *flags) for folder, config, file, *flags in head["apps"]]
        of_site = {name: apps[index] for index, names in enumerate(head["sites"]) for name in names}
        codes = [cleanup.enter_context(CustomCode(app.folder / "custom")) for app in apps]
        custom = frozenset().union(*(code.modules for code in codes))
        builder = Builder(ClassPolicy.simulator(), custom=custom)
        recycler = Recycler()
        workspaces = Path(head["workspaces"])
        scripts = Scripts(workspaces.parent, threads=head["threads"], pool=self._pool)
        ranks = Ranks(workspaces.parent, threads=head["threads"], pool=self._pool, custom=custom)
        for started in (scripts, ranks):
            cleanup.callback(started.close)
        factory = SiteFactory(
            of_site.__getitem__,
            partial(Place.of, workspaces),
            seed=head["seed"],
            shared=RunParts(self._aux, self._abort, builder, scripts, ranks),
            allocate=recycler,
            told=(self._failed, self._phases),
        )
        host = SiteHost(
            sorted(of_site),
            factory.make,
            open_fold=FoldRules(builder).open,
            settings=HostSettings(head["seed"], self._abort, self._allocate, self._failed, keep_states=True),
        )
        host.ended.update(head["ended"])
        self._aux.find = host.find
        host.on_enter = partial(self._enter, workspaces, of_site)
        host.on_skip = self._outbox.skip
        return host

    def _enter(self, workspaces: Path, apps: Mapping[str, SiteApp], site: str) -> None:
        """A site is at work from now on."""
        if self._logs is not None:
            self._logs.enter(site)
        if apps[site].from_folder:
            root = workspaces / site
            root.mkdir(parents=True, exist_ok=True)
            os.chdir(root)

    def _allocate(self, size_bytes: int) -> Array:
        # What is small is cheaper inside a frame.
        return fresh(size_bytes) if size_bytes <= INLINE_BYTES else self._pool.allocate(size_bytes)

    def _run_tasks(self, head: Head, parts: list[Array]) -> None:
        for delivery in self._built.run(self._assignments(head, parts)):
            self._leave_if_forked()
            self._outbox.deliver(delivery, self._built.ended, used_bytes=free_device_memory())
        self._rest()
        self._body = None  # the memory it lies in is wanted for the next one
        self._built.forget_task()
        self._outbox.flush()

    def _assignments(self, head: Head, parts: list[Array]) -> Iterator[Assignment]:
        """The tasks of one batch, as they come in."""
        while True:
            match ToWorker(head["k"]):
                case ToWorker.CLOSE:
                    return
                case ToWorker.TASKS:
                    yield from self._numbered(head, self._body_of(head, parts))
                    if head["close"]:
                        return
                case ToWorker.STATE:
                    self._built.restore(head["site"], self._messages.message(head["m"], parts))
                case _:
                    self._work.put((head, parts))
                    return
            if self._work.empty():
                self._rest()
                self._outbox.flush()
            head, parts = self._work.get()

    def _numbered(self, head: Head, body: TaskBody) -> Iterator[Assignment]:
        assert self._pulse is not None
        for number, site, task_id in head["heads"]:
            self._pulse.begin(number)
            yield Assignment(site, task_id, body, number)
            self._leave_if_forked()
        self._rest()

    def _leave_if_forked(self) -> None:
        if os.getpid() != self._pid:  # an executor has forked, and its copy came back from the task, too
            os._exit(0)

    def _body_of(self, head: Head, parts: Sequence[Array]) -> TaskBody:
        said = head["body"]
        if said is not None:
            plan = None if said["plan"] is None else FoldPlan.from_json(said["plan"])
            if self._body is not None and plan == self._body.plan:
                plan = self._body.plan  # a filter at the server gives each site another task; their sum is one
            message = self._messages.message(head["m"], parts)
            self._body = TaskBody(said["name"], message, plan, done=frozenset(said["done"]))
        assert self._body is not None
        return self._body

    def _rest(self) -> None:
        if self._pulse is not None:
            self._pulse.rest()
        if self._logs is not None:
            self._logs.enter(None)

    def _end(self) -> None:
        self._body = None
        host = self._host
        sent: dict[str, list[int]] = {}
        if host is not None:
            host.end()
            sent = {name: [each.messages, each.bytes, each.tensors_encoded] for name, each in host.sent().items()}
        self._outbox.say(FromWorker.ENDED, {"sent": sent, "phases": self._phases.seconds})

    def _failed(self, mishap: user_code.Mishap, failure: user_code.Failure) -> None:
        self._outbox.say(
            FromWorker.FAILED,
            {"site": mishap.site, "where": mishap.where, "cause": failure.cause, "detail": failure.detail},
        )


def free_device_memory() -> int | None:
    """Give idle device memory back, for others on the same device; the most that was held, None without a device."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    used = int(cuda.max_memory_reserved())
    cuda.empty_cache()
    cuda.reset_peak_memory_stats()
    return used


def main() -> None:
    """Connect to the server and serve it."""
    address, folder, quota = sys.argv[1:]
    pool = SlotPool(Path(folder), quota_bytes=int(quota))
    link = LocalLink(connect(address), pool)
    os.register_at_fork(after_in_child=link.abandon)  # else the server would not hear that this process is gone
    Worker(link, pool).run()


if __name__ == "__main__":
    main()
