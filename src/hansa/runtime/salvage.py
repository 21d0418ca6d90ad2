"""What is left of a run whose process on the server dies again and again: the model of its last commit.

Nothing of the job is built for it, so nothing of its own code runs: what has killed the process cannot kill this.
"""

from __future__ import annotations

import time
from pathlib import Path

from hansa.jobs.job import Job
from hansa.runtime.job_args import ServerArgs
from hansa.runtime.recall import Recall, read_recall
from hansa.runtime.run import RunStatus
from hansa.runtime.run_folder import RunFolder
from hansa.runtime.run_record import RunRecord, config_of, versions, weights_of


def salvage(args: ServerArgs) -> tuple[RunStatus, str | None]:
    """Write the record of a run that has failed, with the last good model.

    Args:
        args: Those of the job's process, with `gave_up`.

    Returns:
        FAILED, and why.

    Raises:
        HansaError: What was kept cannot be read.
        OSError: The disk.
    """
    recall = Recall() if args.recall is None else read_recall(Path(args.recall))
    folder = RunFolder(Path(args.run_folder))
    try:
        told = config_of(Job.load(args.job_folder), sorted(args.sites), seed=args.seed, workers=0, threads=args.threads)
        record = RunRecord(folder, {**told, "versions": versions()}, clock=time.perf_counter)
        record.resume(recall.history_lines)
        record.run.status, record.run.cause = RunStatus.FAILED, args.gave_up
        record.keep_weights(weights_of(recall.progress))
        record.write({})
        record.writer.close()
    finally:
        folder.close()
    return RunStatus.FAILED, args.gave_up
