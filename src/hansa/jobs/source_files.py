"""Code that travels with a job: from classes in the running program to files in `custom/`."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from hansa.errors import ConfigError
from hansa.jobs.job import App, Content, Job


class LocalClasses:
    """Gives classes the paths under which a config names them, and keeps those that only this program has.

    Attributes:
        found: Path to class, for `Job.classes`.
    """

    def __init__(self) -> None:
        self.found: dict[str, type] = {}

    def path(self, cls: type) -> str:
        """The path of a class; a class that cannot be imported elsewhere is remembered under it."""
        path = f"{cls.__module__}.{cls.__qualname__}"
        if _is_installed(cls.__module__):
            return path
        first, number = path, 1
        while self.found.setdefault(path, cls) is not cls:  # a function that was called twice made two such classes
            number += 1
            path = f"{first}-{number}"
        return path


def portable(job: Job) -> dict[str, App]:
    """The apps of a job with the source of its local classes in `custom/`, and paths that lead there.

    Raises:
        ConfigError: A class without a file of its own: from a function, a notebook or the prompt.
    """
    paths: dict[str, str] = {}
    sources: dict[str, Content] = {}
    # Slow to ask, so only here: packages that are installed in place, in their own source folder.
    installed = importlib.metadata.packages_distributions() if job.classes else {}
    for path, cls in job.classes.items():
        if cls.__module__.partition(".")[0] in installed:
            continue
        new_module, files = _source(cls)
        paths[path] = f"{new_module}.{cls.__name__}"
        sources.update({f"custom/{name}": file for name, file in files.items()})
    return {
        name: replace(
            app,
            server=_renamed(app.server, paths),
            client=_renamed(app.client, paths),
            files={**app.files, **sources},
        )
        for name, app in job.apps.items()
    }


def _renamed(value: Any, paths: Mapping[str, str]) -> Any:  # Any: JSON in, JSON out
    if isinstance(value, Mapping):
        return {
            key: paths.get(item, item) if key == "path" and isinstance(item, str) else _renamed(item, paths)
            for key, item in value.items()
        }
    return [_renamed(item, paths) for item in value] if isinstance(value, list) else value


def _source(cls: type) -> tuple[str, dict[str, Path]]:
    """The module in `custom/` that will hold a class, and the files that it needs there."""
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if "<locals>" in cls.__qualname__:
        raise _homeless(cls, "is defined inside a function")
    if "." in cls.__qualname__:
        raise _homeless(cls, "is defined inside another class")
    if module is None or file is None or not Path(file).is_file():
        raise _homeless(cls, "is defined in a notebook or at the prompt")
    path = Path(file).resolve()
    name = cls.__module__
    if name == "__main__":
        name = _module_name(path)
    if "." in name and not _package(name):  # a test runner's invention: dotted names without packages
        name = name.rpartition(".")[2]
    files = _package(name) or {f"{name}.py": path}
    for needed in list(files.values()):
        _add_neighbours(needed, path.parent, files)
    return name, files


def _homeless(cls: type, where: str) -> ConfigError:
    return ConfigError(f"{cls.__name__} {where} and cannot travel; move it to the top of a .py file", key="classes")


def _module_name(script: Path) -> str:
    stem = "".join(letter if letter.isalnum() else "_" for letter in script.stem)
    if not stem.isidentifier() or stem in sys.stdlib_module_names:
        return f"job_{stem}"
    return stem


def _package(name: str) -> dict[str, Path]:
    """The sources of the package that a module is in; nothing for a module on its own."""
    top = name.partition(".")[0]
    roots = [Path(root).resolve() for root in getattr(sys.modules.get(top), "__path__", ())]
    return {(Path(top) / file.relative_to(root)).as_posix(): file for root in roots for file in root.rglob("*.py")}


def _add_neighbours(source: Path, folder: Path, files: dict[str, Path]) -> None:
    """Take along the modules beside a script that it imports by their bare names, and theirs."""
    for name in _imported(source):
        file = folder / f"{name}.py"
        if file.is_file() and f"{name}.py" not in files and file not in files.values():
            files[f"{name}.py"] = file
            _add_neighbours(file, folder, files)


def _imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _is_installed(module_name: str) -> bool:
    """Whether a module comes with Python, with Hansa or with a package in site-packages."""
    top = module_name.partition(".")[0]
    if top in {"hansa", "builtins"} or top in sys.stdlib_module_names:
        return True
    file = _file(sys.modules.get(top))
    return file is not None and file.startswith((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))


def _file(module: ModuleType | None) -> str | None:
    if module is None:
        return None
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file
    return next(iter(getattr(module, "__path__", ())), None)
