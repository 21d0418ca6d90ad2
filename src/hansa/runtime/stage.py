"""Everything one simulated run is made of, built from a job and taken down again."""

from __future__ import annotations

import logging
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

import numpy as np

import hansa
from hansa import tensors
from hansa.apis.app_constant import AppConstants
from hansa.apis.client import Client
from hansa.apis.signal import Signal
from hansa.errors import ConfigError, RunError
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode, check_shared
from hansa.jobs.job import Job
from hansa.runtime import user_code
from hansa.runtime.engines import Services
from hansa.runtime.event_loop import EventLoop
from hansa.runtime.history import RunHistory
from hansa.runtime.later import LaterWriter
from hansa.runtime.memory_link import MemoryLink
from hansa.runtime.outbox import Outbox
from hansa.runtime.participants import SERVER, Place, RunParts, ServerEnd, SiteEnd, make_server, make_site
from hansa.runtime.phases import Phases
from hansa.runtime.run import Problem, Run, RunStatus, Timings
from hansa.runtime.run_folder import HISTORY, MODEL, PROBLEMS, RunFolder
from hansa.runtime.seeding import seed_everything, task_seed
from hansa.runtime.server_side import ServerSettings, ServerSide
from hansa.runtime.site_side import SiteSettings, SiteSide

_logger = logging.getLogger("hansa.run")
_building: ContextVar[bool] = ContextVar("building", default=False)


class Stage:
    """Server, sites, link, workspaces and record of one run.

    Args:
        job: What is run.
        names: The sites.
        seed: The job's seed.
        folder: Where the run is kept.
        loop: Clock and waiting place.

    Raises:
        ConfigError: The job cannot be built.
    """

    def __init__(self, job: Job, names: Sequence[str], *, seed: int, folder: RunFolder, loop: EventLoop) -> None:
        self.loop = loop
        self.phases = Phases()
        self._job = job
        self._folder = folder
        self._seed = seed
        self._names = list(names)
        self._clients = {name: Client(name, "") for name in sorted(names)}
        self._abort = Signal()
        self._cleanup = ExitStack()
        self.writer = LaterWriter(self._write_failed)
        history = RunHistory(self._keep_line, now=time.perf_counter)
        self.run = Run(
            folder.path.name, folder.path, RunStatus.RUNNING, history, Timings(0.0, 0.0, 0.0), config=self._config()
        )
        self.num_rounds: int | None = None
        self._builder: Builder
        self.server: ServerSide
        self.sites: dict[str, SiteSide] = {}

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

    def live_clients(self) -> Sequence[Client]:
        """The sites that take part, by name."""
        return [client for name, client in self._clients.items() if name in self.sites and self.sites[name].alive]

    def start(self) -> None:
        """START_RUN at the server, then at each site."""
        self.write_record()
        self.server.start()
        for name in sorted(self.sites):
            self.sites[name].start()

    def end(self) -> None:
        """END_RUN at each site, then at the server; the model goes into the folder."""
        for name in sorted(self.sites):
            self.sites[name].end()
        self.server.end()
        self.run.history.finish()
        self.writer.finish_writes()
        kept = user_code.call(self._keep_model)  # whatever a workflow calls a model, the run is over and well
        if isinstance(kept, user_code.Failure):
            self.failed(user_code.Mishap(SERVER, "global model"), kept)

    def _keep_model(self) -> None:
        model = self._global_model()
        self.run._model = model
        if not model:
            return
        try:
            tensors.write(self._folder.path / MODEL, model)
        except OSError as error:
            self.server.outcome.failures.append(RunError(f"cannot write the global model: {error.strerror}"))
            raise

    def write_record(self) -> None:
        """Write the run's record as it stands."""
        run = self.run
        self._folder.write_record(
            {
                "status": run.status.value,
                "cause": run.cause,
                "config": run.config,
                "timings": run.timings.as_dict(),
                "outboxes": {name: vars(outbox.sent) for name, outbox in self._outboxes().items()},
            }
        )

    def _outboxes(self) -> dict[str, Outbox]:
        return {SERVER: self.server.outbox, **{name: side.outbox for name, side in sorted(self.sites.items())}}

    def failed(self, mishap: user_code.Mishap, failure: user_code.Failure) -> None:
        """User code raised: keep it with the run and log it."""
        problem = Problem(mishap.site, mishap.where, failure.cause)
        self.run.problems.append(problem)
        with suppress(OSError):  # a full disk; it must not end the thread that has to report it
            self._folder.append(PROBLEMS, vars(problem))
        _logger.error("%s\n%s", problem, failure.detail)

    def _keep_line(self, line: dict[str, Any]) -> None:  # Any: JSON
        self._folder.append_later(HISTORY, line)
        self.writer.write_later("the history", self._folder.flush)

    def _write_failed(self, what: str, failure: user_code.Failure) -> None:
        self.failed(user_code.Mishap(SERVER, f"writing {what}"), failure)
        self.server.panic(f"cannot write {what}: {failure.cause}")

    def _build(self, cleanup: ExitStack) -> None:
        job = self._job
        if job.min_sites is not None and job.min_sites > len(self._names):
            raise ConfigError(
                f"the job needs {job.min_sites} sites, the run has {len(self._names)}", file=job.name, key="min_clients"
            )
        for name in job.meta.get("mandatory_clients", ()):
            if name not in self._names:
                raise ConfigError(f"the run has no site {name!r}", file=job.name, key="mandatory_clients")
        places = self._deploy()
        self._builder = Builder(
            ClassPolicy.simulator(), known=job.classes, custom=self._import_custom_code(places, cleanup)
        )
        link = MemoryLink(self.failed)
        cleanup.callback(self.writer.close)
        shared = RunParts(link, Services(self.loop, self.run.history, self.writer), job.name, self._abort)
        server_end = self._build_server(places[SERVER], shared)
        ends = {name: self._build_site(name, place, shared) for name, place in places.items() if name != SERVER}
        link.join(server_end, ends)

    def _import_custom_code(self, places: Mapping[str, Place], cleanup: ExitStack) -> frozenset[str]:
        """Put the code of every app on the import path, once each; returns the modules."""
        homes: dict[str, Place] = {}
        for name, app in self._job.apps.items():
            for who, place in places.items():
                if self._job.app_for(who) is app:
                    homes.setdefault(name, place)
        check_shared({name: self._job.apps[name] for name in homes})
        codes = [cleanup.enter_context(CustomCode(place.app_folder / "custom")) for place in homes.values()]
        return frozenset().union(*(code.modules for code in codes))

    def _deploy(self) -> dict[str, Place]:
        workspaces = (self._folder.path / "workspace").absolute()
        places = {}
        for name in (SERVER, *self._names):
            app = self._job.server_app if name == SERVER else self._job.app_for(name)
            if app is None:
                raise ConfigError(f"no app goes to {name}", file=self._job.name, key="deploy_map")
            places[name] = Place.of(workspaces, name)
            app.deploy(places[name].app_folder, Side.SERVER if name == SERVER else Side.CLIENT)
        return places

    def _build_server(self, place: Place, shared: RunParts) -> ServerEnd:
        seed_everything(task_seed(self._seed, f"build/{SERVER}"))
        app = self._job.server_app
        config = app.config(Side.SERVER, num_sites=len(self._names))
        wanted = [workflow.get("args", {}).get("num_rounds") for workflow in config["workflows"]]
        self.num_rounds = sum(n for n in wanted if isinstance(n, int)) or None
        self.server, end = make_server(
            ServerSettings(self._seed, self.failed, self.phases),
            self._builder.server(config, app.config_file(Side.SERVER)),
            place,
            shared=shared,
            clients=self.live_clients,
            builder=self._builder,
        )
        return end

    def _build_site(self, name: str, place: Place, shared: RunParts) -> SiteEnd:
        seed_everything(task_seed(self._seed, f"build/{name}"))
        app = self._job.app_for(name)
        assert app is not None
        config = app.config(Side.CLIENT, num_sites=len(self._names))
        settings = SiteSettings(name, self._seed, self.failed, self.phases)
        parts = self._builder.client(config, app.config_file(Side.CLIENT))
        self.sites[name], end = make_site(settings, parts, place, shared=shared, builder=self._builder)
        return end

    def _global_model(self) -> dict[str, np.ndarray[Any, Any]]:  # Any: tensors of every dtype
        with self.server.engine.new_context() as fl_ctx:
            model = fl_ctx.get_prop(AppConstants.GLOBAL_MODEL)
        weights = model.get("weights") if isinstance(model, dict) else None
        if not isinstance(weights, dict):
            return {}
        return {str(name): np.asarray(value) for name, value in weights.items()}

    def _config(self) -> dict[str, Any]:  # Any: JSON
        return {
            "job": self._job.name,
            "sites": self._names,
            "seed": self._seed,
            "versions": {
                "hansa": hansa.__version__,
                "numpy": np.__version__,
                "python": platform.python_version(),
                "platform": sys.platform,
            },
        }
