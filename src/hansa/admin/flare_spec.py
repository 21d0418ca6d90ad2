"""FLARE 2.0's admin API as a contract: which calls there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from hansa.admin.flare_response import FLAdminAPIResponse, TargetType

Callback = Callable[..., bool]
"""Looks at a response, and says whether the wait is over; takes what else the wait was given, by name."""


class FLAdminAPISpec(ABC):
    """The calls of the admin API; each gives a response, and raises nothing for what cannot be done.

    A `target` is `server` or the name of a site; `targets` are names of sites, and go with `TargetType.CLIENT`.
    """

    @abstractmethod
    def check_status(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        """How the server stands, or the sites."""

    @abstractmethod
    def set_run_number(self, run_number: int) -> FLAdminAPIResponse:
        """Choose the run that the following calls are about."""

    @abstractmethod
    def delete_run_number(self, run_number: int) -> FLAdminAPIResponse:
        """Forget a run."""

    @abstractmethod
    def upload_app(self, app: str) -> FLAdminAPIResponse:
        """Check an app and have it ready."""

    @abstractmethod
    def deploy_app(self, app: str, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        """Say who runs an app."""

    @abstractmethod
    def start_app(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        """Start what was deployed."""

    @abstractmethod
    def abort(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        """Stop what runs."""

    @abstractmethod
    def restart(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        """Restart participants."""

    @abstractmethod
    def shutdown(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        """End participants."""

    @abstractmethod
    def remove_client(self, targets: list[str]) -> FLAdminAPIResponse:
        """Have the server forget sites."""

    @abstractmethod
    def set_timeout(self, timeout: float) -> FLAdminAPIResponse:
        """How long sites may take to answer a command, in seconds."""

    @abstractmethod
    def get_available_apps_to_upload(self) -> FLAdminAPIResponse:
        """The apps in the upload folder."""

    @abstractmethod
    def ls_target(self, target: str, options: str | None = None, path: str | None = None) -> FLAdminAPIResponse:
        """The files of a participant's run."""

    @abstractmethod
    def cat_target(self, target: str, options: str | None = None, file: str | None = None) -> FLAdminAPIResponse:
        """A file of a participant's run."""

    @abstractmethod
    def tail_target_log(self, target: str, options: str | None = None) -> FLAdminAPIResponse:
        """The end of a participant's log."""

    @abstractmethod
    def grep_target(
        self, target: str, options: str | None = None, pattern: str | None = None, file: str | None = None
    ) -> FLAdminAPIResponse:
        """The lines of a participant's file that fit a pattern."""

    @abstractmethod
    def env_target(self, target: str) -> FLAdminAPIResponse:
        """A participant's environment."""

    @abstractmethod
    def get_working_directory(self, target: str) -> FLAdminAPIResponse:
        """Where a participant works."""

    @abstractmethod
    def show_stats(self) -> FLAdminAPIResponse:
        """How far the run is."""

    @abstractmethod
    def show_errors(self) -> FLAdminAPIResponse:
        """What went wrong in the run."""

    @abstractmethod
    def reset_errors(self) -> FLAdminAPIResponse:
        """Show only what goes wrong from now on."""

    @abstractmethod
    def get_connected_client_list(self) -> FLAdminAPIResponse:
        """Who is connected."""

    @abstractmethod
    def wait_until_server_status(
        self,
        interval: float = 20,
        timeout: float | None = None,
        callback: Callback | None = None,
        fail_attempts: int = 3,
    ) -> FLAdminAPIResponse:
        """Look at the server's status until a callback is content."""
