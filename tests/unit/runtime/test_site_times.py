"""Simulated times of sites: worked numbers, laws of the draws, and every mistake named with its key."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import ConfigError
from hansa.runtime.site_times import Flight, MessageSizes, SiteProfile, SiteTimes


def task(site: str, posting: int = 1, visit: int = 1, name: str = "train") -> str:
    """The id of a site's part of a task, as the board makes it."""
    return f"0/{name}/{posting}/{site}/{visit}"


def times(seed: int = 0, **default: Any) -> SiteTimes:
    return SiteTimes.from_config({"default": default}, seed=seed)


def compute(made: SiteTimes, num: int = 2000) -> list[float]:
    return [made.flight("site-1", task("site-1", posting)).compute_s for posting in range(1, num + 1)]


# -- one flight -------------------------------------------------------------------------------------------------------


def test_nothing_said_takes_no_time_and_loses_nothing() -> None:
    assert SiteTimes.from_config({}).flight("site-1", task("site-1")) == Flight(0.0, 0.0, 0.0, lost=False)


def test_bytes_over_bandwidth_come_on_top_of_the_fixed_part() -> None:
    # down: 0.5 + 1000 / 100 = 10.5; up: 0.25 + 300 / 50 = 6.25; 10.5 + 2 + 6.25 = 18.75
    made = times(download_s=0.5, compute_s=2, upload_s=0.25, download_bytes_per_s=100, upload_bytes_per_s=50)
    flight = made.flight("site-1", task("site-1"), sizes=MessageSizes(1000, 300))
    assert flight == Flight(10.5, 2.0, 6.25, lost=False)
    assert flight.total_s == 18.75


def test_a_trace_goes_by_posting_and_visit_and_begins_again() -> None:
    made = times(compute_s={"trace": [1, 2, 3]})
    assert compute(made, 5) == [1, 2, 3, 1, 2]
    # A standing task: the second posting's third visit is the fourth turn (from 0: 2 + 3 - 2 = 3), 3 mod 3 = 0.
    assert made.flight("site-1", task("site-1", 2, 3)).compute_s == 1
    assert made.flight("site-1", task("site-1", 2, name="a/b")).compute_s == 2  # a name may hold a slash
    assert made.flight("site-1", "an id of somebody's own").compute_s == 1


def test_the_factor_of_a_site_is_drawn_once_and_multiplies_its_compute_time_only() -> None:
    made = times(compute_s={"trace": [1, 3]}, download_s=1, compute_factor={"uniform": {"low": 2, "high": 4}})
    first, second = (made.flight("site-1", task("site-1", posting)) for posting in (1, 2))
    assert second.compute_s == 3 * first.compute_s  # the same factor in every round
    assert 2 <= first.compute_s <= 4
    assert first.download_s == 1.0
    assert made.flight("site-2", task("site-2")).compute_s != first.compute_s


# -- the draws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "median", "mean"),
    [
        ({"lognormal": {"median": 2, "sigma": 0.5}}, 2.0, 2 * math.exp(0.125)),
        ({"uniform": {"low": 1, "high": 3}}, 2.0, 2.0),
        ({"exponential": {"mean": 2}}, 2 * math.log(2), 2.0),
        ({"normal": {"mean": 2, "sigma": 0.5}}, 2.0, 2.0),
    ],
)
def test_draws_follow_their_distribution(said: dict[str, Any], median: float, mean: float) -> None:
    drawn = compute(times(compute_s=said))
    assert statistics.median(drawn) == pytest.approx(median, rel=0.08)
    assert statistics.fmean(drawn) == pytest.approx(mean, rel=0.08)


def test_a_normal_is_cut_at_zero() -> None:
    drawn = compute(times(compute_s={"normal": {"mean": 0, "sigma": 1}}))
    assert min(drawn) == 0.0
    assert 0.45 < drawn.count(0.0) / len(drawn) < 0.55  # half of them would be negative


def test_as_many_tasks_are_lost_as_the_config_says() -> None:
    made = times(drop_out=0.2)
    lost = sum(made.flight("site-1", task("site-1", posting)).lost for posting in range(1, 2001))
    assert 350 < lost < 450  # 400 ± 2.8 standard deviations
    assert times(drop_out=1).flight("site-1", task("site-1")).lost


def test_the_parts_of_a_flight_are_drawn_apart() -> None:
    said = {"uniform": {"low": 0, "high": 1}}
    flight = times(download_s=said, compute_s=said, upload_s=said).flight("site-1", task("site-1"))
    assert len({flight.download_s, flight.compute_s, flight.upload_s}) == 3


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 50)), max_size=20), st.integers(0, 3))
def test_a_flight_depends_on_seed_site_and_task_only(others: list[tuple[int, int]], seed: int) -> None:
    said = {"compute_s": {"lognormal": {"median": 2, "sigma": 1}}, "drop_out": 0.5}
    made = times(seed, **said)
    for site, posting in others:
        made.flight(f"site-{site}", task(f"site-{site}", posting))
    assert made.flight("site-7", task("site-7", 3)) == times(seed, **said).flight("site-7", task("site-7", 3))


def test_seed_site_and_task_each_change_the_draw() -> None:
    said = {"exponential": {"mean": 1}}
    drawn = {
        times(seed, compute_s=said).flight(site, task(site, posting)).compute_s
        for seed in (0, 1)
        for site in ("site-1", "site-2")
        for posting in (1, 2)
    }
    assert len(drawn) == 8


def test_draws_stay_the_same_from_release_to_release() -> None:
    # The uniform number itself: blake2b, 32 bytes, person "hansa-times", first word; a change breaks published runs.
    flight = times(7, download_s={"uniform": {"low": 0, "high": 1}}).flight("site-1", task("site-1"))
    assert flight.download_s == 0.03391012204566868


def test_the_seed_of_the_config_goes_before_the_jobs() -> None:
    config = {"seed": 5, "default": {"compute_s": {"exponential": {"mean": 1}}}}
    assert SiteTimes.from_config(config, seed=1).seed == 5
    assert compute(SiteTimes.from_config(config, seed=1), 3) == compute(SiteTimes.from_config(config, seed=2), 3)


def test_times_without_a_seed_take_the_runs() -> None:
    said = {"default": {"compute_s": {"exponential": {"mean": 1}}}}
    made = SiteTimes.from_config(said)
    assert compute(made.seeded(3), 3) == compute(SiteTimes.from_config(said, seed=3), 3)
    assert compute(made.seeded(3), 3) != compute(made, 3)  # the one given stays as it was
    for own in (SiteTimes.from_config(said, seed=0), SiteTimes.from_config({**said, "seed": 0}), made.seeded(0)):
        assert own.seeded(3) is own


# -- who is meant -----------------------------------------------------------------------------------------------------


def test_a_name_goes_before_patterns_and_these_before_the_default_key_by_key() -> None:
    made = SiteTimes.from_config(
        {
            "default": {"compute_s": 1, "upload_s": 1, "drop_out": 0.1},
            "sites": {
                "*": {"upload_s": 2},
                "icu-[1-3]": {"compute_s": 3, "upload_s": 3},
                "icu-2": {"compute_s": 4},
            },
        }
    )
    said = {name: made.profile(name) for name in ("ward", "icu-1", "icu-2")}
    found = {n: (p.compute_s.seconds(n, turn=0, u=0.5), p.upload_s.seconds(n, turn=0, u=0.5)) for n, p in said.items()}
    # "*" stands before "icu-[1-3]", so its upload_s holds for all; the default's compute_s only where nobody else says
    assert found == {"ward": (1, 2), "icu-1": (3, 2), "icu-2": (4, 2)}
    assert {profile.drop_out for profile in said.values()} == {0.1}


def test_sites_of_which_the_same_is_said_share_a_profile() -> None:
    made = SiteTimes.from_config({"default": {"compute_s": 1}, "sites": {"site-1": {"compute_s": 2}}})
    shared = {id(made.profile(f"site-{i}")) for i in range(2, 10_000)}
    assert len(shared) == 1
    assert made.profile("site-1") is not made.profile("site-2")
    assert SiteTimes.from_config({}).profile("site-1") == SiteProfile()


# -- away -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at_s", "lost"),
    [
        (0.0, False),  # 0 to 4: done before the site leaves at 10
        (6.0, False),  # 6 to 10: arrives as it leaves
        (6.5, True),  # 6.5 to 10.5: cut
        (10.0, True),  # not there
        (19.9, True),
        (20.0, False),  # back
        (39.0, True),  # gone for ever from 40
        (1e6, True),
    ],
)
def test_a_site_that_is_or_goes_away_loses_its_task(at_s: float, lost: bool) -> None:
    made = times(compute_s=4, absent=[[40, None], [10, 20]])
    assert made.flight("site-1", task("site-1"), at_s=at_s).lost is lost
    assert not made.flight("site-1", task("site-1")).lost  # nobody asked when


def test_a_task_longer_than_an_absence_is_cut_by_it() -> None:
    assert times(compute_s=100, absent=[[10, 20]]).flight("site-1", task("site-1"), at_s=0).lost


def test_when_a_site_is_back() -> None:
    made = times(absent=[[10, 20], [20, 25], [15, 18], [40, None]])  # touching and nested windows are one: 10 to 25
    assert made.profile("site-1").absent == ((10, 25), (40, math.inf))
    back = {at: made.present_from("site-1", at) for at in (0.0, 10.0, 24.9, 25.0, 41.0)}
    assert back == {0.0: 0.0, 10.0: 25.0, 24.9: 25.0, 25.0: 25.0, 41.0: math.inf}


# -- files ------------------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_file_gives_the_rows_of_each_site(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "round,site,compute_s,upload_s\n0,a,1,9\n0,b,5,8\n1,a,2,7\n1,b,6,6\n")
    config = {"default": {"compute_s": {"trace": "t.csv"}, "upload_s": {"trace": "t.csv"}}}
    path = write(tmp_path / "times.json", json.dumps(config))
    made = SiteTimes.load(path)
    made.check_sites(["a", "b"])
    found = [made.flight(site, task(site, n))[1:3] for n in (1, 2, 3) for site in ("a", "b")]
    assert found == [(1, 9), (5, 8), (2, 7), (6, 6), (1, 9), (5, 8)]
    assert made.config == config
    with pytest.raises(ConfigError, match=r"t\.csv: no row for site 'ab'; did you mean 'b'\?|'a'\?"):
        made.check_sites(["a", "b", "ab"])


def test_a_csv_file_without_sites_holds_for_all(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "\ufeffcompute_s\n1.5\n2.5\n")
    made = SiteTimes.from_config({"default": {"compute_s": {"trace": "t.csv"}}}, folder=tmp_path)
    assert [made.flight(s, task(s, n)).compute_s for s in ("a", "b") for n in (1, 2)] == [1.5, 2.5, 1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seconds\n1\n", r"no column 'compute_s'; there are: seconds"),
        ("", r"no column 'compute_s'; there are: none"),
        ("compute_s\n", r"has no rows"),
        ("compute_s\n1\nfast\n", r"line 3, column 'compute_s': must be a number from 0 to 1e\+09, not 'fast'"),
        ("compute_s\n-1\n", r"line 2, .*not '-1'"),
        ("compute_s\nnan\n", r"line 2, .*not 'nan'"),
        ("site,compute_s\na\n", r"line 2, .*not None"),
        ("site,compute_s\n,1\n", r"a row has an empty cell in column 'site'"),
    ],
)
def test_a_bad_csv_file_is_named(text: str, problem: str, tmp_path: Path) -> None:
    write(tmp_path / "t.csv", text)
    with pytest.raises(ConfigError, match=rf"t\.csv: {problem}$"):
        SiteTimes.from_config({"default": {"compute_s": {"trace": "t.csv"}}}, folder=tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv: cannot be read: .*No such file"):
        SiteTimes.from_config({"default": {"compute_s": {"trace": "none.csv"}}}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"none\.json: there is no such file"):
        SiteTimes.load(tmp_path / "none.json")


# -- mistakes ---------------------------------------------------------------------------------------------------------

MISTAKES: list[tuple[Any, str]] = [
    ([], "must be an object with seed, default, sites, not []"),
    ({"defaults": {}}, "unknown key 'defaults'; did you mean 'default'?"),
    ({"seed": -1}, "seed: must be an integer >= 0, not -1"),
    ({"seed": True}, "seed: must be an integer >= 0, not True"),
    ({"sites": []}, "sites: must be an object from names or patterns to times, not []"),
    ({"sites": {"site-1": 2}}, "sites.site-1: must be an object with compute_s,"),
    ({"sites": {"site-1": {"compute": 2}}}, "sites.site-1: unknown key 'compute'; did you mean 'compute_s'?"),
    ({"default": {"compute_s": -1}}, "default.compute_s: must be a number from 0 to 1e+09, not -1"),
    ({"default": {"compute_s": "2"}}, "default.compute_s: must be a number from 0 to 1e+09, not '2'"),
    ({"default": {"compute_s": True}}, "default.compute_s: must be a number from 0 to 1e+09, not True"),
    ({"default": {"compute_s": math.nan}}, "default.compute_s: must be a number from 0 to 1e+09, not nan"),
    ({"default": {"compute_s": 10**400}}, "default.compute_s: must be a number from 0 to 1e+09, not 1000"),
    ({"default": {"compute_s": {}}}, "default.compute_s: must have exactly one key, one of lognormal, uniform"),
    ({"default": {"compute_s": {"log-normal": {}}}}, "unknown key 'log-normal'; did you mean 'lognormal'?"),
    ({"default": {"compute_s": {"uniform": 3}}}, "compute_s.uniform: must be an object with low, high, not 3"),
    ({"default": {"compute_s": {"uniform": {"low": 1}}}}, "default.compute_s.uniform: needs 'high'"),
    (
        {"default": {"compute_s": {"uniform": {"low": 3, "high": 1}}}},
        "default.compute_s.uniform: low (3) is above high (1)",
    ),
    (
        {"default": {"upload_s": {"lognormal": {"median": 1, "sigma": 11}}}},
        "default.upload_s.lognormal.sigma: must be a number from 0 to 10, not 11",
    ),
    ({"default": {"compute_s": {"trace": []}}}, "default.compute_s.trace: must not be empty"),
    ({"default": {"compute_s": {"trace": 3}}}, "default.compute_s.trace: must be a list of seconds or the name of"),
    ({"default": {"compute_s": {"trace": [1, "x"]}}}, "default.compute_s.trace[1]: must be a number from 0 to 1e+09"),
    ({"default": {"compute_factor": {"trace": [1]}}}, "default.compute_factor.trace: a site has one factor"),
    ({"default": {"upload_bytes_per_s": 0}}, "default.upload_bytes_per_s: must be a number from 1 to 1e+18, not 0"),
    ({"default": {"drop_out": 1.5}}, "default.drop_out: must be a number from 0 to 1, not 1.5"),
    ({"default": {"absent": 3}}, "default.absent: must be a list of [from, to], not 3"),
    ({"default": {"absent": [[1, 2], [3]]}}, "default.absent[1]: must be [from, to] in seconds"),
    ({"default": {"absent": [[2, 1]]}}, "default.absent[0]: ends (1) before it begins (2)"),
    ({"default": {"absent": [[0, "x"]]}}, "default.absent[0][1]: must be a number from 0 to 1e+09, not 'x'"),
]


@pytest.mark.parametrize(("config", "problem"), MISTAKES, ids=[problem[:40] for _, problem in MISTAKES])
def test_a_mistake_is_one_line_with_its_key(config: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SiteTimes.from_config(config, file="times.json")
    text = str(caught.value)
    assert text.startswith("times.json: ")
    assert problem in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("site-11", "times.json: sites.site-11: the run has no such site; did you mean 'site-1'?"),
        ("icu-*", "times.json: sites.icu-*: matches none of the run's sites"),
    ],
)
def test_a_name_that_means_nobody_is_a_mistake(name: str, problem: str) -> None:
    made = SiteTimes.from_config({"sites": {name: {}, "site-?": {}}}, file="times.json")
    with pytest.raises(ConfigError) as caught:
        made.check_sites(["site-1", "site-2"])
    assert str(caught.value) == problem
    SiteTimes.from_config({"sites": {"site-1": {}, "site-?": {}}}).check_sites(["site-1", "site-2"])
