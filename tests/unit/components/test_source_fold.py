"""Folding near the sites: the bits of one process wherever sites are held, and what the two sides refuse."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.algorithms.fold import block_size
from hansa.apis.app_constant import AppConstants
from hansa.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from hansa.apis.engine import RoundKey
from hansa.apis.fl_constant import ReservedKey
from hansa.apis.fl_context import FLContext
from hansa.apis.folding import FoldedPart, FoldPlan, FoldsAtSource, SourceFold
from hansa.apis.model import make_model_learnable
from hansa.apis.shareable import Shareable
from hansa.components.aggregators import AccumulateWeightedAggregator, InTimeAccumulateWeightedAggregator
from hansa.components.aggregators.mean_aggregator import MeanAggregator
from hansa.errors import DecodeError, RuleError

BOTH = [InTimeAccumulateWeightedAggregator, AccumulateWeightedAggregator]
ROUND = 3
MODEL = {
    "w": np.zeros((3, 2), np.float32),
    "h": np.zeros(5, np.float16),
    "n": np.array(0),
    "wide": np.zeros(2, np.float64),
    "z": np.zeros(1, np.complex64),
    "mask": np.zeros(3, bool),
}


class Engine:
    """An engine that fires nothing."""

    def fire_event(self, event_type: str, fl_ctx: FLContext) -> None:
        pass


def context(targets: list[str], model: dict[str, Any] = MODEL, number: int = ROUND) -> FLContext:
    fl_ctx = FLContext()
    fl_ctx.set_prop(ReservedKey.ENGINE, Engine())
    fl_ctx.set_prop(AppConstants.CURRENT_ROUND, number)
    fl_ctx.set_prop(AppConstants.GLOBAL_MODEL, make_model_learnable(model, {}))
    fl_ctx.set_prop(RoundKey.TARGETS, targets)
    return fl_ctx


def result(site: str, data: dict[str, Any], steps: Any = 1.0, number: int = ROUND) -> Shareable:
    shareable = DXO(DataKind.WEIGHT_DIFF, data, {MetaKey.NUM_STEPS_CURRENT_ROUND: steps}).to_shareable()
    shareable.add_cookie(AppConstants.CONTRIBUTION_ROUND, number)
    shareable.set_header(AppConstants.CONTRIBUTION_ROUND, number)  # as the workflow does
    shareable.set_peer_props({ReservedKey.IDENTITY_NAME: site})
    return shareable


def without_tensors(site: str, whole: Shareable, refusal: str | None) -> Shareable:
    """What the runtime passes on of a result that was folded at the source."""
    light = Shareable()
    light.update(whole)
    light["__headers__"] = {**whole["__headers__"], RoundKey.FOLDED: refusal or ""}
    dxo = from_shareable(whole)
    return DXO(dxo.data_kind, {}, dxo.meta).update_shareable(light)


def travelled(part: FoldedPart) -> FoldedPart:
    """A part as it comes out of a link: the head as JSON, the sums as bytes, some of them read-only."""
    regions = [np.frombuffer(region.tobytes(), np.uint8) for region in part.regions]
    return FoldedPart(part.span, list(part.sites), json.loads(json.dumps(part.head)), regions)


def digest(aggregator: MeanAggregator, fl_ctx: FLContext) -> str:
    state = hashlib.sha256()
    for name, value in from_shareable(aggregator.aggregate(fl_ctx)).data.items():
        array = np.asarray(value)
        state.update(f"{name} {array.dtype} {array.shape} {type(value)}".encode())
        state.update(array.tobytes())
    return state.hexdigest()


def memory() -> Callable[[int], Any]:
    """Memory that is full of what was there before."""
    return lambda size_bytes: np.full(size_bytes, 0xA5, np.uint8)


class Federation:
    """A server and processes that hold some of the targets each; nothing but what travels is shared."""

    def __init__(
        self, cls: type[MeanAggregator], targets: list[str], holders: dict[str, int], **arguments: Any
    ) -> None:
        self.server, self.fl_ctx = cls(**arguments), context(targets)
        plan = self.server.fold_plan(self.fl_ctx)
        assert plan is not None
        self.plan = FoldPlan.from_json(json.loads(json.dumps(plan.to_json())))
        assert self.plan.rule.path == f"{cls.__module__}.{cls.__name__}"
        self.sources: dict[int, SourceFold] = {}
        for holder in sorted(set(holders.values())):
            held = [site for site in holders if holders[site] == holder]
            self.sources[holder] = cls(**self.plan.rule.args).source_fold(self.plan, held, allocate=memory())
        self.source_of = {site: self.sources[holder] for site, holder in holders.items()}
        self.parts: list[FoldedPart] = []

    def send(self, site: str, whole: Shareable) -> bool:
        """A result goes its way; returns whether the server counts it."""
        source = self.source_of.get(site)
        if source is None or source.needs_whole(site):
            return self.server.accept(whole, self.fl_ctx)
        refusal = source.add(site, whole)
        self.parts += source.ready()
        return self.server.accept(without_tensors(site, whole, refusal), self.fl_ctx)

    def lose(self, site: str) -> None:
        source = self.source_of.get(site)
        if source is None or source.needs_whole(site):
            self.server.mark_absent(site)
        else:
            source.absent(site)
            self.parts += source.ready()

    def deliver(self) -> None:
        for part in self.parts:
            self.server.accept_part(travelled(part), self.fl_ctx)
        self.parts = []


def sites(n: int) -> list[str]:
    return [f"site-{i}" for i in range(n)]  # not in code point order


def contribution(seed: int, *, spoilt: bool) -> tuple[dict[str, Any], float]:
    random = np.random.default_rng(seed)
    data = {name: (random.normal(size=value.shape) * 50).astype(value.dtype) for name, value in MODEL.items()}
    if seed % 5 == 0:
        del data["n"]
    if seed % 7 == 0:
        data["new"] = random.normal(size=4).astype(np.float32 if seed % 2 else np.float64)
    if seed % 3 == 0:
        data["wide"] = data["wide"].astype(np.float32)
    if seed % 11 == 0:
        data["w"] = np.asfortranarray(data["w"])
    if spoilt:
        data["w"][2, 1] = np.nan
    return data, float(random.uniform(0.1, 1000))


@settings(max_examples=300, deadline=None)
@given(
    data=st.data(),
    n=st.one_of(st.integers(1, 12), st.integers(60, 140)),
    workers=st.integers(1, 4),
    cls=st.sampled_from(BOTH),
    seed=st.integers(0, 2**16),
)
def test_law_where_sites_are_held_leaves_no_trace(
    data: st.DataObject, n: int, workers: int, cls: type[MeanAggregator], seed: int
) -> None:
    random = np.random.default_rng(seed)
    targets = sorted(sites(n))
    contiguous = data.draw(st.booleans())  # as a simulator holds them; or anyhow, some nowhere (-1)
    holders = {
        site: i * workers // n if contiguous else int(random.integers(-1, workers)) for i, site in enumerate(targets)
    }
    holders = {site: holder for site, holder in holders.items() if holder >= 0}
    fate = {site: data.draw(st.sampled_from(["came", "came", "came", "spoilt", "lost", "silent"])) for site in targets}
    fate["guest"] = "came"
    results = {
        site: contribution(i + seed, spoilt=fate[site] == "spoilt") for i, site in enumerate([*targets, "guest"])
    }
    arguments = {"aggregation_weights": {targets[0]: 0.3, targets[-1]: 2.5}}

    alone, fl_ctx = cls(**arguments), context(targets)
    for site in [*targets, "guest"]:
        if fate[site] in ("came", "spoilt"):
            assert alone.accept(result(site, *results[site]), fl_ctx) == (fate[site] != "spoilt")

    federation = Federation(cls, targets, holders, **arguments)
    for position in random.permutation(n + 1):
        site = [*targets, "guest"][position]
        if fate[site] == "lost":
            federation.lose(site)
        elif fate[site] != "silent":
            assert federation.send(site, result(site, *results[site])) == (fate[site] != "spoilt")
        if random.random() < 0.5:
            federation.deliver()
    for site in targets:
        if fate[site] == "silent":  # the deadline
            federation.lose(site)
    federation.deliver()
    assert digest(federation.server, federation.fl_ctx) == digest(alone, fl_ctx)


def test_two_workers_by_hand() -> None:
    # Steps 10, 30, 60 at a, b, c; d is lost. w = 0.1 * 1 + 0.3 * 2 + 0.6 * 4 = 3.1; a, b fold here, c and d there.
    federation = Federation(BOTH[0], list("abcd"), {"a": 0, "b": 0, "c": 1, "d": 1})
    for site, value, steps in (("b", 2.0, 30), ("a", 1.0, 10), ("c", 4.0, 60)):
        assert federation.send(site, result(site, {"wide": np.array([value, 0.0])}, steps))
    federation.lose("d")
    assert [(part.span, part.sites, part.head["counted"]) for part in federation.parts] == [
        ((0, 2), ["a", "b"], "11"),
        ((2, 4), ["c", "d"], "10"),
    ]
    # 10 * 1 + 30 * 2 = 70 over 40 steps; 60 * 4 = 240 over 60.
    assert [part.regions[0].tolist() for part in federation.parts] == [[70.0, 0.0], [240.0, 0.0]]
    assert [part.head["divisors"] for part in federation.parts] == [[40.0], [60.0]]
    federation.deliver()
    mean = from_shareable(federation.server.aggregate(federation.fl_ctx)).data["wide"]
    np.testing.assert_allclose(mean, [3.1, 0.0], rtol=1e-15)


def test_ports() -> None:
    assert isinstance(InTimeAccumulateWeightedAggregator(), FoldsAtSource)


def test_which_results_travel_whole() -> None:
    # 130 targets in blocks of 3. Of the first two blocks site-0 (in block 0) is held elsewhere.
    targets = sorted(sites(130))
    assert block_size(130) == 3
    federation = Federation(BOTH[0], targets, dict.fromkeys(targets[1:6], 0))
    source = federation.sources[0]
    assert [source.needs_whole(site) for site in targets[:7]] == [True, True, True, False, False, False, True]
    assert source.needs_whole("guest")
    with pytest.raises(RuleError, match="must send its result whole"):
        source.add("guest", result("guest", {}))


def test_a_refusal_near_the_site_is_the_servers(caplog: pytest.LogCaptureFixture) -> None:
    spoilt = {"w": np.full((3, 2), np.inf, np.float32)}
    alone, fl_ctx = BOTH[0](), context(["a"])
    assert not alone.accept(result("a", spoilt), fl_ctx)
    federation = Federation(BOTH[0], ["a"], {"a": 0})
    caplog.clear()
    assert not federation.send("a", result("a", spoilt))
    assert federation.fl_ctx.get_prop(RoundKey.REFUSAL) == fl_ctx.get_prop(RoundKey.REFUSAL)
    assert "tensor 'w' has Inf at [0, 0]" in fl_ctx.get_prop(RoundKey.REFUSAL)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # the server's, and nothing at the source
    assert [part.regions for part in federation.parts] == [[]]
    federation.deliver()
    assert from_shareable(federation.server.aggregate(federation.fl_ctx)).data == {}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (result("a", {"w": np.ones((3, 2))}, number=2), "it is for round 2, this is round 3"),
        (result("a", {"w": np.ones(2)}), "tensor 'w' has shape (2,), the model has (3, 2)"),
        (result("a", {"n": np.array(2.5)}), "tensor 'n' has 2.5, the model has int64"),
        (result("a", {}, steps=-1), "NUM_STEPS_CURRENT_ROUND is -1, which is not above 0"),
        (Shareable(), "the Shareable holds no DXO"),
    ],
)
def test_refusals(bad: Shareable, reason: str) -> None:
    federation = Federation(BOTH[0], ["a"], {"a": 0})
    refusal = federation.sources[0].add("a", bad)
    assert refusal is not None
    assert reason in refusal


def test_a_site_is_done_with_once() -> None:
    source = Federation(BOTH[0], list("abc"), dict.fromkeys("abc", 0)).sources[0]
    good = {"w": np.ones((3, 2), np.float32)}
    assert source.add("a", result("a", good)) is None
    source.absent("b")
    source.absent("b")
    for site in "ab":
        with pytest.raises(RuleError, match="added or marked absent before"):
            source.add(site, result(site, good))
    with pytest.raises(RuleError, match="cannot be marked absent"):
        source.absent("a")
    assert source.ready() == []
    source.absent("c")
    assert [part.span for part in source.ready()] == [(0, 3)]
    assert source.ready() == []


def test_nodes_over_a_sixteenth_of_the_sites_go_out() -> None:
    # 1,024 targets: 64 blocks of 16, so a node of 4 blocks covers 64, a sixteenth. All held here: 16 nodes, not one.
    targets = sorted(f"s{i:04}" for i in range(1024))
    source = Federation(BOTH[0], targets, dict.fromkeys(targets, 0)).sources[0]
    spans = []
    for i, site in enumerate(targets):
        assert source.add(site, result(site, {"wide": np.ones(2)})) is None
        spans += [(i, part.span) for part in source.ready()]
    assert spans == [(64 * node + 63, (4 * node, 4 * node + 4)) for node in range(16)]


# --- what the server refuses ---


def part_of(federation: Federation, data: dict[str, Any]) -> FoldedPart:
    """The one part of a federation whose only site is a, which sends this."""
    assert federation.sources[0].add("a", result("a", data)) is None
    (part,) = federation.sources[0].ready()
    return part


def held_by_one() -> Federation:
    return Federation(BOTH[0], ["a", "b"], {"a": 0})


def test_a_site_counts_once_however_it_comes() -> None:
    good = {"w": np.ones((3, 2), np.float32)}
    federation = held_by_one()
    part = part_of(federation, good)
    assert federation.server.accept(result("a", good), federation.fl_ctx)
    with pytest.raises(RuleError, match="a: contributes twice"):
        federation.server.accept_part(part, federation.fl_ctx)

    federation = held_by_one()
    part = part_of(federation, good)
    federation.server.accept_part(part, federation.fl_ctx)
    with pytest.raises(RuleError, match="a: contributes twice"):
        federation.server.accept_part(part, federation.fl_ctx)
    assert not federation.server.accept(result("a", good), federation.fl_ctx)
    assert federation.fl_ctx.get_prop(RoundKey.REFUSAL) == "a second contribution to round 3"
    light = without_tensors("a", result("a", good), None)
    assert federation.server.accept(light, federation.fl_ctx)
    assert not federation.server.accept(light, federation.fl_ctx)
    assert federation.server.accept(result("b", {"w": np.full((3, 2), 3, np.float32)}), federation.fl_ctx)
    assert from_shareable(federation.server.aggregate(federation.fl_ctx)).data["w"].tolist() == [[2.0, 2.0]] * 3


def test_parts_that_do_not_belong_here() -> None:
    good = {"w": np.ones((3, 2), np.float32)}
    federation = held_by_one()
    part = part_of(federation, good)
    wrong = [
        (part._replace(head={**part.head, "round": 2}), "for round 2, this is round 3"),
        (part._replace(span=(1, 2)), "a: is missing|b: is missing"),
        (part._replace(span=(0, 5)), "no node of this round's tree"),
        (part._replace(sites=["a", "b"]), "over 2 sites counts 1"),
        (part._replace(regions=[]), "not of the size"),
        (part._replace(head={**part.head, "divisors": [1.0, 2.0]}), "2 divisors for 1 sums"),
        (part._replace(head={"round": 3, "counted": "1"}), "no description of sums"),
        (part._replace(head={**part.head, "entries": [["w", [3, 2], "O", 0]]}), "no dtype of numbers"),
        (part._replace(head={**part.head, "entries": [["w", [6], "<f4", 0]]}), r"shape \(6,\), the model has \(3, 2\)"),
    ]
    for bad, words in wrong:
        with pytest.raises(RuleError, match=words):
            federation.server.accept_part(bad, federation.fl_ctx)
    federation.server.accept_part(part, federation.fl_ctx)  # nothing of the others was kept


def test_tensors_that_the_model_lacks_must_be_alike_everywhere() -> None:
    federation = Federation(BOTH[0], ["a", "b"], {"a": 0, "b": 1})
    assert federation.send("a", result("a", {"new": np.ones(2)}))
    assert federation.send("b", result("b", {"new": np.ones(3)}))
    with pytest.raises(RuleError, match=r"tensor 'new' has shape \(3,\), an earlier contribution has \(2,\)"):
        federation.deliver()


def test_numbers_that_never_came_are_no_silent_loss() -> None:
    federation = held_by_one()
    part_of(federation, {"w": np.ones((3, 2), np.float32)})  # which is lost on its way
    light = without_tensors("a", result("a", {}), None)
    assert federation.server.accept(light, federation.fl_ctx)
    with pytest.raises(RuleError, match="a: is counted, but the sum with its numbers did not come"):
        federation.server.aggregate(federation.fl_ctx)


def test_sums_over_sites_that_never_came_are_said(caplog: pytest.LogCaptureFixture) -> None:
    federation = held_by_one()
    federation.server.accept_part(part_of(federation, {"wide": np.ones(2)}), federation.fl_ctx)
    federation.server.aggregate(federation.fl_ctx)
    assert "the sum contains 1 site(s) whose results did not come by themselves, first a" in caplog.text


def test_a_lost_site() -> None:
    aggregator, fl_ctx = BOTH[0](), context(list("abc"))
    aggregator.mark_absent("a")  # before anything came
    for site in "bc":
        assert aggregator.accept(result(site, {"wide": np.ones(2)}), fl_ctx)
    helper = aggregator.dxo_aggregators[""].aggregation_helper
    assert helper.num_held == 1  # the tree is ((a b) c); without a word about a, b would wait for it
    assert not aggregator.accept(result("a", {"wide": np.ones(2)}), fl_ctx)
    assert fl_ctx.get_prop(RoundKey.REFUSAL) == "the site was given up in round 3"
    with pytest.raises(RuleError, match="b: cannot be marked absent"):
        aggregator.mark_absent("b")
    aggregator.aggregate(fl_ctx)
    assert aggregator.accept(result("a", {"wide": np.ones(2)}), fl_ctx)  # the next round knows nothing of it


@pytest.mark.parametrize(
    ("names", "data", "reason"),
    [
        ("exact", {"w": MODEL["w"]}, "tensor 'h' is missing, the model has it"),
        ("exact", {**MODEL, "new": np.ones(1)}, "tensor 'new' is not expected"),
        ("exact", {}, "tensor 'w' is missing, the model has it"),
        ("subset", {"w": MODEL["w"], "new": np.ones(1)}, "tensor 'new' is not expected"),
        ("subset", {}, "it has no tensor that is expected"),
    ],
)
def test_names_are_refused_near_the_site_in_the_servers_words(names: str, data: dict[str, Any], reason: str) -> None:
    alone, fl_ctx = BOTH[0](names=names), context(["a", "b"])
    federation = Federation(BOTH[0], ["a", "b"], {"a": 0, "b": 0}, names=names)
    for site, sent in (("a", MODEL), ("b", data)):
        assert alone.accept(result(site, sent), fl_ctx) == federation.send(site, result(site, sent)) == (site == "a")
    assert fl_ctx.get_prop(RoundKey.REFUSAL) == federation.fl_ctx.get_prop(RoundKey.REFUSAL) == reason
    federation.deliver()
    assert digest(federation.server, federation.fl_ctx) == digest(alone, fl_ctx)


def test_sums_of_other_names_than_the_rule_allows_are_refused() -> None:
    federation = Federation(BOTH[0], ["a"], {"a": 0}, names="exact")
    part = Federation(BOTH[0], ["a"], {"a": 0})
    assert part.send("a", result("a", {"w": MODEL["w"]}))
    with pytest.raises(RuleError, match="tensor 'h' is missing, the model has it"):
        federation.server.accept_part(travelled(part.parts[0]), federation.fl_ctx)


# --- the plan ---


def test_no_plan() -> None:
    targets = ["a"]
    assert BOTH[0]().fold_plan(context([])) is None
    assert BOTH[0]().fold_plan(context(targets, model={})) is None
    assert BOTH[0]().fold_plan(context(targets, number="one")) is None  # type: ignore[arg-type]  # as it may be
    kinds = {"_model_weights_": DataKind.WEIGHT_DIFF, "scaffold_c_diff": DataKind.WEIGHT_DIFF}
    collection = BOTH[0](expected_data_kind=kinds)
    assert collection.fold_plan(context(targets)) is None
    part = part_of(held_by_one(), {"wide": np.ones(2)})
    with pytest.raises(RuleError, match="COLLECTION"):
        collection.accept_part(part, context(targets))


@pytest.mark.parametrize("damage", [{"rule": "text"}, {"model": [["w", "<f4"]]}, {"targets": None}])
def test_what_is_no_plan(damage: dict[str, Any]) -> None:
    plan = held_by_one().plan.to_json()
    assert FoldPlan.from_json(plan).to_json() == plan
    with pytest.raises(DecodeError, match="no plan of a fold"):
        FoldPlan.from_json({**plan, **damage})


def test_sums_lie_in_the_memory_that_was_given() -> None:
    given_memory: list[Any] = []

    def allocate(size_bytes: int) -> Any:
        given_memory.append(np.zeros(size_bytes, np.uint8))
        return given_memory[-1]

    aggregator, fl_ctx = BOTH[0](), context(list("ab"))
    aggregator.use_memory(allocate)
    for site in "ab":
        assert aggregator.accept(result(site, {"wide": np.ones(2)}), fl_ctx)
    mean = from_shareable(aggregator.aggregate(fl_ctx)).data["wide"]
    assert [memory.nbytes for memory in given_memory] == [16]
    assert np.shares_memory(mean, given_memory[0])
