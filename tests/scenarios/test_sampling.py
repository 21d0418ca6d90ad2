"""Rounds that ask only some of the sites, in whole federations driven by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation import GRACE, PERIOD, Federation, MemoryPersistor, failed, trained
from hansa.apis.client import Client
from hansa.apis.engine import RoundKey
from hansa.apis.event_type import EventType
from hansa.apis.sampling import TAGS
from hansa.apis.signal import Signal
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from hansa.components.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from hansa.components.workflows.scatter_and_gather import ScatterAndGather
from hansa.errors import ConfigError
from pump import KnowsSites, ServerEngine
from sides import Listener, Side

TEN = tuple(f"site-{number}" for number in range(10))


class Seeded(KnowsSites):
    """Has a seed, and sites with tags: those with an even number are of the ICU."""

    seed = 0

    def seed_for(self, what: str) -> int:
        return self.seed

    def get_clients(self) -> list[Client]:
        clients = super().get_clients()
        for client in clients:
            if client.name[-1] in "02468":
                client.set_prop(TAGS, ["ward", "icu"])
        return clients


class OtherSeed(Seeded):
    seed = 1


def federation(*live: str, engine: type[ServerEngine] = Seeded, **arguments: Any) -> Federation:
    """Every round, all who are live ask, and who is given the task answers with its number."""
    fed = Federation(*live, engine=engine, **arguments)

    def serve() -> None:
        fed.sites.ask(*live)()
        for name in list(fed.sites.given):
            fed.sites.answer(name, trained(int(name[-1]), 0))()
        fed.sites.given.clear()

    fed.script(*[serve] * int(arguments.get("num_rounds", 1)))
    return fed


def drawn(fed: Federation) -> list[list[str]]:
    return [call[2] for call in fed.engine.history.calls if call[0] == "opened"]


def run_of(*live: str, **arguments: Any) -> list[list[str]]:
    fed = federation(*live, **arguments)
    fed.run()
    return drawn(fed)


def test_only_who_is_drawn_takes_part_and_is_waited_for() -> None:
    fed = federation(*TEN, sampling={"count": 3}, min_clients=10, min_counted=10, num_rounds=4)
    fed.run()
    rounds = drawn(fed)
    assert [len(sites) for sites in rounds] == [3, 3, 3, 3]
    assert fed.counted == [(number, site) for number, sites in enumerate(rounds) for site in sites]
    assert len(fed.sites.idle) == 4 * 7
    # the mean of the numbers of the sites that were drawn
    np.testing.assert_array_equal(
        [saved[0] for saved in fed.persistor.saved], [sum(int(site[-1]) for site in sites) / 3 for sites in rounds]
    )
    assert fed.elapsed == 0
    with fed.engine.new_context() as fl_ctx:
        assert fl_ctx.get_prop(RoundKey.TARGETS) == rounds[-1]


def test_the_draw_depends_on_seed_workflow_round_and_live_sites_alone() -> None:
    settings: dict[str, Any] = {"sampling": {"fraction": 0.3}, "num_rounds": 6}
    rounds = run_of(*TEN, **settings)
    assert run_of(*reversed(TEN), **settings) == rounds
    assert len(set(map(tuple, rounds))) > 1
    assert run_of(*TEN, engine=OtherSeed, **settings) != rounds
    assert run_of(*TEN, engine=KnowsSites, **settings) == rounds  # without a seed it is 0
    second = federation(*TEN, **settings)
    second.workflow.workflow_index = 1
    second.run()
    assert drawn(second) != rounds


def test_a_resumed_workflow_draws_what_it_would_have_drawn() -> None:
    settings: dict[str, Any] = {"sampling": {"count": 4}, "num_rounds": 5}
    rounds = run_of(*TEN, **settings)
    resumed = federation(*TEN, **settings)
    resumed.workflow.restore({"next_round": 2})
    resumed.run()
    assert drawn(resumed) == rounds[2:]


def test_names_and_tags() -> None:
    assert run_of(*TEN, sampling={"names": ["site-7", "site-2", "site-99"]}, min_clients=2) == [["site-2", "site-7"]]
    assert run_of(*TEN, sampling={"tag": "icu"}, min_clients=10) == [list(TEN[::2])]
    (sites,) = run_of(*TEN, sampling={"tag": "icu", "fraction": 0.4})
    assert len(sites) == 2
    assert set(sites) < set(TEN[::2])


def test_nobody_joins_a_round_that_was_drawn() -> None:
    fed = Federation("site-1", "site-2", engine=Seeded, sampling={"names": ["site-1", "site-3"]})
    fed.script(fed.sites.ask("site-2", "site-3", "site-1"), fed.sites.answer("site-1", trained(1, 1)))
    fed.run()
    assert fed.sites.idle == ["site-2", "site-3"]
    assert fed.counted == [(0, "site-1")]


def test_the_grace_begins_with_enough_of_those_that_were_drawn() -> None:
    fed = Federation(*TEN, engine=Seeded, sampling={"names": list(TEN[:4])}, min_clients=3)
    answers = [fed.sites.answer(name, trained(1, 1)) for name in TEN[:3]]
    fed.script(fed.sites.ask(*TEN), *answers)
    fed.run()
    assert fed.elapsed == pytest.approx(GRACE + PERIOD)
    assert len(fed.counted) == 3


def test_fewer_counted_than_were_drawn_ends_the_run_where_all_must_count() -> None:
    fed = Federation(*TEN, engine=Seeded, sampling={"names": list(TEN[:2])}, min_clients=10, min_counted=10)
    fed.script(fed.sites.ask(*TEN[:2]), fed.sites.answer(TEN[0], trained(1, 1)), fed.sites.answer(TEN[1], failed()))
    fed.run()
    (reason,) = fed.engine.panics
    assert reason.startswith("round 0: 1 of 2 results counted, 2 needed: site-1: EXECUTION_EXCEPTION")


def test_a_round_waits_for_somebody_to_ask(caplog: pytest.LogCaptureFixture) -> None:
    fed = Federation("site-1", "site-3", engine=Seeded, sampling={"tag": "icu"})
    line = "round 0 waits for a site with the tag 'icu', 2 without it are here"

    def come() -> None:
        assert fed.workflow.waits_for == line
        fed.engine.live.append("site-2")  # type: ignore[attr-defined]  # this engine knows its sites

    fed.script(
        come,
        fed.sites.ask("site-1", "site-2"),
        fed.sites.answer("site-2", trained(1, 1)),
    )
    with caplog.at_level("INFO"):
        fed.run()
    assert drawn(fed) == [["site-2"]]
    assert line in caplog.text
    assert fed.workflow.waits_for is None


def test_a_round_with_spares_is_over_with_the_first_that_count_and_a_failure_is_not_one() -> None:
    sites = TEN[:5]
    fed = Federation(*sites, engine=Seeded, sampling={"count": 3, "spare": 2}, min_clients=5, min_counted=5)
    fed.script(
        fed.sites.ask(*sites),
        fed.sites.answer("site-4", failed()),
        fed.sites.answer("site-3", trained(3, 0)),
        fed.sites.answer("site-0", trained(0, 0)),
        fed.sites.answer("site-2", trained(2, 0)),
        fed.sites.answer("site-1", trained(1, 0)),
    )
    fed.run()
    assert drawn(fed) == [list(sites)]
    assert [site for _, site in fed.counted] == ["site-3", "site-0", "site-2"]
    np.testing.assert_array_equal(fed.persistor.saved[0], [5 / 3, 0])
    assert fed.elapsed == 0  # nobody waits for the spare one


def test_a_round_whose_spares_are_not_enough_ends_the_run() -> None:
    sites = TEN[:4]
    fed = Federation(*sites, engine=Seeded, sampling={"count": 3, "spare": 1}, min_clients=4, min_counted=4)
    fed.script(
        fed.sites.ask(*sites),
        *[fed.sites.answer(site, failed()) for site in sites[:2]],
        *[fed.sites.answer(site, trained(1, 0)) for site in sites[2:]],
    )
    fed.run()
    assert fed.persistor.saved == []
    (reason,) = fed.engine.panics
    assert reason.startswith("round 0: 2 of 4 results counted, 3 needed: site-0: EXECUTION_EXCEPTION")


def test_a_draw_that_looks_back_goes_on_after_a_restart() -> None:
    settings: dict[str, Any] = {"sampling": {"count": 4, "by": "turn"}, "num_rounds": 5}
    fed = federation(*TEN, **settings)
    fed.run()
    rounds = drawn(fed)
    assert len(set(map(tuple, rounds))) > 1
    first = federation(*TEN, **{**settings, "num_rounds": 2})
    first.run()
    state = first.workflow.state()
    assert state["asked"]
    resumed = federation(*TEN, **settings)
    resumed.workflow.restore(state)
    resumed.run()
    assert drawn(resumed) == rounds[2:]


def test_sites_that_said_they_have_little_are_left_out() -> None:
    fed = Federation(*TEN[:2], engine=Seeded, sampling={"min_size": 10}, num_rounds=2)
    fed.script(
        fed.sites.ask(*TEN[:2]),
        fed.sites.answer("site-0", trained(1, 0, steps=5)),
        fed.sites.answer("site-1", trained(1, 0, steps=50)),
        fed.sites.ask(*TEN[:2]),
        fed.sites.answer("site-1", trained(1, 0, steps=50)),
    )
    fed.run()
    assert drawn(fed) == [["site-0", "site-1"], ["site-1"]]


def test_an_engine_that_does_not_know_its_sites_is_refused() -> None:
    fed = Federation(engine=ServerEngine, sampling={"count": 1})
    fed.run()
    (reason,) = fed.engine.panics
    assert reason == "ScatterAndGather: sampling: the engine does not know its sites, so none can be chosen"


class Silent(Side):
    """Knows its sites, and would never say when one comes."""

    def get_clients(self) -> list[Client]:
        return [Client("site-1", "token")]


def test_where_nobody_says_when_a_site_comes_the_run_ends_instead_of_waiting() -> None:
    parts = {"persistor": MemoryPersistor(), "shareable_generator": FullModelShareableGenerator()}
    engine = Silent("project", [], {**parts, "aggregator": InTimeAccumulateWeightedAggregator()})
    workflow, heard = ScatterAndGather(sampling={"tag": "icu"}), Listener()
    engine.handlers.append(heard)
    workflow.initialize_run(engine.new_context())
    workflow.control_flow(Signal(), engine.new_context())
    workflow.finalize_run(engine.new_context())
    (reason,) = [data for event, data, *_ in heard.heard if event == EventType.FATAL_SYSTEM_ERROR]
    assert reason == "round 0: no site that is here may be asked"


def test_a_bad_sampling_names_its_key() -> None:
    with pytest.raises(ConfigError, match=r"sampling\.count: must be a whole number of at least 1, not 0"):
        ScatterAndGather(sampling={"count": 0})


class TestCandidates:
    def test_a_round_over_a_few_of_many_costs_a_few_requests(self) -> None:
        many = [f"site-{number:04}" for number in range(10_000)]
        fed = Federation(*many, engine=Seeded, sampling={"count": 5})
        seen: list[Any] = []

        def serve() -> None:
            candidates = fed.workflow.candidates()
            seen.append(candidates)
            fed.sites.ask(*candidates or ())()
            for name in candidates or ():
                fed.sites.answer(name, trained(1, 1))()
            seen.append(fed.workflow.candidates())

        fed.script(serve)
        fed.run()
        assert seen == [drawn(fed)[0], []]
        assert (len(seen[0]), fed.sites.idle) == (5, [])

    def test_whoever_may_join_is_one_until_enough_have_answered(self) -> None:
        fed = Federation("site-1", "site-2", min_clients=2)
        seen: list[Any] = []

        def look() -> None:
            seen.append(fed.workflow.candidates())

        def come() -> None:
            fed.engine.live += ["site-3", "site-0"]  # type: ignore[attr-defined]  # this engine knows its sites

        fed.script(
            fed.sites.ask("site-1", "site-2"),
            fed.sites.answer("site-1", trained(1, 1)),
            come,
            look,
            fed.sites.ask("site-3"),
            fed.sites.answer("site-2", trained(1, 1)),
            look,
            fed.sites.answer("site-3", trained(4, 4)),
        )
        fed.run()
        assert seen == [["site-0", "site-2", "site-3"], ["site-3"]]
        np.testing.assert_array_equal(fed.persistor.saved, [[2, 2]])

    def test_where_anyone_may_come_anybody_is_one(self) -> None:
        fed = Federation("site-1", engine=ServerEngine)
        seen: list[Any] = []
        fed.script(
            lambda: seen.append(fed.workflow.candidates()),
            fed.sites.ask("site-1"),
            fed.sites.answer("site-1", trained(1, 1)),
        )
        fed.run()
        assert seen == [None]
