"""Reads the project's Python files as syntax trees, for the tests that hold them to a form."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "hansa"

AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Function:
    """A function, a method or a function inside one of these."""

    qualname: str
    node: AnyFunction
    owner: ast.ClassDef | None
    """The class it is a method of."""


@dataclass(frozen=True)
class SourceFile:
    """One Python file; `text` may be given for a file that does not exist."""

    path: Path
    given: str | None = None

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8") if self.given is None else self.given

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def module(self) -> str:
        """Its dotted name: `hansa.apis.dxo`."""
        parts = self.path.relative_to(ROOT / "src").with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def room(self) -> str:
        """Where it lives: `apis`, `errors`, or "" for the package itself."""
        return [*self.module.split("."), ""][1]

    def at(self, where: ast.AST | int, message: str) -> str:
        """One line of a failure: file, line, what is wrong."""
        line = where if isinstance(where, int) else getattr(where, "lineno", 1)
        path = self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path
        return f"{path.as_posix()}:{line}: {message}"

    def functions(self) -> Iterator[Function]:
        """Every function in the file, nested ones too."""
        yield from _functions(self.tree, "", None)

    def classes(self) -> Iterator[ast.ClassDef]:
        """Every class in the file."""
        yield from (node for node in ast.walk(self.tree) if isinstance(node, ast.ClassDef))

    def imports(self) -> Iterator[tuple[ast.AST, str]]:
        """Every module that the file imports, wherever in it and by whatever means, absolute.

        `from a import b` counts as `a.b`: b may be a module. After `import a`, so does every use of `a.b`.
        `import_module` and `__import__` count where the name is a literal, a constant of the file, or looked up in a
        dict of literals there.
        """
        constants = _constants(self.tree)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._taken_from(node, alias) if "." not in alias.name else [(node, alias.name)]
            elif isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                yield from ((node, f"{source}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__") and node.args:
                yield from ((node, text) for text in _texts(node.args[0], constants))

    def _taken_from(self, node: ast.Import, alias: ast.alias) -> Iterator[tuple[ast.AST, str]]:
        used = [
            part
            for part in ast.walk(self.tree)
            if isinstance(part, ast.Attribute) and _name(part.value) == (alias.asname or alias.name)
        ]
        yield from ((part, f"{alias.name}.{part.attr}") for part in used)
        if not used:
            yield node, alias.name

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.split(".")
        if self.path.name != "__init__.py":
            package = package[:-1]
        package = package[: len(package) - (node.level - 1)]
        return ".".join([*package, *([node.module] if node.module else [])])


def _functions(node: ast.AST, prefix: str, owner: ast.ClassDef | None) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, AnyFunction):
            name = prefix + child.name
            yield Function(name, child, owner)
            yield from _functions(child, f"{name}.", None)
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.", child)
        else:
            yield from _functions(child, prefix, owner)


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def _texts(node: ast.expr, constants: dict[str, ast.expr]) -> list[str]:
    if isinstance(node, ast.Subscript):  # table[key]
        node = node.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # table.get(key)
        node = node.func.value
    if isinstance(node, ast.Name):
        node = constants.get(node.id, node)
    tables = node.values if isinstance(node, ast.Dict) else [node]
    literals = [part.value for table in tables for part in ast.walk(table) if isinstance(part, ast.Constant)]
    return [text for text in literals if isinstance(text, str)]


@cache
def package_files() -> tuple[SourceFile, ...]:
    """Every module of the package."""
    return tuple(SourceFile(path) for path in sorted(PACKAGE.rglob("*.py")))


@cache
def class_index() -> dict[tuple[str, str], tuple[SourceFile, ast.ClassDef]]:
    return {(file.module, node.name): (file, node) for file in package_files() for node in file.classes()}


def lineage(file: SourceFile, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """(module, name) of the class and of its ancestors in the package, nearest first; follows the file's imports."""
    level: list[tuple[str, str]] = [(file.module, node.name)]
    while level:
        yield from level
        parents = []
        for key in level:
            if key in class_index():
                parents += [parent for base in class_index()[key][1].bases if (parent := _find(*key, base))]
        level = parents


def _find(module: str, name: str, base: ast.expr) -> tuple[str, str] | None:
    file = class_index()[module, name][0]
    plain = base.value if isinstance(base, ast.Subscript) else base
    if not isinstance(plain, ast.Name):
        return None
    if (module, plain.id) in class_index():
        return module, plain.id
    for _, imported in file.imports():
        home, _, last = imported.rpartition(".")
        if last == plain.id and (home, last) in class_index():
            return home, last
    return None


@cache
def files_of_tests() -> tuple[SourceFile, ...]:
    """Every Python file of the tests."""
    return tuple(SourceFile(path) for path in sorted((ROOT / "tests").rglob("*.py")))


@cache
def project_files() -> tuple[Path, ...]:
    """Every file that belongs to the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    except (OSError, subprocess.CalledProcessError):  # no git, or an unpacked archive
        return tuple(file.path for file in (*package_files(), *files_of_tests()))
    return tuple(path for name in sorted(set(listing.split("\0")) - {""}) if (path := ROOT / name).is_file())
