"""ScatterAndGatherScaffold, driven by hand: what goes out, what comes in, and what becomes of the controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from federation import Federation, MemoryPersistor, failed
from hansa.apis.app_constant import AlgorithmConstants, AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.model import make_model_learnable
from hansa.components.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from hansa.components.workflows.scatter_and_gather_scaffold import ScatterAndGatherScaffold

WEIGHTS, DIFF = AppConstants.MODEL_WEIGHTS, AlgorithmConstants.SCAFFOLD_CTRL_DIFF
GLOBAL = AlgorithmConstants.SCAFFOLD_CTRL_GLOBAL
TWO = ("site-1", "site-2")


def federation(*live: str, **arguments: Any) -> Federation:
    model = make_model_learnable({"w": np.zeros(2), "n": np.int64(3)}, {})
    parts = {
        "aggregator": InTimeAccumulateWeightedAggregator(
            expected_data_kind={WEIGHTS: DataKind.WEIGHT_DIFF, DIFF: DataKind.WEIGHT_DIFF}
        ),
        "persistor": MemoryPersistor(model),
        **arguments.pop("parts", {}),
    }
    fed = Federation(*live, workflow=ScatterAndGatherScaffold, parts=parts, min_clients=len(live), **arguments)
    fed.persistor = parts["persistor"]
    return fed


def update(control: dict[str, Any], *, steps: int | None = None, difference: Any = (1.0, 1.0)) -> DXO:
    meta = {} if steps is None else {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}
    weights = DXO(DataKind.WEIGHT_DIFF, {"w": np.array(difference), "n": np.int64(0)}, meta)
    return DXO(DataKind.COLLECTION, {WEIGHTS: weights, DIFF: DXO(DataKind.WEIGHT_DIFF, control, dict(meta))})


def play(fed: Federation, *rounds: dict[str, Any]) -> list[Any]:
    """What the first site was given in each round."""
    given = []

    def look(site: str) -> Any:
        return lambda: given.append(from_shareable(fed.sites.given[site][2]).data)

    for answers in rounds:
        fed.script(fed.sites.ask(*answers), look(next(iter(answers))))
        fed.script(*[fed.sites.answer(site, answer) for site, answer in answers.items()])
    fed.run()
    return given


def control_of(fed: Federation) -> Any:
    return fed.workflow.state()["control"]


def test_sites_get_weights_and_controls_which_begin_at_zero() -> None:
    ((first),) = play(federation("site-1"), {"site-1": update({"w": np.ones(2)})})
    assert {name: part.data_kind for name, part in first.items()} == {
        WEIGHTS: DataKind.WEIGHTS,
        GLOBAL: DataKind.WEIGHT_DIFF,
    }
    control = first[GLOBAL].data
    np.testing.assert_array_equal(control["w"], [0, 0])
    assert {name: value.dtype for name, value in control.items()} == {"w": np.float64, "n": np.int64}


def test_controls_add_the_mean_difference_times_the_share_of_sites() -> None:
    fed = federation(*TWO, num_rounds=2)
    given = play(
        fed,
        {"site-1": update({"w": np.array([2.0, 4.0])}), "site-2": update({"w": np.array([4.0, 0.0])})},
        {"site-1": update({"w": np.array([2.0, 2.0])}), "site-2": failed()},
    )
    # (2 + 4) / 2 = 3, (4 + 0) / 2 = 2; both of both, so the factor is 1
    np.testing.assert_array_equal(given[1][GLOBAL].data["w"], [3, 2])
    # then one of two: 3 + 1/2 * 2 = 4, 2 + 1/2 * 2 = 3
    np.testing.assert_array_equal(control_of(fed)["w"], [4, 3])
    np.testing.assert_array_equal(fed.persistor.saved, [[1, 1], [2, 2]])


def test_who_is_asked_counts_among_the_sites_even_if_it_has_gone() -> None:
    fed = federation(*TWO)
    fed.script(lambda: fed.engine.live.remove("site-2"))  # type: ignore[attr-defined]  # this engine knows its sites
    play(fed, {"site-1": update({"w": np.array([2.0, 2.0])}), "site-2": failed()})
    np.testing.assert_array_equal(control_of(fed)["w"], [1, 1])


def test_of_a_draw_the_live_sites_are_all_sites() -> None:
    fed = federation("site-1", "site-2", "site-3", "site-4", sampling={"names": ["site-2"]})
    play(fed, {"site-2": update({"w": np.array([2.0, 2.0])})})
    np.testing.assert_array_equal(control_of(fed)["w"], [2, 2])  # no other may ever be asked
    fed = federation("site-1", "site-2", "site-3", "site-4", sampling={"count": 1})
    fed.script(fed.sites.ask("site-1", "site-2", "site-3", "site-4"))
    fed.script(lambda: fed.sites.answer(next(iter(fed.sites.given)), update({"w": np.array([2.0, 2.0])}))())
    fed.run()
    np.testing.assert_array_equal(control_of(fed)["w"], [0.5, 0.5])  # 1/4 * 2


def test_without_steps_every_site_weighs_the_same_and_nobody_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    fed = federation(*TWO)
    one, two = update({"w": np.array([1.0, 0.0])}, steps=3), update({"w": np.array([0.0, 1.0])}, steps=1)
    for answer in (one, two):
        del answer.data[DIFF].meta[MetaKey.NUM_STEPS_CURRENT_ROUND]
    play(fed, {"site-1": one, "site-2": two})
    np.testing.assert_array_equal(control_of(fed)["w"], [0.5, 0.5])
    assert "NUM_STEPS" not in caplog.text


def test_with_steps_of_their_own_they_weigh_by_these() -> None:
    fed = federation(*TWO)
    one, two = update({"w": np.array([1.0, 0.0])}, steps=3), update({"w": np.array([0.0, 1.0])}, steps=1)
    play(fed, {"site-1": one, "site-2": two})
    np.testing.assert_array_equal(control_of(fed)["w"], [0.75, 0.25])
    assert [call[3] for call in fed.engine.history.calls if call[0] == "counted"] == [3.0, 1.0]


def test_what_is_not_trained_or_not_known_has_no_control() -> None:
    fed = federation("site-1")
    play(fed, {"site-1": update({"w": np.ones(2), "n": np.int64(5), "other": np.ones(9)})})
    assert {name: value.tolist() for name, value in control_of(fed).items()} == {"w": [1, 1], "n": 0}


def test_a_control_of_another_shape_is_refused_with_its_name() -> None:
    fed = federation(*TWO)
    play(fed, {"site-1": update({"w": np.ones(3)}), "site-2": update({"w": np.ones(2)})})
    reason = "in 'scaffold_c_diff': 'w' has shape (3,), the model has (2,)"
    assert fed.refused == [(0, "site-1", reason)]
    np.testing.assert_array_equal(control_of(fed)["w"], [0.5, 0.5])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (DXO(DataKind.WEIGHT_DIFF, {"w": np.ones(2)}), "expected data of kind COLLECTION, but got WEIGHT_DIFF"),
        (
            DXO(DataKind.COLLECTION, {WEIGHTS: DXO(DataKind.WEIGHT_DIFF, {"w": np.ones(2)})}),
            "the COLLECTION has no DXO 'scaffold_c_diff'",
        ),
        (update({"w": np.array([np.nan, 1])}), "in 'scaffold_c_diff': "),
        (update({"w": "text"}), "in 'scaffold_c_diff': "),
    ],
)
def test_what_is_no_answer_to_scaffold_is_refused_and_changes_nothing(answer: DXO, reason: str) -> None:
    fed = federation("site-1")
    play(fed, {"site-1": answer})
    assert reason in fed.refused[0][2]
    np.testing.assert_array_equal(control_of(fed)["w"], [0, 0])
    np.testing.assert_array_equal(fed.persistor.saved, [[0, 0]])


def test_an_aggregator_that_knows_no_controls_ends_the_run_in_words() -> None:
    plain = InTimeAccumulateWeightedAggregator()
    fed = federation("site-1", parts={"aggregator": plain})
    play(fed, {"site-1": update({"w": np.ones(2)})})
    (reason,) = fed.engine.panics
    assert reason == (
        "ScatterAndGatherScaffold: component 'aggregator' must make a COLLECTION of '_model_weights_' and "
        "'scaffold_c_diff'; both must be in its expected_data_kind"
    )
    assert fed.engine.commits == []


def test_each_commit_holds_the_controls_and_a_restart_goes_on_with_them() -> None:
    fed = federation("site-1", num_rounds=2)
    one = {"site-1": update({"w": np.array([1.0, 2.0])})}
    two = {"site-1": update({"w": np.array([1.0, 2.0])})}
    play(fed, one, two)
    first, second = fed.engine.commits
    assert (first["next_round"], second["next_round"]) == (1, 2)
    np.testing.assert_array_equal(first["control"]["w"], [1, 2])  # not written to in the second round
    np.testing.assert_array_equal(second["control"]["w"], [2, 4])

    again = federation("site-1", num_rounds=2)
    again.workflow.restore(first)
    given = play(again, {"site-1": update({"w": np.array([1.0, 2.0])})})
    np.testing.assert_array_equal(given[0][GLOBAL].data["w"], [1, 2])
    np.testing.assert_array_equal(control_of(again)["w"], [2, 4])
