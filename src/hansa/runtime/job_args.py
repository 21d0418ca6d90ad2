"""What a job's processes are told when they start, and how they begin."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hansa.jobs.class_policy import ClassPolicy


@dataclass(frozen=True)
class ServerArgs:
    """What the server's job process is told.

    Attributes:
        job_id: The job.
        run_number: Its number in this workspace.
        name: `server`.
        workspace: The server's workspace root.
        job_folder: The job as it was submitted.
        run_folder: Where the run is kept.
        sites: Who takes part.
        tags: What the sites say of themselves.
        min_sites: How many of them are enough.
        mandatory: Who must be there.
        seed: Where all randomness comes from.
        threads: Threads of numeric libraries.
        start_timeout_s: How long to wait for sites in the beginning.
        quorum_wait_s: How long to wait for sites once too many are lost.
        policy: What classes the job may name.
        recall: The file that says where to go on, if the process was started before; see `hansa.runtime.recall`.
        gave_up: Why the run has failed, if nothing is left to do but to write what there is; see
            `hansa.runtime.salvage`.
    """

    job_id: str
    run_number: int
    name: str
    workspace: str
    job_folder: str
    run_folder: str
    sites: Sequence[str]
    min_sites: int
    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mandatory: Sequence[str] = ()
    seed: int = 0
    threads: int = 1
    start_timeout_s: float = 60.0
    quorum_wait_s: float = 600.0
    policy: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON
    recall: str | None = None
    gave_up: str | None = None


@dataclass(frozen=True)
class SiteArgs:
    """What a site's job process is told.

    Attributes:
        job_id: The job.
        run_number: Its number in this workspace.
        name: The site.
        workspace: The site's workspace root.
        app_folder: Where the app lies.
        config_file: How errors name its config.
        num_sites: How many sites the run has.
        seed: Where all randomness comes from.
        threads: Threads of numeric libraries.
        policy: What classes the job may name here.
    """

    job_id: str
    run_number: int
    name: str
    workspace: str
    app_folder: str
    config_file: str
    num_sites: int
    seed: int = 0
    threads: int = 1
    policy: Mapping[str, Any] = field(default_factory=dict)  # Any: JSON


def policy_of(said: Mapping[str, Any]) -> ClassPolicy:  # Any: JSON
    """The classes that a job may name: whatever can be imported where everything is tried on one's own machine."""
    if said.get("anything"):
        return ClassPolicy.simulator()
    return replace(ClassPolicy.production(*said.get("plugins", ())), custom=bool(said.get("custom")))


def log_to_stderr() -> None:
    """Log as the simulator does, to where the process prints."""
    root = logging.getLogger()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def blob_folder(workspace: str, run_number: int) -> Path:
    """Where a job process writes blobs for others."""
    folder = Path(workspace, f"run_{run_number}", "blobs", "out")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
