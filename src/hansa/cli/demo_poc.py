"""`hansa demo --poc`: one job in the simulator and in a federation of processes; the same model, to the bit."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Never

import typer

from hansa.admin.session import Session, connect
from hansa.cli.federation import POC_FOLDER
from hansa.cli.output import print_json
from hansa.demos.digits import NUM_SITES, digits_job
from hansa.errors import ConfigError, RunError
from hansa.runtime.poc import RECORD, Poc
from hansa.runtime.run import Run
from hansa.runtime.simulator import simulate, site_names

SITES = tuple(site_names(NUM_SITES))


@dataclass(frozen=True)
class Pair:
    """One seed's two runs.

    Attributes:
        seed: Of split, initial weights and training.
        simulated: In this process.
        federated: Over server and sites in processes of their own.
    """

    seed: int
    simulated: Run
    federated: Run

    @property
    def is_same(self) -> bool:
        """Whether both gave the same model."""
        return self.simulated.model_digest == self.federated.model_digest

    def as_dict(self) -> dict[str, Any]:  # Any: JSON
        """Plain data."""
        return {"seed": self.seed, "simulated": _facts(self.simulated), "federated": _facts(self.federated)}


def demo_on_poc(folder: Path, seeds: Sequence[int], *, rounds: int, home: Path, as_json: bool) -> None:
    """Run the digits job twice for each seed, and print the digests of both models.

    Args:
        folder: Where a federation was started with `hansa poc up`; if there is none, one is started for the demo.
        seeds: The seeds.
        rounds: Rounds of the federation.
        home: The folder that keeps runs.
        as_json: Whether to print JSON.

    Raises:
        ConfigError: The federation there has not the eight sites.
        RunError: A run failed, or the models differ.
    """
    say: Callable[[str], None] = (lambda line: None) if as_json else (lambda line: typer.echo(line, err=True))
    with ExitStack() as cleanup:
        poc = _running(folder, cleanup, say)
        session = cleanup.enter_context(connect(poc.admin_kit, home=home))
        _check_sites(session, poc)
        pairs = []
        for seed in seeds:
            say(f"seed {seed}: {NUM_SITES} sites, {rounds} rounds, simulated and over the network ...")
            pairs.append(_pair(session, seed, rounds, home=home))
    if as_json:
        print_json({"sites": NUM_SITES, "rounds": rounds, "runs": [pair.as_dict() for pair in pairs]})
    else:
        _print(pairs)
    if differs := [pair.seed for pair in pairs if not pair.is_same]:
        raise RunError(f"the federation's model differs from the simulator's with seed {differs[0]}")


def _running(folder: Path, cleanup: ExitStack, say: Callable[[str], None]) -> Poc:
    if (folder / RECORD).is_file():
        return Poc(folder)
    if folder != POC_FOLDER:
        raise ConfigError(f"there is no POC in {folder}; start one with: hansa poc up --sites {NUM_SITES}", key="poc")
    poc = Poc(Path(tempfile.mkdtemp(prefix="hansa-demo-")))
    say(f"starting a server and {NUM_SITES} sites for the demo ...")
    cleanup.callback(poc.clean)
    for number in (signal.SIGTERM, signal.SIGHUP):  # else its processes would be left behind
        signal.signal(number, _leave)
    poc.up(SITES)
    return poc


def _leave(number: int, frame: object) -> Never:
    raise KeyboardInterrupt  # which user code does not keep


def _check_sites(session: Session, poc: Poc) -> None:
    connected = {site.name for site in session.sites() if site.connected}
    if missing := [name for name in SITES if name not in connected]:
        raise ConfigError(
            f"the demo needs {SITES[0]} to {SITES[-1]}, and {', '.join(missing)} are not connected; "
            f"start all with: hansa poc up --sites {NUM_SITES}",
            file=str(poc.folder),
        )


def _pair(session: Session, seed: int, rounds: int, *, home: Path) -> Pair:
    job = digits_job(seed, rounds)
    simulated = simulate(job, NUM_SITES, workers=0, seed=seed, home=home)
    there = session.submit(replace(job, meta={**job.meta, "seed": seed, "sites": list(SITES)}))
    return Pair(seed, simulated, there.wait().download())


def _facts(run: Run) -> dict[str, Any]:  # Any: JSON
    return {
        "run": str(run.folder),
        "model_digest": run.model_digest,
        "test_accuracy": run.history.series("test_accuracy", "server")[-1][1],
        "seconds": round(run.timings.run, 3),
    }


def _print(pairs: Sequence[Pair]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("seed", "where", "test accuracy", "seconds", "model"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("test accuracy", "seconds") else "left")
    for pair in pairs:
        for where, run in (("simulator", pair.simulated), ("server and sites", pair.federated)):
            facts = _facts(run)
            accuracy, seconds = f"{facts['test_accuracy']:.3f}", f"{facts['seconds']:.1f}"
            table.add_row(str(pair.seed), where, accuracy, seconds, str(facts["model_digest"]))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=160)).print(table)
    if all(pair.is_same for pair in pairs):
        console.print("\nThe same models, to the bit.")
