"""A machine's own validator of apps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hansa.apis.app_validation import AppValidator
from hansa.errors import ConfigError
from hansa.runtime.app_gate import AppGate


class Strict(AppValidator):
    def validate(self, app_folder: str) -> tuple[str, dict[str, Any]]:
        if app_folder.endswith("broken"):
            raise OSError("no such file")
        return ("too\nlong" if app_folder.endswith("long") else ""), {}


class NoValidator:
    pass


def test_without_one_every_app_is_let_in(tmp_path: Path) -> None:
    AppGate().check([tmp_path / "anything"])


def test_what_it_refuses_is_one_line_and_names_the_app(tmp_path: Path) -> None:
    gate = AppGate(f"{__name__}.Strict")
    gate.check([tmp_path / "fine"])
    with pytest.raises(ConfigError) as caught:
        gate.check([tmp_path / "fine", tmp_path / "long"])
    assert str(caught.value).startswith("long: the app is refused here: too")
    assert "\n" not in str(caught.value)


def test_one_that_fails_lets_nothing_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"broken: .*Strict failed: OSError: no such file"):
        AppGate(f"{__name__}.Strict").check([tmp_path / "broken"])


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("no_such_module.Strict", "there is no module 'no_such_module'"),
        (f"{__name__}.NoValidator", "is no AppValidator"),
    ],
)
def test_what_is_none_is_refused_at_the_start(path: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        AppGate(path)
