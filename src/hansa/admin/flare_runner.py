"""FLARE 2.0's `FLAdminAPIRunner`: one app from the folder to its end, and a line for each step."""

from __future__ import annotations

from pathlib import Path

from hansa.admin.flare_api import FLAdminAPI
from hansa.admin.flare_response import APIStatus, FLAdminAPIResponse, FLDetailKey, TargetType
from hansa.admin.flare_waiting import default_server_status_handling_cb
from hansa.errors import ConfigError

_LOGIN_INTERVAL_S = 1.0
_LOOK_INTERVAL_S = 2


def api_command_wrapper(api_command_result: FLAdminAPIResponse) -> FLAdminAPIResponse:
    """Print a response, and raise if the call did not succeed.

    Args:
        api_command_result: What a call of `FLAdminAPI` gave.

    Raises:
        RuntimeError: Its status is not SUCCESS.
    """
    print(api_command_result)
    if api_command_result["status"] != APIStatus.SUCCESS:
        raise RuntimeError(_message(api_command_result))
    return api_command_result


def wait_until_clients_greater_than_cb(reply: FLAdminAPIResponse, min_clients: int = 2) -> bool:
    """Content once enough sites are there; for `wait_until_server_status`.

    Args:
        reply: A response of `check_status` about the server.
        min_clients: How many are enough.
    """
    num_clients: int = reply.get("details", {}).get(FLDetailKey.REGISTERED_CLIENTS, 0)
    return num_clients >= min_clients


class FLAdminAPIRunner:
    """Runs apps without anybody looking on. Logs in when it is made.

    Args:
        host: Not used: the kit names the server.
        port: Not used.
        username: The admin's name, as the kit has it.
        admin_dir: The folder of the admin's kit; apps lie in its folder `transfer`.
        poc: Not used: a proof of concept has kits like any federation.
        debug: Write each call and its response to stderr.
        api: Used instead of one made from the rest.

    Raises:
        ConfigError: It is no admin's kit, or that of somebody else.
    """

    def __init__(
        self,
        host: str,
        port: int,
        username: str,
        admin_dir: str,
        poc: bool = False,
        debug: bool = False,
        *,
        api: FLAdminAPI | None = None,
    ) -> None:
        self.username = username
        root = Path(admin_dir)
        startup, transfer = root / "startup", str(root / "transfer")
        self.api = api or FLAdminAPI(
            host,
            port,
            ca_cert=str(startup / "rootCA.pem"),
            client_cert=str(startup / "client.crt"),
            client_key=str(startup / "client.key"),
            upload_dir=transfer,
            download_dir=transfer,
            poc=poc,
            debug=debug,
        )
        self.attempt_login_until_success()

    def attempt_login_until_success(self) -> None:
        """Log in; where the server does not answer, again and again.

        Raises:
            ConfigError: The kit cannot be used, and would not be the next time.
        """
        said = None
        while (reply := self.api.login(self.username))["status"] is not APIStatus.SUCCESS:
            line = _message(reply)
            if reply["status"] is not APIStatus.ERROR_RUNTIME:
                raise ConfigError(line)
            if line != said:
                said = line
                print(f"cannot log in yet: {line}")
            self.api.pause(_LOGIN_INTERVAL_S)

    def run(
        self,
        run_number: int,
        app: str,
        restart_all_first: bool = False,
        min_clients: int = 2,
        timeout: float = 2000,
        shutdown_on_error: bool = False,
        shutdown_at_end: bool = False,
    ) -> None:
        """Run an app, and print each step. What cannot be done is printed, too, and ends the run.

        Args:
            run_number: The number of the run.
            app: The app, a folder below `transfer`.
            restart_all_first: Nothing is restarted: each job has fresh processes. A line says so.
            min_clients: So many sites must be there first.
            timeout: How long to wait for them, and then for the end, in seconds; the job is not stopped by it.
            shutdown_on_error: Stop the job if a step fails. The federation stays up, and a line says so.
            shutdown_at_end: Stop the job if it is not over when the time is up. The same.
        """
        api, may_run = self.api, False
        try:
            if restart_all_first:
                _say("restart", api.restart(TargetType.ALL))
            self._wait_for_clients(min_clients, timeout)
            print(f"run {run_number} of {app}")
            api_command_wrapper(api.set_run_number(run_number))
            api_command_wrapper(api.upload_app(app))
            api_command_wrapper(api.deploy_app(app, TargetType.ALL))
            api_command_wrapper(api.start_app(TargetType.ALL))
            may_run = True
            print(f"wait until it is over, {timeout} s at most")
            api_command_wrapper(api.wait_until_client_status(timeout=timeout))
            may_run = not default_server_status_handling_cb(api_command_wrapper(api.check_status(TargetType.SERVER)))
        except RuntimeError as error:
            print(f"run {run_number} of {app}: {error}")
            if shutdown_on_error and not shutdown_at_end:
                self._shut_down(may_run=may_run)
        if shutdown_at_end:
            self._shut_down(may_run=may_run)

    def _wait_for_clients(self, min_clients: int, timeout: float) -> None:
        print(f"wait for {min_clients} sites, {timeout} s at most")
        enough = wait_until_clients_greater_than_cb
        api_command_wrapper(
            self.api.wait_until_server_status(_LOOK_INTERVAL_S, timeout, enough, min_clients=min_clients)
        )
        reply = api_command_wrapper(self.api.check_status(TargetType.SERVER))
        if not enough(reply, min_clients):
            there = reply["details"][FLDetailKey.REGISTERED_CLIENTS]
            raise RuntimeError(f"{there} of {min_clients} sites are there after {timeout} s")

    def _shut_down(self, *, may_run: bool) -> None:
        """What an admin may do in the place of a shutdown: stop the job that this run started. Raises nothing."""
        if may_run:
            _say("abort", self.api.abort(TargetType.ALL))
        _say("shutdown", self.api.shutdown(TargetType.ALL))


def _say(name: str, response: FLAdminAPIResponse) -> None:
    print(f"{name}: {_message(response)}")


def _message(response: FLAdminAPIResponse) -> str:
    return str(response.get("details", {}).get("message", response["status"].value))
