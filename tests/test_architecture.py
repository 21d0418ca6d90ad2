"""The project's form: which room may import which, and the numbers that keep files, functions and classes small.

To change the plan, change the table or the number here in the same commit, and say why in `docs/design.md`. Every
failure names file and line.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from source_code import (
    PACKAGE,
    ROOT,
    AnyFunction,
    Function,
    SourceFile,
    class_index,
    files_of_tests,
    lineage,
    package_files,
    project_files,
)

# -- the rooms --------------------------------------------------------------------------------------------------------

EVERYWHERE = {"errors", "failpoints", "tensors"}
"""May be imported by all; both stand below every room."""

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    **{name: {"errors"} for name in ("failpoints", "tensors")},
    "apis": set(),
    "algorithms": set(),
    "provision": set(),
    "wire": {"apis"},
    "components": {"apis", "algorithms"},
    "compat": {"jobs"},
    "client": {"apis", "algorithms", "wire"},
    "jobs": {"apis", "provision"},
    "runtime": {"apis", "wire", "provision", "jobs"},
    "admin": {"apis", "wire", "provision", "jobs", "runtime"},
    "faults": {"apis", "algorithms", "wire", "provision", "jobs", "runtime", "admin"},
    "dashboard": {"apis", "jobs", "provision", "admin"},
    "demos": {"apis", "algorithms", "components", "jobs", "runtime", "admin"},
}
ROOMS = {*MAY_IMPORT, "cli", "testing"}
MAY_IMPORT["cli"] = ROOMS - {"testing"}
MAY_IMPORT["testing"] = ROOMS - {"cli"}

CONTRACTS = {"apis", "errors"}
"""Where the classes live that others inherit from."""

LAZY_IMPORTS = {
    ("hansa.apis.byte_form", "hansa.wire.codec"): "to_bytes() works in a program that imports nothing but hansa.apis",
}
"""Imports by name, at the first use, that the table does not allow; and why each is there."""

# -- the boundaries ---------------------------------------------------------------------------------------------------

CATCH_ALL: dict[str, str] = {
    "components/executors/learner_executor.py": "calls the learner: what it raises becomes EXECUTION_EXCEPTION",
    "jobs/user_code.py": "writes down an exception, whose __str__ is user code, too",
}
"""Files that may say `except Exception`, and the boundary each of them is."""

CATCH_EVERYTHING: dict[str, str] = {
    "apis/task_desk.py": "calls the callbacks of a task",
    "jobs/user_code.py": "imports and builds what a job names",
    "runtime/events.py": "calls event handlers",
    "runtime/user_code.py": "calls what a job brought",
}
"""Files that may say `except BaseException`: where user code is called; KeyboardInterrupt is raised again."""

THREADS_IN_APIS = {"thread_waiter.py"}
"""Where a controller without a runtime waits for its tasks; the only file of `apis` that owns a thread."""
THREADS = {"Thread", "Timer"}

# -- the numbers ------------------------------------------------------------------------------------------------------

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_CLASS = 300
MOST_PARAMETERS = 6  # what every user calls may take more:
_WIDE = ("runtime.simulator:simulate", "cli.simulate:simulate", "cli.runs:plot", "cli.faults:faults")
PARAMETERS = {f"hansa.{name}" for name in _WIDE}
MOST_POSITIONAL = 2
MOST_LEVELS = 2
_CALLBACK = "hansa.client.huggingface:FederatedCallback.on_"
POSITIONAL = {_CALLBACK + name for name in ("train_begin", "evaluate", "train_end")}  # transformers calls them so
CATCH_ALL_PER_1000_LINES = 1
IGNORES_PER_1000_LINES = 3

FORBIDDEN_WORDS = {"utils", "util", "common", "helpers", "helper", "manager", "impl", "base", "misc", "private"}
FLARE_MODULES = {
    "task_manager",
    "bcast_manager",
    "send_manager",
    "seq_relay_manager",
    "any_relay_manager",
    "weighted_aggregation_helper",
}
"""Names of FLARE's own modules, which stay."""


def must_be_empty(problems: Iterable[str]) -> None:
    assert not (found := list(problems)), "\n" + "\n".join(found)


# -- imports ----------------------------------------------------------------------------------------------------------


def forbidden_imports(file: SourceFile) -> Iterator[str]:
    if file.module == "hansa":
        return  # the package itself loads its public names lazily, from any room
    if file.room not in MAY_IMPORT:
        yield file.at(1, f"room {file.room!r} is not in the table of rooms")
        return
    allowed = EVERYWHERE | MAY_IMPORT[file.room] | {file.room} if file.room not in EVERYWHERE else MAY_IMPORT[file.room]
    for node, name in file.imports():
        if name.partition(".")[0] != "hansa" or name == "hansa.__version__":
            continue
        target = room_of(name)
        by_name = isinstance(node, ast.Call)
        if target not in allowed and not (by_name and (file.module, name) in LAZY_IMPORTS):
            yield file.at(node, f"{file.room} may not import {target or 'the package itself'} ({name})")


def room_of(name: str) -> str:
    """The room of a dotted name; a public name of the package counts as the room that it is loaded from."""
    room = [*name.split("."), ""][1]
    return room_of(public_names()[room]) if room in public_names() else room


@cache
def public_names() -> dict[str, str]:
    table = next(
        node.value
        for node in SourceFile(PACKAGE / "__init__.py").tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_HOMES"
    )
    names: dict[str, str] = ast.literal_eval(table)
    return names


def test_rooms_import_only_what_the_table_allows() -> None:
    must_be_empty(problem for file in package_files() for problem in forbidden_imports(file))


@pytest.mark.parametrize(
    "line",
    [
        "import hansa.runtime.run",
        "from hansa.runtime import run",
        "from ..runtime import run",
        "from ..runtime.run import Run",
        "from .. import runtime",
        "from hansa import runtime",
        "from hansa import simulate",
        "def f():\n    from hansa.wire import codec",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hansa.wire import codec",
        "import importlib\nimportlib.import_module('hansa.wire.codec')",
        "from importlib import import_module\nNAME = 'hansa.wire.codec'\nimport_module(NAME)",
        "import importlib\nT = {'a': 'hansa.jobs.job'}\ndef f(n): return importlib.import_module(T[n])",
        "__import__('hansa.wire')",
    ],
)
def test_a_forbidden_import_is_seen(line: str) -> None:
    planted = SourceFile(PACKAGE / "apis" / "planted.py", line)
    assert len(list(forbidden_imports(planted))) == 1


@pytest.mark.parametrize(
    "line", ["from .dxo import DXO", "from . import dxo", "from hansa.errors import HansaError", "import numpy"]
)
def test_an_allowed_import_is_let_through(line: str) -> None:
    assert not list(forbidden_imports(SourceFile(PACKAGE / "apis" / "planted.py", line)))


def test_apis_own_no_thread_and_no_socket_and_algorithms_nothing_at_all() -> None:
    def problems() -> Iterator[str]:
        for file in package_files():
            if file.room not in ("apis", "algorithms"):
                continue
            for node, name in file.imports():
                top, _, rest = name.partition(".")
                if top in ("socket", "subprocess", "multiprocessing", "asyncio", "concurrent"):
                    yield file.at(node, f"{file.room} may not import {top}")
                elif top == "threading" and file.room == "algorithms":
                    yield file.at(node, "algorithms know no threads")
                elif top == "threading" and rest in THREADS and file.path.name not in THREADS_IN_APIS:
                    yield file.at(node, f"{file.room} may hold locks but own no thread ({rest})")

    must_be_empty(problems())


# -- the size of things -----------------------------------------------------------------------------------------------


def test_files_are_short() -> None:
    must_be_empty(
        file.at(len(file.lines), f"{len(file.lines)} lines, {MOST_LINES_OF_A_FILE} at most")
        for file in (*package_files(), *files_of_tests())
        if len(file.lines) > MOST_LINES_OF_A_FILE
    )


def test_functions_are_short() -> None:
    must_be_empty(
        file.at(function.node, f"{function.qualname} has {size} lines, {MOST_LINES_OF_A_FUNCTION} at most")
        for file in package_files()
        for function in file.functions()
        if (size := body_lines(function.node)) > MOST_LINES_OF_A_FUNCTION
    )


def body_lines(node: AnyFunction) -> int:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_classes_are_short() -> None:
    must_be_empty(
        file.at(node, f"{node.name} has {size} lines, {MOST_LINES_OF_A_CLASS} at most")
        for file in package_files()
        for node in file.classes()
        if (size := (node.end_lineno or 0) - node.lineno + 1) > MOST_LINES_OF_A_CLASS
    )


def test_parameters_are_few_and_named() -> None:
    def problems() -> Iterator[str]:
        for file in package_files():
            for function in file.functions():
                if is_flares(file, function) or f"{file.module}:{function.qualname}" in POSITIONAL:
                    continue
                positional, named = parameters(function)
                if positional + named > MOST_PARAMETERS and f"{file.module}:{function.qualname}" not in PARAMETERS:
                    yield file.at(
                        function.node,
                        f"{function.qualname} has {positional + named} parameters, {MOST_PARAMETERS} at most",
                    )
                elif (
                    function.owner
                    and _is_public(function.qualname)
                    and positional > MOST_POSITIONAL
                    and f"{file.module}:{function.qualname}" not in POSITIONAL
                ):
                    yield file.at(function.node, f"{function.qualname}: parameters after the second are keyword-only")

    must_be_empty(problems())


def parameters(function: Function) -> tuple[int, int]:
    """How many parameters may be given by position, and how many only by name; without self."""
    arguments = function.node.args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.node.decorator_list)
    bound = 1 if function.owner and not static else 0
    return len(arguments.posonlyargs) + len(arguments.args) - bound, len(arguments.kwonlyargs)


def _is_public(qualname: str) -> bool:
    return all(not part.startswith("_") or part in ("__init__", "__call__") for part in qualname.split("."))


def is_flares(file: SourceFile, function: Function) -> bool:
    """Whether FLARE 2.0 gave the signature: it is in the frozen table, or overrides a method that is."""
    if function.owner is None:
        return function.node.name in flare_methods().get(file.module, {}).get("", set())
    known = flare_methods()
    return any(
        function.node.name in known.get(home, {}).get(name, set()) for home, name in lineage(file, function.owner)
    )


@cache
def flare_methods() -> dict[str, dict[str, set[str]]]:
    """Module to class to the names of its FLARE methods; functions stand under ""."""
    table = PACKAGE / "apis" / "flare_names.json"
    names = json.loads(table.read_text(encoding="utf-8"))["names"] if table.exists() else {}
    found: dict[str, dict[str, set[str]]] = {}
    for members in names.values():
        for name, row in members.items():
            module, _, target = (row.get("to") or "").partition(":")
            if not module:
                continue
            methods = {*row.get("methods", {}), *(["__init__"] if "init" in row else [])}
            if "function" in row:
                found.setdefault(module, {}).setdefault("", set()).add(name)
            found.setdefault(module, {}).setdefault(target, set()).update(methods)
    return found


def test_inheritance_is_shallow() -> None:
    def problems() -> Iterator[str]:
        for file in package_files():
            if file.room in CONTRACTS:
                continue  # FLARE's own tree, and the tree of errors
            for node in file.classes():
                own = [key for key in lineage(file, node) if key[0].split(".")[1] not in CONTRACTS]
                if len(own) - 1 > MOST_LEVELS or (len(own) > MOST_LEVELS and _has_contract(file, node)):
                    yield file.at(node, f"{node.name} is more than {MOST_LEVELS} levels deep: {[n for _, n in own]}")

    must_be_empty(problems())


def _has_contract(file: SourceFile, node: ast.ClassDef) -> bool:
    return any(home.split(".")[1] in CONTRACTS for home, _ in lineage(file, node))


# -- what is caught, ignored, slept, mocked ---------------------------------------------------------------------------


def handlers(file: SourceFile) -> Iterator[tuple[ast.ExceptHandler, set[str]]]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ExceptHandler):
            yield node, {part.id for part in ast.walk(node.type) if isinstance(part, ast.Name)} if node.type else {""}


def test_errors_are_caught_by_name() -> None:
    def problems() -> Iterator[str]:
        for file in package_files():
            name = file.path.relative_to(PACKAGE).as_posix()
            for node, caught in handlers(file):
                if "" in caught:
                    yield file.at(node, "bare except")
                if "Exception" in caught and name not in CATCH_ALL:
                    yield file.at(node, "except Exception in a file that is no listed boundary")
                if "BaseException" in caught and name not in CATCH_EVERYTHING:
                    yield file.at(node, "except BaseException outside the user-code boundary")
            for node in ast.walk(file.tree):
                if isinstance(node, ast.Try) and swallows_the_keyboard(node):
                    yield file.at(node, "catches BaseException and does not raise KeyboardInterrupt again")

    must_be_empty(problems())


def swallows_the_keyboard(node: ast.Try) -> bool:
    for handler in node.handlers:
        caught = {part.id for part in ast.walk(handler.type) if isinstance(part, ast.Name)} if handler.type else set()
        raises = any(isinstance(part, ast.Raise) for part in handler.body)
        if "KeyboardInterrupt" in caught and raises:
            return False
        if "BaseException" in caught and not any(
            isinstance(part, ast.Raise) and not part.exc for part in ast.walk(handler)
        ):
            return True
    return False


def test_catch_alls_are_rare_and_the_list_is_true() -> None:
    places = [
        (file.path.relative_to(PACKAGE).as_posix(), file.at(node, "except Exception"), caught)
        for file in package_files()
        for node, caught in handlers(file)
    ]
    broad = [line for _, line, caught in places if "Exception" in caught]
    lines = sum(len(file.lines) for file in package_files())
    assert len(broad) * 1000 <= lines * CATCH_ALL_PER_1000_LINES, "\n".join(["too many:", *broad])
    unused = set(CATCH_ALL) - {name for name, _, caught in places if "Exception" in caught}
    unused |= set(CATCH_EVERYTHING) - {name for name, _, caught in places if "BaseException" in caught}
    assert not unused, f"listed as boundaries, but catch nothing: {sorted(unused)}"


def test_ignored_types_are_rare_and_explained() -> None:
    good = re.compile(r"#\s*type: ignore\[[\w, -]+\]\s*#\s*\S.+")
    marks = [
        (file, number, text) for file in package_files() for number, text in comments(file) if "type: ignore" in text
    ]
    must_be_empty(
        file.at(number, f"give the code and, after another #, the reason: {text}")
        for file, number, text in marks
        if not good.fullmatch(text)
    )
    lines = sum(len(file.lines) for file in package_files())
    listing = "\n".join(file.at(number, text) for file, number, text in marks)
    assert len(marks) * 1000 <= lines * IGNORES_PER_1000_LINES, f"too many:\n{listing}"


def comments(file: SourceFile) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_nothing_sleeps() -> None:
    must_be_empty(
        file.at(node, "sleep(")
        for file in (*package_files(), *files_of_tests())
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "sleep"
    )


def test_tests_replace_the_link_or_the_clock_and_mock_nothing_of_ours() -> None:
    def problems() -> Iterator[str]:
        for file in files_of_tests():
            ours = set()
            for node, name in file.imports():
                if name.startswith(("unittest.mock", "mock", "pytest_mock")):
                    yield file.at(node, f"imports {name}")
                if name.partition(".")[0] == "hansa" and not isinstance(node, ast.Call):
                    ours |= bound_names(node)
            for node in ast.walk(file.tree):
                if isinstance(node, ast.Attribute) and node.attr in ("importorskip", "skip", "skipif"):
                    yield file.at(node, "skips: what a test needs, the set-up installs")
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
                    target = node.args[0] if node.args else None
                    if (isinstance(target, ast.Constant) and str(target.value).startswith("hansa")) or (
                        target is not None and root_name(target) in ours
                    ):
                        yield file.at(node, "replaces a part of hansa; swap the link, the clock or the store instead")

    must_be_empty(problems())


def bound_names(node: ast.AST) -> set[str]:
    names = node.names if isinstance(node, ast.Import | ast.ImportFrom) else []
    return {alias.asname or alias.name.partition(".")[0] for alias in names}


def root_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


# -- names, docstrings, words -----------------------------------------------------------------------------------------


def test_files_are_named_for_what_they_define() -> None:
    def problems() -> Iterator[str]:
        for file in package_files():
            for part in file.path.relative_to(PACKAGE).with_suffix("").parts:
                words = FORBIDDEN_WORDS & set(part.split("_"))
                if words and part not in FLARE_MODULES:
                    yield file.at(1, f"{part}: {', '.join(words)} says nothing about what is in it")

    must_be_empty(problems())


def test_every_module_says_what_it_is_for() -> None:
    must_be_empty(file.at(1, "no docstring") for file in package_files() if not ast.get_docstring(file.tree))


def test_what_users_build_on_is_documented() -> None:
    def problems() -> Iterator[str]:
        for file in package_files():
            if file.room not in ("apis", "algorithms", "errors"):
                continue
            for node in file.classes():
                if not node.name.startswith("_") and not ast.get_docstring(node):
                    yield file.at(node, f"{node.name} has no docstring")
            for function in file.functions():
                inner = "." in function.qualname and function.owner is None
                if _is_public(function.qualname) and not inner and not _documented(file, function):
                    yield file.at(function.node, f"{function.qualname} has no docstring")

    must_be_empty(problems())


def _documented(file: SourceFile, function: Function) -> bool:
    """Has a docstring or needs none: a constructor (see its class), an overload, an override of a documented method."""
    if function.node.name in ("__init__", "__call__") or ast.get_docstring(function.node):
        return True
    decorators = {getattr(d, "id", getattr(d, "attr", "")) for d in function.node.decorator_list}
    if decorators & {"overload", "override", "setter", "deleter"}:
        return True
    if function.owner is None:
        return False
    inherited = list(lineage(file, function.owner))[1:]
    return any(
        method.name == function.node.name and ast.get_docstring(method)
        for key in inherited
        if key in class_index()
        for method in class_index()[key][1].body
        if isinstance(method, AnyFunction)
    )


def test_no_file_holds_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.$}~/-])/(?:home|Users|root|work)/\w|" + re.escape(f"{ROOT}/"))
    must_be_empty(
        f"{path.relative_to(ROOT).as_posix()}:{number}: {line.strip()[:100]}"
        for path in project_files()
        for number, line in enumerate(_lines(path), 1)
        if machine.search(line)
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="ignore").splitlines()  # a picture holds what is no text
