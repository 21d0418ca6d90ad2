"""Everything one simulated run is made of, built from a job and taken down again."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hansa.apis.client import Client
from hansa.apis.signal import Signal
from hansa.errors import ConfigError
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode, check_names, check_shared
from hansa.jobs.flare_alias import is_served, served_for
from hansa.jobs.job import Job
from hansa.jobs.workflow_check import check_workflows
from hansa.runtime.checkpoint import Begun, Checkpoints
from hansa.runtime.engines import Services
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.host import MOST_EAGER, HostSettings, SiteHost
from hansa.runtime.local_crew import LocalCrew
from hansa.runtime.memory_link import MemoryLink
from hansa.runtime.options import Setting
from hansa.runtime.outbox import Sent
from hansa.runtime.participants import SERVER, Headquarters, Place, RunParts, ServerEnd, SiteEnd, make_server
from hansa.runtime.phases import Phases
from hansa.runtime.rank_host import Ranks
from hansa.runtime.run import Problem
from hansa.runtime.run_folder import PROBLEMS, RunFolder, read_lines
from hansa.runtime.run_record import RunRecord, config_of, versions
from hansa.runtime.script_check import check_scripts
from hansa.runtime.script_host import Scripts
from hansa.runtime.seeding import seed_everything, task_seed
from hansa.runtime.server_side import ServerSettings, ServerSide
from hansa.runtime.site_factory import FoldRules, SiteApp, SiteFactory
from hansa.runtime.site_side import SiteSide
from hansa.runtime.worker_crew import CrewTold, WorkerCrew
from hansa.runtime.worker_staff import WorkerPlan
from hansa.wire.blobs import Allocate
from hansa.wire.buffers import Recycler

_logger = logging.getLogger("hansa.run")
_building: ContextVar[bool] = ContextVar("building", default=False)


class Stage:
    """Server, sites, link, workspaces and record of one run.

    Args:
        job: What is run.
        setting: Sites, seed, workers.
        folder: Where the run is kept.
        loop: Clock and waiting place.
        checkpoints: Where its progress is kept, and where it goes on; None: nowhere.

    Raises:
        ConfigError: The job cannot be built.
    """

    def __init__(
        self,
        job: Job,
        setting: Setting,
        *,
        folder: RunFolder,
        loop: EventLoop,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.loop = loop
        self.phases = Phases()
        self._job = job
        self._folder = folder
        self._setting = setting
        self._names = sorted(setting.names)
        tags = {**job.meta.get("site_tags", {}), **setting.options.tags}
        self._clients = {name: _client(name, tags.get(name, ())) for name in self._names}
        self._abort = Signal()
        self._cleanup = ExitStack()
        self.threads = setting.threads
        times = setting.options.times
        self.times = None if times is None else times.seeded(setting.seed)
        self._began = loop.now()
        self._checkpoints = checkpoints
        self._begun = Begun() if checkpoints is None else checkpoints.begun
        self._record = RunRecord(folder, self._begun.config or self._config(), clock=loop.now)
        self.run, self.writer, self.failed = self._record.run, self._record.writer, self._record.failed
        self.num_rounds: int | None = None
        self.server: ServerSide
        self.crew: LocalCrew | WorkerCrew

    def __enter__(self) -> Self:
        if _building.get():
            raise ConfigError(
                "simulate() was called while a job's own code was being imported; put the call in your script under "
                "if __name__ == '__main__':",
                file=self._job.name,
            )
        token = _building.set(True)
        try:
            with ExitStack() as cleanup:
                self._build(cleanup)
                self._cleanup = cleanup.pop_all()
        finally:
            _building.reset(token)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._cleanup.close()

    def live_clients(self) -> dict[str, Client]:
        """The sites that take part, by name."""
        for name in self.crew.ended:
            self._clients.pop(name, None)
        return self._clients

    @property
    def virtual_seconds(self) -> float:
        """How far the virtual clock has come since the run was set up."""
        return self.loop.now() - self._began

    def start(self) -> None:
        """START_RUN at the server, then at each site that is there."""
        if self._begun.progress.version:
            self._take_up()
        self.write_record()
        self.server.start()
        self.crew.start()

    def _take_up(self) -> None:
        """Go on with the history and the problems of the run; not before everything is built."""
        self._record.resume(self._begun.history_lines)
        self._folder.mend(PROBLEMS)
        self.run.problems[:] = [Problem(**line) for line in read_lines(self._folder.path / PROBLEMS)]

    def end(self) -> None:
        """END_RUN at each site, then at the server; the model goes into the folder."""
        self.crew.end()
        self.server.end()
        self._record.end(self.server)

    def write_record(self) -> None:
        """Write the run's record as it stands."""
        self._record.write(self._sent())

    def _sent(self) -> dict[str, Sent]:
        return {SERVER: self.server.outbox.sent, **self.crew.sent()}

    def _build(self, cleanup: ExitStack) -> None:
        job = self._job
        if job.min_sites is not None and job.min_sites > len(self._names):
            raise ConfigError(
                f"the job needs {job.min_sites} sites, the run has {len(self._names)}", file=job.name, key="min_clients"
            )
        for name in job.meta.get("mandatory_clients", ()):
            if name not in self._names:
                raise ConfigError(f"the run has no site {name!r}", file=job.name, key="mandatory_clients")
        if self.times is not None:
            self.times.check_sites(self._names)
        cleanup.enter_context(served_for(job))
        for app in job.apps.values():  # before it is copied: the line names the user's file
            check_names(app)
        apps = self._site_apps()
        check_scripts(apps)
        place = Place.of(self._workspaces, SERVER)
        job.server_app.deploy(place.app_folder, Side.SERVER)
        custom = self._import_custom_code(place, apps, cleanup)
        builder = Builder(ClassPolicy.simulator(), known=job.classes, custom=custom)
        cleanup.callback(self.writer.close)
        if self._setting.workers:
            self._build_with_workers(place, apps, builder=builder, cleanup=cleanup)
        else:
            ranks = Ranks(self._folder.path.absolute(), threads=self.threads, custom=custom)
            cleanup.callback(ranks.close)
            self._build_in_process(place, apps, builder=builder, ranks=ranks, cleanup=cleanup)
        if self._checkpoints is not None:
            self._checkpoints.attend(self.server, self.crew, record=self._record)

    @property
    def _workspaces(self) -> Path:
        return (self._folder.path / "workspace").absolute()

    def _site_apps(self) -> dict[str, SiteApp]:
        """The application of each site, by the site's name; its files are written for all of them once."""
        apps = self._setting.apps
        made: dict[int, SiteApp] = {}
        of_site = {}
        for name in self._names:
            app_name = self._job.app_name_for(name)
            if app_name is None:
                raise ConfigError(f"no app goes to {name}", file=self._job.name, key="deploy_map")
            app = apps[app_name]
            if id(app) not in made:
                config = app.config(Side.CLIENT, num_sites=len(self._names))
                folder = self._folder.path.absolute() / "job" / app_name
                app.deploy(folder, Side.CLIENT)
                made[id(app)] = SiteApp(
                    folder,
                    config,
                    app.config_file(Side.CLIENT),
                    linked=len(self._names) > MOST_EAGER,
                    from_folder=not app.checked,
                )
            of_site[name] = made[id(app)]
        return of_site

    def _import_custom_code(self, place: Place, apps: Mapping[str, SiteApp], cleanup: ExitStack) -> frozenset[str]:
        """Put the code that runs in this process on the import path; returns the modules."""
        folders = [place.app_folder]
        if not self._setting.workers:
            here = {self._job.app_name_for(name) for name in (SERVER, *self._names)}
            check_shared({name: app for name, app in self._job.apps.items() if name in here})
            folders += dict.fromkeys(app.folder for app in apps.values())
        codes = [cleanup.enter_context(CustomCode(folder / "custom")) for folder in folders]
        return frozenset().union(*(code.modules for code in codes))

    def _build_in_process(
        self, place: Place, apps: Mapping[str, SiteApp], *, builder: Builder, ranks: Ranks, cleanup: ExitStack
    ) -> None:
        setting = self._setting
        link = MemoryLink(self.failed)
        scripts = Scripts(self._folder.path.absolute(), threads=self.threads)
        cleanup.callback(scripts.close)
        shared = RunParts(link, self._abort, builder, scripts, ranks)
        recycler = Recycler()
        self._build_server(place, shared, allocate=Recycler())
        factory = SiteFactory(
            apps.__getitem__,
            partial(Place.of, self._workspaces),
            seed=setting.seed,
            shared=shared,
            allocate=recycler,
            told=(self.failed, self.phases),
        )
        host = SiteHost(
            self._names,
            factory.make,
            open_fold=FoldRules(shared.builder).open,
            settings=HostSettings(setting.seed, self._abort, recycler, self.failed),
        )
        host.ended.update(self._begun.ended)
        self.crew = crew = LocalCrew(host, None if self._checkpoints is None else self._begun.states)
        link.join(ServerEnd(self.server), lambda name: _end_of(crew.find(name)))
        host.make_all()

    def _build_with_workers(
        self, place: Place, apps: Mapping[str, SiteApp], *, builder: Builder, cleanup: ExitStack
    ) -> None:
        crew = WorkerCrew(
            WorkerPlan(
                self._setting,
                self._folder.path.absolute(),
                self._workspaces,
                apps,
                alias=is_served(),
                ended=self._begun.ended,
                states=self._begun.states,
            ),
            CrewTold(self.failed, self.loop.notify, self._abort, self.phases),
        )
        self.crew = crew
        cleanup.callback(crew.close)
        crew.launch()
        self._build_server(
            place, RunParts(crew.aux, self._abort, builder), allocate=crew.pool.allocate, may_fold=crew.may_fold
        )
        crew.wait_until_ready(ServerEnd(self.server))

    def _build_server(self, place: Place, shared: RunParts, *, allocate: Allocate, may_fold: bool = True) -> None:
        setting = self._setting
        seed_everything(task_seed(setting.seed, f"build/{SERVER}"))
        app = self._job.server_app
        config = app.config(Side.SERVER, num_sites=len(self._names))
        check_workflows(config, app.config_file(Side.SERVER), num_sites=len(self._names))
        wanted = [workflow.get("args", {}).get("num_rounds") for workflow in config["workflows"]]
        self.num_rounds = sum(n for n in wanted if isinstance(n, int)) or None
        self.server, _ = make_server(
            ServerSettings(
                setting.seed,
                self.failed,
                self.phases,
                allocate=allocate,
                may_fold=setting.options.times is None and may_fold,
                keep_progress=None if self._checkpoints is None else self._checkpoints.keep,
                begun=self._begun.progress,
            ),
            shared.builder.server(config, app.config_file(Side.SERVER)),
            place,
            shared=shared,
            office=Headquarters(
                Services(self.loop, self.run.history, self.writer, {"run": self.run.id, **self.run.config}),
                self._job.name,
                lambda: list(self.live_clients().values()),
            ),
        )
        self._record.on_panic = self.server.panic
        self.server.progress.on_restored = self._begun.put_randomness_back

    def _config(self) -> dict[str, Any]:  # Any: JSON
        setting = self._setting
        told = config_of(self._job, setting.names, seed=setting.seed, workers=setting.workers, threads=setting.threads)
        times = {} if self.times is None else {"times": dict(self.times.config)}
        kept = {} if self._checkpoints is None else {"checkpoint_every": self._checkpoints.facts["every"]}
        return {**told, **times, **kept, "versions": versions()}


def _client(name: str, tags: Sequence[str]) -> Client:
    client = Client(name, "")
    if tags:
        client.props["tags"] = list(tags)
    return client


def _end_of(side: SiteSide | None) -> SiteEnd | None:
    return None if side is None else SiteEnd(side)
