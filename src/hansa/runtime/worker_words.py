"""The words of the link between a run's server and its workers; each is the key `k` of a frame's head."""

from __future__ import annotations

from enum import Enum


class ToWorker(Enum):
    """What a worker is told."""

    BUILD = "build"
    """Make the sites: what is needed for that."""
    START = "start"
    """START_RUN."""
    STATE = "state"
    """What a site's components knew after its last task."""
    TASKS = "tasks"
    """A body, with the sites and ids that it is for."""
    CLOSE = "close"
    """The batch is complete: whatever is held back must go out."""
    TAKEN = "taken"
    """Answers have been received: as many more may be on their way."""
    ABORT = "abort"
    """The run is to stop."""
    ABORT_TASK = "abort_task"
    """One site's task is to stop."""
    ASK = "ask"
    """An aux request of the server to a site."""
    TELL_STATE = "tell_state"
    """The server wants to know what a site's components know; answered as an aux request is."""
    REPLY = "reply"
    """The server's reply to a site's aux request."""
    END = "end"
    """END_RUN, then the process ends."""


class FromWorker(Enum):
    """What a worker says."""

    READY = "ready"
    """The sites are made: their public properties, or why they cannot be made."""
    STARTED = "started"
    """START_RUN has been heard."""
    ANSWERS = "answers"
    """Results of tasks, and parts of sums."""
    FAILED = "failed"
    """User code raised."""
    LOG = "log"
    """Lines of the log."""
    ASK = "ask"
    """An aux request of a site to the server."""
    REPLY = "reply"
    """A site's reply to an aux request of the server, or what its components know."""
    ENDED = "ended"
    """END_RUN has been heard: what has left the sites, and where the time went."""
