"""The site's own word on what leaves it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.components.executors.statistics_policy import DEFAULT_FLOOR, StatisticsPolicy
from hansa.errors import ConfigError


def site(folder: Path, text: str) -> Path:
    (folder / "local").mkdir()
    (folder / "local" / "statistics.json").write_text(text)
    return folder


def test_a_job_can_raise_the_floor_and_never_lower_it(tmp_path: Path) -> None:
    assert StatisticsPolicy.of_site(tmp_path).floor(1) == DEFAULT_FLOOR
    assert StatisticsPolicy.of_site(tmp_path).floor(None) == DEFAULT_FLOOR
    own = StatisticsPolicy.of_site(site(tmp_path, '{"min_count": 25}'))
    assert [own.floor(asked) for asked in (1, 25, 40)] == [25, 25, 40]


def test_a_range_is_only_ever_wider(tmp_path: Path) -> None:
    policy = StatisticsPolicy(noise=(0.1, 0.2))
    for low, high in ((0.0, 10.0), (5.0, 5.0), (0.0, 0.0), (-1e9, 1e9)):
        for _ in range(20):
            found = policy.widened(low, high, draws=policy.draws("site-1"))
            width = (high - low) or abs(high) or 1.0
            assert -0.2001 * width <= found[0] - low <= -0.0999 * width
            assert 0.0999 * width <= found[1] - high <= 0.2001 * width


def test_noise_is_repeatable_only_with_a_seed_and_differs_by_site() -> None:
    seeded, secure = StatisticsPolicy(noise_seed=3), StatisticsPolicy()

    def first(policy: StatisticsPolicy, name: str) -> float:
        return policy.widened(0.0, 1.0, draws=policy.draws(name))[0]

    assert first(seeded, "site-1") == first(seeded, "site-1") != first(seeded, "site-2")
    assert first(secure, "site-1") != first(secure, "site-1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[]", "must be an object"),
        ('{"floor": 3}', "floor: there is no such key; there are min_count, noise, noise_seed"),
        ('{"min_count": 0}', "min_count must be a whole number of at least 1"),
        ('{"min_count": true}', "min_count must be a whole number of at least 1"),
        ('{"noise": [0.3, 0.1]}', "0 <= first <= second"),
        ('{"noise": 0.1}', "noise must be two numbers"),
    ],
)
def test_a_mistake_lets_nothing_out(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        StatisticsPolicy.of_site(site(tmp_path, text))
    assert words in str(caught.value)
    assert "statistics.json" in str(caught.value)
