"""What `pip install hansa` brings: few packages, few megabytes, and nothing that the metadata does not say."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from source_code import ROOT, package_files

MOST_DISTRIBUTIONS = 22
MOST_MEGABYTES = 180

_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    """The packages of a list of requirements, as they are imported."""
    found = {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}
    imported = {"scikit-learn": "sklearn", "mlflow-skinny": "mlflow"}
    imported |= {"protobuf": "google", "grpcio": "grpc", "PyYAML": "yaml"}
    return {imported.get(name, name).replace("-", "_") for name in found} - {"hansa"}


OF_ONE_LIBRARY = {"hansa.components.torch": {"torch"}, "hansa.components.widgets.event_file": {"tensorboard", "PIL"}}
"""Modules that exist for a library, and so import it at the top; nothing imports them at its own top."""


def test_the_package_imports_only_what_it_declares() -> None:
    base = names(_PROJECT["dependencies"])
    extras = _PROJECT["optional-dependencies"]
    optional = names([one for key, wanted in extras.items() if key not in ("docs", "test") for one in wanted])
    optional |= {"PIL"}  # a part of tensorboard
    optional |= {"ml_dtypes"}  # bfloat16 arrays are understood where somebody else has installed it
    base |= {"pydantic_core"}  # a part of pydantic

    def problems() -> Iterator[str]:
        for file in package_files():
            top_level = set(file.tree.body)
            own = next((held for module, held in OF_ONE_LIBRARY.items() if file.module.startswith(module)), set())
            for node, name in file.imports():
                package = name.partition(".")[0]
                if package in sys.stdlib_module_names or package in base | {"hansa"}:
                    continue
                if package not in optional:
                    yield file.at(node, f"imports {package}, which pyproject.toml does not declare")
                elif node in top_level and package not in own:
                    yield file.at(node, f"imports {package}, which is optional, at the top of the file")

    found = list(problems())
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("name", ["hansa", "hansa.errors", "hansa.jobs", "hansa.runtime"])
def test_importing_a_room_loads_nothing_heavy(name: str) -> None:
    heavy = ("numpy", "pydantic", "typer", "rich", "matplotlib", "sklearn", "torch", "mlflow", "threadpoolctl")
    heavy += ("grpc", "google.protobuf", "cryptography", "yaml", "sqlalchemy", "sqlite3")
    program = f"import sys, {name}; print(*sorted(set({heavy}) & set(sys.modules)))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); {program}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.slow
def test_the_base_install_is_small_and_works(tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-qq", str(ROOT)], check=True, cwd=tmp_path)

    listing = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    distributions = [line.partition("==")[0] for line in listing.split()]
    brought = sorted(set(distributions) - {"pip", "setuptools", "wheel"})
    assert "hansa" in brought
    assert len(brought) <= MOST_DISTRIBUTIONS, brought

    libraries = environment / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    own = (folder for folder in libraries.iterdir() if folder.name.partition("-")[0] not in ("pip", "setuptools"))
    size = sum(file.stat().st_size for folder in own for file in [folder, *folder.rglob("*")] if file.is_file())
    assert size <= MOST_MEGABYTES * 1_000_000, f"{size / 1e6:.0f} MB"

    assert (libraries / "hansa" / "py.typed").exists()
    assert (libraries / "hansa" / "apis" / "flare_names.json").exists()
    version = subprocess.run(
        [str(environment / "bin" / "hansa"), "--version"], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert _PROJECT["version"] in version


def test_the_version_is_the_same_in_both_places() -> None:
    import hansa

    assert hansa.__version__ == _PROJECT["version"]
