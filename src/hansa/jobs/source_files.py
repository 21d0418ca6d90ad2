"""Code that travels with a job: from classes in the running program to files in `custom/`."""

from __future__ import annotations

import ast
import importlib.metadata
import linecache
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from hansa.errors import ConfigError
from hansa.jobs.cells import has_guard, needed_source
from hansa.jobs.config import Side
from hansa.jobs.job import App, Config, Content, Job

_NOTEBOOK = "notebook_cells"
"""The module that classes from a notebook travel in."""
_CELL = re.compile(r"^<ipython-input-|[/\\]ipykernel_\d+[/\\]")
"""The file names that notebooks give their cells."""

_Source = tuple[str, dict[str, Content]]
"""A module, and the files that it and its neighbours need, by their path in `custom/`."""


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


def portable(job: Job, *, only: Side | None = None) -> dict[str, App]:
    """The apps of a job with the source of its local classes in `custom/`, and paths that lead there.

    A class from a module brings that module's file, or its whole package, and the modules beside it that they import.
    A class from a notebook or from a script that does its work when it is imported brings the statements that it
    needs (`hansa.jobs.cells`).

    Args:
        job: The job.
        only: The side whose classes travel; the other side's stay as they are. None: both.

    Raises:
        ConfigError: A class without a source of its own: from a function or the prompt.
    """
    paths: dict[str, str] = {}
    sources: dict[str, Content] = {}
    # Slow to ask, so only here: packages that are installed in place, in their own source folder.
    installed = importlib.metadata.packages_distributions() if job.classes else {}
    named = {path for app in job.apps.values() for config in _configs(app, only) for path in _paths_in(config)}
    local = {
        path: cls
        for path, cls in job.classes.items()
        if path in named and cls.__module__.partition(".")[0] not in installed
    }
    for cls in local.values():
        _check_top_level(cls)
    in_main = [cls for cls in local.values() if cls.__module__ == "__main__"]
    main = _main_source(in_main) if in_main else ("", {})
    for path, cls in local.items():
        new_module, files = main if cls in in_main else _source(cls)
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


def neighbours_of(script: Path) -> dict[str, Content]:
    """A script and the modules and packages beside it that it imports, and theirs, by their paths in `custom/`.

    Raises:
        SyntaxError: One of them is no Python; says which and where.
        OSError: One of them cannot be read.
    """
    files: dict[str, Content] = {script.name: script}
    _add_neighbours(files, script.parent)
    return files


def _configs(app: App, only: Side | None) -> list[Config | None]:
    return {None: [app.server, app.client], Side.SERVER: [app.server], Side.CLIENT: [app.client]}[only]


def _paths_in(value: Any) -> Iterator[str]:  # Any: JSON
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "path" and isinstance(item, str):
                yield item
            yield from _paths_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _paths_in(item)


def _renamed(value: Any, paths: Mapping[str, str]) -> Any:  # Any: JSON in, JSON out
    if isinstance(value, Mapping):
        return {
            key: paths.get(item, item) if key == "path" and isinstance(item, str) else _renamed(item, paths)
            for key, item in value.items()
        }
    return [_renamed(item, paths) for item in value] if isinstance(value, list) else value


def _check_top_level(cls: type) -> None:
    if "<locals>" in cls.__qualname__:
        raise _homeless(cls, "is defined inside a function")
    if "." in cls.__qualname__:
        raise _homeless(cls, "is defined inside another class")


def _source(cls: type) -> _Source:
    """The module in `custom/` that will hold a class, and the files that it needs there."""
    path = _path_of(sys.modules.get(cls.__module__))
    if path is None:
        raise _homeless(cls, "has no source file")
    name = cls.__module__
    if "." in name and not _package(name):  # a test runner's invention: dotted names without packages
        name = name.rpartition(".")[2]
    files: dict[str, Content] = dict(_package(name)) or {f"{name}.py": path}
    _add_neighbours(files, path.parent)
    return name, files


def _main_source(classes: Sequence[type]) -> _Source:
    """The same for classes of the program that runs: a script, a notebook, or a module that was run with `-m`."""
    main = sys.modules["__main__"]
    for cls in classes:
        if vars(main).get(cls.__name__) is not cls:
            raise ConfigError(f"{cls.__name__} was defined again since; make the job anew", key="classes")
    names = [cls.__name__ for cls in classes]
    path = _path_of(main)
    cells = _cells(main)
    if cells:
        files: dict[str, Content] = {f"{_NOTEBOOK}.py": needed_source(cells, names).encode()}
        _add_neighbours(files, Path.cwd())
        return _NOTEBOOK, files
    if path is None:
        raise _homeless(classes[0], "is defined at the prompt")
    text = path.read_text(encoding="utf-8")
    source: Content = path if has_guard(text) else needed_source([text], names).encode()
    spec = main.__spec__
    name = spec.name if spec is not None and _package(spec.name) else _module_name(path)
    files = {**_package(name), f"{name.replace('.', '/')}.py": source}
    _add_neighbours(files, path.parent)
    return name, files


def _cells(main: ModuleType) -> list[str]:
    """The cells of a notebook in the order in which they ran; none where the program is no notebook."""
    history = vars(main).get("_ih")  # IPython's own list of inputs
    if isinstance(history, list):
        return [cell for cell in history if isinstance(cell, str)]
    entries = [(name, entry) for name, entry in linecache.cache.items() if _CELL.search(name)]
    return ["".join(entry[2]) for _, entry in entries if len(entry) > 2]


def _path_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) and Path(file).is_file() else None


def _homeless(cls: type, where: str) -> ConfigError:
    return ConfigError(
        f"{cls.__name__} {where} and cannot travel; move it to the top of a .py file or run with workers=0",
        key="classes",
    )


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


def _add_neighbours(files: dict[str, Content], folder: Path) -> None:
    """Take along the modules and packages beside a source that it imports by their bare names, and theirs."""
    todo = list(files.values())
    while todo:
        for name in _imported(todo.pop()):
            if not _comes_from(name, folder):
                continue
            module, package = folder / f"{name}.py", folder / name
            found = {f"{name}.py": module} if module.is_file() else {}
            if not found and package.is_dir():
                found = {file.relative_to(folder).as_posix(): file for file in package.rglob("*.py")}
            fresh = {at: file for at, file in found.items() if at not in files and file not in files.values()}
            files.update(fresh)
            todo += fresh.values()


def _comes_from(name: str, folder: Path) -> bool:
    """Whether an import of this name finds what lies in a folder, not something installed that is called the same."""
    loaded = _file(sys.modules.get(name))
    if loaded is not None:
        return Path(loaded).resolve().is_relative_to(folder)
    return name not in sys.stdlib_module_names and name != "hansa"


def _imported(source: Content) -> Iterator[str]:
    text = source.read_bytes() if isinstance(source, Path) else source
    if not isinstance(text, bytes):
        return
    for node in ast.walk(ast.parse(text, str(source) if isinstance(source, Path) else "<cells>")):
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
