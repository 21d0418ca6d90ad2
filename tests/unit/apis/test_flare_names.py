"""Hansa keeps what it promises to programs written for FLARE 2.0: the frozen table, walked name by name."""

from __future__ import annotations

import ast
import enum
import hashlib
import inspect
import json
import re
import subprocess
import sys
from abc import ABC
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import pytest
from torch.nn.modules.loss import _Loss

from hansa.apis import flare_names
from hansa.apis.flare_names import FlareName
from hansa.components.pipes.file_pipe import Pipe

# sha256 of the table without `to` and `owed`, as json.dumps(..., sort_keys=True): FLARE 2.0's names do not change.
TABLE_SHA256 = "78a07c544d3c3962731c3246f385da5bb0c34513973535744c9b2dee666f73cc"

DEBTORS = {
    "PyTorch, the script API and the algorithms: CIFAR-10 on eight unlike sites",
    "Trust: builders and policies of provisioning",
    (
        "Workflows, statistics and the fields: cyclic transfer, cross-site evaluation, federated statistics, "
        "and real examples"
    ),
    (
        "Privacy, first half: filters that hold what they promise, homomorphic encryption, differential privacy, "
        "robust rules"
    ),
}

DONE = [row for row in flare_names.names() if row.to is not None]
CLASSES = [row for row in DONE if row.is_class and "export" not in row.spec]
BUILTIN_BASES: dict[str, type] = {
    "ABC": ABC,
    "Enum": enum.Enum,
    "enum.Enum": enum.Enum,
    "str": str,
    "dict": dict,
    "Exception": Exception,
    "object": object,
    "_Loss": _Loss,
    "Pipe": Pipe,
    "AdminAPI": object,  # no class of FLARE's public ones; nor is the next
    "ComponentBuilder": object,
}
MARKER = re.compile(r" \[(abstract|classmethod)\]$")


class Parameter(NamedTuple):
    """One positional parameter: its name, and its default if it has one."""

    name: str
    default: object = inspect.Parameter.empty


def _each(rows: list[FlareName]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("row", rows, ids=[row.path for row in rows])


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@cache
def _targets_by_name() -> dict[str, str]:
    return {row.name: row.to for row in DONE if row.to is not None}


def _value(node: ast.expr) -> Any:
    """The value of a default or a constant as FLARE's source writes it."""
    match node:
        case ast.Name(id=name):
            return _imported(_targets_by_name()[name])
        case ast.Attribute(value=owner, attr=name):
            return getattr(_value(owner), name)
        case ast.List(elts=items):
            return [_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.BinOp(left=left, op=ast.LShift(), right=right):
            shifted: int = _value(left) << _value(right)
            return shifted
        case _:
            return ast.literal_eval(node)


def _value_of(source: str) -> Any:
    return _value(ast.parse(source, mode="eval").body)


def _wanted(signature: str) -> tuple[list[Parameter], str | None, str | None]:
    """The positional parameters of a signature in the table, and the names of its *args and **kwargs."""
    function = ast.parse(f"def f{MARKER.sub('', signature)}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    assert not arguments.posonlyargs
    assert not arguments.kwonlyargs
    names = [argument.arg for argument in arguments.args]
    first_default = len(names) - len(arguments.defaults)
    parameters = [
        Parameter(name, _value(arguments.defaults[at - first_default])) if at >= first_default else Parameter(name)
        for at, name in enumerate(names)
    ]
    return (
        parameters,
        arguments.vararg.arg if arguments.vararg else None,
        arguments.kwarg.arg if arguments.kwarg else None,
    )


def _found(function: Any, *, bound: bool) -> tuple[list[Parameter], str | None, list[inspect.Parameter]]:
    """The positional parameters of a function of ours, the name of its *args, and what else it takes."""
    parameters = list(inspect.signature(function).parameters.values())[1 if bound else 0 :]
    positional = [p for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    varargs = [p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL]
    others = [p for p in parameters if p not in positional and p.name not in varargs]
    return [Parameter(p.name, p.default) for p in positional], varargs[0] if varargs else None, others


def _compare_value(found: Any, source: str) -> None:
    """The table cuts a dict off after 80 characters; then its whole entries count."""
    if len(source) < 80:
        assert found == _value_of(source)
    else:
        entries = _value_of(source[: source.rindex(",")] + "}")
        assert entries
        assert entries.items() <= found.items()


def _compare(where: str, signature: str, function: Any, *, bound: bool) -> None:
    wanted, wanted_varargs, wanted_kwargs = _wanted(signature)
    found, varargs, others = _found(function, bound=bound)
    assert [p.name for p in found] == [p.name for p in wanted], f"{where}: parameters differ from {signature}"
    assert varargs == wanted_varargs, f"{where}: *args differ from {signature}"
    for ours, theirs in zip(found, wanted, strict=True):
        same = type(ours.default) is type(theirs.default) and ours.default == theirs.default
        assert same, f"{where}: default of {ours.name} is {ours.default!r}, FLARE's is {theirs.default!r}"
    for extra in others:
        optional = extra.default is not inspect.Parameter.empty or extra.kind is inspect.Parameter.VAR_KEYWORD
        assert extra.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD), f"{where}: {extra}"
        assert optional, f"{where}: our own parameter {extra} must have a default"
    if wanted_kwargs is not None:
        assert wanted_kwargs in [p.name for p in others if p.kind is inspect.Parameter.VAR_KEYWORD], where


def test_the_table_is_flare_2_0s_and_nobody_changed_it() -> None:
    table: dict[str, dict[str, Any]] = {}
    for row in flare_names.names():
        module, _, name = row.path.rpartition(".")
        table.setdefault(module, {})[name] = row.spec
    assert hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest() == TABLE_SHA256
    assert len(table) == 105
    assert len(flare_names.names()) == 190


def test_each_name_is_done_or_owed_by_planned_work() -> None:
    for row in flare_names.names():
        assert (row.to is None) != (row.owed is None), row.path
    assert {row.owed for row in flare_names.names() if row.owed is not None} <= DEBTORS


def test_the_count_is_printed() -> None:
    first, *others = flare_names.count_lines()
    print("\n".join([first, *others]))
    assert first == f"done {len(DONE)} of 190, owed {190 - len(DONE)}"
    assert sum(int(line.split()[0]) for line in others) == 190 - len(DONE)


@_each(DONE)
def test_the_name_is_there_and_of_the_same_sort(row: FlareName) -> None:
    assert row.to is not None
    target = _imported(row.to)
    if "function" in row.spec:
        assert inspect.isfunction(target)
        _compare(row.path, row.spec["function"], target, bound=False)
    elif "value" in row.spec:
        _compare_value(target, row.spec["value"])
    else:
        assert inspect.isclass(target)
        assert target.__name__ == row.name


@_each(CLASSES)
def test_bases(row: FlareName) -> None:
    assert row.to is not None
    target = _imported(row.to)
    for base in row.spec.get("bases", ()):
        ours = BUILTIN_BASES.get(base) or _imported(_targets_by_name()[base])
        assert issubclass(target, ours), f"{row.path} is no {base}"


@_each([row for row in CLASSES if "init" in row.spec])
def test_constructor(row: FlareName) -> None:
    assert row.to is not None
    _compare(f"{row.path}()", row.spec["init"], _imported(row.to).__init__, bound=True)


@_each([row for row in CLASSES if "methods" in row.spec])
def test_methods(row: FlareName) -> None:
    assert row.to is not None
    target = _imported(row.to)
    for name, signature in row.spec["methods"].items():
        where = f"{row.path}.{name}"
        assert hasattr(target, name), f"{where} is missing"
        plain = inspect.getattr_static(target, name)
        marker = MARKER.search(signature)
        assert isinstance(plain, classmethod) == (marker is not None and marker[1] == "classmethod"), where
        _compare(where, signature, getattr(target, name), bound=not isinstance(plain, classmethod))
        abstract = marker is not None and marker[1] == "abstract"
        assert getattr(plain, "__isabstractmethod__", False) == abstract, f"{where}: abstract should be {abstract}"


@_each([row for row in CLASSES if "constants" in row.spec])
def test_constants(row: FlareName) -> None:
    assert row.to is not None
    target = _imported(row.to)
    for name, source in row.spec["constants"].items():
        value = getattr(target, name)
        found = value.value if isinstance(value, enum.Enum) else value
        wanted = _value_of(source)
        assert (type(found), found) == (type(wanted), wanted), f"{row.path}.{name}"


@pytest.mark.parametrize(("path", "target"), flare_names.also().items(), ids=list(flare_names.also()))
def test_modules_also_offer_what_they_import(path: str, target: str) -> None:
    original = next(row for row in DONE if row.name == path.rpartition(".")[2] and "export" not in row.spec)
    assert original.to is not None
    assert _imported(target) is _imported(original.to)


@pytest.mark.parametrize(
    "ours",
    [
        lambda b, a=1: None,  # order
        lambda a, c=1: None,  # name
        lambda a, b=2: None,  # default
        lambda a, b=1.0: None,  # type of the default
        lambda a, b: None,  # no default
        lambda a, b=1, c=2: None,  # one more positional
        lambda a, b=1, *more: None,  # *args
        lambda a, b=1, *, c: None,  # one more that callers must give
        lambda a, *, b=1: None,  # no longer positional
    ],
)
def test_the_comparison_sees_each_difference(ours: Any) -> None:
    with pytest.raises(AssertionError):
        _compare("f", "(a: str, b: Optional[int] = 1) -> {str: int}", ours, bound=False)


def test_the_comparison_allows_optional_keywords_of_our_own() -> None:
    _compare("f", "(a, b = 1)", lambda a, b=1, *, c=None: None, bound=False)


def test_old_paths_resolve() -> None:
    assert flare_names.resolve("nvflare.apis.dxo.DXO") == "hansa.apis.dxo.DXO"
    assert flare_names.resolve("nvflare.apis.impl.controller.Task") == "hansa.apis.controller.Task"
    assert flare_names.resolve("nvflare.app_common.homomorphic_encryption.he_model_encryptor.HEModelEncryptor") is None
    assert flare_names.resolve("nvflare.private.fed.server.fed_server.FedServer") is None
    assert flare_names.targets()["nvflare.apis.dxo.DXO"] == "hansa.apis.dxo:DXO"


def test_a_packages_reexport_is_the_class_itself() -> None:
    short = flare_names.resolve("nvflare.app_common.filters.ExcludeVars")
    assert short == flare_names.resolve("nvflare.app_common.filters.exclude_vars.ExcludeVars")


def test_bare_names_resolve_to_classes_once() -> None:
    assert flare_names.by_name("ExcludeVars") == ["hansa.components.filters.exclude_vars.ExcludeVars"]
    assert flare_names.by_name("make_reply") == []  # a function
    assert flare_names.by_name("HEModelEncryptor") == []  # owed
    assert flare_names.by_name("NoSuchThing") == []


def test_what_is_owed_says_by_what() -> None:
    path = "nvflare.app_common.homomorphic_encryption.he_model_encryptor.HEModelEncryptor"
    title = flare_names.owed(path)
    assert title is not None
    assert title.startswith("Privacy, first half")
    assert flare_names.owed("HEModelEncryptor") == title
    assert flare_names.owed("nvflare.apis.dxo.DXO") is None
    assert flare_names.owed("DXO") is None


def test_bare_names_are_never_ambiguous() -> None:
    assert [row.path for row in DONE if len(flare_names.by_name(row.name)) > 1] == []


def test_importing_the_table_reads_no_file() -> None:
    code = "import hansa.apis.flare_names as n; assert n._file.cache_info().currsize == 0; print(len(n.names()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "190"
