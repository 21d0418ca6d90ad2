"""What `--json` prints."""

from __future__ import annotations

import json

import pytest

from hansa.cli.output import print_json


def test_a_number_that_json_lacks_becomes_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "rounds": [{"best": float("inf")}, (1, 0.5)], "name": "größe"})

    printed = capsys.readouterr().out
    assert printed == '{"loss": null, "rounds": [{"best": null}, [1, 0.5]], "name": "größe"}\n'
    assert json.loads(printed)["rounds"][1] == [1, 0.5]
