"""CIFAR-10 over eight unlike sites: FedAvg, FedProx, FedOpt and SCAFFOLD beside training in one place.

    python examples/cifar10/run.py --preset cpu --data FOLDER

leaves `table.md`, `table.json` and `accuracy.png` in `runs/cifar10-cpu`. What is finished there is not run again.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from configurations import NAMES, PRESETS, Configuration, Preset
from data import load, unpack
from learner import split
from results import Result, Results, settings_of

import hansa
from hansa.errors import ConfigError, HansaError, MissingExtra
from hansa.jobs import Job
from hansa.runtime.options import SimulatorOptions
from hansa.runtime.run import Run
from hansa.runtime.simulator import num_workers, simulate, site_names

SEEDS = (0,)
MOST_WORKERS_OF_A_GPU = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    try:
        compare(parsed(arguments))
    except (HansaError, ValueError) as error:  # ValueError: a split that cannot be made
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, HansaError) else 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        return 130
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), required=True)
    parser.add_argument("--data", type=Path, help="folder that holds CIFAR-10; $HANSA_DATA if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N", help="one comparison for each")
    parser.add_argument("--only", nargs="+", default=NAMES, metavar="NAME", help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, help="fewer or more than the preset's")
    parser.add_argument("--images", type=int, help="only the first so many training images")
    parser.add_argument("--out", type=Path, help="where results, table and figure go; runs/cifar10-PRESET if not given")
    parser.add_argument("--workers", type=int, help="processes that hold the sites; they share the GPU")
    parser.add_argument(
        "--kit",
        type=Path,
        help="an admin's startup kit: run over site-1 to site-8 of that federation, where sites find --out at the same "
        "path (after `hansa poc up --sites 8`: poc/admin)",
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="where to train; full: cuda, cpu: cpu")
    parser.add_argument("--fast", action="store_true", help="TF32 and channels_last, which change the last bits")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> None:
    """Run what is not finished, then write table and figure.

    Raises:
        HansaError: An option is wrong, the data are not there, or a run failed.
        ValueError: A split cannot be made.
    """
    if importlib.util.find_spec("matplotlib") is None:  # before hours go into what could not be drawn
        raise MissingExtra("the figure", extra="figures")
    preset = chosen_preset(options)
    wanted = [Configuration.named(name) for name in options.only]
    out: Path = options.out or Path("runs") / f"cifar10-{preset.name}"
    results = Results(out, preset)
    pairs = [(seed, configuration) for seed in options.seeds for configuration in wanted]
    missing = [(seed, each) for seed, each in pairs if results.find(each.name, seed) is None]
    for seed, each in pairs:
        if (seed, each) not in missing:
            print(f"{each.name}, seed {seed}: finished before")
    if missing:
        unpack(data_folder(options), out / "data", num_train=preset.images)
        _, labels = load(out / "data", "train")
        for seed, each in missing:  # that a split cannot be made is better known now
            split(labels, each.num_sites, alpha=each.alpha, seed=seed)
    for number, (seed, each) in enumerate(missing, start=1):
        print(f"[{number}/{len(missing)}] {each.name}, seed {seed}", flush=True)
        result = run_one(each, preset, seed, out=out, options=options)
        results.keep(result)
        print(f"    accuracy {result.final:.4f}, best {max(result.curve):.4f}, {result.seconds:.0f} s", flush=True)
    files = results.write()
    print(f"\n{files[0].read_text(encoding='utf-8')}")
    print("\n".join(str(file) for file in files))


def run_one(
    configuration: Configuration, preset: Preset, seed: int, *, out: Path, options: argparse.Namespace
) -> Result:
    """One federated run, or the central one."""
    began = time.perf_counter()
    job = configuration.job(preset, seed, data=(out / "data").absolute())
    on_gpu = preset.training.device == "cuda"
    if options.kit is not None:
        names = site_names(configuration.num_sites)
        wanted = {"seed": seed, "sites": names, "resources": {"gpus": int(on_gpu)}}
        run = run_over(options.kit, replace(job, meta={**job.meta, **wanted}), home=out / "runs")
    else:
        number = min(num_workers(options.workers), configuration.num_sites)
        if options.workers is None:
            number = min(number, MOST_WORKERS_OF_A_GPU) if on_gpu else number * (number > 1)
        how = SimulatorOptions(gpus=on_gpu)
        run = simulate(job, configuration.num_sites, workers=number, seed=seed, home=out / "runs", options=how)
    return Result(
        configuration.name,
        seed,
        settings_of(preset),
        [value for _, value in run.history.series("accuracy", "server")],
        run.history.series("final_accuracy", "server")[-1][1],
        round(time.perf_counter() - began, 1),
        str(run.folder),
    )


def run_over(kit: Path, job: Job, *, home: Path) -> Run:
    """Run a job over a federation, and fetch its record."""
    with hansa.connect(kit, home=home) as session:
        return session.submit(job).wait().download()


def chosen_preset(options: argparse.Namespace) -> Preset:
    """The preset, with what the options change in it.

    Raises:
        ConfigError: An option is out of range, or there is no such device.
    """
    preset = PRESETS[options.preset]
    for key in ("rounds", "images"):
        value = getattr(options, key)
        if value is not None and value < 1:
            raise ConfigError(f"must be at least 1, not {value}", key=f"--{key}")
    if any(seed < 0 for seed in options.seeds):
        raise ConfigError(f"must be at least 0, not {min(options.seeds)}", key="--seeds")
    device = options.device or ("cuda" if preset.name == "full" else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        reason = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds none"
        raise ConfigError(f"needs a CUDA device, and {reason}; --preset cpu needs none", key="--device")
    if options.rounds is not None:
        preset = replace(preset, rounds=options.rounds, central_epochs=options.rounds)
    if options.images is not None:
        preset = replace(preset, images=min(options.images, preset.images))
    return replace(preset, training=replace(preset.training, device=device, fast=options.fast))


def data_folder(options: argparse.Namespace) -> Path:
    """Where the images are.

    Raises:
        ConfigError: Nobody says so.
    """
    given = options.data or os.environ.get("HANSA_DATA")
    if not given:
        raise ConfigError("say where CIFAR-10 is: --data FOLDER, or HANSA_DATA", key="--data")
    return Path(given)


if __name__ == "__main__":
    sys.exit(main())
