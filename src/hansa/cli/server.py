"""`hansa server`: run the server of a federation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hansa.provision.kit import Kit
    from hansa.runtime.fork_server import ForkServer
    from hansa.runtime.service import Ready

app = typer.Typer(help="Run the server of a federation.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    """Run the server of a federation."""


@app.command()
def start(
    kit: Annotated[Path, typer.Argument(help="The server's startup kit.", show_default=False)],
    ready_fd: Annotated[
        int | None, typer.Option(hidden=True, help="Write one line to this descriptor when the server listens.")
    ] = None,
) -> None:
    """Start the server; it runs until SIGTERM or Ctrl-C."""
    from hansa.runtime.fork_server import ForkServer  # first of all, while this process is small and has one thread

    forks = ForkServer.start()
    from hansa.errors import HansaError
    from hansa.provision.identity import Role
    from hansa.provision.kit import Kit
    from hansa.runtime.service import Ready, log_to_stderr, only_one, run_service

    ready = Ready(ready_fd)
    log_to_stderr()
    try:
        loaded = Kit.load(kit, Role.SERVER)
        with only_one(loaded.folder, "server"):
            run_service(lambda: _serve(loaded, forks, ready))
    except HansaError as error:
        ready.tell(f"error: {error}")
        raise


async def _serve(kit: Kit, forks: ForkServer, ready: Ready) -> None:
    import asyncio
    import logging
    import time

    from hansa.admin.commands import dispatch, watch
    from hansa.runtime.server_process import STATE_FILE, Commands, ServerProcess
    from hansa.runtime.service import until_told, write_state

    server = ServerProcess(kit, forks, commands=Commands(dispatch, watch))
    port = await server.start()
    logging.getLogger("hansa.server").info("listening on port %d", port)
    write_state(kit.folder / STATE_FILE, port=port, started=time.time())
    ready.tell()
    forks.warm_up()
    await until_told(asyncio.Event().wait(), server.stop)
    (kit.folder / STATE_FILE).unlink(missing_ok=True)
