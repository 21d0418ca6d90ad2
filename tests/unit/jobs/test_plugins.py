"""Packages with components: found by their entry points, named for short, and admitted by their name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hansa.errors import ConfigError
from hansa.jobs import plugins
from hansa.jobs.build import Builder
from hansa.jobs.class_policy import ClassPolicy
from hansa.jobs.classes import UnknownClass
from hansa.runtime.job_args import policy_of

PART = """
from hansa.apis.fl_component import FLComponent


class {name}(FLComponent):
    pass


class Hidden(FLComponent):
    pass
"""


def package(folder: Path, name: str, *, module: str, offers: dict[str, str]) -> None:
    """A package as pip leaves it: a module, and metadata with its entry points."""
    info = folder / f"{module}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = "".join(f"{short} = {target}\n" for short, target in offers.items())
    (info / "entry_points.txt").write_text(f"[hansa.components]\n{lines}")
    (folder / f"{module}.py").write_text(PART.format(name="Robust"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages, each with a class; one name is theirs both."""
    offers = {"RobustMean": "robust_parts:Robust", "Twice": "robust_parts:Robust", "module": "robust_parts"}
    package(tmp_path, "Robust.Parts", module="robust_parts", offers=offers)
    package(tmp_path, "other-parts", module="other_parts", offers={"Twice": "other_parts:Robust"})
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.installed.cache_clear()
    yield tmp_path
    plugins.installed.cache_clear()
    for name in ("robust_parts", "other_parts"):
        sys.modules.pop(name, None)


def test_what_is_installed_is_found_and_nothing_is_imported(installed: Path) -> None:
    found = plugins.installed()
    assert found["robust-parts"] == plugins.Plugin(
        "Robust.Parts", "1.2", {"RobustMean": "robust_parts.Robust", "Twice": "robust_parts.Robust"}
    )
    assert "robust_parts" not in sys.modules


def test_a_job_may_call_its_classes_by_short_names(installed: Path) -> None:
    builder = Builder(ClassPolicy.simulator())
    assert type(builder.component({"name": "RobustMean"})).__name__ == "Robust"
    with pytest.raises(
        ConfigError, match=r"Twice may be other_parts.Robust or robust_parts.Robust; give one as 'path'"
    ):
        builder.component({"name": "Twice"})
    with pytest.raises(UnknownClass, match="did you mean 'RobustMean'"):
        builder.component({"name": "RobustMeam"})


@pytest.mark.parametrize("spelling", ["Robust.Parts", "robust-parts", "robust_parts"])
def test_an_admitted_package_offers_what_it_lists_and_no_more(installed: Path, spelling: str) -> None:
    builder = Builder(ClassPolicy.production(spelling))
    assert type(builder.component({"path": "robust_parts.Robust"})).__name__ == "Robust"
    with pytest.raises(ConfigError, match="robust_parts.Hidden is not allowed here"):
        builder.component({"path": "robust_parts.Hidden"})
    with pytest.raises(ConfigError, match="it comes with the plug-in other-parts, which is not admitted here"):
        builder.component({"path": "other_parts.Robust"})


def test_without_admission_nothing_of_it_is_imported(installed: Path) -> None:
    builder = Builder(policy_of({"plugins": []}))
    with pytest.raises(ConfigError, match=r"the plug-in Robust\.Parts, which is not admitted here"):
        builder.component({"name": "RobustMean"})
    assert "robust_parts" not in sys.modules


def test_the_rules_of_a_kit_admit(installed: Path) -> None:
    policy = policy_of({"plugins": ["robust-parts"], "custom": True})
    assert (policy.custom, policy.classes) == (True, frozenset({"robust_parts.Robust"}))


def test_what_is_admitted_and_not_there_is_said(installed: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugins.warn_of_missing(["robust-parts", "gone-parts"], logging.getLogger("hansa.test"))
    assert [record.getMessage() for record in caplog.records] == [
        "the plug-in gone-parts is admitted, and is not installed here"
    ]
    assert ClassPolicy.production("gone-parts").classes == frozenset()
