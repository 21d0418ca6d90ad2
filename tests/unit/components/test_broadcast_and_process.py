"""One question to all sites: the order of the answers, what a processor refuses, and the first global model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation import failed, trained
from hansa.apis.client import Client
from hansa.apis.dxo import DXO, DataKind
from hansa.apis.fl_context import FLContext
from hansa.apis.response_processor import ResponseProcessor
from hansa.apis.shareable import Shareable
from hansa.components.response_processors.global_weights_initializer import GlobalWeightsInitializer
from hansa.components.workflows.broadcast_and_process import BroadcastAndProcess
from hansa.components.workflows.initialize_global_weights import InitializeGlobalWeights
from pump import KnowsSites, ServerEngine, Sites, run


class Notes(ResponseProcessor):
    """Notes whose answers come, and from whom the context says they are."""

    def __init__(self, refuses: str = "", concludes: bool = True) -> None:
        super().__init__()
        self.refuses, self.concludes = refuses, concludes
        self.names: list[str] = []
        self.is_over = False

    def create_task_data(self, task_name: str, fl_ctx: FLContext) -> Shareable:
        data = Shareable()
        data["question"] = task_name
        return data

    def process_client_response(self, client: Client, task_name: str, response: Shareable, fl_ctx: FLContext) -> bool:
        self.names.append(client.name)
        return client.name != self.refuses

    def final_process(self, fl_ctx: FLContext) -> bool:
        self.is_over = True
        return self.concludes


def asked(processor: Any, *live: str, **arguments: Any) -> tuple[KnowsSites, Sites]:
    engine = KnowsSites({"processor": processor})
    engine.live = list(live)
    workflow = BroadcastAndProcess("processor", "ask", **arguments)
    return engine, Sites(engine, workflow)


def test_answers_are_passed_on_by_name_whoever_was_faster() -> None:
    notes = Notes()
    engine, sites = asked(notes, "c", "a", "b")
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(list(notes.names))

    engine.waiter.script.extend(
        [sites.ask("a", "b", "c"), sites.answer("c", Shareable()), look, sites.answer("a", Shareable()), look,
         sites.answer("b", Shareable())]
    )  # fmt: skip
    run(engine, sites.workflow)
    assert seen == [[], ["a"]]
    assert notes.names == ["a", "b", "c"]
    assert notes.is_over
    assert sites.given["a"][2]["question"] == "ask"
    assert engine.panics == []


def test_who_does_not_answer_in_time_is_left_out() -> None:
    notes = Notes()
    engine, sites = asked(notes, "a", "b", min_responses_required=1, wait_time_after_min_received=5)
    engine.waiter.script.extend([sites.ask("a", "b"), sites.answer("b", Shareable())])
    run(engine, sites.workflow)
    assert (notes.names, notes.is_over) == (["b"], True)


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (Notes(refuses="a"), "a: Notes refuses the answer to task ask"),
        (Notes(concludes=False), "task ask: Notes can draw no conclusion"),
        (3, "BroadcastAndProcess: component 'processor' must be a ResponseProcessor, but it is a int"),
    ],
)
def test_what_it_cannot_go_on_with_ends_the_run(notes: Any, says: str) -> None:
    engine, sites = asked(notes, "a")
    if isinstance(notes, Notes):
        engine.waiter.script.extend([sites.ask("a"), sites.answer("a", Shareable())])
    run(engine, sites.workflow)
    assert engine.panics == [says]


def test_where_nobody_knows_the_sites_whoever_asks_is_asked() -> None:
    notes = Notes()
    engine = ServerEngine({})
    workflow = BroadcastAndProcess(notes, "ask", 2, 0)
    sites = Sites(engine, workflow)
    engine.waiter.script.extend([sites.ask("b", "a"), sites.answer("b", Shareable()), sites.answer("a", Shareable())])
    run(engine, workflow)
    assert notes.names == ["b", "a"]


def initialized(*steps: tuple[str, Any], **arguments: Any) -> tuple[KnowsSites, Any]:
    engine = KnowsSites({})
    engine.live = [site for site, _ in steps]
    workflow = InitializeGlobalWeights(**arguments)
    sites = Sites(engine, workflow)
    engine.waiter.script.append(sites.ask(*engine.live))
    engine.waiter.script.extend(sites.answer(site, result) for site, result in steps)
    run(engine, workflow)
    with engine.new_context() as fl_ctx:
        return engine, fl_ctx.get_prop("global_model")


def test_the_first_model_is_that_of_the_first_site_by_name() -> None:
    _, model = initialized(("b", trained(2, 2)), ("a", trained(1, 1)))
    assert model["weights"]["w"].tolist() == [1, 1]


def test_the_first_model_is_that_of_a_site_that_is_named() -> None:
    _, model = initialized(("b", trained(2, 2)), ("a", trained(1, 1)), weight_method="client", weights_client_name="b")
    assert model["weights"]["w"].tolist() == [2, 2]


def test_a_site_that_fails_leaves_it_to_the_others_and_nobody_is_nobody() -> None:
    engine, model = initialized(("a", failed()), ("b", trained(2, 2)))
    assert (engine.panics, model["weights"]["w"].tolist()) == ([], [2, 2])
    engine, model = initialized(("a", failed()))
    assert engine.panics == ["task get_weights: GlobalWeightsInitializer can draw no conclusion"]
    assert model is None


def test_the_initializer_takes_nothing_but_weights() -> None:
    initializer, fl_ctx = GlobalWeightsInitializer(), FLContext()
    for bad in (DXO(DataKind.METRICS, {"w": 1}), DXO(DataKind.WEIGHTS, {})):
        assert not initializer.process_client_response(Client("a", ""), "t", bad.to_shareable(), fl_ctx)
    assert not initializer.process_client_response(Client("a", ""), "t", failed(), fl_ctx)
    assert not initializer.final_process(fl_ctx)
    good = DXO(DataKind.WEIGHTS, {"w": np.ones(1)}).to_shareable()
    assert initializer.process_client_response(Client("b", ""), "t", good, fl_ctx)
    assert initializer.final_process(fl_ctx)


@pytest.mark.parametrize("given", [{"weight_method": "best"}, {"weight_method": "client"}])
def test_methods_are_checked(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="weight_method"):
        InitializeGlobalWeights(**given)


def test_arguments_are_checked() -> None:
    with pytest.raises(TypeError, match="processor"):
        BroadcastAndProcess(3, "t")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="task_name"):
        BroadcastAndProcess("p", 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout"):
        BroadcastAndProcess("p", "t", timeout=1.5)  # type: ignore[arg-type]
