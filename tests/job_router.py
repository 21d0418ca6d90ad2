"""The relays between a server's job process and those of its sites, without a network: one thread of this process.

The job processes are real ones. A router stands in for the server process and the sites' agents: it passes frames on,
moves the files of blobs, and says what became of sites.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from hansa.jobs.config import Side
from hansa.jobs.job import Job
from hansa.runtime.fork_server import ProcessSpec
from hansa.wire.pipe import AsyncPipe, PipeServer

Head = dict[str, Any]

_RUN = (
    "import importlib, json, sys; from hansa.runtime.fork_server import ProcessSpec; "
    "spec = ProcessSpec.from_json(json.loads(sys.argv[1])); importlib.import_module(spec.entry).main(spec)"
)
PATIENCE_S = 60.0


class Router:
    """One job: its processes, and everything that goes between them.

    Args:
        folder: Where the participants have their kits.
        job: The job's folder.
        sites: Who takes part.
        arguments: What the server's job process is told besides, such as `min_sites`.
    """

    def __init__(self, folder: Path, job: Path, sites: Sequence[str], *, number: int = 3, **arguments: Any) -> None:
        self.folder = folder
        self.job = Job.load(job)
        self.sites = list(sites)
        self.number = number
        self.said: list[Head] = []
        """What the server's job process said to the server process."""
        self.heads: list[tuple[str, Head]] = []
        """Everything that was passed on: its receiver, and its head."""
        self.on_frame: Callable[[str, Head], bool] = lambda receiver, head: True
        """Asked of each frame whether it is passed on; may change its head."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._args = {
            "job_id": "0003-test",
            "run_number": number,
            "name": "server",
            "workspace": str(folder / "server"),
            "job_folder": str(job),
            "run_folder": str(folder / "run"),
            "sites": self.sites,
            "tags": {},
            "min_sites": len(self.sites),
            "mandatory": [],
            "seed": 0,
            "threads": 1,
            "policy": {"custom": True, "anything": True},
            **arguments,
        }
        self._pipes: dict[str, AsyncPipe] = {}
        self._early: dict[str, list[tuple[Head, list[bytes]]]] = {}
        self._changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._server = PipeServer(folder, self._attach)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._server.start())
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
        self._call(self._server.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    # -- processes ---------------------------------------------------------------------------------------------

    def start(self, *sites: str) -> None:
        """Start the server's job process, and those of all sites or of some."""
        self._launch("server", "hansa.runtime.job_server", self._args)
        for site in sites or self.sites:
            self.start_site(site)

    def start_site(self, site: str) -> None:
        """Start the job process of a site."""
        app = self.job.app_name_for(site)
        assert app is not None
        root = self.folder / site
        target = root / f"run_{self.number}" / f"app_{site}"
        if not target.exists():
            self.job.apps[app].deploy(target, Side.CLIENT)
        told = {
            "job_id": self._args["job_id"],
            "run_number": self.number,
            "name": site,
            "workspace": str(root),
            "app_folder": str(target),
            "config_file": f"{app}/config/{Side.CLIENT.file_name}",
            "num_sites": len(self.sites),
            "seed": self._args["seed"],
            "threads": 1,
            "policy": self._args["policy"],
        }
        self._launch(site, "hansa.runtime.job_site", told)

    def _launch(self, name: str, entry: str, args: Head) -> None:
        root = self.folder / name
        root.mkdir(parents=True, exist_ok=True)
        token = secrets.token_urlsafe(16)
        self._server.expect(token, name)
        log = root / "log.txt"
        spec = ProcessSpec(name, entry, self._server.address, token, root, log, dict(os.environ), args)
        with log.open("ab") as output:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-c", _RUN, json.dumps(spec.to_json())],
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self, site: str, reason: str = "its process was killed by SIGKILL", *, final: bool = False) -> None:
        """End a site's process, and say so to the server's."""
        os.killpg(self.processes[site].pid, 9)
        self.processes[site].wait()
        self.say({"k": "site_down", "site": site, "reason": reason, "final": final})

    # -- frames ------------------------------------------------------------------------------------------------

    def say(self, head: Head) -> None:
        """Say something to the server's job process, as the server process."""
        self._loop.call_soon_threadsafe(self._pass, "server", head, [])

    def _attach(self, pipe: AsyncPipe) -> None:
        self._pipes[pipe.name] = pipe
        pipe.on_frame = self._from_server if pipe.name == "server" else self._from(pipe.name)
        pipe.on_close = lambda: None
        for head, parts in self._early.pop(pipe.name, []):
            pipe.send(head, parts)

    def _from_server(self, head: Head, parts: list[bytes]) -> None:
        targets = head.pop("to", None)
        if targets is None:
            for blob in head.get("blobs") or ():  # of a commit; the server process takes it over
                Path(blob["path"]).unlink()
            with self._changed:
                self.said.append(head)
                self._changed.notify_all()
            return
        each = head.pop("each", {})
        for site in targets:
            self._pass(site, {**head, **each.get(site, {})}, parts)

    def _from(self, site: str) -> Callable[[Head, list[bytes]], None]:
        return lambda head, parts: self._pass("server", {**head, "site": site}, parts)

    def _pass(self, receiver: str, head: Head, parts: list[bytes]) -> None:
        if not self.on_frame(receiver, head):
            return
        if head.get("blobs"):
            folder = self.folder / receiver / f"run_{self.number}" / "blobs" / "in"
            folder.mkdir(parents=True, exist_ok=True)
            head = {**head, "blobs": [self._moved(blob, folder) for blob in head["blobs"]]}
        with self._changed:
            self.heads.append((receiver, head))
            self._changed.notify_all()
        pipe = self._pipes.get(receiver)
        if pipe is None:
            self._early.setdefault(receiver, []).append((head, parts))
        else:
            pipe.send(head, parts)

    def _moved(self, blob: Head, folder: Path) -> Head:
        target = folder / f"{secrets.token_hex(4)}-{blob['name']}"
        os.link(blob["path"], target)
        return {**blob, "path": str(target)}

    # -- waiting -----------------------------------------------------------------------------------------------

    def wait_for(self, *kinds: str, count: int = 1, receiver: str | None = None) -> Head:
        """The n-th frame of some kind: of those passed on to a receiver, or of those to the server process."""

        def found() -> list[Head]:
            heads = self.said if receiver is None else [head for who, head in self.heads if who == receiver]
            return [head for head in heads if head["k"] in kinds]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= count or self._is_dead(), PATIENCE_S):
                raise AssertionError(f"no {kinds} within {PATIENCE_S} s; {self.logs()}")
            if len(found()) < count:
                raise AssertionError(f"the server's job process has ended: {self.logs()}")
            return found()[count - 1]

    def _is_dead(self) -> bool:
        return self.processes["server"].poll() not in (None, 0)

    def finish(self) -> Head:
        """Wait for the end; returns what the server's job process said last."""
        done = self.wait_for("done")
        assert self.processes["server"].wait(PATIENCE_S) == 0, self.logs()
        return done

    def logs(self) -> str:
        """What all processes have printed."""
        return "\n".join(f"--- {file.parent.name}\n{file.read_text()}" for file in self.folder.glob("*/log.txt"))
