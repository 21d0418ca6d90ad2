"""What the examples of fields share: their options, the federated part in simulator and POC, and errors in one line."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Never

from hansa.demos.gain import Gain
from hansa.errors import ConfigError, HansaError, RunError
from hansa.jobs import Job
from hansa.runtime.poc import Poc
from hansa.runtime.run import Run
from hansa.runtime.simulator import simulate


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        data: The data folder; the working directory for an example that reads no files.
        seeds: The comparison is made once for each.
        rounds: Rounds of the federation.
        quick: Whether to take less of everything.
        poc: Whether the federated part runs as real processes, too.
        out: Where table, figures and runs go.
        as_json: Whether to print JSON.
    """

    data: Path
    seeds: range
    rounds: int
    quick: bool
    poc: bool
    out: Path
    as_json: bool

    def say(self, line: str) -> None:
        """How it goes, on stderr."""
        print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Example:
    """An example of a field.

    Attributes:
        name: Of its folder.
        about: For `--help`.
        rounds: Of the federation.
        quick_rounds: With `--quick`.
        reads_files: Whether it needs `--data`.
    """

    name: str
    about: str
    rounds: int
    quick_rounds: int
    reads_files: bool = True

    def main(self, compare: Callable[[Options], Gain], arguments: Sequence[str] | None = None) -> int:
        """Run the comparison, print its table and write its files.

        Args:
            compare: Makes it, and draws the example's own figures into `Options.out`.
            arguments: The command line; the program's if None.

        Returns:
            The exit code: an error is one line on stderr.
        """
        try:
            options = self.options(arguments)
            options.out.mkdir(parents=True, exist_ok=True)
            gain = compare(options)
            figure = gain.save(options.out)
        except HansaError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        if options.as_json:
            print(json.dumps(gain.to_dict(), indent=1))
        else:
            print(f"\n{gain.table()}\n{gain.verdict()}\n{figure}")
        return 0

    def options(self, arguments: Sequence[str] | None) -> Options:
        """The command line.

        Raises:
            ConfigError: A number is out of range, or nobody says where the data are.
        """
        form = argparse.RawDescriptionHelpFormatter
        parser = argparse.ArgumentParser(description=self.about, formatter_class=form)
        if self.reads_files:
            parser.add_argument("--data", type=Path, help="the data folder; $HANSA_DATA if not given")
        parser.add_argument("--seeds", type=int, help="how many seeds; 5, and 1 with --quick")
        parser.add_argument("--rounds", type=int, help=f"{self.rounds}, and {self.quick_rounds} with --quick")
        parser.add_argument("--quick", action="store_true", help="less of everything: does it run?")
        parser.add_argument("--poc", action="store_true", help="the federated part as real processes, too: same model?")
        parser.add_argument("--out", type=Path, help=f"where table, figures and runs go; runs/{self.name}")
        parser.add_argument("--json", action="store_true", help="print JSON")
        told = parser.parse_args(arguments)
        seeds = told.seeds if told.seeds is not None else 1 if told.quick else 5
        rounds = told.rounds if told.rounds is not None else self.quick_rounds if told.quick else self.rounds
        for key, value in (("--seeds", seeds), ("--rounds", rounds)):
            if value < 1:
                raise ConfigError(f"must be at least 1, not {value}", key=key)
        data = (told.data or os.environ.get("HANSA_DATA")) if self.reads_files else "."
        if not data:
            raise ConfigError("say where the data are: --data FOLDER, or HANSA_DATA", key="--data")
        out = told.out or Path("runs") / self.name
        return Options(Path(data), range(seeds), rounds, told.quick, told.poc, out, told.json)


class Federation:
    """Runs jobs: in the simulator, and as processes, too, where there is a POC.

    Args:
        sites: Their names.
        options: Of the example.
        poc: The federation of processes.
        workers: Of the simulator.
    """

    def __init__(self, sites: Sequence[str], options: Options, *, poc: Poc | None, workers: int | None) -> None:
        self._sites, self._options, self._poc, self._workers = list(sites), options, poc, workers

    def run(self, job: Job, seed: int) -> Run:
        """The simulated run; with a POC the same job there, too.

        Raises:
            RunError: A run failed, or the two models differ.
        """
        home = self._options.out / "runs"
        simulated = simulate(job, self._sites, seed=seed, workers=self._workers, home=home)
        if self._poc is None:
            return simulated
        from hansa.admin.session import connect

        with connect(self._poc.admin_kit, home=home) as session:
            meta = {**job.meta, "seed": seed, "sites": self._sites}
            there = session.submit(replace(job, meta=meta)).wait().download()
        if there.model_digest != simulated.model_digest:
            raise RunError(f"seed {seed}: the model of the processes differs from the simulator's")
        self._options.say(f"seed {seed}: simulator and POC have the same model, to the bit: {there.model_digest}")
        return simulated


@contextmanager
def federation(sites: Sequence[str], options: Options, *, workers: int | None = None) -> Iterator[Federation]:
    """A federation for the comparison of an example; with `--poc` one of processes, which are gone afterwards.

    Args:
        sites: Their names.
        options: Of the example.
        workers: Processes of the simulator; see `simulate`.

    Raises:
        ConfigError: The processes cannot be started.
    """
    with ExitStack() as cleanup:
        poc = None
        if options.poc:
            poc = Poc(Path(tempfile.mkdtemp(prefix=f"hansa-{options.out.name}-")))
            options.say(f"starting a server and {len(sites)} sites ...")
            cleanup.callback(poc.clean)
            for number in (signal.SIGTERM, signal.SIGHUP):  # else its processes would be left behind
                signal.signal(number, _leave)
            poc.up(sites)
        yield Federation(sites, options, poc=poc, workers=workers)


def _leave(number: int, frame: object) -> Never:
    raise KeyboardInterrupt
