"""CrossSiteModelEval by hand: models are measured in the order of names, and who had none has none after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from federation import failed, trained
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind
from hansa.apis.engine import UNDECIDED
from hansa.apis.workspace import Workspace
from hansa.components.workflows.cross_site_model_eval import CrossSiteModelEval
from pump import KnowsSites, Sites, run


class Engine(KnowsSites):
    """Has a workspace and keeps decisions."""

    def __init__(self, folder: Path, decisions: dict[str, Any] | None = None) -> None:
        super().__init__({})
        self.live = ["a", "b"]
        self.decisions = dict(decisions or {})
        self._workspace = Workspace(str(folder), "server", "config")

    def get_workspace(self) -> Workspace:
        return self._workspace

    def decided(self, key: str) -> Any:
        return self.decisions.get(key, UNDECIDED)

    def decide(self, key: str, value: Any) -> None:
        self.decisions.setdefault(key, value)


def metric(value: float) -> DXO:
    return DXO(DataKind.METRICS, {"x": value})


def owners(sites: Sites, given: list[str]) -> Any:
    """A step: both ask, and it is noted whose model they were given."""

    def step() -> None:
        for name in ("a", "b"):
            sites.ask(name)()
            if name in sites.given:
                _, task_id, data = sites.given[name]
                given.append(f"{name}: {data.get_header(AppConstants.MODEL_OWNER, '-')} {task_id}")

    return step


def evaluated(engine: KnowsSites) -> list[tuple[Any, ...]]:
    return [call[1:] for call in engine.history.calls if call[0] == "evaluated"]


def test_models_are_measured_by_name_whoever_was_faster(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    sites = Sites(engine, CrossSiteModelEval())
    given: list[str] = []
    engine.waiter.script.extend([
        owners(sites, given), sites.answer("b", trained(2, 2)), sites.answer("a", trained(1, 1)),
        owners(sites, given), sites.answer("a", metric(1)), sites.answer("b", metric(2)),
        owners(sites, given), sites.answer("b", metric(4)), sites.answer("a", metric(3)),
    ])  # fmt: skip
    run(engine, sites.workflow)
    assert given[2:] == [
        "a: a 0/validate/1/a/1", "b: a 0/validate/1/b/1", "a: b 0/validate/2/a/1", "b: b 0/validate/2/b/1"
    ]  # fmt: skip
    assert evaluated(engine) == [
        ("a", "a", {"x": 1.0}, None), ("a", "b", {"x": 2.0}, None),
        ("b", "b", {"x": 4.0}, None), ("b", "a", {"x": 3.0}, None),
    ]  # fmt: skip


def test_who_had_no_model_is_not_asked_again_after_a_restart(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    sites = Sites(engine, CrossSiteModelEval())
    engine.waiter.script.extend([
        sites.ask("a", "b"), sites.answer("a", failed()), sites.answer("b", trained(2, 2)),
        sites.ask("a", "b"), sites.answer("a", metric(1)), sites.answer("b", metric(2)),
    ])  # fmt: skip
    run(engine, sites.workflow)
    reason = "EXECUTION_EXCEPTION ValueError: bad label"
    assert engine.decisions["0/no model/a"] == reason
    again = Engine(tmp_path, engine.decisions)
    sites = Sites(again, CrossSiteModelEval())
    given: list[str] = []
    again.waiter.script.extend([
        sites.ask("a", "b"), sites.answer("b", trained(2, 2)),
        owners(sites, given), sites.answer("a", metric(1)), sites.answer("b", metric(2)),
    ])  # fmt: skip
    run(again, sites.workflow)
    assert given == ["a: b 0/validate/1/a/1", "b: b 0/validate/1/b/1"]
    assert evaluated(again)[0] == ("a", "", {}, f"no model: {reason}")


def test_who_is_away_for_too_long_is_not_waited_for(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    sites = Sites(engine, CrossSiteModelEval(wait_for_clients_timeout=30))

    def leave() -> None:
        engine.live = ["a"]

    engine.waiter.script.extend(
        [sites.ask("a"), sites.answer("a", trained(1, 1)), sites.ask("a"), sites.answer("a", metric(1)), leave]
    )
    began = engine.waiter.time
    run(engine, sites.workflow)
    assert engine.waiter.time - began <= 70  # once for its model, once for what it owes
    assert ("a", "a", {"x": 1.0}, None) in evaluated(engine)
    assert [call[:2] for call in evaluated(engine) if call[3]] == [("b", ""), ("a", "b")]


def test_files_may_go_when_all_is_measured(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.live = ["a"]
    sites = Sites(engine, CrossSiteModelEval(cleanup_models=True))
    engine.waiter.script.extend(
        [sites.ask("a"), sites.answer("a", trained(1, 1)), sites.ask("a"), sites.answer("a", metric(1))]
    )
    run(engine, sites.workflow)
    folder = tmp_path / "run_1" / "cross_site_val"
    assert [path.name for path in folder.iterdir()] == ["result_shareables"]
    assert [path.name for path in (folder / "result_shareables").iterdir()] == ["a_a"]
