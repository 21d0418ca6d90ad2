"""Jobs out, results in: what is packed before it is submitted, and where a downloaded run goes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.errors import ConfigError
from hansa.jobs.archive import pack, unpack
from hansa.jobs.job import Job
from hansa.jobs.store import JobRecord
from hansa.jobs.wanted import read
from hansa.runtime.run_folder import RECORD, runs_home

if TYPE_CHECKING:
    from hansa.wire.frames import BlobRef

JOB_FILE = "job.json"
"""In a downloaded run's folder: the job's record, which tells runs of two servers apart."""
_MOST_NAMESAKES = 1000


@contextmanager
def packed(job: Job | str | os.PathLike[str]) -> Iterator[tuple[BlobRef, Path]]:
    """A job as it is uploaded: checked, saved as a folder that needs nothing of this machine, and packed.

    Args:
        job: The job, or the folder of one.

    Raises:
        ConfigError: It is no job, has a mistake, or cannot travel.
    """
    if not isinstance(job, Job | str | os.PathLike):
        raise ConfigError(f"must be a Job or the folder of one, not {job!r}", key="job")
    loaded = job if isinstance(job, Job) else Job.load(Path(job))
    read(loaded)
    with tempfile.TemporaryDirectory(prefix="hansa-submit-") as temporary:
        folder = Path(temporary, "job")
        loaded.save(folder)
        archive = pack(folder)
        yield ref_of(archive), archive


def ref_of(archive: Path) -> BlobRef:
    """How a file is announced; its name is drawn, so that two uploads never meet in one place."""
    from hansa.wire.frames import BlobRef

    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return BlobRef(f"{secrets.token_hex(16)}{archive.suffix}", stream.tell(), f"sha256:{digest}")


def folder_for(record: JobRecord, home: str | os.PathLike[str] | None = None) -> Path:
    """Where a job's run goes: the folder of an earlier download of it, else a new one named by its id.

    Args:
        record: The job.
        home: The folder that keeps runs; `$HANSA_HOME/runs` or `./runs` if None.

    Raises:
        ConfigError: Too many jobs of other servers bear that id.
    """
    kept = runs_home(home).absolute()
    for number in range(1, _MOST_NAMESAKES):
        path = kept / (record.id if number == 1 else f"{record.id}-{number}")
        if not path.exists() or _is_of(path, record):
            return path
    raise ConfigError(f"there are too many runs named {record.id}", file=str(kept))


def unpacked(archive: Path, record: JobRecord, folder: Path) -> Path:
    """Put a downloaded record in its place, whole or not at all; an earlier download of the same job is replaced.

    Args:
        archive: What was downloaded.
        record: The job.
        folder: New, empty, or an earlier download of this job.

    Raises:
        ConfigError: The folder holds something else, or the archive no run.
    """
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or _is_of(folder, record))):
        raise ConfigError("holds something else; nothing was downloaded", file=str(folder))
    fresh = folder.with_name(f".new-{folder.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    unpack(archive, fresh)
    try:
        if not (fresh / RECORD).is_file():
            raise ConfigError(f"the results of job {record.id} hold no {RECORD}")
        (fresh / JOB_FILE).write_text(json.dumps(record.as_dict(), indent=1) + "\n", encoding="utf-8")
        fresh.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(folder)) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _is_of(folder: Path, record: JobRecord) -> bool:
    try:
        known = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        return bool(known["id"] == record.id and known["submitted_at"] == record.submitted_at)
    except (OSError, ValueError, KeyError, TypeError):
        return False
