"""A job's own code: its `custom` folder on the import path while the job runs, and gone when it ends."""

from __future__ import annotations

import importlib
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Self

from hansa.jobs.job import App, Content
from hansa.jobs.place import Place


class CustomCode:
    """While it is entered, the modules of a folder can be imported by their bare names.

    The folder comes first on the path, so its modules win over the working directory's. Modules of the same name that
    were loaded before are set aside and come back at the end. On leaving, every module that came from the folder is
    unloaded, so that the next job gets its own code. The import path belongs to the whole process: two jobs with
    custom code cannot run in one process at the same time.

    Args:
        folder: The folder; one that does not exist is an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._set_aside: dict[str, ModuleType] = {}
        self.modules = frozenset(_top_level_modules(self._folder))

    def check(self) -> None:
        """Refuse modules that would stand in for what Python, Hansa or the running program needs.

        Raises:
            ConfigError: Such a module; the error names it.
        """
        for name in sorted(self.modules):
            if owner := _owner(name):
                raise Place(str(_file_of(name, self._folder))).error(f"shadows {owner}; give the module another name")

    def __enter__(self) -> Self:
        self.check()
        if self.modules:
            for name in [name for name in sys.modules if name.partition(".")[0] in self.modules]:
                self._set_aside[name] = sys.modules.pop(name)
            sys.path.insert(0, str(self._folder))
            importlib.invalidate_caches()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.modules:
            return
        if str(self._folder) in sys.path:
            sys.path.remove(str(self._folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in self.modules]:
            del sys.modules[name]
        sys.modules.update(self._set_aside)
        self._set_aside.clear()
        sys.path_importer_cache.pop(str(self._folder), None)


def check_names(app: App) -> None:
    """Refuse modules of an app that would stand in for what Python, Hansa or the running program needs.

    Raises:
        ConfigError: Such a module; the error names it where its author keeps it.
    """
    for file in app.files:
        folder, _, rest = file.partition("/")
        entry = rest.partition("/")[0]
        if folder == "custom" and rest.endswith(".py") and (owner := _owner(entry.removesuffix(".py"))):
            raise Place(f"{app.origin}/custom/{entry}").error(f"shadows {owner}; give the module another name")


def check_shared(apps: Mapping[str, App]) -> None:
    """Refuse apps that cannot share one process, because the same file of `custom/` differs.

    Args:
        apps: By name.

    Raises:
        ConfigError: Two such files.
    """
    seen: dict[str, tuple[str, Content]] = {}
    for name, app in apps.items():
        for file, content in app.files.items():
            first, other = seen.setdefault(file, (name, content))
            if file.startswith("custom/") and _bytes(content) != _bytes(other):
                raise Place(app.origin, file).error(
                    f"differs from that of the app {first!r}; in one process both cannot be imported"
                )


def _bytes(content: Content) -> object:
    return content.read_bytes() if isinstance(content, Path) else content


def _top_level_modules(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    names = [entry.stem for entry in folder.glob("*.py")]
    names += [entry.name for entry in folder.iterdir() if entry.is_dir() and any(entry.rglob("*.py"))]
    return [name for name in names if name.isidentifier()]


def _owner(name: str) -> str | None:
    if name in sys.stdlib_module_names:
        return f"the standard library module {name!r}"
    if name == "hansa":
        return "Hansa itself"
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if loaded and loaded.startswith((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))):
        return f"the installed package {name!r}"
    return None


def _file_of(name: str, folder: Path) -> Path:
    file = folder / f"{name}.py"
    return file if file.exists() else folder / name
