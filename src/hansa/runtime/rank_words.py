"""What a site's process and its rank processes say to each other."""

from __future__ import annotations

from enum import Enum


class ToRank(Enum):
    """What a rank hears."""

    BUILD = "build"
    """Build these components; said once, first."""
    RESTORE = "restore"
    """Take this state up."""
    STATE = "state"
    """Say what the stateful components keep."""
    EVENT = "event"
    """Fire this event at the components."""
    TASK = "task"
    """Execute this."""
    ABORT = "abort"
    """Trigger the abort signal of the task of that number."""
    REPLY = "reply"
    """The reply to an aux request."""
    END = "end"
    """There is nothing more to do."""


class FromRank(Enum):
    """What a rank says."""

    HELLO = "hello"
    """It is here, with its token and its rank; nothing else comes before."""
    READY = "ready"
    """Its components are built, or why they are not; and the events that they hear."""
    HEARD = "heard"
    """The event of that number has been fired."""
    EVENT = "event"
    """A component has fired this event."""
    ASK = "ask"
    """An aux request for the server."""
    STATE = "state"
    """What its stateful components keep."""
    DONE = "done"
    """The task of that number: executed, or what was raised; rank 0's has the result."""
