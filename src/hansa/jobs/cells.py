"""Out of a notebook or a script: the statements that some of its classes need, and no others.

Cells and scripts mix definitions with work: data are loaded, a job is made and run. To bring a class elsewhere, the
work must stay behind. `needed_source` takes the statement that defines the class, and then, again and again, the
statements that bind the names which those need: imports, functions, classes, constants. Of several that bind a name
the last counts, with what changes it afterwards (`CONFIG["lr"] = 0.1`, `NAMES.append(...)`). They keep their order.

The compiler's own symbol table tells which names a statement takes from outside, so that a local variable of a method
pulls in no global of the same name.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from hansa.errors import ConfigError

_WHOLE = (ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.With)
_IMPORTS = (ast.Import, ast.ImportFrom)
_MAGIC = ("%", "!", "?")
_SHELL = "get_ipython"


def needed_source(texts: Sequence[str], wanted: Iterable[str], *, key: str = "classes") -> str:
    """The statements that some classes need, as one module.

    Args:
        texts: The cells in the order in which they ran, or the one text of a script.
        wanted: The names of the classes.
        key: What errors call the place.

    Raises:
        ConfigError: A name is not defined at the top of these texts, or a statement that is needed cannot travel.
    """
    statements = [statement for text in texts for statement in _statements(text)]
    chosen: set[int] = set()
    todo = list(wanted)
    seen: set[str] = set()
    for name in todo:
        if not _bindings(statements, name):
            raise ConfigError(f"{name} is defined at the top of no cell and cannot travel", key=key)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for position in _bindings(statements, name):
            chosen.add(position)
            todo += statements[position].needs
    always = {n for n, s in enumerate(statements) if s.is_star or s.is_future}
    for position in chosen:
        if _SHELL in statements[position].needs:
            text = statements[position].text.splitlines()[0]
            raise ConfigError(f"needs a command of the notebook, which cannot travel: {text}", key=key)
    order = sorted(chosen | always, key=lambda n: (not statements[n].is_future, n))
    return "\n".join(statements[n].text for n in order) + "\n"


def has_guard(text: str) -> bool:
    """Whether a script can be imported without doing its work: it has an `if __name__ == "__main__":`."""
    return any(_is_guard(node) for node in ast.parse(text).body)


@dataclass(frozen=True)
class _Statement:
    """One statement at the top of a cell."""

    node: ast.stmt
    text: str

    @property
    def is_future(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"

    @property
    def is_star(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def is_whole(self) -> bool:
        """Whether it gives its names a value of their own, whatever they were before."""
        return isinstance(self.node, (*_WHOLE, *_IMPORTS))

    @cached_property
    def _table(self) -> symtable.SymbolTable:
        return symtable.symtable(self.text, "cell", "exec")

    @cached_property
    def binds(self) -> frozenset[str]:
        symbols = self._table.get_symbols()
        return frozenset(s.get_name() for s in symbols if s.is_assigned() or s.is_imported() or s.is_namespace())

    @cached_property
    def needs(self) -> frozenset[str]:
        """Names of the module that it uses, now or when its functions are called."""
        return frozenset(_used(self._table))

    @cached_property
    def changes(self) -> frozenset[str]:
        """Names whose objects it changes: `NAME[...] = `, `NAME.attribute = `, `NAME.method(...)`."""
        match self.node:
            case ast.Assign(targets=targets):
                return frozenset(filter(None, map(_root, targets)))
            case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
                return frozenset(filter(None, [_root(target)]))
            case ast.Expr(value=ast.Call(func=function)):
                return frozenset(filter(None, [_root(function)]))
        return frozenset()


def _used(table: symtable.SymbolTable) -> Iterator[str]:
    at_top = table.get_type() == "module"
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (at_top or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _used(inner)


def _bindings(statements: Sequence[_Statement], name: str) -> list[int]:
    """The statements that make a name what it is at the end."""
    found: list[int] = []
    is_module = False
    for position, statement in enumerate(statements):
        if name in statement.binds:
            if statement.is_whole:
                found.clear()
                is_module = isinstance(statement.node, _IMPORTS)
            found.append(position)
        # What is called in a module is work (`hansa.simulate(...)`), what is called on a value makes it what it is.
        elif name in statement.changes and found and not (is_module and isinstance(statement.node, ast.Expr)):
            found.append(position)
    return found


def _root(node: ast.expr) -> str | None:
    """The name that an attribute or an item belongs to, None for a plain name."""
    if not isinstance(node, ast.Attribute | ast.Subscript):
        return None
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _statements(text: str) -> Iterator[_Statement]:
    tree, lines = _parsed(text)
    for position, node in enumerate(tree.body):
        if not _is_guard(node):
            yield _Statement(node, _text_of(node, lines, tree.body[max(position - 1, 0) : position + 2]))


def _text_of(node: ast.stmt, lines: list[str], near: Sequence[ast.stmt]) -> str:
    """The statement as it was written, decorators and comments inside it too; anew where it shares a line."""
    first, last = _first_line(node), node.end_lineno or node.lineno
    if any(other is not node and _first_line(other) <= last and (other.end_lineno or 0) >= first for other in near):
        return ast.unparse(node)
    return "\n".join(lines[first - 1 : last])


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _parsed(text: str) -> tuple[ast.Module, list[str]]:
    """A cell as a tree; lines for the shell of the notebook are left out, a cell that is no Python is empty."""
    for lines in (text.splitlines(), [line for line in text.splitlines() if not line.lstrip().startswith(_MAGIC)]):
        try:
            return ast.parse("\n".join(lines)), lines
        except SyntaxError:
            continue
    return ast.Module(body=[], type_ignores=[]), []


def _is_guard(node: ast.stmt) -> bool:
    if not isinstance(node, ast.If) or not isinstance(node.test, ast.Compare):
        return False
    sides = [node.test.left, *node.test.comparators]
    is_name = any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides)
    return is_name and any(isinstance(side, ast.Constant) and side.value == "__main__" for side in sides)
