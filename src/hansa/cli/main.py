"""The entry point of the `hansa` command: verbs, and one line for every mistake.

Exit codes: 0 all is well, 1 the run failed, 2 the user's input is wrong, 130 interrupted from the keyboard.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Never

import typer
from typer.exceptions import Abort, TyperException

import hansa
from hansa.cli import demo, faults, federation, incidents, job, plugins, poc, provision, runs, server, simulate, site
from hansa.cli.output import plain
from hansa.errors import HansaError, RunError

INTERRUPTED = 130

app = typer.Typer(
    name="hansa",
    help="Federated learning: data stay where they are, models travel.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.command("provision")(provision.provision)
app.command("faults")(faults.faults)
app.command("plugins")(plugins.plugins)
for verb in (
    federation.submit,
    federation.resubmit,
    federation.jobs,
    federation.follow,
    federation.logs,
    federation.abort,
    federation.pause,
    federation.resume,
    federation.download,
    federation.remove,
    federation.sites,
    incidents.incidents,
):
    app.command(verb.__name__)(verb)
app.add_typer(job.app, name="job")
app.add_typer(runs.app, name="runs")
app.add_typer(poc.app, name="poc")
app.add_typer(server.app, name="server")
app.add_typer(site.app, name="site")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hansa {hansa.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, too.")] = False,
) -> None:
    """Federated learning: data stay where they are, models travel."""


def main(arguments: Sequence[str] | None = None) -> Never:
    """Run the command and leave with its exit code; errors are one line on standard error."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in args  # wherever it stands, since people add it to the end of what they typed
    args = federation.with_poc_folder([arg for arg in args if arg != "--debug"])
    try:
        code = app(args, prog_name="hansa", standalone_mode=False)
    except HansaError as error:
        _complain(error, debug)
        sys.exit(error.exit_code)
    except TyperException as error:
        _misused(error)
        sys.exit(2)
    except (KeyboardInterrupt, Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    if code == INTERRUPTED:  # typer gives the code back and says nothing
        print("hansa: interrupted from the keyboard; the record of a run that had begun is kept", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _misused(error: TyperException) -> None:
    """One line for a wrong command line; the help where there was nothing but the verb."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        return
    where = f" (see '{context.command_path} --help')" if context else ""
    print(f"hansa: {' '.join(error.format_message().split())}{where}", file=sys.stderr)


def _complain(error: HansaError, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    line = plain(str(error))
    kept = f" [{error.folder}]" if isinstance(error, RunError) and error.folder else ""
    print(f"hansa: {line}{kept}", file=sys.stderr)


if __name__ == "__main__":
    main()
