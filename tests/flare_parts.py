"""FLARE's admin API over a federation in memory, for its tests."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from admin_parts import CLIENT, SERVER, MemoryFederation, MemoryLink
from hansa.admin.flare_api import FLAdminAPI
from hansa.admin.flare_response import FLAdminAPIResponse, TargetType
from hansa.jobs.job import App, Job
from hansa.jobs.site_view import SiteView
from hansa.provision.kit import Kit
from hansa.provision.provisioner import make_kits
from hansa.wire.frames import Peer

ADMIN = Peer("poc", "org", "admin@poc.local", "admin")


@cache
def kits() -> dict[str, Path]:
    """Kits of a server, an admin and a site; no test changes them."""
    folder = Path(mkdtemp(prefix="hansa-flare-"))
    atexit.register(shutil.rmtree, folder)
    return make_kits(folder, sites=["site-1"])


class Place:
    """An API over a federation in memory, with apps `app` and `other` to upload, and `whole`, which is a job.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apps = folder / "transfer"
        for name in ("app", "other"):
            App(server=SERVER, client=CLIENT, files={"custom/parts.py": b"X = 1\n"}).write(self.apps / name)
        Job("whole", {"a": App(server=SERVER, client=CLIENT)}, {"a": ("@ALL",)}).save(self.apps / "whole")
        (self.apps / "notes").mkdir()
        (folder / "there").mkdir()
        self.links: list[MemoryLink] = []
        self.federation: MemoryFederation
        self.num_down = 0
        """So many of the next links find no server."""
        self.api = self.another()

    def another(self) -> FLAdminAPI:
        """An API as another script would make it."""
        startup = kits()["admin"] / "startup"
        return FLAdminAPI(
            "localhost", 8003, ca_cert=str(startup / "rootCA.pem"), upload_dir=str(self.apps), open_link=self._opened
        )

    def _opened(self, kit: Kit) -> MemoryLink:
        if not self.links:
            self.federation = MemoryFederation(self.folder / "there")
            self.federation.views = [
                SiteView("site-1", since=1.0),
                SiteView("site-2"),
                SiteView("gone", connected=False),
            ]
        self.links.append(MemoryLink(self.federation, peer=ADMIN))
        self.links[-1].is_down = self.num_down > 0
        self.num_down -= self.links[-1].is_down
        return self.links[-1]

    def act(self, do: Callable[..., object], *args: Any, **named: Any) -> None:
        """Have something done in the federation."""
        self.links[-1].act(do, *args, **named)

    def started(self, number: int = 1) -> str:
        """Start the app; returns the job's id."""
        for reply in (
            self.api.set_run_number(number),
            self.api.upload_app("app"),
            self.api.deploy_app("app", TargetType.ALL),
            self.api.start_app(TargetType.ALL),
        ):
            assert_done(reply)
        return self.federation.jobs()[-1].id

    def close(self) -> None:
        self.api.logout()
        if self.links:
            self.federation.store.close()


def assert_done(reply: FLAdminAPIResponse) -> Any:
    """The message of a call that succeeded."""
    assert reply["status"].value == "SUCCESS", reply
    return reply["details"].get("message")


def assert_refused(reply: FLAdminAPIResponse, status: str, text: str) -> None:
    """It was refused with one line that has this in it."""
    assert reply["status"].value == status, reply
    assert text in reply["details"]["message"]
    assert "\n" not in reply["details"]["message"]
