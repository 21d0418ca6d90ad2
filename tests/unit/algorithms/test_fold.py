"""The fixed tree: its shape, its independence of arrival, what it holds, and that each site counts once."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.algorithms.fold import Fold, Node, block_size, outlets_of
from hansa.errors import RuleError


def sites(n: int) -> list[str]:
    return [f"s{i:04}" for i in range(n)]


def expression(left: str, right: str) -> str:
    """A combination that shows the whole tree."""
    return f"({left}{right})"


def folded(targets: list[str], arrivals: list[str]) -> str | None:
    fold: Fold[str] = Fold(targets, expression)
    for site in arrivals:
        fold.add(site, f"[{site}]")
    return fold.finish()


# --- the definition, written a second time: recursive, and knowing all terms from the start ---


def defined(targets: list[str], present: set[str]) -> str | None:
    ordered = sorted(targets)
    n = len(ordered)
    size = 1 if n <= 64 else (n + 63) // 64
    blocks = [ordered[i : i + size] for i in range(0, n, size)]
    inside = defined_tree([defined_block(block, present) for block in blocks]) if blocks else None
    for site in sorted(present - set(targets)):
        inside = defined_pair(inside, f"[{site}]")
    return inside


def defined_block(block: list[str], present: set[str]) -> str | None:
    total = None
    for site in block:
        total = defined_pair(total, f"[{site}]" if site in present else None)
    return total


def defined_tree(nodes: list[str | None]) -> str | None:
    if len(nodes) == 1:
        return nodes[0]
    k = 1
    while k * 2 < len(nodes):
        k *= 2
    return defined_pair(defined_tree(nodes[:k]), defined_tree(nodes[k:]))


def defined_pair(left: str | None, right: str | None) -> str | None:
    if left is None:
        return right
    return left if right is None else f"({left}{right})"


def test_six_targets_by_hand() -> None:
    # 6 blocks of one; the left part is the largest power of two below 6, which is 4; below 4 it is 2.
    assert folded(list("abcdef"), list("abcdef")) == "((([a][b])([c][d]))([e][f]))"


def test_absent_sites_are_skipped() -> None:
    # Without b and e the neighbours move up: ((a (c d)) f).
    assert folded(list("abcdef"), list("acdf")) == "(([a]([c][d]))[f])"


def test_code_point_order_not_that_of_a_language() -> None:
    assert folded(["b", "ä", "B", "a"], ["ä", "a", "b", "B"]) == "(([B][a])([b][ä]))"


@pytest.mark.parametrize("n", range(1, 201))
def test_shape_is_the_definition(n: int) -> None:
    targets = sites(n)
    arrivals = list(targets)
    random.Random(n).shuffle(arrivals)
    assert folded(targets, arrivals) == defined(targets, set(targets))
    some = arrivals[: (n + 1) // 2]
    assert folded(targets, some) == defined(targets, set(some))


def test_blocks() -> None:
    assert [block_size(n) for n in (0, 1, 64, 65, 128, 129, 10_000)] == [1, 1, 1, 2, 2, 3, 157]


@settings(max_examples=1000, deadline=None)
@given(data=st.data(), n=st.integers(0, 140), outsiders=st.integers(0, 4))
def test_any_order_gives_the_definition(data: st.DataObject, n: int, outsiders: int) -> None:
    targets = sites(n)
    guests = [f"x{i}" for i in range(outsiders)] if n else []
    present = data.draw(st.sets(st.sampled_from(targets + guests))) if n else set()
    arrivals = data.draw(st.permutations(sorted(present)))
    absent = data.draw(st.sets(st.sampled_from(targets))) - present if n else set()
    fold: Fold[str] = Fold(targets, expression)
    steps = [(site, True) for site in arrivals] + [(site, False) for site in sorted(absent)]
    for site, came in data.draw(st.permutations(steps)):
        if came:
            fold.add(site, f"[{site}]")
        else:
            fold.mark_absent(site)
    assert fold.participants == sorted(present & set(targets)) + sorted(present - set(targets))
    assert fold.finish() == defined(targets, present)
    assert fold.held == (1 if present else 0)


def test_without_targets_the_tree_stands_over_those_who_came() -> None:
    assert folded([], list("dbeac")) == folded(list("abcde"), list("abcde")) == "((([a][b])([c][d]))[e])"


@pytest.mark.parametrize("n", [8, 64, 65, 1000])
def test_arrival_in_order_holds_few_terms(n: int) -> None:
    fold: Fold[int] = Fold(sites(n), lambda left, right: left + right)
    most = 0
    for site in sites(n):
        fold.add(site, 1)
        most = max(most, fold.held)
    # One per binary digit of the number of complete blocks, one for the block under way.
    assert most <= 1 + min(n, 64).bit_length()
    assert fold.finish() == n


def test_known_absence_lets_neighbours_merge_at_once() -> None:
    fold: Fold[str] = Fold(list("abcd"), expression)
    fold.add("c", "c")
    fold.add("a", "a")
    assert fold.held == 2
    fold.mark_absent("b")
    fold.mark_absent("d")
    assert fold.held == 1
    fold.mark_absent("b")  # a second time changes nothing
    fold.mark_absent("nobody")
    assert fold.finish() == "(ac)"


def test_the_only_term_is_returned_itself() -> None:
    term = object()
    fold: Fold[object] = Fold(list("abc"), lambda left, right: pytest.fail("nothing to combine"))
    fold.add("b", term)
    assert fold.finish() is term


def test_nobody_came() -> None:
    fold: Fold[str] = Fold(list("abc"), expression)
    assert fold.finish() is None
    assert fold.held == 0
    assert Fold([], expression).finish() is None


@pytest.mark.parametrize("site", ["a", "guest"])
def test_a_site_counts_once(site: str) -> None:
    fold: Fold[str] = Fold(list("ab"), expression)
    fold.add(site, "1")
    with pytest.raises(RuleError, match="contributes twice") as caught:
        fold.add(site, "2")
    assert caught.value.site == site
    with pytest.raises(RuleError, match="cannot be marked absent"):
        fold.mark_absent(site)
    assert fold.finish() == "1"


def test_too_late() -> None:
    fold: Fold[str] = Fold(list("ab"), expression)
    fold.mark_absent("a")
    with pytest.raises(RuleError, match="was marked absent"):
        fold.add("a", "1")
    fold.finish()
    with pytest.raises(RuleError, match="after the fold was finished"):
        fold.add("b", "1")
    with pytest.raises(RuleError, match="after the fold was finished"):
        fold.mark_absent("b")


# --- nodes that were completed elsewhere ---


@settings(max_examples=500, deadline=None)
@given(data=st.data(), n=st.integers(1, 200), holders=st.integers(1, 4), enough=st.sampled_from([1, 3, 20, 256]))
def test_any_division_gives_the_definition(data: st.DataObject, n: int, holders: int, enough: int) -> None:
    targets = sites(n)
    random_holder = random.Random(data.draw(st.integers(0, 2**16)))
    runs = data.draw(st.booleans())
    holder_of = {s: i * holders // n if runs else random_holder.randrange(holders) for i, s in enumerate(targets)}
    outlets = [outlets_of(targets, {s for s in targets if holder_of[s] == h}, enough=enough) for h in range(holders)]
    size = block_size(n)
    covered = [{s for start, stop in found for s in targets[start * size : stop * size]} for found in outlets]
    parts: list[Fold[str]] = [Fold(targets, expression, outlets=found) for found in outlets]
    whole: Fold[str] = Fold(targets, expression)
    present = {s for s in targets if random_holder.random() < 0.7}
    known = {s for s in targets if random_holder.random() < 0.1} - present
    order = list(targets)
    random_holder.shuffle(order)
    for site in order:
        holder = holder_of[site]
        here = parts[holder] if site in covered[holder] else whole
        if site in known:
            whole.mark_absent(site)  # the other side may know it, too
        if site in present:
            here.add(site, f"[{site}]")
        else:
            here.mark_absent(site)
        for node in here.take_ready():
            whole.add_node(node)
    assert whole.participants == sorted(present)
    assert [part.held for part in parts] == [0] * holders
    assert whole.finish() == defined(targets, present)


def test_outlets_by_hand() -> None:
    # Six blocks of one: ((a b)(c d))(e f). With b to e held: b alone, (c d), e alone.
    assert outlets_of("abcdef", "bcde") == {(1, 2), (2, 4), (4, 5)}
    assert outlets_of("abcdef", "abcdef") == {(0, 6)}
    # From 2 sites on, the left halves stop the climb: (a b), (c d), (e f).
    assert outlets_of("abcdef", "abcdef", enough=2) == {(0, 2), (2, 4), (4, 6)}
    # ((a b)(c d))(e f) with enough = 4: the left part has four and goes; so (e f) has nobody to climb with.
    assert outlets_of("abcdef", "abcdef", enough=4) == {(0, 4), (4, 6)}
    assert outlets_of("abcdef", "xyz") == set()
    assert outlets_of([], "a") == set()
    # 65 sites, blocks of two: the last has one site.
    assert outlets_of(sites(65), sites(65)[1:]) == {
        (1, 2), (2, 4), (4, 8), (8, 16), (16, 32), (32, 33),
    }  # fmt: skip


def test_nodes_that_do_not_fit() -> None:
    fold: Fold[str] = Fold(list("abcd"), expression)
    fold.add("a", "[a]")
    fold.mark_absent("c")
    for span, counted, term, words in [
        ((1, 3), {"b": True, "c": True}, "x", "no node of this round's tree"),
        ((0, 2), {"a": True, "b": True}, "x", "a: contributes twice"),
        ((0, 2), {"a": False, "b": True}, "x", "a: contributes twice"),
        ((2, 4), {"c": True, "d": True}, "x", "c: was marked absent"),
        ((2, 4), {"c": False, "e": True}, "x", "d: is missing"),
        ((2, 4), {"d": True}, "x", "other targets"),
        ((2, 4), {"c": False, "d": True}, None, "other targets"),
        ((2, 4), {"c": False, "d": False}, "x", "other targets"),
    ]:
        with pytest.raises(RuleError, match=words):
            fold.add_node(Node(span, counted, term))
    fold.add_node(Node((2, 4), {"c": False, "d": True}, "[d]"))
    fold.add_node(Node((1, 2), {"b": False}, None))
    fold.add_node(Node((1, 2), {"b": False}, None))  # news that are none
    with pytest.raises(RuleError, match="b: was marked absent"):
        fold.add("b", "[b]")
    assert fold.finish() == "([a][d])"
    with pytest.raises(RuleError, match="d: comes after the fold was finished"):
        fold.add_node(Node((3, 4), {"d": True}, "x"))


def test_what_leaves_through_an_outlet_is_forgotten() -> None:
    fold: Fold[str] = Fold(list("abcd"), expression, outlets={(0, 2)})
    fold.add("b", "[b]")
    assert fold.take_ready() == []
    assert fold.held == 1
    fold.add("a", "[a]")
    assert fold.held == 0
    assert fold.take_ready() == [Node((0, 2), {"a": True, "b": True}, "([a][b])")]
    assert fold.take_ready() == []
    with pytest.raises(RuleError, match="contributes twice"):
        fold.add("a", "[a]")
