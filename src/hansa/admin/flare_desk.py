"""The calls of FLARE's admin API that look: status, figures, errors, logs; and those that are refused."""

from __future__ import annotations

from hansa.admin import flare_files, flare_views
from hansa.admin.flare_line import FlareLine
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
from hansa.admin.flare_spec import FLAdminAPISpec
from hansa.jobs.job import SERVER

_NO_STEERING = "no admin {does} here: whoever runs a machine starts and ends the server or the site on it"


class FlareDesk(FLAdminAPISpec):
    """The part of `FLAdminAPI` that changes nothing.

    Args:
        line: The session.
        runs: The numbered runs.
        debug: Write each call and its response to stderr.
    """

    def __init__(self, line: FlareLine, runs: FlareRuns, *, debug: bool = False) -> None:
        self.debug = debug
        self._line = line
        self._runs = runs
        self._num_reset: dict[str, int] = {}

    # -- how it stands -----------------------------------------------------------------------------------------

    @answers
    def check_status(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        whom, wanted = self._targets(target_type, targets)
        if whom is TargetType.ALL:
            raise APISyntaxError("check_status is about TargetType.SERVER or TargetType.CLIENT")
        sites = self._line.sites()
        run = self._runs.current()
        job = None if run is None else self._line.refreshed(run)
        number = self._runs.number or (job.number if job is not None else None)
        app = job.name if job is not None else self._runs.app_names.get(number or 0, "?")
        status = {FLDetailKey.SERVER_ENGINE_STATUS.value: flare_views.engine_status(job, starts=self._runs.starts)}
        if whom is TargetType.CLIENT:
            table = flare_views.client_table(job, sites, app=app, number=number, wanted=wanted)
            return succeeded(**status, client_statuses=table)
        found = {
            FLDetailKey.RUN_NUMBER.value: number,
            FLDetailKey.APP_NAME.value: app,
            FLDetailKey.REGISTERED_CLIENTS.value: sum(site.connected for site in sites),
            FLDetailKey.STATUS_TABLE.value: flare_views.server_table(sites),
        }
        return succeeded(flare_views.job_line(job), **status, **found)

    @answers
    def get_connected_client_list(self) -> FLAdminAPIResponse:
        names = [site.name for site in self._line.sites() if site.connected]
        return succeeded(**{FLDetailKey.CONNECTED_CLIENTS.value: names})

    @answers
    def show_stats(  # type: ignore[override]  # FLARE's own spec has no targets
        self, target_type: TargetType, targets: list[str] | None = None
    ) -> FLAdminAPIResponse:
        """How far the run is, by group."""
        whom, wanted = self._targets(target_type, targets)
        run = self._runs.current()
        if run is None:
            return succeeded(flare_views.job_line(None))
        job, number = self._line.refreshed(run), self._runs.number or run.record.number
        if whom is TargetType.CLIENT:
            return succeeded(flare_views.client_stats(job, number=number, wanted=wanted or list(job.sites)))
        history = self._line.caught_up(run).history
        workflow = self._runs.workflows.get(run.id, "workflow")
        return succeeded(flare_views.server_stats(job, history, number=number, workflow=workflow))

    @answers
    def show_errors(  # type: ignore[override]  # FLARE's own spec has no targets
        self, target_type: TargetType, targets: list[str] | None = None
    ) -> FLAdminAPIResponse:
        """What went wrong in the run, by what was under way."""
        whom, wanted = self._targets(target_type, targets)
        run = self._runs.current()
        if run is None:
            return succeeded({})
        job = self._line.refreshed(run)
        problems = self._line.caught_up(run).problems[self._num_reset.get(run.id, 0) :]
        if whom is TargetType.CLIENT:
            return succeeded({site: flare_views.errors_at(problems, site) for site in wanted or job.sites})
        return succeeded(flare_views.server_errors(job, problems))

    @answers
    def reset_errors(self) -> FLAdminAPIResponse:
        run = self._runs.current()
        if run is not None:
            self._num_reset[run.id] = len(self._line.caught_up(run).problems)
        return succeeded("errors are shown from here on; the run's record keeps them all")

    # -- logs --------------------------------------------------------------------------------------------------

    @answers
    def ls_target(self, target: str, options: str | None = None, path: str | None = None) -> FLAdminAPIResponse:
        text = flare_files.listed(options, path)
        self._log(target, lines=1)
        return succeeded(text)

    @answers
    def cat_target(self, target: str, options: str | None = None, file: str | None = None) -> FLAdminAPIResponse:
        number = flare_files.named_run(file, call="cat_target")
        return succeeded(flare_files.shown(self._log(target, number=number), options))

    @answers
    def tail_target_log(self, target: str, options: str | None = None) -> FLAdminAPIResponse:
        lines, num_bytes = flare_files.tail_lines(options)
        return succeeded(flare_files.last_bytes(self._log(target, lines=lines), num_bytes))

    @answers
    def grep_target(
        self, target: str, options: str | None = None, pattern: str | None = None, file: str | None = None
    ) -> FLAdminAPIResponse:
        number = flare_files.named_run(file, call="grep_target")
        return succeeded(flare_files.fitting(self._log(target, number=number), options, pattern))

    def _log(self, target: str, *, number: int | None = None, lines: int = flare_files.ALL_LINES) -> str:
        if target != SERVER:
            self._targets(TargetType.CLIENT, [target])
        return self._line.log(self._runs.read_from(number), target, lines=lines)

    # -- what no admin does here -------------------------------------------------------------------------------

    @answers
    def restart(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        self._targets(target_type, targets)
        line = _NO_STEERING.format(does="restarts participants")
        raise NotDone(APIStatus.ERROR_AUTHORIZATION, f"{line}; each job has fresh processes anyway")

    @answers
    def shutdown(self, target_type: TargetType, targets: list[str] | None = None) -> FLAdminAPIResponse:
        self._targets(target_type, targets)
        line = _NO_STEERING.format(does="shuts participants down")
        raise NotDone(APIStatus.ERROR_AUTHORIZATION, f"{line}; abort(TargetType.ALL) stops a job")

    @answers
    def remove_client(self, targets: list[str]) -> FLAdminAPIResponse:
        self._targets(TargetType.CLIENT, targets)
        raise NotDone(APIStatus.ERROR_AUTHORIZATION, _NO_STEERING.format(does="removes sites"))

    @answers
    def env_target(self, target: str) -> FLAdminAPIResponse:
        raise NotDone(APIStatus.ERROR_AUTHORIZATION, f"the environment of {target} is not shown to admins")

    @answers
    def get_working_directory(self, target: str) -> FLAdminAPIResponse:
        raise NotDone(APIStatus.ERROR_AUTHORIZATION, f"where {target} lives on its machine is not shown to admins")

    @answers
    def set_timeout(self, timeout: float) -> FLAdminAPIResponse:
        if not timeout > 0:
            raise APISyntaxError(f"a timeout is a number of seconds above 0, not {timeout!r}")
        return succeeded("nothing to set: only logs are asked of sites, with a deadline of their own")

    # -- whom a call is about ----------------------------------------------------------------------------------

    def _targets(self, target_type: TargetType, targets: list[str] | None) -> tuple[TargetType, list[str] | None]:
        """Whom a call is about, checked; no names are all.

        Raises:
            APISyntaxError: They are no targets.
            NotDone: There is no such site.
        """
        try:
            whom = TargetType(target_type)
        except ValueError:
            raise APISyntaxError(f"target_type is one of TargetType, not {target_type!r}") from None
        if not targets:
            return whom, None
        if not isinstance(targets, list | tuple) or not all(isinstance(each, str) for each in targets):
            raise APISyntaxError(f"targets is a list of names of sites, not {targets!r}")
        if whom is not TargetType.CLIENT:
            raise APISyntaxError(f"targets go with TargetType.CLIENT, not with {whom}")
        known = {site.name for site in self._line.sites()}
        if unknown := [name for name in targets if name not in known]:
            there = ", ".join(sorted(known)) or "none"
            raise NotDone(APIStatus.ERROR_INVALID_CLIENT, f"there is no site {', '.join(unknown)} (there is {there})")
        return whom, list(targets)
