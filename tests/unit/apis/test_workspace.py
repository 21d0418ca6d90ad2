"""Workspace: path joins and nothing else."""

from __future__ import annotations

import os

from hansa.apis.workspace import Workspace


def test_paths() -> None:
    workspace = Workspace("/no/such/folder", "site-1", "config")
    run = os.path.join("/no/such/folder", "run_3")
    app = os.path.join(run, "app_site-1")

    assert workspace.get_root_dir() == "/no/such/folder"
    assert workspace.get_startup_kit_dir() == os.path.join("/no/such/folder", "startup")
    assert workspace.get_run_dir(3) == run
    assert workspace.get_app_dir(3) == app
    assert workspace.get_app_config_dir(3) == os.path.join(app, "config")
    assert workspace.get_app_custom_dir(3) == os.path.join(app, "custom")
