"""A site deletes its run folder of a job that is removed, and no other's."""

from __future__ import annotations

from pathlib import Path

from hansa.runtime.removal import forget
from hansa.runtime.run_paths import RunPaths


def test_only_the_job_that_has_the_folder_is_forgotten(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, 7, "site-1")
    forget(paths, "0007-x")  # there is none
    paths.make()
    forget(paths, "0007-x")  # nobody has said whose it is
    paths.claim("0007-x")
    forget(paths, "0007-y")
    assert paths.folder.exists()
    forget(paths, "0007-x")
    assert not paths.folder.exists()
