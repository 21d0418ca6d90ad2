"""Which names participants may bear (FLARE2.md's word: True means bad)."""

from __future__ import annotations

import pytest

from hansa.apis.format_check import name_check


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("client", "site-1"),
        ("client", "Site_1"),
        ("org", "my_org2"),
        ("admin", "admin@nvidia.com"),
        ("email", "first.last+tag@a-b.example.org"),
        ("server", "localhost"),
        ("server", "fl-server.example.com"),
        ("server", "10.0.0.1"),
    ],
)
def test_good_names(kind: str, name: str) -> None:
    bad, reason = name_check(name, kind)

    assert bad is False
    assert name in reason


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("client", ""),
        ("client", "site 1"),
        ("client", "site.1"),
        ("client", "site-1\n"),
        ("client", "stätte"),
        ("org", "my-org"),
        ("org", "org$"),
        ("admin", "admin"),
        ("admin", "admin@host"),
        ("email", "a@b.c"),
        ("email", "a b@example.com"),
        ("email", "@example.com"),
        ("server", "my_server"),
        ("server", "my server"),
        ("server", "-server.com"),
        ("server", "server-.com"),
        ("server", "a..b"),
        ("server", ""),
        ("planet", "earth"),
    ],
)
def test_bad_names(kind: str, name: str) -> None:
    bad, reason = name_check(name, kind)

    assert bad is True
    assert reason


def test_a_name_that_is_no_text() -> None:
    assert name_check(None, "client")[0] is True  # type: ignore[arg-type]
