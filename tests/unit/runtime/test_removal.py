"""A site deletes its run folder of a job that is removed, and no other's."""

from __future__ import annotations

from pathlib import Path

from hansa.runtime.removal import forget, held_runs
from hansa.runtime.run_paths import RunPaths


def test_only_the_job_that_has_the_folder_is_forgotten(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, 7, "site-1")
    forget(paths, "0007-x", "x@1")  # there is none
    paths.make()
    forget(paths, "0007-x", "x@1")  # nobody has said whose it is
    paths.claim("0007-x", "x@1")
    forget(paths, "0007-y", "x@1")
    forget(paths, "0007-x", "x@2")  # another server has given the id, too
    assert paths.folder.exists()
    forget(paths, "0007-x", "x@1")
    assert not paths.folder.exists()


def test_a_number_that_another_server_gave_before_has_its_folder_put_aside(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path, 7, "site-1")
    paths.make()
    paths.claim("0007-x", "x@1")
    paths.app.mkdir()
    paths.claim("0007-x", "x@1")  # the same job, started anew
    assert paths.app.is_dir()
    paths.claim("0007-x", "x@2")
    assert not paths.app.exists()
    assert paths.incoming.is_dir()
    assert (tmp_path / "run_7.old-1" / "app_site-1").is_dir()
    assert held_runs(tmp_path, "site-1") == [["0007-x", "x@2"]]
