"""FLARE's numbered runs on a federation of jobs: what is deployed under a number becomes one job when it is started."""

from __future__ import annotations

from pathlib import Path

from hansa.admin.async_run import AsyncRemoteRun
from hansa.admin.flare_line import FlareLine
from hansa.admin.flare_response import APIStatus, APISyntaxError, NotDone, TargetType
from hansa.errors import ConfigError
from hansa.jobs.job import ALL, SERVER, Job


class FlareRuns:
    """The runs of one `FLAdminAPI`.

    Args:
        line: The session.
        upload_dir: Where apps are taken from.
    """

    def __init__(self, line: FlareLine, upload_dir: str) -> None:
        self.number: int | None = None
        """The number that was set last."""
        self.app_names: dict[int, str] = {}
        """The app of each run that was deployed to."""
        self.workflows: dict[str, str] = {}
        """What the workflow of a job is called, by the job's id."""
        self._line = line
        self._upload_dir = upload_dir
        self._deployed: dict[str, str] = {}  # `server`, `@ALL` for the sites that are not named, and sites: their app
        self._server_waits = False
        self._started: dict[int, AsyncRemoteRun] = {}

    # -- numbers -----------------------------------------------------------------------------------------------

    def set_number(self, number: int) -> str:
        """Choose the run that calls are about; returns a line about it.

        Raises:
            NotDone: Another run is under way.
        """
        _check_number(number)
        run = self._under_way()
        if run is not None and number != self.number:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"run {self.number} is under way as job {run.id}: abort it, or wait")
        if number != self.number:
            self._deployed, self._server_waits = {}, False
        known = number in self._started
        self.number = number
        return f"run {number} {'exists already' if known else 'is new'}; the job that it becomes gets its own number"

    def delete_number(self, number: int) -> str:
        """Forget a run; returns a line about it.

        Raises:
            NotDone: It is under way.
        """
        _check_number(number)
        run = self._started.get(number)
        if run is not None and not self._line.refreshed(run).state.is_over:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"run {number} is under way as job {run.id}: abort it, or wait")
        self._started.pop(number, None)
        self.app_names.pop(number, None)
        if number == self.number:
            self.number, self._deployed, self._server_waits = None, {}, False
        if run is None:
            return f"run {number} is not there; nothing was to be forgotten"
        return f"run {number} is forgotten here; the record of job {run.id} stays on the server"

    # -- apps --------------------------------------------------------------------------------------------------

    def load(self, app: str) -> Job:
        """The app of a name below the upload folder, checked.

        Raises:
            ConfigError: There is none, or it has a mistake.
        """
        if not isinstance(app, str) or not app:
            raise APISyntaxError(f"an app is the name of a folder below upload_dir, not {app!r}")
        return Job.load(Path(self._upload_dir, app))

    def available(self) -> list[str]:
        """The apps in the upload folder."""
        folder = Path(self._upload_dir)
        if not self._upload_dir or not folder.is_dir():
            raise ConfigError("there is no such folder: apps are taken from it", file=self._upload_dir or "upload_dir")
        found = [
            path for path in sorted(folder.iterdir()) if (path / "config").is_dir() or (path / "meta.json").exists()
        ]
        return [path.name for path in found]

    def deploy(self, app: str, target_type: TargetType, *, targets: list[str] | None) -> str:
        """Note who runs an app; returns a line about it.

        Raises:
            NotDone: No number is set, or its run is under way.
            ConfigError: The app is not there, or has a mistake.
        """
        self._check_may_change()
        job = self.load(app)
        if self._is_whole(job) and target_type is not TargetType.ALL:
            raise APISyntaxError(f"{app} says itself who runs what, in meta.json: deploy it with TargetType.ALL")
        match target_type, targets:
            case TargetType.SERVER, _:
                self._deployed[SERVER] = app
            case TargetType.CLIENT, list():
                self._deployed.update(dict.fromkeys(targets, app))
            case TargetType.CLIENT, _:
                self._deployed = {SERVER: self._deployed[SERVER]} if SERVER in self._deployed else {}
                self._deployed[ALL] = app
            case _:
                self._deployed = {SERVER: app, ALL: app}
        if target_type is not TargetType.CLIENT:
            self.app_names[self._numbered()] = job.name
        return f"{app} is deployed in run {self.number}; it travels with its job, when that is started"

    def start(self, target_type: TargetType, targets: list[str] | None) -> str:
        """Submit what is deployed as a job; the server's part waits for that of the sites. Returns a line about it.

        Raises:
            NotDone: Nothing is deployed, the run is under way, or the server was not started before sites.
            ConfigError: The server refuses the job.
        """
        self._check_may_change()
        if SERVER not in self._deployed:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"nothing is deployed to the server in run {self.number}")
        if target_type is TargetType.SERVER:
            self._server_waits = True
            return "the server starts together with the sites: start them, too"
        if target_type is TargetType.CLIENT and not self._server_waits:
            raise NotDone(APIStatus.ERROR_RUNTIME, "start the app on the server first, or on all")
        job = self._job(targets)
        run = self._line.submit(job)
        self._server_waits = False
        self._started[self._numbered()] = run
        self.workflows[run.id] = _workflow(job)
        return f"run {self.number} is job {run.id}"

    def _job(self, sites: list[str] | None) -> Job:
        """What is deployed, as one job."""
        server = self._deployed[SERVER]
        if sites is None and self._deployed == {SERVER: server, ALL: server}:
            return self.load(server)
        who = self._deployed if sites is None else {SERVER: server, **{site: self._app_of(site) for site in sites}}
        if set(who) == {SERVER}:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"nothing is deployed to any site in run {self.number}")
        targets: dict[str, list[str]] = {}
        for target, app in who.items():
            targets.setdefault(app, []).append(target)
        jobs = {app: self.load(app) for app in targets}
        if whole := next((app for app, job in jobs.items() if self._is_whole(job)), None):
            raise APISyntaxError(
                f"{whole} says itself who runs what, in meta.json: start it with TargetType.ALL, alone"
            )
        if len({Path(app).name for app in jobs}) < len(jobs):
            raise APISyntaxError(f"two apps of one name: {', '.join(jobs)}")
        return Job(
            jobs[server].name,
            {Path(app).name: job.apps["app"] for app, job in jobs.items()},
            {Path(app).name: tuple(names) for app, names in targets.items()},
        )

    def _app_of(self, site: str) -> str:
        app = self._deployed.get(site, self._deployed.get(ALL))
        if app is None:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"nothing is deployed to {site} in run {self.number}")
        return app

    @staticmethod
    def _is_whole(job: Job) -> bool:
        """Whether it is more than a bare app."""
        return dict(job.deploy_map) != {"app": (ALL,)} or bool(job.meta) or job.min_sites is not None

    # -- the job that calls are about --------------------------------------------------------------------------

    def started(self) -> AsyncRemoteRun | None:
        """The job of the number, if it was started."""
        return None if self.number is None else self._started.get(self.number)

    @property
    def starts(self) -> bool:
        """Whether the server was started, and the sites are to follow."""
        return self._server_waits

    def current(self) -> AsyncRemoteRun | None:
        """The job of the number; where none is set, this admin's newest one that is not over."""
        if self.number is not None:
            return self.started()
        open_jobs = [job for job in self._line.jobs() if not job.state.is_over]
        return self._line.run(open_jobs[-1].id) if open_jobs else None

    def read_from(self, number: int | None) -> AsyncRemoteRun:
        """The job of a number, or without one the current job, or else this admin's newest, whose logs are read.

        Raises:
            NotDone: There is none.
        """
        if number is not None and number not in self._started:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"run {number} was not started in this session")
        run = self._started[number] if number is not None else self.current()
        if run is None and self.number is None and (jobs := self._line.jobs()):
            run = self._line.run(jobs[-1].id)
        if run is None:
            raise NotDone(APIStatus.ERROR_RUNTIME, "there is no log: no app was started")
        return run

    def _under_way(self) -> AsyncRemoteRun | None:
        run = self.started()
        return None if run is None or self._line.refreshed(run).state.is_over else run

    def _check_may_change(self) -> None:
        if self._numbered() in self._started and (run := self._under_way()) is not None:
            raise NotDone(APIStatus.ERROR_RUNTIME, f"run {self.number} is under way as job {run.id}: abort it, or wait")

    def _numbered(self) -> int:
        if self.number is None:
            raise NotDone(APIStatus.ERROR_RUNTIME, "no run number is set: call set_run_number(n) first")
        return self.number


def _check_number(number: int) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise APISyntaxError(f"a run number is a whole number from 1, not {number!r}")


def _workflow(job: Job) -> str:
    """What FLARE calls the group of a workflow's figures: its class; of several workflows, none in particular."""
    entries = list((job.server_app.server or {}).get("workflows", ()))
    if len(entries) != 1:
        return "workflow"
    return str(entries[0].get("name") or entries[0].get("path", "workflow")).rpartition(".")[2]
