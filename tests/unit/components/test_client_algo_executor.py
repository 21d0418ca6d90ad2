"""ClientAlgoExecutor where MONAI is not installed; with MONAI: tests/acceptance/test_monai.py."""

from __future__ import annotations

import sys

import pytest

from hansa.components.monai.client_algo_executor import ClientAlgoExecutor
from hansa.errors import MissingExtra


def test_without_monai_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai", None)  # as if there were none
    with pytest.raises(MissingExtra, match=r"ClientAlgoExecutor needs an optional package: .*hansa\[monai\]"):
        ClientAlgoExecutor("algo")
