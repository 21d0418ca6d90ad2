"""Code that says `nvflare`, unchanged: modules of that name which hold Hansa's own classes.

`from nvflare.apis.dxo import DXO` gives `hansa.apis.dxo.DXO` itself, found through the name table
(`hansa.apis.flare_names`). The alias is on while a job is built and run whose config or code says `nvflare`
(`served_for`), and from `import hansa.compat` on. It never stands in for an installed `nvflare`: it is asked after
everything else, and adds nothing to a package that is not its own.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from hansa.apis import flare_names
from hansa.jobs.job import App, Content, Job

FLARE = "nvflare"
"""The package that is stood in for."""
VERSION = "2.0.19"
"""The FLARE release whose names are served."""

_CODE = (".py", ".json")


class _FlareModule(ModuleType):
    """A module of FLARE's name; what it offers is fetched when it is first asked for."""

    __all__: list[str]

    def __getattr__(self, name: str) -> object:
        path = f"{self.__name__}.{name}"
        target = flare_names.resolve(path)
        if target is None:
            if title := flare_names.owed(path):
                raise ImportError(f"{path} is not in this release; it comes with {title!r}", name=self.__name__)
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, found = target.rpartition(".")
        value: object = getattr(importlib.import_module(module), found)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*vars(self), *self.__all__})


class _FlareFinder(MetaPathFinder, Loader):
    """Serves `nvflare` and the modules below it that hold public names of FLARE 2.0."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _modules():
            return None
        parent = fullname.rpartition(".")[0]
        if parent and not isinstance(sys.modules.get(parent), _FlareModule):
            return None  # below somebody else's nvflare
        return ModuleSpec(fullname, self, origin="Hansa's name table", is_package=_is_package(fullname))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _FlareModule(spec.name, f"Names of FLARE {VERSION}, served by Hansa.")

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__all__"] = _modules()[module.__name__]
        if module.__name__ == FLARE:
            vars(module)["__version__"] = VERSION


_finder = _FlareFinder()
_lock = threading.Lock()
_num_users = 0


def install() -> None:
    """Serve `nvflare` from now on; as often as this is called, `remove` takes it back."""
    global _num_users
    with _lock:
        _num_users += 1
        if _finder not in sys.meta_path:
            sys.meta_path.append(_finder)  # last, so that an installed nvflare is found first


def remove() -> None:
    """Take one `install` back; after the last one nothing called `nvflare` is left of ours."""
    global _num_users
    with _lock:
        _num_users -= 1
        if _num_users:
            return
        sys.meta_path.remove(_finder)
        for name in [name for name, module in sys.modules.items() if isinstance(module, _FlareModule)]:
            del sys.modules[name]


def is_served() -> bool:
    """Whether the alias is on; a process that starts another one for the same job tells it so."""
    return _num_users > 0


@contextmanager
def served(wanted: bool = True) -> Iterator[None]:
    """The alias is on inside, where it is wanted."""
    if not wanted:
        yield
        return
    install()
    try:
        yield
    finally:
        remove()


def served_for(job: Job) -> AbstractContextManager[None]:
    """The alias is on inside, where the job says `nvflare`."""
    return served(mentions_flare(job))


def mentions_flare(job: Job) -> bool:
    """Whether a config or a file of code in the job says `nvflare`, or names a part the way only FLARE does."""
    return any(_app_mentions(app) for app in job.apps.values())


def _app_mentions(app: App) -> bool:
    if _config_mentions(app.server) or _config_mentions(app.client):
        return True
    return any(FLARE.encode() in _text(file) for name, file in app.files.items() if name.endswith(_CODE))


def _config_mentions(value: Any) -> bool:  # Any: JSON
    if isinstance(value, str):
        return FLARE in value
    if isinstance(value, Mapping):
        # A bare name is FLARE's way; code on the import path that goes with it need not lie in the job's folder.
        is_bare = "name" in value and "path" not in value and isinstance(value["name"], str)
        return (is_bare and bool(flare_names.by_name(value["name"]))) or any(map(_config_mentions, value.values()))
    return isinstance(value, list | tuple) and any(map(_config_mentions, value))


def _text(file: Content) -> bytes:
    if isinstance(file, Path):
        return file.read_bytes() if file.is_file() else b""
    return file if isinstance(file, bytes) else b""


@cache
def _modules() -> dict[str, list[str]]:
    """Every module that is served, packages above them too, with the names that `import *` gives."""
    served: dict[str, list[str]] = {FLARE: []}
    for path in (row.path for row in flare_names.names()):
        module, _, name = path.rpartition(".")
        steps = module.split(".")
        for length in range(1, len(steps) + 1):
            served.setdefault(".".join(steps[:length]), [])
        if not name.startswith("_") and flare_names.resolve(path):
            served[module].append(name)
    return served


@cache
def _is_package(name: str) -> bool:
    return any(other.startswith(f"{name}.") for other in _modules())
