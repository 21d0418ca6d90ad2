"""Does a job make sense? Looked at without running any of its code, or by building all of its parts once."""

from __future__ import annotations

import ast
import importlib.util
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from hansa.errors import ConfigError
from hansa.jobs.build import Builder, Config, is_component, written_args
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.classes import ClassFinder, UnknownClass, check_arguments, written_path
from hansa.jobs.config import Side
from hansa.jobs.custom_code import CustomCode, check_shared
from hansa.jobs.flare_alias import served_for
from hansa.jobs.job import App, Job, sides_of
from hansa.jobs.overview import parts_of
from hansa.jobs.place import Place, suggestion

_SCRIPT_EXECUTOR = "hansa.components.executors.script_executor.ScriptExecutor"


def check_job(job: Job, *, num_sites: int = 1) -> None:
    """Hold every part of a job against what it names, without running any of the job's own code.

    Looks at the configs, at the syntax of the files in `custom/`, at whether each class is there, and whether its
    constructor takes the arguments. A class that a module of `custom/` imports from elsewhere is taken on trust.

    Args:
        job: The job.
        num_sites: How many sites the run would have.

    Raises:
        ConfigError: The first mistake, with file and key.
    """
    if job.min_sites is not None and num_sites < job.min_sites:
        raise ConfigError(f"the job needs {job.min_sites} sites, not {num_sites}", file=job.name, key="min_clients")
    codes = {name: _Code(app) for name, app in job.apps.items()}
    for app in job.apps.values():
        CustomCode(Path(app.origin) / "custom").check()
    for part in parts_of(job, num_sites=num_sites):
        _check_part(part.config, part.place, codes[part.app], is_nested=False)


def check_build(job: Job, *, num_sites: int = 1) -> None:
    """Build every part of a job once, as a run would, and throw it away: this runs the job's own constructors.

    Args:
        job: The job.
        num_sites: How many sites the run would have.

    Raises:
        ConfigError: The first part that cannot be built.
    """
    check_shared(job.apps)
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="hansa-check-")))
        cleanup.enter_context(served_for(job))
        custom: set[str] = set()
        for name, app in job.apps.items():
            app.deploy(folder / name, Side.SERVER)
            custom |= cleanup.enter_context(CustomCode(folder / name / "custom")).modules
        builder = Builder(ClassPolicy.simulator(), known=job.classes, custom=custom)
        for name, app in job.apps.items():
            for side in sorted(sides_of(name, job.deploy_map), key=list(Side).index):
                build = builder.server if side is Side.SERVER else builder.client
                build(app.config(side, num_sites=num_sites), app.config_file(side))


def _check_part(config: Config, place: Place, code: _Code, *, is_nested: bool) -> None:
    args, at = written_args(config, place)
    try:
        path = written_path(config, place)
        missing = code.missing(path, args, place=place, at=at)
    except UnknownClass:
        if is_nested and not ("path" in config and "args" in config):
            return  # it only looks like a component, see hansa.jobs.build
        raise
    if missing and not is_nested:
        raise at.error(f"{path.rpartition('.')[2]} needs the argument {missing[0]!r}")
    if path == _SCRIPT_EXECUTOR and isinstance(script := args.get("script"), str):
        code.check_script(script, at.at("script"))
    for key, value in args.items():
        if is_component(value) and not value.get("disabled"):
            _check_part(value, at.at(key), code, is_nested=True)


class _Code:
    """The code in an app's `custom/`, read and not run."""

    def __init__(self, app: App) -> None:
        self._modules = dict(_sources(app))
        self._tops = {name.partition(".")[0] for name in self._modules}
        self._finder = ClassFinder(ClassPolicy.simulator())

    def missing(self, path: str, args: Config, *, place: Place, at: Place) -> list[str]:
        """The arguments that a class wants and has not got.

        Raises:
            UnknownClass: There is no such class.
            ConfigError: It does not take one of the arguments.
        """
        module, _, name = path.rpartition(".")
        top = module.partition(".")[0]
        if top in self._tops:
            return self._own(module, name, args, place=place, at=at)
        if top == "hansa":
            return check_arguments(self._finder.find({"path": path}, place), args, at)
        if not top or not _is_importable(top):
            raise _unknown(
                place.at("path"), f"there is no module {module or path!r}{suggestion(module, self._modules)}"
            )
        return []

    def check_script(self, script: str, at: Place) -> None:
        """Refuse a script that is not in `custom/`."""
        if script.removesuffix(".py").replace("/", ".") not in self._modules:
            scripts = [f"{name.replace('.', '/')}.py" for name in self._modules]
            hint = suggestion(script, scripts)
            raise at.error(f"there is no script {script!r} in the folder custom/ of the app{hint}")

    def _own(self, module: str, name: str, args: Config, *, place: Place, at: Place) -> list[str]:
        source = self._modules.get(module)
        if source is None:
            raise _unknown(place.at("path"), f"there is no module {module!r}{suggestion(module, self._modules)}")
        made = source.names.get(name)
        if made is None and not source.has_star:
            raise _unknown(place.at("path"), f"module {module} has no {name!r}{suggestion(name, source.names)}")
        signature = _signature(made)
        if signature is None:
            return []
        names, required, takes_more = signature
        for key in args:
            if key not in names and not takes_more:
                raise at.at(key).error(f"{name} takes no argument {key!r}{suggestion(key, names)}")
        return [needed for needed in required if needed not in args]


class _Source:
    """One module of `custom/` as a syntax tree."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree

    @cached_property
    def names(self) -> Mapping[str, ast.AST]:
        """What can be imported from it: names bound at its top, in whatever branch."""
        found: dict[str, ast.AST] = {}
        todo: list[ast.AST] = list(reversed(self._tree.body))
        while todo:
            node = todo.pop()
            match node:
                case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                    found[node.name] = node
                case ast.Import() | ast.ImportFrom():
                    found |= {alias.asname or alias.name.partition(".")[0]: node for alias in node.names}
                case ast.Name(id=name, ctx=ast.Store()):
                    found[name] = node
                case _:
                    todo += ast.iter_child_nodes(node)
        return found

    @property
    def has_star(self) -> bool:
        """Whether it takes names from elsewhere without saying which."""
        return "*" in self.names


def _sources(app: App) -> Iterator[tuple[str, _Source]]:
    for file, content in app.files.items():
        if not file.startswith("custom/") or not file.endswith(".py"):
            continue
        text = content.read_bytes() if isinstance(content, Path) else content
        if not isinstance(text, bytes):
            continue
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
            what = error.msg if isinstance(error, SyntaxError) else str(error)
            raise Place(f"{app.origin}/{file}").error(f"is no Python: {what}{line}") from None
        name = file.removeprefix("custom/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        yield name, _Source(tree)


def _is_importable(top: str) -> bool:
    if top in sys.modules:
        return top != "__main__"  # another program has another one
    return importlib.util.find_spec(top) is not None


def _signature(made: ast.AST | None) -> tuple[list[str], list[str], bool] | None:
    """Names, required names, and whether any other is taken; None where the text alone does not say."""
    if isinstance(made, ast.ClassDef):
        methods = [node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
        if not methods or made.decorator_list or made.keywords:
            return None
        given, bound = methods[-1].args, 1
    elif isinstance(made, ast.FunctionDef) and not made.decorator_list:
        given, bound = made.args, 0
    else:
        return None
    plain = [arg.arg for arg in (*given.posonlyargs, *given.args)]
    with_default = set(plain[len(plain) - len(given.defaults) :] if given.defaults else ())
    named = [arg.arg for arg in given.kwonlyargs]
    with_default |= {arg for arg, default in zip(named, given.kw_defaults, strict=True) if default is not None}
    names = plain[bound:] + named
    return names, [name for name in names if name not in with_default], given.kwarg is not None


def _unknown(place: Place, message: str) -> UnknownClass:
    return UnknownClass(message, file=place.file, key=place.key)
