"""What the options of `hansa simulate` become."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.cli.simulate import _options
from hansa.errors import ConfigError
from hansa.runtime.options import SimulatorOptions


def test_without_a_word_they_are_those_of_the_simulator() -> None:
    assert _options(None, None, None) == SimulatorOptions()


def test_what_is_said_arrives(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_text('{"default": {"compute_s": 3}}')
    options = _options(file, 4, 5)
    assert (options.threads_per_site, options.memory_bytes) == (4, 5 * 1024 * 1024)
    assert options.times is not None
    assert options.times.flight("site-1", "0/1/site-1/1").compute_s == 3.0


def test_a_mistake_in_the_times_names_file_and_key(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_text('{"default": {"drop_out": 2}}')
    with pytest.raises(ConfigError, match=r"times\.json: default\.drop_out"):
        _options(file, None, None)
