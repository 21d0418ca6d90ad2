"""The worker processes of a run: started together, replaced when they die, and gone at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hansa.runtime.devices import NvidiaDevices
from hansa.runtime.environment import THREAD_VARIABLES
from hansa.runtime.options import Setting
from hansa.runtime.packing import Packing
from hansa.runtime.placement import placement
from hansa.runtime.site_factory import SiteApp
from hansa.runtime.worker_process import OnFrame, WorkerProcess, accept_all
from hansa.runtime.worker_words import ToWorker
from hansa.wire.local_socket import LocalListener
from hansa.wire.message import Message
from hansa.wire.slots import SlotPool


@dataclass(frozen=True)
class WorkerPlan:
    """What workers are for.

    Attributes:
        setting: Sites, seed, number of workers.
        folder: The run's folder.
        workspaces: Where sites have their workspaces.
        apps: The application of each site.
        alias: Whether `nvflare` stands for Hansa there.
        ended: Sites whose part of the run was over before these processes, and why.
        states: What components of sites knew in processes before these.
    """

    setting: Setting
    folder: Path
    workspaces: Path
    apps: Mapping[str, SiteApp]
    alias: bool
    ended: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[str, Message] = field(default_factory=dict)


class Staff:
    """The workers of a run.

    Every site lives in one worker: the sites in code point order are cut into runs of equal length, so that a worker
    holds whole subtrees of the fold's tree.

    Args:
        plan: What they are for.
        on_frame: Told of what they say, on a thread of each.
    """

    def __init__(self, plan: WorkerPlan, on_frame: OnFrame) -> None:
        self.pool = SlotPool(plan.folder, quota_bytes=_memory_bytes(plan.setting))
        self._plan = plan
        self._on_frame = on_frame
        self._listener = LocalListener(plan.folder)
        self.workers = [
            WorkerProcess(number, names, folder=plan.folder)
            for number, names in enumerate(placement(sorted(plan.apps), plan.setting.workers))
        ]
        self.packing = _packing(plan.setting, len(self.workers))
        self._home = {name: worker.number for worker in self.workers for name in worker.names}

    def of(self, site: str) -> WorkerProcess:
        """The worker that has a site."""
        return self.workers[self._home[site]]

    def launch(self) -> None:
        """Start all processes; they come up while the caller goes on.

        Raises:
            RunError: The system cannot.
        """
        for worker in self.workers:
            self._launch(worker)

    def connect(self, workers: Sequence[WorkerProcess]) -> None:
        """Wait for processes to connect, and tell them what to make.

        Raises:
            RunError: One does not.
        """
        apps = list({id(app): app for app in self._plan.apps.values()}.values())
        setting = self._plan.setting
        for worker, sock in accept_all(workers, self._listener):
            worker.connect(sock, self.pool, on_frame=self._on_frame)
            worker.send_build(
                ToWorker.BUILD,
                {
                    "seed": setting.seed,
                    "threads": setting.threads,
                    "ahead": setting.options.results_ahead,
                    "workspaces": str(self._plan.workspaces),
                    "sys_path": sys.path,
                    "python_path": os.environ.get("PYTHONPATH"),
                    "alias": self._plan.alias,
                    "ended": {name: self._plan.ended[name] for name in worker.names if name in self._plan.ended},
                    "apps": [
                        [str(app.folder), app.config, app.config_file, app.linked, app.from_folder] for app in apps
                    ],
                    "sites": [[name for name in worker.names if self._plan.apps[name] is app] for app in apps],
                },
            )

    def replace(self, old: WorkerProcess, states: Mapping[str, Message]) -> WorkerProcess:
        """Start another process in the place of one that is gone.

        Args:
            old: The one that is gone.
            states: What the components of its sites knew last.

        Raises:
            RunError: It cannot be started.
        """
        old.close()
        worker = WorkerProcess(old.number, old.names, folder=self._plan.folder)
        self.workers[old.number] = worker
        self._launch(worker)
        self.connect([worker])
        worker.send_start(states)
        return worker

    def close(self, timeout_s: float) -> None:
        """End whatever runs still, and leave nothing of it."""
        self._listener.close()
        for worker in self.workers:
            worker.close(timeout_s)
        self.workers.clear()
        self.pool.close()

    def _launch(self, worker: WorkerProcess) -> None:
        environment = dict.fromkeys(THREAD_VARIABLES, str(self._plan.setting.threads))
        if self.packing is not None:
            environment |= self.packing.environment(worker.number)
        worker.launch(self._listener.address, environment, memory_bytes=_memory_bytes(self._plan.setting))


def _memory_bytes(setting: Setting) -> int:
    """How much the memory files of one process may take."""
    if setting.options.memory_bytes is not None:
        return setting.options.memory_bytes
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // (setting.workers + 1)


def _packing(setting: Setting, num_workers: int) -> Packing | None:
    """The policy for the devices of this machine; None where there are none, or none are wanted."""
    options = setting.options
    if not options.gpus:
        return None
    found = (options.devices or NvidiaDevices()).found()
    return Packing(found, num_workers, limits=options.packing) if found else None
