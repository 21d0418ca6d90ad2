"""Federated statistics of 8 sites x 1,000,000 rows x 30 columns, against each site's own pass with NumPy.

    python benchmarks/bench_statistics.py [--json] [--quick] [--rows N]

The yardstick is measured in the same run, in turn: one site's pass with NumPy's own functions on one core, and the
eight of them in as many processes as the simulator has workers. The goal is about the first: the federation's two tasks
take at most 1.3 x one site's pass + 0.2 s, where each site has a machine of its own. That is `own`: a federation of one
such site, which has a core to itself. With eight sites the cores are shared: `shared` compares with eight passes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from statistics_parts import MappedTable, make_table, numpy_pass, side_by_side

import hansa
from hansa.jobs import Component, fed_statistics

SITES, ROWS, COLUMNS, REPEATS = 8, 1_000_000, 30, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    options.rows = 20_000 if options.quick else options.rows
    workers = min(len(os.sched_getaffinity(0)), SITES)
    passes, several, federated, alone = [], [], [], []
    with tempfile.TemporaryDirectory() as home:
        path = Path(home, "table.npy")
        make_table(path, rows=options.rows, columns=COLUMNS)
        numpy_pass(str(path))
        for _ in range(REPEATS):
            passes.append(numpy_pass(str(path)))
            several.append(side_by_side(str(path), sites=SITES, workers=workers))
            job = fed_statistics(Component(MappedTable, path=str(path)))
            for sites, seconds in ((SITES, federated), (1, alone)):
                run = hansa.simulate(job, sites, workers=workers, home=Path(home, "runs"), progress=False)
                assert run.statistics["datasets"]["train"]["rows"] == sites * options.rows
                seconds.append(run.timings.run)
    one, all_passes, ours, own = (statistics.median(each) for each in (passes, several, federated, alone))
    result = {
        "what": "federated statistics",
        "goal": 1.3,
        "sites": SITES,
        "rows": options.rows,
        "columns": COLUMNS,
        "workers": workers,
        "numpy_one_site_s": one,
        "numpy_all_sites_s": all_passes,
        "federated_s": ours,
        "federated_one_site_s": own,
        "all_sites_to_one_pass": (ours - 0.2) / one,
        "own": (own - 0.2) / one,
        "shared": (ours - 0.2) / all_passes,
    }
    if options.json:
        print(json.dumps([result]))
        return
    print(f"{SITES} sites x {options.rows:,} rows x {COLUMNS} columns, {workers} workers (medians of {REPEATS})")
    print(f"  NumPy, one site's pass:             {one:6.2f} s")
    print(f"  NumPy, all sites' passes:           {all_passes:6.2f} s")
    print(f"  federated, one site:                {own:6.2f} s")
    print(f"  federated, all sites:               {ours:6.2f} s")
    print(f"  a core per site, (x - 0.2 s) / y:   {result['own']:6.2f}   goal <= 1.3")
    print(f"  shared cores, (x - 0.2 s) / y:      {result['shared']:6.2f}   goal <= 1.3")


if __name__ == "__main__":
    main()
