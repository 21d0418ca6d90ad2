"""`hansa site`: run a site of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.provision.kit import Kit
    from hansa.runtime.fork_server import ForkServer
    from hansa.runtime.service import Ready

app = typer.Typer(help="Run a site of a federation.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    """Run a site of a federation."""


@app.command()
def start(
    kit: Annotated[Path, typer.Argument(help="The site's startup kit.", show_default=False)],
    ready_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Write one line to this descriptor when the site is connected.")
    ] = None,
) -> None:
    """Start the site's agent; it dials out to the server, and runs until SIGTERM or Ctrl-C."""
    from hansa.runtime.fork_server import ForkServer  # first of all, while this process is small and has one thread

    forks = ForkServer.start()
    from hansa.errors import HansaError
    from hansa.provision.identity import Role
    from hansa.provision.kit import Kit
    from hansa.runtime.service import Ready, log_to_stderr, only_one, run_service

    ready = Ready(ready_fd)
    log_to_stderr()
    try:
        loaded = Kit.load(kit, Role.CLIENT)
        with only_one(loaded.folder, "site"):
            run_service(lambda: _serve(loaded, forks, ready))
    except HansaError as error:
        ready.tell(f"error: {error}")
        raise


async def _serve(kit: Kit, forks: ForkServer, ready: Ready) -> None:
    from hansa.runtime.service import until_told, write_state
    from hansa.runtime.site_agent import SiteAgent

    def connected() -> None:
        write_state(kit.folder / "agent.json", state="connected")
        ready.tell()
        forks.warm_up()

    agent = SiteAgent(kit, forks, on_connected=connected)
    await until_told(agent.run(), agent.stop)
    (kit.folder / "agent.json").unlink(missing_ok=True)
