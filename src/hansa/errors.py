"""Every error that Hansa raises on purpose.

::

    HansaError
    ├── ConfigError            the user's input is wrong (exit code 2)
    │   └── MissingExtra       an optional dependency is not installed
    ├── CodecError             a value or a message cannot be translated
    │   ├── EncodeError        a value has no form on the wire; `path` says which
    │   └── DecodeError        bytes that are no message, or break a limit
    ├── RuleError              a contribution breaks the aggregation rule
    └── RunError               a run ended without its result (exit code 1)
        ├── RunAborted         somebody asked it to stop
        ├── StoreError         the journal cannot be written or read
        └── LostLease          another server has taken over the journal

FLARE's own exceptions (`WorkflowError`, `FLCommunicationError`) live in `hansa.apis.fl_exception`.
The text of an error is one line that names what is wrong and where; the same facts are attributes.
"""

from __future__ import annotations

import errno

MAY_PASS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO))
"""What a disk refuses today and may take tomorrow: no room, none left of one's share, a failure of the device."""


class HansaError(Exception):
    """Root of the tree; `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(HansaError):
    """A job, a setting or an argument is wrong.

    Args:
        message: What is wrong, in one line, without file and key.
        file: The file it stands in, if any.
        key: The place in that file, dotted (`components[0].args.lr`), or the name of the argument.
    """

    exit_code = 2

    def __init__(self, message: str, *, file: str | None = None, key: str | None = None) -> None:
        self.message = message
        self.file = file
        self.key = key
        super().__init__(": ".join(part for part in (file, key, message) if part))


class MissingExtra(ConfigError):
    """A part needs a package that the base install does not bring.

    Args:
        what: The thing that was asked for (`figures`).
        extra: The extra of `pip install hansa[...]` that brings it.
    """

    def __init__(self, what: str, *, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an optional package: pip install 'hansa[{extra}]'")


class CodecError(HansaError):
    """A value or a message cannot be translated."""


class EncodeError(CodecError):
    """A value cannot go over the wire.

    Args:
        path: Where it sits in the message, such as `DXO.data.conv1.weight`.
        reason: Why it cannot travel.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot encode {path or 'the message'}: {reason}")


class DecodeError(CodecError):
    """Bytes are no valid message; nothing large was allocated for them."""


class RuleError(HansaError):
    """A contribution breaks the aggregation rule and is refused.

    Args:
        reason: What is wrong, naming the tensor or the value.
        site: Who sent it, if known.
    """

    def __init__(self, reason: str, *, site: str | None = None) -> None:
        self.reason = reason
        self.site = site
        super().__init__(f"{site}: {reason}" if site else reason)


class RunError(HansaError):
    """A run ended without its result.

    Args:
        cause: What went wrong, in one line.
        site: Where it happened (`server` for the server), if known.
        task: The task that was under way.
        round_number: The round that was under way.

    Attributes:
        folder: The folder of the run's record, where there is one.
    """

    def __init__(
        self,
        cause: str,
        *,
        site: str | None = None,
        task: str | None = None,
        round_number: int | None = None,
    ) -> None:
        self.folder: str | None = None
        self.cause = cause
        self.site = site
        self.task = task
        self.round_number = round_number
        where = [
            site,
            f"task {task}" if task else None,
            f"round {round_number}" if round_number is not None else None,
        ]
        place = ", ".join(part for part in where if part)
        super().__init__(f"{place}: {cause}" if place else cause)


class RunAborted(RunError):
    """Somebody asked the run to stop."""


class StoreError(RunError):
    """The journal cannot be written or read, and waiting did not help; of what was to be written, nothing counts.

    Args:
        cause: What went wrong, in one line.
        job: The only job that it is about; `None` where it is about all.
        disk_full: Whether there is no space; what is written later may be kept.
    """

    def __init__(self, cause: str, *, job: str | None = None, disk_full: bool = False) -> None:
        self.job = job
        self.disk_full = disk_full
        super().__init__(f"job {job}: {cause}" if job else cause)


class LostLease(RunError):
    """Another server has taken over the journal; this one may not write any more, and must end.

    Args:
        epoch: The epoch of this server.
        newer: The epoch of the other one.
    """

    def __init__(self, epoch: int, *, newer: int) -> None:
        self.epoch = epoch
        self.newer = newer
        super().__init__(f"another server has taken over this journal (epoch {newer}, this one has {epoch})")
