"""The parts of a virtual federation that stand in for programs: a job's processes, sites' agents, the journal's thread.

What they rest on is real: what a site keeps (`KeptResults`), what a server's job process is given to go on from
(`read_recall`), messages, commits, the journal in SQLite.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hansa.errors import StoreError
from hansa.faults.virtual_loop import VirtualLoop
from hansa.jobs.journal import Journal
from hansa.jobs.journal_rows import Outcome, Row
from hansa.runtime.file_blobs import BlobFolder, Head, Packing, Unpacking
from hansa.runtime.kept_results import KeptResults
from hansa.runtime.recall import Recall, read_recall
from hansa.runtime.workflow_progress import Progress
from hansa.wire.codec import Encoder, decode

DISK_S = (0.001, 0.03)
LINK_S = (0.001, 0.02)
WORK_S = (0.01, 0.2)
START_S = (0.05, 0.3)

Parts = Sequence[bytes]
Say = Callable[[Head, Parts], None]


@dataclass
class Nature:
    """What all parts of one world share."""

    loop: VirtualLoop
    chance: random.Random
    sites: tuple[str, ...]
    num_rounds: int
    note: Callable[[str], None]

    def later(self, span: tuple[float, float], do: Callable[[], None]) -> None:
        """Do something after a while."""
        self.loop.call_later(self.chance.uniform(*span), do)


class VirtualWriter:
    """Stands in for the journal's thread: what is written is durable a while later, or never, if the server dies."""

    def __init__(self, journal: Journal, nature: Nature, *, on_failure: Callable[[str, StoreError], None]) -> None:
        self.journal = journal
        self.is_dead = False
        self.is_full = False
        self._nature = nature
        self._on_failure = on_failure
        self._waiting: list[tuple[Row, Callable[[Outcome], None] | None, str]] = []
        self._is_due = False

    def write(
        self, row: Row, then: Callable[[Outcome], None] | None = None, *, job: str = "", linger_s: float = 0.02
    ) -> None:
        """As `JournalWriter.write`."""
        self._waiting.append((row, then, job))
        if not self._is_due:
            self._is_due = True
            self._nature.loop.call_later(linger_s + self._nature.chance.uniform(*DISK_S), self._commit)

    async def call(self, function: Callable[[Journal], Any]) -> Any:
        """As `JournalWriter.call`."""
        self._commit()
        if self.is_full:
            raise StoreError("no space is left", disk_full=True)
        return function(self.journal)

    def _commit(self) -> None:
        batch, self._waiting, self._is_due = self._waiting, [], False
        if self.is_dead or not batch:
            return
        if self.is_full:
            error = StoreError("no space is left", disk_full=True)
            for job in dict.fromkeys(job for _, _, job in batch):
                self._on_failure(job, error)
            return
        outcomes = self.journal.write([row for row, _, _ in batch])
        for (_, then, _), outcome in zip(batch, outcomes, strict=True):
            if then is not None and not self.is_dead:
                then(outcome)


def trained(model: np.ndarray[Any, Any], momentum: np.ndarray[Any, Any], task_id: str) -> np.ndarray[Any, Any]:
    """A site's new momentum: from all that it knows, and from its task's own random numbers."""
    drawn = np.random.default_rng(abs(hash_of(task_id))).normal(size=model.shape)
    return np.asarray(momentum * 0.9 + model * 0.1 + drawn)


def hash_of(text: str) -> int:
    """The same for a text each time."""
    return int.from_bytes(text.encode()[-8:], "little")


class VirtualHome:
    """A job's process on the server: asks all sites for each round, commits, goes on from a recall.

    Args:
        nature: The world.
        say: Tells the server process something.
        end: Ends the process.
        recall: The file that says where to go on.
        folder: For blobs, of which there are none.
    """

    def __init__(
        self, nature: Nature, say: Say, *, end: Callable[[int], None], recall: str | None, folder: Path
    ) -> None:
        self._nature = nature
        self._say = say
        self._end = end
        self._recall = Recall() if recall is None else read_recall(Path(recall))
        self._packing = Packing(BlobFolder(folder, "home"))
        state = self._recall.progress.state
        self.model = np.asarray(state["model"]) if state else np.zeros(3)
        self.round = int(state["round"]) if state else 0
        self._version = self._recall.progress.version
        self._number = self._recall.start << 32
        self._live: set[str] = set()
        self._given: dict[str, int] = {}
        self._unpacking = self._recall.unpacking
        self._results = {task_id: value_of(message) for task_id, (_, message) in self._recall.results.items()}
        self._is_over = False
        self._has_begun = False

    def hear(self, head: Head, parts: Parts) -> None:
        """A frame of the server process."""
        site = str(head.get("site"))
        match head["k"]:
            case "ready" if head.get("error"):
                self._over("FAILED", f"{site}: {head['error']}")
            case "ready":
                self._say({"k": "start", "to": [site]}, ())
            case "started":
                self._live.add(site)
                self._given.pop(site, None)
                if not self._has_begun:
                    self._has_begun = True
                    self._say({"k": "running"}, ())
                self._go_on()
            case "site_down":
                self._live.discard(site)
                if head.get("final"):
                    self._over("FAILED", f"{site}: {head.get('reason')}")
            case "result":
                message = self._unpacking.setdefault(site, Unpacking()).message(head, parts)
                self._results.setdefault(head["task_id"], value_of(message))
                acks = {site: {"acks": [head["number"]]}}
                self._go_on()
                self._say({"k": "ack", "to": [site], "each": acks}, ())
            case "lost":
                self._given.pop(site, None)
                self._nature.later(WORK_S, self._go_on)
            case "abort":
                self._over("ABORTED", str(head.get("reason")))

    def _task(self, site: str) -> str:
        return f"0/train/{self.round + 1}/{site}/1"

    def _go_on(self) -> None:
        while not self._is_over and all(self._task(site) in self._results for site in self._nature.sites):
            self._commit()
            if self.round == self._nature.num_rounds:
                self._over("COMPLETED", None)
        if self._is_over or not self._has_begun:
            return
        for site in self._nature.sites:
            if site in self._live and site not in self._given and self._task(site) not in self._results:
                self._number += 1
                self._given[site] = self._number
                said, parts = self._packing.pack(Encoder().encode({"w": self.model}), [set()])
                own = {site: {"number": self._number, "task_id": self._task(site)}}
                self._say({"k": "task", "name": "train", "to": [site], "each": own, **said}, parts)

    def _commit(self) -> None:
        sums = [self._results.pop(self._task(site)) for site in self._nature.sites]
        self.model = self.model + sum(sums) / len(sums)
        self.round += 1
        self._version += 1
        self._given.clear()
        state = {"model": self.model, "round": self.round}
        message = Encoder().encode(vars(Progress(self._version, state=state)))
        said, parts = self._packing.pack(message, [set()])
        numbers = {"version": self._version, "workflow": 0, "postings": {}, "history_lines": self.round}
        self._say({"k": "commit", **numbers, **said}, parts)

    def _over(self, status: str, cause: str | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._say({"k": "end", "to": list(self._nature.sites)}, ())
            model = self.model.tobytes().hex()
            self._say({"k": "done", "status": status, "cause": cause, "model": model}, ())
            self._nature.later(LINK_S, lambda: self._end(0))


def value_of(message: Any) -> np.ndarray[Any, Any]:  # Any: a message
    """The array that a result brings."""
    return np.asarray(decode(message, arrays="own")["w"])


@dataclass
class _Work:
    number: int
    result: tuple[Head, list[bytes]] | None = None


@dataclass
class VirtualSite:
    """A job's process at a site.

    Attributes:
        name: The site.
        nature: The world.
        folder: What it keeps.
        say: Tells its agent something.
        end: Ends it.
        on_train: Told of each task that it works on.
    """

    name: str
    nature: Nature
    folder: Path
    say: Say
    end: Callable[[int], None]
    on_train: Callable[[str], None]
    is_dead: bool = False
    _tasks: dict[str, _Work] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._kept = KeptResults(self.folder)
        self._packing = Packing(BlobFolder(self.folder, "out"))
        self._unpacking = Unpacking()
        self._known: set[str] = set()
        self._momentum = np.zeros(3) if self._kept.state is None else value_of(self._kept.state)
        for task_id, (head, parts) in self._kept.results.items():
            self._tasks[task_id] = _Work(int(head.get("number", 0)), (head, parts))
        self.ready()

    def ready(self) -> None:
        """Say that it is ready, or why not."""
        if self._kept.problem is not None:
            self.say({"k": "damaged", "cause": self._kept.problem}, ())
        self.say({"k": "ready", "error": self._kept.problem}, ())

    def hear(self, head: Head, parts: Parts) -> None:
        """A frame of the server's job process."""
        for number in head.get("acks", ()):
            self._acknowledged(number)
        match head.get("k"):
            case "start":
                self.say({"k": "started"}, ())
            case "task":
                self._task(head, value_of(self._unpacking.message(head, list(parts))))
            case "end":
                self.nature.later(LINK_S, lambda: self.end(0))

    def _task(self, head: Head, model: np.ndarray[Any, Any]) -> None:
        task_id, number = str(head["task_id"]), int(head["number"])
        work = self._tasks.get(task_id)
        if work is not None:
            work.number = number
            if work.result is not None:
                said, parts = work.result
                self.say({**said, "number": number}, parts)
            return
        self._tasks[task_id] = _Work(number)
        self.nature.later(WORK_S, lambda: self._train(task_id, model))

    def _train(self, task_id: str, model: np.ndarray[Any, Any]) -> None:
        if self.is_dead:
            return
        problem = self._kept.problem_with(task_id)
        if problem is not None:
            self.say({"k": "damaged", "cause": problem}, ())
            self.say({"k": "ready", "error": problem}, ())
            return
        self.on_train(task_id)
        self._momentum = trained(model, self._momentum, task_id)
        work = self._tasks[task_id]
        said, parts = self._packing.pack(Encoder().encode({"w": self._momentum}), [self._known])
        head = {"k": "result", "task_id": task_id, "ended": None, **said}
        state = Encoder().encode({"w": self._momentum})
        self._kept.keep({**head, "number": work.number}, parts, state=state)
        work.result = head, parts
        self.nature.later(LINK_S, lambda: self._send(task_id))

    def _send(self, task_id: str) -> None:
        work = self._tasks.get(task_id)
        if not self.is_dead and work is not None and work.result is not None:
            head, parts = work.result
            self.say({**head, "number": work.number}, parts)

    def _acknowledged(self, number: int) -> None:
        for task_id, work in list(self._tasks.items()):
            if work.number == number and work.result is not None:
                del self._tasks[task_id]
                self._kept.sent(task_id)
