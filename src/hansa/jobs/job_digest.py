"""What tells two jobs of one name apart in the records of their runs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from hansa.jobs.job import Content, Job

_DIGITS = 12


def digest(job: Job) -> str:
    """A short text that is the same for jobs with the same configs and the same Python files.

    Initial weights do not count: they are often drawn anew for each seed. Nor does the job's name, nor a class that
    stands in a script of the user's.
    """
    told = hashlib.sha256()
    for name, app in sorted(job.apps.items()):
        configs = json.dumps(
            [name, app.server, app.client], sort_keys=True, default=lambda part: type(part).__qualname__
        )
        told.update(configs.encode("utf-8"))
        for path, content in sorted(app.files.items()):
            if path.endswith(".py"):
                told.update(f"\0{path}\0".encode())
                told.update(_bytes(content))
    return told.hexdigest()[:_DIGITS]


def _bytes(content: Content) -> bytes:
    if isinstance(content, Path):
        return content.read_bytes()
    return content if isinstance(content, bytes) else b""
