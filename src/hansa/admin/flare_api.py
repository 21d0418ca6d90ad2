"""FLARE 2.0's `FLAdminAPI` over a session of `hansa.connect`: what scripts written for it call, unchanged.

A numbered run is one job: `upload_app` and `deploy_app` look at apps where they lie, and `start_app` submits them. What
an admin cannot do here is answered with a status and one line. See `docs/admin.md` for each call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from hansa.admin.flare_desk import FlareDesk
from hansa.admin.flare_line import FlareLine, kit_folder
from hansa.admin.flare_response import (
    APIStatus,
    APISyntaxError,
    FLAdminAPIResponse,
    FLDetailKey,
    NotDone,
    TargetType,
    succeeded,
)
from hansa.admin.flare_response import wrap_with_return_exception_responses as answers
from hansa.admin.flare_runs import FlareRuns
from hansa.admin.flare_spec import Callback
from hansa.admin.flare_waiting import (
    Rhythm,
    default_client_status_handling_cb,
    default_server_status_handling_cb,
    default_stats_handling_cb,
    wait_until,
)
from hansa.admin.link import AdminLink, open_link

if TYPE_CHECKING:
    from hansa.provision.kit import Kit


class FLAdminAPI(FlareDesk):
    """The admin API. Every call gives a response; `login` comes first.

    Who the admin is, and where the server is, stands in the kit: it is found by the certificates' paths, or by
    `upload_dir` where none is given.

    Args:
        host: Not used: the kit names the server.
        port: Not used.
        ca_cert: The kit's `startup/rootCA.pem`.
        client_cert: The kit's `startup/client.crt`.
        client_key: The kit's `startup/client.key`.
        upload_dir: The folder of apps.
        download_dir: A folder beside `startup`, for want of other paths.
        poc: Not used: a proof of concept has kits like any federation.
        debug: Write each call and its response to stderr.
        open_link: Makes the connection.

    Raises:
        ConfigError: The paths lead to no kit.
    """

    def __init__(
        self,
        host: str,
        port: int,
        ca_cert: str = "",
        client_cert: str = "",
        client_key: str = "",
        upload_dir: str = "",
        download_dir: str = "",
        poc: bool = False,
        debug: bool = False,
        *,
        open_link: Callable[[Kit], AdminLink] = open_link,
    ) -> None:
        certificates = [str(path) for path in (ca_cert, client_cert, client_key)]
        kit = kit_folder(certificates, [str(path) for path in (upload_dir, download_dir)])
        line = FlareLine(kit, open_link)
        super().__init__(line, FlareRuns(line, str(upload_dir)), debug=debug)

    # -- the session -------------------------------------------------------------------------------------------

    @answers
    def login(self, username: str) -> FLAdminAPIResponse:
        """Open the session.

        Args:
            username: The admin's name, as the kit has it; its part before the `@` does.
        """
        self._line.login(username)
        return succeeded(f"logged in as {self._line.admin}")

    @answers
    def login_with_password(self, username: str, password: str) -> FLAdminAPIResponse:
        """Not offered: nothing here takes a password."""
        raise NotDone(APIStatus.ERROR_AUTHENTICATION, "there are no passwords here: call login(username), with a kit")

    @answers
    def logout(self) -> FLAdminAPIResponse:
        """Close the session; what was started goes on."""
        self._line.close()
        return succeeded("logged out")

    @answers
    def do_command(self, command: str) -> FLAdminAPIResponse:
        """Not offered: there is no console whose words could be sent."""
        raise APISyntaxError(f"console commands such as {command!r} are not spoken here: call the method instead")

    def write_error(self, error: str) -> None:
        """Write a line to stderr."""
        sys.stderr.write(f"{error}\n")

    # -- runs and apps -----------------------------------------------------------------------------------------

    @answers
    def set_run_number(self, run_number: int) -> FLAdminAPIResponse:
        return succeeded(self._runs.set_number(run_number))

    @answers
    def delete_run_number(self, run_number: int) -> FLAdminAPIResponse:
        return succeeded(self._runs.delete_number(run_number))

    @answers
    def get_available_apps_to_upload(self) -> FLAdminAPIResponse:
        return succeeded(app_list=self._runs.available())

    @answers
    def upload_app(self, app: str) -> FLAdminAPIResponse:
        self._line.sites()
        job = self._runs.load(app)
        return succeeded(f"{app} is as it should be (job {job.name!r}); it travels when it is started")

    @answers
    def deploy_app(self, app: str, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        whom, named = self._targets(target_type, targets)
        return succeeded(self._runs.deploy(app, whom, targets=named))

    @answers
    def start_app(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        return succeeded(self._runs.start(*self._targets(target_type, targets)))

    @answers
    def abort(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        whom, _ = self._targets(target_type, targets)
        if whom is TargetType.CLIENT:
            raise APISyntaxError("a job is stopped as a whole: abort(TargetType.ALL)")
        run = self._runs.current()
        if run is None or self._line.refreshed(run).state.is_over:
            raise NotDone(APIStatus.ERROR_RUNTIME, "nothing runs that could be aborted")
        self._line.abort(run)
        return succeeded(f"job {run.id} is being stopped", **{FLDetailKey.RESPONSES.value: list(run.record.sites)})

    # -- waiting -----------------------------------------------------------------------------------------------

    @answers
    def wait_until_server_status(
        self,
        interval: float = 20,
        timeout: float | None = None,
        callback: Callback | None = default_server_status_handling_cb,
        fail_attempts: int = 3,
        **kwargs: object,
    ) -> FLAdminAPIResponse:
        """Look at the server's status until a callback is content: by default, until it runs nothing.

        Args:
            interval: Seconds between two looks; a run that ends is seen at once.
            timeout: At most so many seconds; None: as long as it takes.
            callback: Looks at the response.
            fail_attempts: So many failures in a row end the wait.
            **kwargs: For the callback.
        """
        is_done: Callback = callback or default_server_status_handling_cb
        look = partial(self.check_status, TargetType.SERVER)
        return wait_until(look, partial(is_done, **kwargs), Rhythm(interval, timeout, fail_attempts), pause=self.pause)

    @answers
    def wait_until_client_status(
        self,
        interval: float = 10,
        timeout: float | None = None,
        callback: Callback = default_client_status_handling_cb,
        fail_attempts: int = 6,
        **kwargs: object,
    ) -> FLAdminAPIResponse:
        """The same with the status of the sites: by default, until none runs anything."""
        look = partial(self.check_status, TargetType.CLIENT)
        return wait_until(look, partial(callback, **kwargs), Rhythm(interval, timeout, fail_attempts), pause=self.pause)

    @answers
    def wait_until_server_stats(
        self,
        interval: float = 10,
        timeout: float | None = None,
        callback: Callback = default_stats_handling_cb,
        fail_attempts: int = 6,
        **kwargs: object,
    ) -> FLAdminAPIResponse:
        """The same with the figures of the server: by default, until the run is over."""
        look = partial(self.show_stats, TargetType.SERVER)
        return wait_until(look, partial(callback, **kwargs), Rhythm(interval, timeout, fail_attempts), pause=self.pause)

    def pause(self, seconds: float) -> None:
        """Let time pass; less of it, if the run that was started ends meanwhile."""
        self._line.pause(seconds, until=self._runs.started())
