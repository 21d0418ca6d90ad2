"""A module for a library that is not there says in one line what to install."""

from __future__ import annotations

import importlib
import sys

import pytest

from hansa.errors import MissingExtra


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("xgboost", "xgboost", "xgboost"),
        ("sklearn", "sklearn.base", "sklearn"),
        ("lightning", "lightning.pytorch", "lightning"),
        ("huggingface", "transformers", "huggingface"),
    ],
)
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, module: str, package: str, extra: str) -> None:
    monkeypatch.delitem(sys.modules, f"hansa.client.{module}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"hansa\.client\.{module} needs .*pip install 'hansa\[{extra}\]'$"):
        importlib.import_module(f"hansa.client.{module}")
