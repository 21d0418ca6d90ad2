"""A job as a folder: FLARE's layout, read and written.

::

    meta.json                          name, deploy map, how many sites are enough
    app/config/config_fed_server.json
    app/config/config_fed_client.json
    app/config/initial_model.safetensors   if the job brings initial weights
    app/custom/*.py                    if it brings code of its own

A bare FLARE 2.0 app, a folder with `config/`, is a job whose one app goes to everybody.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hansa.errors import ConfigError
from hansa.jobs.config import Side, check_meta, read_json
from hansa.jobs.job import ALL, App, Config, Content, Job, sides_of, write_json
from hansa.jobs.place import Place
from hansa.jobs.source_files import portable

FORMAT = 1
"""The version of the folder, under `hansa_job` in `meta.json`."""

META = "meta.json"
_CONFIG_FILES = {f"config/{side.file_name}" for side in Side}

_log = logging.getLogger(__name__)


def load(folder: Path) -> Job:
    """See `Job.load`."""
    if not folder.is_dir():
        raise ConfigError("there is no such folder", file=str(folder))
    if (folder / META).exists():
        job = _load_with_meta(folder)
    elif (folder / "config").is_dir():
        job = Job(folder.resolve().name, {"app": load_app(folder)})
    else:
        raise ConfigError("is no job: it has neither meta.json nor a folder 'config'", file=str(folder))
    job.check()
    return job


def save(job: Job, folder: Path) -> None:
    """See `Job.save`."""
    job.check()
    apps = portable(job)
    _check_free(folder)
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder, _meta(job), apps)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror or error}", file=str(folder)) from None
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _replace(folder: Path, meta: Config, apps: Mapping[str, App]) -> None:
    # Everything is written beside its place first: a job that is saved into the folder it was loaded from reads its
    # files there until the end, and a failure leaves the old version as it was.
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as temporary:
        fresh = Path(temporary)
        write_json(fresh / META, meta)
        for name, app in apps.items():
            (fresh / name).mkdir()
            app.write(fresh / name)
        for entry in sorted(fresh.iterdir()):
            if (folder / entry.name).is_dir():
                shutil.rmtree(folder / entry.name)
            entry.replace(folder / entry.name)


def _load_with_meta(folder: Path) -> Job:
    file = folder / META
    meta = read_json(file)
    check_meta(meta, str(file))
    place = Place(str(file), "deploy_map")
    deploy_map = {name: tuple(targets) for name, targets in meta.get("deploy_map", {"app": [ALL]}).items()}
    if not deploy_map:
        raise place.error("must not be empty")
    owner: dict[str, str] = {}
    apps = {}
    for name, targets in deploy_map.items():
        if Path(name).name != name or name in ("", "..") or not (folder / name).is_dir():
            raise place.at(name).error(f"there is no folder {name!r} beside meta.json")
        for target in targets:
            if target in owner:
                raise place.at(name).error(f"{target} runs {owner[target]!r} already")
            owner[target] = name
        apps[name] = load_app(folder / name, sides_of(name, deploy_map))
    known = ("hansa_job", "name", "deploy_map", "min_clients")
    return Job(
        name=meta.get("name") or folder.resolve().name,
        apps=apps,
        deploy_map=deploy_map,
        min_sites=meta.get("min_clients"),
        meta={key: value for key, value in meta.items() if key not in known},
    )


def load_app(folder: Path, needed: set[Side] | None = None) -> App:
    """The app in a folder.

    Args:
        folder: Holds `config/`, and perhaps `custom/`.
        needed: The sides whose config must be there; None: both.

    Raises:
        ConfigError: A config is missing or no JSON.
    """
    return App(
        server=_load_config(folder, Side.SERVER, needed),
        client=_load_config(folder, Side.CLIENT, needed),
        files=dict(_files(folder)),
        origin=str(folder),
    )


def _load_config(folder: Path, side: Side, needed: set[Side] | None) -> dict[str, Any] | None:
    path = folder / "config" / side.file_name
    if needed is not None and side not in needed and not path.exists():
        return None
    config = read_json(path)
    if config.get("handlers"):
        _log.warning("%s: handlers is ignored; every component hears events", path)
    return config


def _files(folder: Path) -> Iterator[tuple[str, Content]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in name.parts)
        if path.is_file() and not hidden and name.as_posix() not in _CONFIG_FILES:
            yield name.as_posix(), path.resolve()


def _meta(job: Job) -> Config:
    meta: dict[str, Any] = {"hansa_job": FORMAT, "name": job.name}
    meta["deploy_map"] = {name: list(targets) for name, targets in job.deploy_map.items()}
    if job.min_sites is not None:
        meta["min_clients"] = job.min_sites
    return {**meta, **job.meta}


def _check_free(folder: Path) -> None:
    """A folder that is not there, is empty, or holds a job may be written; anything else is somebody's."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError("is a file, not a folder for a job", file=str(folder))
    if not any(folder.iterdir()):
        return
    try:
        meta = read_json(folder / META)
    except ConfigError:
        meta = {}
    if "deploy_map" not in meta and "hansa_job" not in meta:
        raise ConfigError("is not empty and holds no job; nothing was written", file=str(folder))
