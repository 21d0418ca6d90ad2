"""What a journal holds, as values: one frozen class for each kind of row.

A task's key is `workflow/task/posting`; a site's part of it adds `/site/visit`. Nothing here needs a database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Outcome(Enum):
    """What became of a row that was written."""

    NEW = "new"
    """It stands now."""
    SAME = "same"
    """It stood before, and is the same."""
    ALTERED = "altered"
    """Another one stands under its key, and goes on standing."""


@dataclass(frozen=True)
class KeptBlob:
    """A file that belongs to a result.

    Attributes:
        name: The file's name in the folder of blobs.
        size: Bytes.
        digest: `sha256:...`.
    """

    name: str
    size: int
    digest: str


@dataclass(frozen=True)
class JobRow:
    """A job as it stands; the last one written holds."""

    id: str
    number: int
    name: str
    submitter: str
    submitted_at: float
    priority: int = 0
    sites: tuple[str, ...] = ()
    state: str = "SUBMITTED"
    reason: str | None = None
    abort: str | None = None


@dataclass(frozen=True)
class TransitionRow:
    """The seq-th state that a job had; the first one written holds."""

    job: str
    seq: int
    state: str
    at: float
    reason: str | None = None


@dataclass(frozen=True)
class DecisionRow:
    """What a workflow decided, and must decide again the same way: a round's targets; the first one written holds.

    Attributes:
        key: Begins with the key of the task that it belongs to, so that it goes when the task goes.
    """

    job: str
    key: str
    value: bytes


@dataclass(frozen=True)
class OfferRow:
    """A task was given to a site; the first one written holds.

    Attributes:
        part: The site's part of the task.
        task: The task's name.
        version: The model that it starts from.
    """

    job: str
    part: str
    task: str
    site: str
    version: int


@dataclass(frozen=True)
class ResultRow:
    """A site's answer; the first one written holds.

    Attributes:
        part: The site's part of the task.
        task: The task's name.
        digest: Of the whole answer, whatever way it came.
        head: JSON.
        parts: What is small and lies in the journal itself.
        blobs: What lies in files.
        received_at: Seconds since 1970.
    """

    job: str
    part: str
    task: str
    site: str
    digest: str
    head: str = "{}"
    parts: tuple[bytes, ...] = field(default=(), repr=False)
    blobs: tuple[KeptBlob, ...] = ()
    received_at: float = 0.0


@dataclass(frozen=True)
class FateRow:
    """What became of a result; the last one written holds.

    Attributes:
        fate: `counted` or `refused`.
        reason: Why it was refused.
    """

    job: str
    part: str
    fate: str
    reason: str | None = None


@dataclass(frozen=True)
class TableRow:
    """A table of a tensor layout that results refer to; the first one written holds."""

    job: str
    site: str
    digest: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class CommitRow:
    """A version of the model, and where the workflows stand; versions only go up.

    What was offered, decided and received before it is over with it, but for the tasks in `keeps`.

    Attributes:
        workflow: The index of the workflow that committed.
        state: What the job goes on from.
        file: The names of files that hold more of it, too large for a row, each on a line.
        digest: Of the model, or of all that is committed: the same version again must have the same one.
        keeps: Keys of tasks (or of decisions) that stand open beyond this commit.
    """

    job: str
    version: int
    workflow: int
    state: bytes = field(repr=False)
    digest: str
    at: float
    file: str | None = None
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class SiteRow:
    """How a site stands in a job; the last one written holds.

    Attributes:
        deaths: How many times its process died over its present task.
    """

    job: str
    site: str
    state: str
    reason: str | None = None
    deaths: int = 0
    at: float = 0.0


@dataclass(frozen=True)
class EventRow:
    """What an operator should see.

    Attributes:
        code: Its stable cause code.
        key: The same key again is the same event, and written once; made up where there is none.
        seq: Its number, given by the journal.
    """

    at: float
    code: str
    text: str
    job: str | None = None
    site: str | None = None
    key: str | None = None
    seq: int = 0


@dataclass(frozen=True)
class ForgetRow:
    """Order to delete what the commits up to a version have made superfluous; see `Journal.forget`."""

    job: str
    up_to_version: int


@dataclass(frozen=True)
class PurgeRow:
    """Order to delete all of a job but its events; see `Journal.purge`.

    Attributes:
        keeps_record: Leave the job itself and its transitions: it is over, and is listed all the same.
    """

    job: str
    keeps_record: bool = False


StoredRow = (
    JobRow | TransitionRow | DecisionRow | OfferRow | ResultRow | FateRow | TableRow | CommitRow | SiteRow | EventRow
)
Row = StoredRow | ForgetRow | PurgeRow


@dataclass(frozen=True)
class Replay:
    """What a job goes on from after a restart: its last commit, and what happened since.

    Attributes:
        commit: The last one, if there is any.
        decisions: By key.
        offers: In the order in which they were written, as are the results.
        fates: By part.
        tables: All that the job has.
        sites: By site.
    """

    commit: CommitRow | None = None
    decisions: Mapping[str, bytes] = field(default_factory=dict)
    offers: tuple[OfferRow, ...] = ()
    results: tuple[ResultRow, ...] = ()
    fates: Mapping[str, FateRow] = field(default_factory=dict)
    tables: tuple[TableRow, ...] = ()
    sites: Mapping[str, SiteRow] = field(default_factory=dict)
