"""What a simulation may be told beyond the job, its sites and the number of workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from hansa.jobs.job import App, Job
from hansa.runtime.devices import Devices
from hansa.runtime.packing import PackingLimits
from hansa.runtime.site_times import SiteTimes

_ALIKE_S = 0.001


@dataclass(frozen=True)
class SimulatorOptions:
    """How a run is simulated; the defaults suit most.

    Attributes:
        tags: Tags of sites, by the site's name, for sampling by tag.
        times: How long the sites' work and messages take on the virtual clock; None: no time at all.
        threads_per_site: How many threads numeric libraries may use for one site; None: as the job says, else 1. A
            result may depend on it, so it never follows from the number of workers.
        memory_bytes: How much memory the memory files of one process may take; beyond it they are files in the run's
            folder. None: half of the machine's memory, shared out among all processes.
        results_ahead: How many whole results a worker may have under way that the server has not taken yet.
        gpus: Whether workers get GPUs, where there are any.
        devices: Where GPUs are looked for; None: on this machine, by nvidia-smi.
        packing: How many tasks may share a GPU, and what they need, where that is known.
    """

    tags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    times: SiteTimes | None = None
    threads_per_site: int | None = None
    memory_bytes: int | None = None
    results_ahead: int = 64
    gpus: bool = True
    devices: Devices | None = None
    packing: PackingLimits = field(default_factory=PackingLimits)


@dataclass(frozen=True)
class Setting:
    """One run's circumstances.

    Attributes:
        names: The sites.
        seed: Where all randomness comes from.
        workers: How many processes hold the sites; 0: this one does.
        apps: The job's apps as the sites run them, by name: in workers with the source of classes that travel.
        threads: How many threads numeric libraries may use for one site.
        options: Everything else.
    """

    names: Sequence[str]
    seed: int
    workers: int
    apps: Mapping[str, App]
    threads: int
    options: SimulatorOptions

    def for_job(self, job: Job) -> Setting:
        """The same; with simulated times where it matters who answers first, and nobody has said how long sites need.

        Then sites are alike, and chance, from the run's seed, decides: else it would be the machine's other work.
        """
        if self.options.times is not None or not any(_has_spares(app) for app in job.apps.values()):
            return self
        alike = SiteTimes.from_config({"default": {"compute_s": {"uniform": {"low": 0, "high": _ALIKE_S}}}})
        return replace(self, options=replace(self.options, times=alike))


def _has_spares(app: App) -> bool:
    """Whether some workflow of it asks more sites than it waits for."""
    flows = (app.server or {}).get("workflows")
    for flow in flows if isinstance(flows, list) else ():
        args = flow.get("args") if isinstance(flow, Mapping) else None
        sampling = args.get("sampling") if isinstance(args, Mapping) else None
        if isinstance(sampling, Mapping) and sampling.get("spare"):
            return True
    return False
