"""A job: what the simulator, a proof of concept and a real federation run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hansa import tensors
from hansa.errors import ConfigError, EncodeError
from hansa.jobs.config import Side, check_meaning, check_shape
from hansa.jobs.place import Place
from hansa.jobs.variables import fill

Config = Mapping[str, Any]  # Any: JSON
Content = Path | bytes | Mapping[str, NDArray[Any]]  # Any: tensors of every dtype
"""A file of an app: where it lies, its bytes, or the tensors of a `.safetensors` file."""

ALL = "@ALL"
"""In a deploy map: the server and every site."""
SERVER = "server"
"""The name of the server in a deploy map."""
WEIGHTS = "config/initial_model.safetensors"
"""Where an app keeps its initial weights; only the server gets them."""


@dataclass(frozen=True, eq=False)
class App:
    """The part of a job that one or more participants run: two configs, and the files that go with them.

    Args:
        server: The server's config, variables not yet filled in; None where no server runs this app.
        client: The sites' config; None where no site runs this app.
        files: The other files by their path in the app's folder (`custom/net.py`, `config/environment.json`).
        origin: Where it comes from, for errors: its folder, or the name of a job made in Python.
        checked: True where the shape of the configs is right by construction.
    """

    server: Config | None
    client: Config | None
    files: Mapping[str, Content] = field(default_factory=dict)
    origin: str = "app"
    checked: bool = False

    def config_file(self, side: Side) -> str:
        """How errors name a config: the path of its file."""
        return f"{self.origin}/config/{side.file_name}"

    def config(self, side: Side, *, num_sites: int) -> dict[str, Any]:
        """A side's config as it is built: variables filled in, shape and meaning checked; a fresh copy.

        Args:
            side: Server or client.
            num_sites: The number of sites of the run, for the variable of that name.

        Raises:
            ConfigError: There is none, or it has a mistake.
        """
        file = self.config_file(side)
        raw = self.server if side is Side.SERVER else self.client
        if raw is None:
            raise ConfigError("there is no such file", file=file)
        config = fill(raw, {"num_sites": num_sites}, Place(file))
        if not self.checked:
            check_shape(config, side, file)
        check_meaning(config, side, file)
        return config

    def deploy(self, folder: Path, side: Side) -> None:
        """Write the app into a participant's app folder, as FLARE deploys it; a site gets no initial weights.

        Args:
            folder: The participant's APP_ROOT; made if need be.
            side: Whose.
        """
        (folder / "config").mkdir(parents=True, exist_ok=True)
        self.write(folder, without={WEIGHTS} if side is Side.CLIENT else set())

    def write(self, folder: Path, *, without: set[str] | None = None) -> None:
        """Write the app's folder.

        Args:
            folder: An empty folder, or an earlier version of the app.
            without: Files to leave out.
        """
        for side, config in ((Side.SERVER, self.server), (Side.CLIENT, self.client)):
            if config is not None:
                write_json(folder / "config" / side.file_name, config)
        for name, content in self.files.items():
            if name not in (without or ()):
                _write_file(folder / name, content, Place(self.origin, name))


@dataclass(frozen=True, eq=False)
class Job:
    """What is run: one app for everybody, or several with a map that says who runs which.

    Made by a recipe (`fed_avg`), by `Job.load`, or by hand from two configs as they stand in FLARE's files::

        Job("digits", {"app": App(server={...}, client={...})})

    Args:
        name: What people call it.
        apps: The apps by name.
        deploy_map: Who runs each app: names of sites, `server`, or `@ALL` for whoever is named nowhere else.
        min_sites: How many sites must be there for the job to start; None for all sites of the run.
        meta: What else stands in `meta.json`.
        classes: Classes that the configs name but that nobody could import: from a script, a notebook or a function.
            A run in this process uses them as they are; `save` puts their source files into `custom/`.
    """

    name: str
    apps: Mapping[str, App]
    deploy_map: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"app": (ALL,)})
    min_sites: int | None = None
    meta: Config = field(default_factory=dict)
    classes: Mapping[str, type] = field(default_factory=dict)

    def app_for(self, target: str) -> App | None:
        """The app that a participant runs, or None where it takes no part.

        Args:
            target: A site's name, or `server`.
        """
        name = self.app_name_for(target)
        return None if name is None else self.apps[name]

    def app_name_for(self, target: str) -> str | None:
        """The name of the app that a participant runs."""
        named = {who: name for name, targets in self.deploy_map.items() for who in targets}
        return named.get(target, named.get(ALL))

    @property
    def server_app(self) -> App:
        """The app that the server runs.

        Raises:
            ConfigError: The deploy map gives it none.
        """
        app = self.app_for(SERVER)
        if app is None:
            raise ConfigError("no app goes to the server", file=self.name, key="deploy_map")
        return app

    def check(self) -> None:
        """Look at every config of the job as far as that is possible without building anything.

        Raises:
            ConfigError: The first mistake, with file and key.
        """
        for name in self.deploy_map:
            if name not in self.apps:
                raise ConfigError(f"there is no app {name!r}", file=self.name, key=f"deploy_map.{name}")
            sides = sides_of(name, self.deploy_map)
            for side in Side:
                if side in sides:
                    self.apps[name].config(side, num_sites=1)

    @classmethod
    def load(cls, folder: str | Path) -> Job:
        """The job in a folder: one with a `meta.json` and a deploy map, or a bare FLARE 2.0 app.

        Args:
            folder: Holds `meta.json` and a folder per app, or `config/` and perhaps `custom/`.

        Raises:
            ConfigError: It is no job, or has a mistake; says in which file and where.
        """
        from hansa.jobs.job_folder import load

        return load(Path(folder))

    def save(self, folder: str | Path) -> None:
        """Write the job as a folder that runs elsewhere, in FLARE's layout.

        Args:
            folder: A new or empty folder, or one that holds an earlier version of a job, which is replaced.

        Raises:
            ConfigError: The folder holds something else, or a class has no source file that could travel.
        """
        from hansa.jobs.job_folder import save

        save(self, Path(folder))


def sides_of(app: str, deploy_map: Mapping[str, Sequence[str]]) -> set[Side]:
    """Which configs an app needs, from who runs it; `@ALL` is not the server where another app names that."""
    targets = deploy_map[app]
    sides = {Side.CLIENT} if any(target != SERVER for target in targets) else set()
    if SERVER in targets or (ALL in targets and not any(SERVER in others for others in deploy_map.values())):
        sides.add(Side.SERVER)
    return sides


def write_json(path: Path, content: Config) -> None:
    """Write a JSON file as people read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_file(path: Path, content: Content, place: Place) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        try:
            tensors.write(path, content)
        except EncodeError as error:
            raise place.error(str(error)) from None
