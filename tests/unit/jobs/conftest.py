"""App folders in FLARE's format, with small components in `custom/parts.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from journal_parts import Shelf
from postgres import Postgres

PARTS = '''
from hansa.apis.executor import Executor
from hansa.apis.filter import Filter
from hansa.apis.fl_component import FLComponent
from hansa.apis.responder import Responder


class Trainer(Executor):
    def __init__(self, lr=0.1, model=None, tags=()):
        super().__init__()
        self.lr, self.model, self.tags = lr, model, tags

    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        return shareable


class Flow(Responder):
    def __init__(self, num_rounds=1, min_clients=1):
        super().__init__()
        self.num_rounds, self.min_clients = num_rounds, min_clients

    def control_flow(self, abort_signal, fl_ctx): ...
    def process_task_request(self, client, fl_ctx): ...
    def handle_exception(self, task_id, fl_ctx): ...
    def process_submission(self, client, task_name, task_id, result, fl_ctx): ...


class Clip(Filter):
    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def process(self, shareable, fl_ctx):
        return shareable


class Listener(FLComponent):
    def __init__(self, inner=None, label=""):
        super().__init__()
        self.inner, self.label = inner, label


class Net:
    """No FLComponent, as a torch module is none."""

    def __init__(self, width=4, inner=None):
        self.width, self.inner = width, inner


class Optimizer:
    def __init__(self, params, lr=0.1):
        raise AssertionError("only its owner can build it")


class Broken:
    def __init__(self, path="x"):
        raise ValueError("no data\\nin " + path)


class Quitter:
    def __init__(self):
        raise SystemExit(3)


def make_net(width):
    return Net(width)


VALUE = 3
'''

SERVER: dict[str, Any] = {"format_version": 2, "components": [], "workflows": [{"path": "parts.Flow"}]}
CLIENT: dict[str, Any] = {
    "format_version": 2,
    "executors": [{"tasks": ["train"], "executor": {"path": "parts.Trainer"}}],
    "components": [],
}

MakeApp = Callable[..., Path]


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """Writes a bare FLARE 2.0 app: `server` and `client` replace keys of two small configs that work."""

    def make(
        server: Mapping[str, Any] | str | None = None,
        client: Mapping[str, Any] | str | None = None,
        custom: Mapping[str, str] | None = None,
        folder: str = "app",
    ) -> Path:
        app = tmp_path / folder
        (app / "config").mkdir(parents=True)
        for name, base, given in (("server", SERVER, server), ("client", CLIENT, client)):
            text = given if isinstance(given, str) else json.dumps({**base, **(given or {})})
            (app / "config" / f"config_fed_{name}.json").write_text(text)
        for name, text in {"parts.py": PARTS, **(custom or {})}.items():
            path = app / "custom" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return app

    return make


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that runs; tests make databases of their own in it."""
    server = Postgres()
    try:
        yield server.create()
    finally:
        server.stop()


@pytest.fixture
def postgres_shelf(postgres: Postgres) -> Iterator[Shelf]:
    """A place for a journal in PostgreSQL."""
    found = Shelf(postgres.new_database(), postgres)
    yield found
    found.close()


@pytest.fixture
def file_shelf(tmp_path: Path) -> Iterator[Shelf]:
    """A place for a journal in a file."""
    found = Shelf(str(tmp_path / "journal.db"))
    yield found
    found.close()


@pytest.fixture(params=["file_shelf", "postgres_shelf"])
def shelf(request: pytest.FixtureRequest) -> Shelf:
    """A place for a journal, one of each kind in turn."""
    found: Shelf = request.getfixturevalue(request.param)
    return found
