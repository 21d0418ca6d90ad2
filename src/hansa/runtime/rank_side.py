"""A rank: one of several processes that execute the tasks of one site together.

The main thread builds the components, fires the site's events at them and executes tasks. A second one listens to the
site's process. Events that come while a task is under way are fired on a third one, so that they can say: stop.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from threadpoolctl import threadpool_limits

from hansa.apis.engine import Stateful, port
from hansa.apis.event_type import EventType
from hansa.apis.executor import Executor
from hansa.apis.fl_component import FLComponent
from hansa.apis.fl_constant import FLContextKey, ReturnCode
from hansa.apis.fl_context import FLContext, FLContextManager
from hansa.apis.ranks import RankVariable
from hansa.apis.shareable import Shareable, make_reply
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, EncodeError
from hansa.jobs.build import Builder, ClientApp
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.flare_alias import install
from hansa.jobs.place import Place as ConfigPlace
from hansa.runtime import user_code
from hansa.runtime.engines import ClientEngine
from hansa.runtime.events import EventFirer
from hansa.runtime.filter_chain import no_message
from hansa.runtime.participants import RUN_NUMBER, Place, stickers
from hansa.runtime.rank import own_rank
from hansa.runtime.rank_context import pack, unpack
from hansa.runtime.rank_link import encoded
from hansa.runtime.rank_words import FromRank, ToRank
from hansa.runtime.seeding import seed_everything, task_seed
from hansa.tensors import Array
from hansa.wire.bundle import Bundle, Unbundler
from hansa.wire.codec import TableCache, decode
from hansa.wire.local_link import LocalLink
from hansa.wire.local_socket import connect
from hansa.wire.message import Message
from hansa.wire.slots import SlotPool

Head = dict[str, Any]  # Any: JSON
Frame = tuple[Head, list[Array]]

_PANICS = (EventType.FATAL_SYSTEM_ERROR, EventType.FATAL_TASK_ERROR)
_logger = logging.getLogger("hansa.rank")


class _PassingFirer(EventFirer):
    """What components of a rank fire, which goes on to the site, too."""

    on_fire: Callable[[str, FLContext], None]

    def fire(self, event_type: str, fl_ctx: FLContext) -> None:
        self.on_fire(event_type, fl_ctx)
        super().fire(event_type, fl_ctx)

    def fire_here(self, event_type: str, fl_ctx: FLContext) -> None:
        """Fire an event that came from the site."""
        super().fire(event_type, fl_ctx)


class _Aux:
    """The way to the server, through the site's process; implements `hansa.runtime.engines.AuxLink`."""

    def __init__(self, say: Callable[..., None]) -> None:
        self._say = say
        self._numbers = itertools.count(1)
        self.replies: dict[int, SimpleQueue[Shareable]] = {}

    def to_server(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        number = next(self._numbers)
        reply = self.replies[number] = SimpleQueue()
        self._say(
            FromRank.ASK,
            {"topic": topic, "number": number},
            value={"request": request, "context": pack(fl_ctx, sticky=False)},
        )
        return reply.get()

    def to_site(self, site: str, topic: str, *, request: Shareable, fl_ctx: FLContext) -> Shareable:
        """Sites do not ask each other."""
        return make_reply(ReturnCode.COMMUNICATION_ERROR)


class RankSide:
    """One rank.

    Args:
        link: The way to the site's process.
        pool: Memory for what is sent.
        rank: Which it is.
    """

    def __init__(self, link: LocalLink, pool: SlotPool, *, rank: int) -> None:
        self._link = link
        self._pool = pool
        self._rank = rank
        self._known: set[str] = set()
        self._saying = threading.Lock()
        self._messages = Unbundler()
        self._tables = TableCache()
        self._work: SimpleQueue[tuple[Head, Message | None]] = SimpleQueue()
        self._aside: SimpleQueue[tuple[Head, Message | None]] = SimpleQueue()
        self._state = threading.Lock()
        self._task = 0  # the number of the one under way
        self._abort = Signal()
        self._aux = _Aux(self._say)

    def run(self) -> None:
        """Do what the site's process says until it says end."""
        for target in (self._listen, self._fire_aside):
            threading.Thread(target=target, name="hansa-rank", daemon=True).start()
        while True:
            head, message = self._work.get()
            match ToRank(head["k"]):
                case ToRank.BUILD:
                    self._build(head)
                case ToRank.RESTORE:
                    self._restore(message)
                case ToRank.STATE:
                    self._say_state()
                case ToRank.EVENT:
                    self._fire(head, message)
                case ToRank.TASK:
                    self._execute(head, message)
                case ToRank.END:
                    return
            del head, message  # the memory that the task lay in is wanted for the next one
            self._link.flush_releases()

    # -- the listening thread --------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            while (frame := self._link.receive()) is not None:
                self._sort(*frame)
                del frame
        finally:
            leave()

    def _sort(self, head: Head, parts: list[Array]) -> None:
        message = self._messages.message(head["m"], parts) if "m" in head else None
        match ToRank(head["k"]):
            case ToRank.ABORT:
                if head["number"] == self._task:
                    self._abort.trigger(head["reason"])
            case ToRank.REPLY:
                assert message is not None
                self._aux.replies.pop(head["number"]).put(decode(message, arrays="own", tables=self._tables))
            case ToRank.TASK:
                with self._state:
                    self._task, self._abort = head["number"], Signal()
                self._work.put((head, message))
            case ToRank.EVENT if self._task:
                self._aside.put((head, message))
            case _:
                self._work.put((head, message))

    def _fire_aside(self) -> None:
        while True:
            self._fire(*self._aside.get())

    # -- the main thread -------------------------------------------------------------------------------------------

    def _build(self, head: Head) -> None:
        sys.path[:] = head["sys_path"]
        if head["python_path"] is not None:
            os.environ["PYTHONPATH"] = head["python_path"]
        if head["alias"]:
            install()
        threadpool_limits(limits=head["threads"])
        seed_everything(task_seed(head["seed"], "the beginning of the ranks"))
        self._engine = self._made_engine(head)
        builder = Builder(ClassPolicy(tuple(head["allow"]), custom=head["may_custom"]), custom=head["custom"])
        components: dict[str, object] = {}
        built: list[object] = []
        try:
            for index, each in enumerate(head["components"]):
                place = ConfigPlace().at("components", index)
                components[each["id"]] = builder.component(each, place, built=built)
        except ConfigError as error:
            self._say(FromRank.READY, {"error": str(error)})
            return
        executor = components[head["executor"]]
        if not isinstance(executor, Executor):
            text = f"the component {head['executor']!r} is a {type(executor).__name__}, not an Executor"
            self._say(FromRank.READY, {"error": text})
            return
        self._executor = executor
        self._attach(components, built, builder)
        heard = self._firer.heard()
        self._say(
            FromRank.READY,
            {
                "error": None,
                "heard": None if heard is None else sorted(heard),
                "stateful": bool(self._stateful),
            },
        )

    def _made_engine(self, head: Head) -> ClientEngine:
        place = Place(head["root"], head["site"])
        self._run_abort = Signal()
        private = {
            **stickers(place, self._run_abort),
            FLContextKey.RANK_NUMBER: self._rank,
            FLContextKey.NUM_OF_PROCESSES: head["num"],
        }
        public = {FLContextKey.CLIENT_NAME: head["site"]}
        return ClientEngine(
            lambda e: FLContextManager(e, head["site"], RUN_NUMBER, public, private),
            place.workspace,
            link=self._aux,
            site=head["site"],
        )

    def _attach(self, components: dict[str, object], built: list[object], builder: Builder) -> None:
        handlers = list({id(each): each for each in built if isinstance(each, FLComponent)}.values())
        self._firer = _PassingFirer(handlers, self._handler_failed)
        self._firer.on_fire = self._pass_on
        found = ((index, port(each, Stateful)) for index, each in enumerate(built))
        self._stateful = {str(index): part for index, part in found if part is not None}
        app = ClientApp(
            components=components, task_data_filters={}, task_result_filters={}, handlers=handlers, executors={}
        )
        self._engine.attach(app, firer=self._firer, widgets={}, build=builder.component)

    def _restore(self, message: Message | None) -> None:
        assert message is not None
        states = decode(message, arrays="copy", tables=self._tables)
        for index, part in self._stateful.items():
            if index in states:
                part.restore(states[index])

    def _say_state(self) -> None:
        states = {index: part.state() for index, part in self._stateful.items()}
        try:
            self._say(FromRank.STATE, {}, value=states)
        except EncodeError as error:
            _logger.error("rank %d: its state cannot be kept: %s", self._rank, error)
            self._say(FromRank.STATE, {}, value={})

    def _fire(self, head: Head, message: Message | None) -> None:
        assert message is not None
        with self._engine.new_context() as fl_ctx:
            unpack(decode(message, arrays="copy", tables=self._tables), fl_ctx)
            self._firer.fire_here(head["type"], fl_ctx)
        self._say(FromRank.HEARD, {"number": head["number"]})

    def _execute(self, head: Head, message: Message | None) -> None:
        assert message is not None
        arrays = "copy" if self._executor.writes_input else "readonly"  # other ranks have the same memory
        came = decode(message, arrays=arrays, tables=self._tables)  # type: ignore[arg-type]  # a Literal
        seed_everything(task_seed(head["seed"], f"rank {self._rank}"))
        with self._engine.new_context() as fl_ctx:
            unpack(came["context"], fl_ctx)
            fl_ctx.set_prop(FLContextKey.TASK_DATA, came["task"], private=True, sticky=False)
            outcome = user_code.call(self._executor.execute, head["name"], came["task"], fl_ctx, self._abort)
        with self._state:
            self._task = 0
        self._answer(head["number"], outcome)

    def _answer(self, number: int, outcome: user_code.Success[Shareable] | user_code.Failure) -> None:
        if isinstance(outcome, user_code.Failure):
            _logger.error("rank %d: %s", self._rank, outcome.detail)
            error: str | None = outcome.cause
        elif self._rank == 0 and (problem := no_message(outcome.value)) is not None:
            error = f"{type(self._executor).__name__}.execute returned {problem}"
        else:
            error = None
        head = {"number": number, "error": error}
        if error is not None or self._rank or isinstance(outcome, user_code.Failure):
            self._say(FromRank.DONE, head)
            return
        try:
            self._say(FromRank.DONE, head, value=outcome.value)
        except EncodeError as problem_of_result:
            self._say(FromRank.DONE, {"number": number, "error": str(problem_of_result)})

    def _pass_on(self, event_type: str, fl_ctx: FLContext) -> None:
        """A component has fired an event."""
        if self._rank == 0 or event_type in _PANICS:
            self._say(FromRank.EVENT, {"type": event_type}, value=pack(fl_ctx, sticky=False))

    def _say(self, word: FromRank, head: Mapping[str, Any], *, value: object = None) -> None:  # Any: JSON
        message = None if value is None else encoded(value, self._pool)
        with self._saying:  # what the other end knows already, it must have heard before
            bundle = Bundle(self._known)
            more = {} if message is None else {"m": bundle.add(message)}
            self._link.send({"k": word.value, **head, **more}, bundle.parts() if more else ())

    def _handler_failed(self, where: str, failure: user_code.Failure) -> None:
        _logger.error("rank %d, %s: %s\n%s", self._rank, where, failure.cause, failure.detail)


def leave() -> None:
    """End this process and all that it started, at once: the site's process is gone."""
    with suppress(OSError):
        os.killpg(0, signal.SIGKILL)  # the guard's group, which is this rank's alone
    os._exit(1)


def main() -> None:
    """Connect to the site's process and serve it."""
    rank = own_rank()
    for stream in (sys.stdout, sys.stderr):  # line by line, since all ranks write into one log
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    pool = SlotPool(Path.cwd(), quota_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    try:
        sock = connect(os.environ[RankVariable.ADDRESS])
    except OSError:
        raise SystemExit("the site's process is gone") from None
    link = LocalLink(sock, pool)
    os.register_at_fork(after_in_child=link.abandon)  # a copy has no part in it
    link.send({"k": FromRank.HELLO.value, "token": os.environ[RankVariable.TOKEN], "rank": rank})
    RankSide(link, pool, rank=rank).run()


if __name__ == "__main__":
    main()
