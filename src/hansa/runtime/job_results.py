"""The record of a job as an archive, for those who download it."""

from __future__ import annotations

import shutil
from pathlib import Path

from hansa.errors import ConfigError
from hansa.jobs.archive import pack
from hansa.jobs.store import JobStore
from hansa.runtime.run_folder import RECORD


def results_file(store: JobStore, job_id: str) -> Path:
    """Where the archive lies."""
    return store.folder(job_id) / "results.zip"


def pack_results(store: JobStore, job_id: str) -> Path:
    """Make the archive; the same file again once the job is over. Any thread.

    Raises:
        ConfigError: There is no record yet.
    """
    record = store.get(job_id)
    folder = store.folder(job_id) / "run"
    if not (folder / RECORD).exists():
        raise ConfigError(f"job {job_id} has no results: it is {record.state.value}")
    target = results_file(store, job_id)
    if not (record.state.is_over and target.exists()):
        temporary = pack(folder, target.with_name(".results.new"))
        shutil.move(temporary, target)
    return target
