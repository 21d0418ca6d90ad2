"""What goes to whom when a job is started: the app of each site as one archive, and what processes are told."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError
from hansa.jobs.archive import pack
from hansa.jobs.config import Side
from hansa.jobs.job import Job
from hansa.runtime.kept_rounds import BEGUN, ROUNDS, KeptRounds
from hansa.wire.frames import BlobRef

START_TIMEOUT_S = 60.0
QUORUM_WAIT_S = 600.0


class Deployment:
    """A job as it is handed out.

    Args:
        folder: The job's folder on the server: `job/`, `run/`, `deploy/`.
        job_id: The job.
        number: Its number here.
        root: The server's workspace root.
        tags: What sites say of themselves.
        stamp: What tells the job from one of the same id on another server.
    """

    def __init__(
        self, folder: Path, *, job_id: str, number: int, root: Path, tags: dict[str, Sequence[str]], stamp: str = ""
    ) -> None:
        self.job_id = job_id
        self.number = number
        self._stamp = stamp
        self._folder = folder
        self._root = root
        self._tags = tags
        self._job = Job.load(folder / "job")
        self._archives: dict[str, tuple[BlobRef, Path]] = {}
        self._num_sites = 0
        self._lock = threading.Lock()

    @property
    def threads(self) -> int:
        """Threads of numeric libraries in each process."""
        return int(self._job.meta.get("threads_per_site", 1))

    def prepare(self, sites: Iterable[str]) -> None:
        """Pack the apps of these sites; any thread.

        Raises:
            ConfigError: A site has no app, or the server has none.
        """
        with self._lock:
            names = list(sites)
            self._num_sites = max(self._num_sites, len(names))
            if self._job.app_for("server") is None:
                raise ConfigError("no app goes to the server", file=self._job.name, key="deploy_map")
            for site in names:
                app = self._app_name(site)
                if app not in self._archives:
                    self._archives[app] = self._pack(app)

    def _app_name(self, site: str) -> str:
        name = self._job.app_name_for(site)
        if name is None:
            raise ConfigError(f"no app goes to {site}", file=self._job.name, key="deploy_map")
        return name

    def _pack(self, app: str) -> tuple[BlobRef, Path]:
        target = self._folder / "deploy" / f"{app}.zip"
        target.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".packing-") as temporary:
            self._job.apps[app].deploy(Path(temporary, app), Side.CLIENT)
            made = pack(Path(temporary, app))
            shutil.move(made, target)
        return BlobRef(f"{app}.zip", target.stat().st_size, _digest(target)), target

    def for_site(self, site: str) -> tuple[BlobRef, dict[str, Any]]:  # Any: JSON
        """The site's app, and what its agent is told."""
        app = self._app_name(site)
        return self._archives[app][0], {
            "run_number": self.number,
            "stamp": self._stamp,
            "config_file": f"{app}/config/{Side.CLIENT.file_name}",
            "num_sites": self._num_sites,
            "seed": self.seed,
            "threads": self.threads,
            "custom": any(name.startswith("custom/") for name in self._job.apps[app].files),
            "name": self._job.name,
        }

    def archive_of(self, site: str) -> Path:
        """Where the site's app lies."""
        return self._archives[self._app_name(site)][1]

    def takes(self, site: str) -> bool:
        """Whether the job has an app for a site."""
        return self._job.app_name_for(site) is not None

    @property
    def rounds(self) -> KeptRounds:
        """The rounds that are kept of it."""
        wanted = self._job.meta.get("keep_rounds", 1)
        return KeptRounds(self._folder / ROUNDS, self.job_id, most=None if wanted == "all" else wanted)

    @property
    def begun(self) -> Path | None:
        """Where the round lies that it was begun from; None: it begins at its beginning."""
        folder = self._folder / BEGUN
        return folder if folder.is_dir() else None

    @property
    def seed(self) -> int:
        """Where all randomness of the job comes from."""
        return int(self._job.meta.get("seed", 0))

    def server_args(self, sites: Sequence[str]) -> dict[str, Any]:  # Any: JSON
        """What the job's process on the server is told."""
        meta = self._job.meta
        return {
            "job_id": self.job_id,
            "run_number": self.number,
            "name": "server",
            "workspace": str(self._root),
            "job_folder": str(self._folder / "job"),
            "run_folder": str(self._folder / "run"),
            "sites": list(sites),
            "tags": {site: list(self._tags.get(site, ())) for site in sites},
            "min_sites": self._job.min_sites or len(sites),
            "mandatory": list(meta.get("mandatory_clients", ())),
            "seed": self.seed,
            "threads": self.threads,
            "start_timeout_s": float(meta.get("start_timeout_s", START_TIMEOUT_S)),
            "quorum_wait_s": float(meta.get("quorum_wait_s", QUORUM_WAIT_S)),
        }


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
