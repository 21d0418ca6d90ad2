"""What admins do: `hansa submit`, `resubmit`, `jobs`, `follow`, `logs`, `abort`, `pause`, `resume`, ..."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.cli.output import plain, print_json
from hansa.errors import ConfigError, RunAborted, RunError

if TYPE_CHECKING:
    from hansa.admin.remote_run import RemoteRun
    from hansa.admin.session import Session
    from hansa.jobs.store import JobRecord
    from hansa.runtime.progress import Progress

KIT_VARIABLE = "HANSA_KIT"
POC_FOLDER = Path("poc")
POC_ADMIN = "admin"
POC_RECORD = "poc.json"
_WITHOUT_ARGUMENT = ("demo", "incidents", "jobs", "sites")
_LOG_PERIOD_S = 1.0
_LOG_WINDOW = 2000

KitOption = Annotated[
    Path | None, typer.Option("--kit", "-k", help=f"An admin's startup kit (default: ${KIT_VARIABLE}).")
]
PocOption = Annotated[
    Path | None,
    typer.Option(
        "--poc", help=f"The federation that 'hansa poc up' has started, by its folder (default: ./{POC_FOLDER})."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobName = Annotated[
    str, typer.Argument(help="A job's id, the beginning of it, its number, its name, or 'last'.", show_default=False)
]


def submit(
    folder: Annotated[Path, typer.Argument(help="A job folder, or a bare FLARE 2.0 app folder.", show_default=False)],
    follow: Annotated[bool, typer.Option("--follow", help="Follow the job until it is over.")] = False,
    kit: KitOption = None,
    poc: PocOption = None,
    as_json: Json = False,
) -> None:
    """Submit a job to a federation."""
    with session_for(kit, poc) as session:
        submit_to(session, folder, follow=follow, as_json=as_json)


def resubmit(
    job: JobName,
    from_round: Annotated[
        int | None,
        typer.Option(
            "--from-round", min=0, help="The round it begins with (default: the one after the last that was kept)."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Follow the job until it is over.")] = False,
    kit: KitOption = None,
    poc: PocOption = None,
    as_json: Json = False,
) -> None:
    """Submit a job that is over once more, as a new one that goes on from a round of the old one."""
    with session_for(kit, poc) as session:
        run = session.resubmit(job, from_round=from_round)
        where = "at the beginning: no round was kept" if run.begins_with is None else f"with round {run.begins_with}"
        _tell(f"job {run.id} begins {where}")
        show_submitted(run, follow=follow, as_json=as_json)


def jobs(kit: KitOption = None, poc: PocOption = None, as_json: Json = False) -> None:
    """List the jobs of a federation, oldest first, and how they stand."""
    with session_for(kit, poc) as session:
        list_jobs(session, as_json=as_json)


def sites(kit: KitOption = None, poc: PocOption = None, as_json: Json = False) -> None:
    """List the sites of a federation, and how they stand."""
    with session_for(kit, poc) as session:
        list_sites(session, as_json=as_json)


def follow(job: JobName, kit: KitOption = None, poc: PocOption = None, as_json: Json = False) -> None:
    """Follow a job until it is over: what it waits for, its rounds, its metrics."""
    with session_for(kit, poc) as session:
        follow_to_end(session.run(job), as_json=as_json)


def logs(
    job: JobName,
    site: Annotated[str, typer.Option("--site", "-s", help="Whose log: a site, or 'server'.")] = "server",
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines from its end.")] = 200,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, until the job ends.")
    ] = False,
    kit: KitOption = None,
    poc: PocOption = None,
) -> None:
    """Print the log of a job at the server or at a site."""
    with session_for(kit, poc) as session:
        print_logs(session.run(job), site, lines=lines, follow=follow)


def abort(
    job: JobName,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "",
    kit: KitOption = None,
    poc: PocOption = None,
) -> None:
    """Stop a job."""
    with session_for(kit, poc) as session:
        abort_and_wait(session.run(job), reason)


def pause(job: JobName, kit: KitOption = None, poc: PocOption = None) -> None:
    """Have a job rest: its processes end, its progress is kept."""
    with session_for(kit, poc) as session:
        run = session.run(job)
        run.pause()
        typer.echo(f"job {run.id} is paused; it goes on with: hansa resume {run.id}")


def resume(job: JobName, kit: KitOption = None, poc: PocOption = None) -> None:
    """Let a paused job go on where it was."""
    with session_for(kit, poc) as session:
        run = session.run(job)
        run.resume()
        typer.echo(f"job {run.id} goes on when its turn comes; follow it with: hansa follow {run.id}")


def download(
    job: JobName,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder to write (default: by the job's id where runs are kept)."),
    ] = None,
    kit: KitOption = None,
    poc: PocOption = None,
    as_json: Json = False,
) -> None:
    """Fetch a job's record: history, problems, log, model. 'hansa runs' shows, draws and compares it."""
    with session_for(kit, poc) as session:
        download_of(session.run(job), output, as_json=as_json)


def remove(
    jobs: Annotated[
        list[str] | None,
        typer.Argument(help="Jobs that are over: ids, beginnings of them, numbers or names.", show_default=False),
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="All jobs that ended more than so many days ago.")
    ] = None,
    kit: KitOption = None,
    poc: PocOption = None,
) -> None:
    """Delete jobs that are over, with their results, at the server and at their sites."""
    if bool(jobs) == (older_than is not None):
        raise ConfigError("name jobs, or say --older-than DAYS", key="JOBS")
    with session_for(kit, poc) as session:
        if older_than is None:
            chosen = [session.run(name).id for name in jobs or ()]  # all are there, before the first one goes
        else:
            before = time.time() - older_than * 86400
            chosen = [one.id for one in session.jobs() if one.ended_at is not None and one.ended_at < before]
        for job in chosen:
            typer.echo(f"removed {session.remove(job)}")


# -- which federation -------------------------------------------------------------------------------------------------


def session_for(kit: Path | None, poc: Path | None) -> Session:
    """The session that the options ask for.

    Raises:
        ConfigError: They name no federation, or two; or there is no kit.
    """
    from hansa.admin.session import connect

    return connect(kit_of(kit, poc))


def kit_of(kit: Path | None, poc: Path | None) -> Path:
    """The kit that the options, or the environment, name.

    Raises:
        ConfigError: They name none, or two; or there is no POC.
    """
    if kit is not None and poc is not None:
        raise ConfigError("give either --kit or --poc, not both", key="kit")
    if poc is not None:
        if not (poc / POC_RECORD).is_file():
            raise ConfigError(f"there is no POC in {poc}; start one with: hansa poc up", key="poc")
        return poc / POC_ADMIN
    named = kit or (Path(os.environ[KIT_VARIABLE]) if os.environ.get(KIT_VARIABLE) else None)
    if named is None:
        raise ConfigError(f"say which federation: --kit KIT, --poc, or set {KIT_VARIABLE}", key="kit")
    return named


def with_poc_folder(args: Sequence[str]) -> list[str]:
    """A command line on which `--poc` always has its folder.

    What follows `--poc` is its folder where a POC lies there, or where it can be nothing else: `hansa jobs --poc typo`.
    Else it is `./poc`, and what follows is something else: `hansa submit --poc jobs/digits`.
    """
    full: list[str] = []
    for position, word in enumerate(args):
        full.append(word)
        if word == "--poc" and not _is_folder(args, position + 1):
            full.append(str(POC_FOLDER))
    return full


def _is_folder(args: Sequence[str], position: int) -> bool:
    word = args[position] if position < len(args) else ""
    if not word or word.startswith("-"):
        return False
    verb_has_its_argument = args[0] in _WITHOUT_ARGUMENT or not args[1].startswith("-")
    return (Path(word) / POC_RECORD).is_file() or verb_has_its_argument


# -- what the verbs do ------------------------------------------------------------------------------------------------


def submit_to(session: Session, folder: Path, *, follow: bool, as_json: bool) -> None:
    """Submit a job, and follow it if asked to."""
    show_submitted(session.submit(folder), follow=follow, as_json=as_json)


def show_submitted(run: RemoteRun, *, follow: bool, as_json: bool) -> None:
    """Show a job that was just submitted, and follow it if asked to."""
    if follow:
        _tell(f"job {run.id} is submitted")
        follow_to_end(run, as_json=as_json)
        return
    record = run.record
    if as_json:
        print_json(record.as_dict())
    else:
        typer.echo(f"job {_standing(record)}")


def list_jobs(session: Session, *, as_json: bool) -> None:
    """Print all jobs."""
    from hansa.cli.show_federation import print_jobs

    found = session.jobs()
    if as_json:
        print_json([record.as_dict() for record in found])
    elif not found:
        typer.echo("no jobs")
    else:
        print_jobs(found)


def list_sites(session: Session, *, as_json: bool) -> None:
    """Print all sites."""
    from hansa.cli.show_federation import print_sites

    found = session.sites()
    if as_json:
        print_json([view.as_dict() for view in found])
    elif not found:
        typer.echo("no site has come yet")
    else:
        print_sites(found)


def follow_to_end(run: RemoteRun, *, as_json: bool) -> None:
    """Show how a job gets on; then how it ended.

    Raises:
        RunError: It failed.
        RunAborted: Somebody stopped it.
    """
    from hansa.cli.show_federation import print_outcome
    from hansa.jobs.life import JobState

    run.heed(lambda line: _tell(f"the connection is gone: {line}; trying again" if line else "connected again"))
    try:
        _Live(run).show()
    except KeyboardInterrupt:
        _tell(f"job {run.id} goes on; follow it again with: hansa follow {run.id}")
        raise
    if as_json:
        print_json(run.summary())
    else:
        print_outcome(run)
    if run.state is not JobState.COMPLETED:
        kind = RunAborted if run.state is JobState.ABORTED else RunError
        raise kind(f"job {run.id} is {run.state.value}: {run.cause or 'no cause was given'}")


class _Live:
    """A line for each state of the job, and a line that lives while it runs."""

    def __init__(self, run: RemoteRun) -> None:
        self._run = run
        self._bar: Progress | None = None
        self._said = ""

    def show(self) -> None:
        try:
            for record in self._run.follow():
                self._say(record)
                if self._bar is not None:
                    self._bar.update("")
        finally:
            self._stop()

    def _say(self, record: JobRecord) -> None:
        from hansa.jobs.life import JobState

        line = _standing(record)
        if line != self._said:
            self._stop()
            self._said = line
            _tell(line)
        if record.state is JobState.RUNNING and self._bar is None and record.num_rounds is not None:
            self._start(record.num_rounds)

    def _start(self, num_rounds: int) -> None:
        from hansa.runtime.progress import Progress

        self._bar = Progress(self._run.history, num_rounds)
        self._bar.__enter__()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def print_logs(run: RemoteRun, site: str, *, lines: int, follow: bool) -> None:
    """Print the end of a log; go on with what is added until the job is over, if asked to."""
    from hansa.admin.log_lines import unseen

    window = max(lines, _LOG_WINDOW) if follow else lines
    shown = run.logs(site, lines=window)
    last = "".join(shown.splitlines(keepends=True)[-lines:])
    typer.echo(last, nl=not follow and bool(last) and not last.endswith("\n"))
    pause = threading.Event()
    while follow:
        is_over = run.state.is_over  # before the log is read: what was written last is still seen
        pause.wait(0.0 if is_over else _LOG_PERIOD_S)
        now = run.logs(site, lines=window)
        typer.echo(unseen(shown, now), nl=False)
        shown, follow = now, not is_over


def abort_and_wait(run: RemoteRun, reason: str) -> None:
    """Stop a job, and wait until it is over."""
    run.abort(reason)
    for record in run.follow():
        if record.state.is_over:
            typer.echo(f"job {_standing(record)}")


def download_of(run: RemoteRun, output: Path | None, *, as_json: bool) -> None:
    """Fetch a job's record, and show it."""
    from hansa.cli.show import print_run

    fetched = run.download(output)
    if as_json:
        print_json({**fetched.summary(), "model_digest": fetched.model_digest})
    else:
        print_run(fetched)


def _standing(record: JobRecord) -> str:
    return f"{record.id} is {record.state.value}" + (f": {plain(record.reason)}" if record.reason else "")


def _tell(line: str) -> None:
    """Say something about the course of things; standard output is for what was asked for."""
    print(plain(line), file=sys.stderr, flush=True)
