"""Where the files of a participant lie."""

from __future__ import annotations

import os


class Workspace:
    """Names of folders; none is looked at or made.

    ::

        <root_dir>/
          startup/                    the startup kit
          run_<n>/                    what run n leaves behind
            app_<name>/               its app, as this participant got it
              <config_folder>/
              custom/                 the app's own modules

    Args:
        root_dir: The participant's folder.
        name: The participant's name; `server` on the server.
        config_folder: The folder of the app that holds its configuration.
    """

    def __init__(self, root_dir: str, name: str, config_folder: str) -> None:
        self.root_dir = root_dir
        self.name = name
        self.config_folder = config_folder

    def get_root_dir(self) -> str:
        """The participant's folder."""
        return self.root_dir

    def get_startup_kit_dir(self) -> str:
        """Certificates and settings that came with provisioning."""
        return os.path.join(self.root_dir, "startup")

    def get_run_dir(self, run_num: int) -> str:
        """What a run leaves behind."""
        return os.path.join(self.root_dir, f"run_{run_num}")

    def get_app_dir(self, run_num: int) -> str:
        """The app of a run."""
        return os.path.join(self.get_run_dir(run_num), f"app_{self.name}")

    def get_app_config_dir(self, run_num: int) -> str:
        """The configuration of that app."""
        return os.path.join(self.get_app_dir(run_num), self.config_folder)

    def get_app_custom_dir(self, run_num: int) -> str:
        """The modules of that app."""
        return os.path.join(self.get_app_dir(run_num), "custom")
