"""Which sites are drawn, and what a config may say about it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.apis.client import Client
from hansa.apis.sampling import TAGS, Sampling, Turnout
from hansa.errors import ConfigError

TEN = [f"site-{number}" for number in range(10)]


def sampling(**config: Any) -> Sampling:
    return Sampling.from_config(config, key="sampling")


def clients(*names: str, **tags: list[str]) -> list[Client]:
    made = [Client(name, "token") for name in (*names, *tags)]
    for client in made:
        if client.name in tags:
            client.set_prop(TAGS, tags[client.name])
    return made


def test_without_a_word_all_are_asked() -> None:
    for config in (None, {}):
        given = Sampling.from_config(config, key="sampling")
        assert given.asks_all
        assert given.eligible(clients("b", "a", "b")) == ["a", "b"]
        assert given.draw(TEN, seed="s") == TEN


@pytest.mark.parametrize(
    ("fraction", "num_sites", "num_drawn"),
    [
        (0.1, 10_000, 1000),
        (0.25, 10, 3),  # 2.5, and half a site is one
        (0.24, 10, 2),
        (0.01, 10, 1),  # never nobody
        (1.0, 10, 10),
        (1, 7, 7),
        (0.3, 0, 0),
    ],
)
def test_a_fraction_is_of_the_sites_that_may_be_asked(fraction: float, num_sites: int, num_drawn: int) -> None:
    sites = sorted(f"site-{number}" for number in range(num_sites))
    assert len(sampling(fraction=fraction).draw(sites, seed="s")) == num_drawn


def test_a_count_is_a_count_or_all_there_are() -> None:
    assert len(sampling(count=3).draw(TEN, seed="s")) == 3
    assert sampling(count=11).draw(TEN, seed="s") == TEN


def test_names_and_tags_come_first() -> None:
    assert sampling(names=["d", "b", "a"]).eligible(clients("a", "b", "c")) == ["a", "b"]
    tagged = clients("none", a=["icu"], b=["ward", "icu"], c=["ward"])
    assert sampling(tag="icu").eligible(tagged) == ["a", "b"]
    assert sampling(tag="icu", count=1).eligible(tagged) == ["a", "b"]  # of which one is drawn


def test_the_draw_is_the_same_everywhere_and_for_ever() -> None:
    # Worked out from random() alone, which Python promises to keep: seeded with "7/0/sites/3" it gives
    #   0.91061..., 0.18703..., 0.00059...
    # Place 0 swaps with int(0.91061 * 10) = 9, place 1 with 1 + int(0.18703 * 9) = 2, where site-1 now stands,
    # and place 2 with 2 + int(0.00059 * 8) = 2, itself.
    assert sampling(count=3).draw(TEN, seed="7/0/sites/3") == ["site-1", "site-2", "site-9"]


def test_rounds_draw_differently_and_all_sites_alike() -> None:
    draws = [sampling(count=3).draw(TEN, seed=f"round {number}") for number in range(3000)]
    assert len(set(map(tuple, draws))) == 120  # all 10 * 9 * 8 / 6 choices come up
    often = Counter(site for draw in draws for site in draw)
    # 900 each on average, with a standard deviation of sqrt(3000 * 0.3 * 0.7) = 25
    assert all(800 < often[site] < 1000 for site in TEN)


@given(st.sets(st.text(min_size=1), max_size=200), st.integers(1, 300), st.text())
def test_a_draw_is_some_of_the_sites_in_their_order(names: set[str], count: int, seed: str) -> None:
    sites = sorted(names)
    drawn = sampling(count=count).draw(sites, seed=seed)
    assert len(drawn) == min(count, len(sites))
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= names
    assert sites == sorted(names)  # what was given is left as it was


@pytest.mark.parametrize(
    ("config", "min_sites", "live", "line"),
    [
        ({}, 2, ["a"], "2 sites, 1 are here"),
        ({}, 1, ["a"], None),
        ({"count": 1}, 3, ["a", "b"], "3 sites, 2 are here"),  # the draw is among three
        ({"names": ["a", "x"]}, 8, ["a", "b"], "2 of 2 named sites, 1 are here"),
        ({"names": ["a", "b"]}, 8, ["a", "b"], None),  # the others do not matter
        ({"names": ["a", "b"]}, 1, ["b"], None),
        ({"tag": "icu"}, 3, ["a"], "3 sites, 1 are here"),
        ({"tag": "icu"}, 1, ["a"], "a site with the tag 'icu', 1 without it are here"),
    ],
)
def test_what_a_round_waits_for(config: dict[str, Any], min_sites: int, live: list[str], line: str | None) -> None:
    assert sampling(**config).missing(clients(*live), min_sites) == line


def test_one_site_with_the_tag_is_enough_to_begin() -> None:
    assert sampling(tag="icu").missing(clients("a", b=["icu"]), 2) is None


def test_enough_is_never_more_than_were_drawn() -> None:
    assert sampling(count=2).at_most(6, ["a", "b"]) == 2
    assert sampling(count=2).at_most(1, ["a", "b"]) == 1
    assert Sampling().at_most(6, ["a", "b"]) == 6  # nobody was drawn: it is as the workflow says


@pytest.mark.parametrize(
    ("config", "key", "says"),
    [
        ("half", "sampling", "must be an object such as {'fraction': 0.1}, not 'half'"),
        ([0.1], "sampling", "must be an object"),
        ({"share": 0.1}, "sampling.share", "there are names, tag, fraction, count"),
        ({"fraction": 0}, "sampling.fraction", "above 0 and at most 1, not 0"),
        ({"fraction": 1.1}, "sampling.fraction", "above 0 and at most 1"),
        ({"fraction": float("nan")}, "sampling.fraction", "not nan"),
        ({"fraction": True}, "sampling.fraction", "not True"),
        ({"fraction": "0.1"}, "sampling.fraction", "not '0.1'"),
        ({"count": 0}, "sampling.count", "at least 1, not 0"),
        ({"count": 2.0}, "sampling.count", "a whole number"),
        ({"count": True}, "sampling.count", "not True"),
        ({"names": "site-1"}, "sampling.names", "must be a list of names of sites, not 'site-1'"),
        ({"names": []}, "sampling.names", "not []"),
        ({"names": ["a", 1]}, "sampling.names", "must be a list of names"),
        ({"tag": ""}, "sampling.tag", "not empty"),
        ({"tag": ["icu"]}, "sampling.tag", "must be a text"),
        ({"fraction": 0.1, "count": 1}, "sampling", "give fraction or count, not both"),
        ({"names": ["a"], "tag": "icu"}, "sampling", "give names or tag, not both"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(config: object, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling.from_config(config, key="sampling")
    assert caught.value.key == key
    assert says in caught.value.message


def test_spare_sites_are_asked_beyond_those_that_are_enough() -> None:
    spare = sampling(count=8, spare=2)
    sites = sorted(f"site-{number}" for number in range(30))
    drawn = spare.draw(sites, seed="s")
    assert len(drawn) == 10
    assert (spare.num_enough, spare.at_most(30, drawn), spare.awaited(30, drawn)) == (8, 8, 10)
    few = spare.draw(sites[:5], seed="s")
    assert (few, spare.at_most(30, few)) == (sites[:5], 5)
    without = sampling(count=8)
    assert (without.num_enough, without.awaited(30, drawn[:8])) == (None, 8)


def test_by_size_a_site_with_nine_times_the_data_is_drawn_nine_times_as_often() -> None:
    known = Turnout(sizes={"large": 900.0, "small": 100.0})
    by_size = sampling(count=1, by="size")
    drawn = Counter(by_size.draw(["large", "small"], seed=str(seed), turnout=known)[0] for seed in range(2000))
    assert 1740 < drawn["large"] < 1860  # 1800; a standard deviation is 13
    assert by_size.draw(["large", "small"], seed="7", turnout=known) == by_size.draw(
        ["large", "small"], seed="7", turnout=known
    )


def test_by_size_a_site_of_unknown_size_is_of_mean_size_and_one_without_data_comes_last() -> None:
    known = Turnout(sizes={"large": 900.0, "small": 100.0, "empty": 0.0})
    by_size = sampling(count=1, by="size")
    drawn = Counter(by_size.draw(["new", "small"], seed=str(seed), turnout=known)[0] for seed in range(2000))
    assert 440 < drawn["new"] < 560 or 900 < drawn["new"] < 1100  # the mean of those that may be asked: 100
    assert all(by_size.draw(["empty", "small"], seed=str(seed), turnout=known) == ["small"] for seed in range(50))
    names = {by_size.draw(["a", "b"], seed=str(seed))[0] for seed in range(50)}
    assert names == {"a", "b"}  # in the first round nothing is known


def test_in_turn_whoever_was_asked_longest_ago() -> None:
    known = Turnout()
    turn = sampling(count=4, by="turn")
    rounds = []
    for number in range(4):
        rounds.append(turn.draw(TEN[:8], seed=str(number), turnout=known))
        known.add(number, asked=rounds[-1], sizes={})
    assert rounds[0] == rounds[2]
    assert rounds[1] == rounds[3] == sorted(set(TEN[:8]) - set(rounds[0]))


def test_sites_with_too_little_data_are_not_asked_once_it_is_known() -> None:
    known = Turnout(sizes={"a": 9.0, "b": 10.0})
    assert sampling(min_size=10).draw(["a", "b", "c"], seed="s", turnout=known) == ["b", "c"]
    assert sampling(min_size=10).looks_back
    assert not sampling(count=3, spare=1).looks_back


def test_what_the_rounds_have_shown_can_be_kept() -> None:
    known = Turnout()
    known.add(3, asked=["a", "b"], sizes={"a": 5.0})
    assert Turnout.of_state(known.state()) == known
    assert Turnout.of_state({"next_round": 4}) == Turnout()


@pytest.mark.parametrize(
    ("config", "key", "cause"),
    [
        ({"spare": 2}, "sampling.spare", "spare sites go with a count, such as {'count': 8, 'spare': 2}"),
        ({"count": 8, "spare": -1}, "sampling.spare", "must be a whole number of at least 0, not -1"),
        ({"by": "size"}, "sampling.by", "goes with a count or a fraction: without, all are asked"),
        ({"count": 1, "by": "age"}, "sampling.by", "must be 'size' or 'turn', not 'age'"),
        ({"min_size": 0}, "sampling.min_size", "must be a number above 0, not 0"),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], key: str, cause: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Sampling.from_config(config, key="sampling")
    assert caught.value.key == key
    assert cause in str(caught.value)


def test_where_one_works_after_the_other_nobody_is_spare() -> None:
    assert sampling(count=3).in_turn(key="sampling") == sampling(count=3)
    with pytest.raises(ConfigError, match="is not for a model that goes from site to site"):
        sampling(count=3, spare=1).in_turn(key="sampling")
