"""What runs where, as one list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hansa.jobs.job import Job
from hansa.jobs.overview import parts_of


def test_every_part_with_its_place(make_app: Any) -> None:
    server = {
        "components": [{"id": "net", "path": "parts.Net", "args": {"width": "{num_sites}"}}],
        "task_data_filters": [{"tasks": ["a", "b"], "filters": [{"name": "ExcludeVars"}, {"path": "parts.Clip"}]}],
        "workflows": [{"id": "flow", "path": "parts.Flow"}, {"path": "parts.Flow", "disabled": True}],
    }
    client = {"task_result_filters": [{"tasks": ["a"], "filters": [{"name": "Nobody"}]}]}
    parts = parts_of(Job.load(make_app(server, client)), num_sites=5)
    exclude_vars = "hansa.components.filters.exclude_vars.ExcludeVars"
    assert [(part.where, part.role, part.name, part.path) for part in parts] == [
        ("server", "workflow", "flow", "parts.Flow"),
        ("server", "data filter", "a, b", exclude_vars),
        ("server", "data filter", "a, b", "parts.Clip"),
        ("server", "component", "net", "parts.Net"),
        ("every site", "executor", "train", "parts.Trainer"),
        ("every site", "result filter", "a", "Nobody"),  # as it is written, where nothing is called so
    ]
    assert parts[3].place.key == "components[0]"
    assert parts[3].as_dict() == {
        "where": "server",
        "app": "app",
        "role": "component",
        "name": "net",
        "path": "parts.Net",
        "args": {"width": 5},
    }


@pytest.mark.parametrize(
    ("deploy_map", "expected"),
    [
        ('{"one": ["@ALL"], "two": ["site-2", "site-3"]}', ["server", "every other site", "site-2, site-3"]),
        ('{"one": ["server"], "two": ["@ALL"]}', ["server", "every site"]),
        ('{"one": ["server", "site-1"], "two": ["site-2"]}', ["server", "site-1", "site-2"]),
    ],
)
def test_who_runs_it(make_app: Any, tmp_path: Path, deploy_map: str, expected: list[str]) -> None:
    make_app(folder="one")
    make_app(folder="two")
    (tmp_path / "meta.json").write_text(f'{{"deploy_map": {deploy_map}}}')
    assert list(dict.fromkeys(part.where for part in parts_of(Job.load(tmp_path)))) == expected
