"""A job's process on the server, as the server process sees it: started, spoken to, and started anew."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from hansa.failpoints import reach
from hansa.runtime.fork_server import JobLauncher, ProcessSpec
from hansa.runtime.relay import Head
from hansa.wire.pipe import AsyncPipe, PipeServer

MOST_DEATHS = 3
"""A process that dies so often is not started again: on the server without a commit in between, at a site in a job."""

SpecOf = Callable[[str, Path | None], ProcessSpec]
"""Makes the spec of a start: of the token it calls back with, and of the file that says where it goes on."""


class HomeProcess:
    """Starts the process and brings frames to it and from it, in order.

    Args:
        name: What the launcher calls it.
        launcher: Where it comes from.
        pipes: Where it calls back.
        spec_of: Says how it is started.
        on_frame: Takes its frames.
    """

    def __init__(
        self,
        name: str,
        *,
        launcher: JobLauncher,
        pipes: PipeServer,
        spec_of: SpecOf,
        on_frame: Callable[[Head, list[bytes]], None],
    ) -> None:
        self.name = name
        self.num_starts = 0
        self.is_launched = False
        self.num_deaths = 0
        """Since the last commit."""
        self._launcher = launcher
        self._pipes = pipes
        self._spec_of = spec_of
        self._on_frame = on_frame
        self._pipe: AsyncPipe | None = None
        self._early: list[tuple[Head, Sequence[bytes]]] = []  # for it, before it has called back
        self._held: list[tuple[Head, list[bytes]]] | None = None  # of it, until something else has happened
        self._at_last: Callable[[], None] | None = None
        self._is_cut_off = False

    @property
    def is_there(self) -> bool:
        """Whether it would hear."""
        return self._pipe is not None

    async def launch(self, recall: Path | None = None) -> None:
        """Start it.

        Args:
            recall: The file that says where to go on.

        Raises:
            HansaError: The system refuses.
        """
        token = secrets.token_urlsafe(32)
        self._pipes.expect(token, self.name)
        reach("job.before_launch")
        self.num_starts += 1
        self.is_launched = True
        await self._launcher.launch(self._spec_of(token, recall))

    def attach(self, pipe: AsyncPipe) -> None:
        """It has called back."""
        self._pipe = pipe
        pipe.on_frame = self._take
        early, self._early = self._early, []
        for head, parts in early:
            pipe.send(head, parts)

    def send(self, head: Head, parts: Sequence[bytes] = ()) -> None:
        """Tell it something, as soon as it hears."""
        if self._pipe is not None:
            self._pipe.send(head, parts)
        else:
            self._early.append((head, parts))

    def cut_off(self) -> None:
        """Take nothing more of what it says, nor of what was held; and end it."""
        self._is_cut_off = True
        self._held = None
        self.kill()

    def gone(self) -> None:
        """It has ended: what it said last does not count, and what it has not heard is not for the next one."""
        self.is_launched = False
        self._is_cut_off = False
        self._pipe = None
        self._early = []
        self._held = None
        self.num_deaths += 1

    def kill(self) -> None:
        """End it."""
        self._launcher.kill(self.name)

    # -- what it says ------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Take no more of its frames, until `let_go`."""
        self._held = []

    @property
    def num_held(self) -> int:
        """How many of its frames wait."""
        return len(self._held or ())

    def let_go(self) -> None:
        """Take its frames again, beginning with those that came meanwhile."""
        held, self._held = self._held or [], None
        for head, parts in held:
            self._take(head, parts)
        if self._held is None and self._at_last is not None:
            at_last, self._at_last = self._at_last, None
            at_last()

    def at_last(self, do: Callable[[], None]) -> None:
        """Do something once all that it has said was taken: now, unless its frames are held."""
        if self._held is None:
            do()
        else:
            self._at_last = do

    def _take(self, head: Head, parts: list[bytes]) -> None:
        if self._is_cut_off:
            return
        if self._held is not None:
            self._held.append((head, parts))
        else:
            self._on_frame(head, parts)
