"""Who somebody is, in a certificate and out of it again."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.provision.authority import Authority
from hansa.provision.identity import Identity, KitError, Role, identity_of

odd = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
identities = st.builds(Identity, odd, odd, odd, st.sampled_from(Role))
close = st.sampled_from(
    ["a", "a/", "/a", "a%2F", "%", "?", "#", "..", ".", " ", "A", "ä", "a\u0308", "@", ":", "[", "\n"]
)


@given(identities)
def test_a_uri_gives_the_identity_back(identity: Identity) -> None:
    assert Identity.parse(identity.uri) == identity
    assert identity.uri.isascii()


@given(st.builds(Identity, close, close, close, st.sampled_from(Role)),
       st.builds(Identity, close, close, close, st.sampled_from(Role)))  # fmt: skip
def test_two_identities_have_two_uris(one: Identity, other: Identity) -> None:
    assert (one.uri == other.uri) == (one == other)


@given(st.text(max_size=60).map(lambda text: f"hansa://{text}"))
def test_any_other_text_is_refused_or_is_the_one_way_to_write_it(uri: str) -> None:
    with suppress(KitError):
        assert Identity.parse(uri).uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://p/o/n/client",
        "hansa://p/o/n",
        "hansa://p/o/n/client/",
        "hansa://p/o/n/king",
        "hansa://p//n/client",
        "hansa://p/o/%6e/client",  # n, written otherwise
        "hansa://p/o/%FF/client",
        "HANSA://p/o/n/client",
        "hansa://p/o/n/client?x",
    ],
)
def test_what_names_no_participant_is_refused(uri: str) -> None:
    with pytest.raises(KitError, match="names no participant"):
        Identity.parse(uri)


@pytest.mark.parametrize("name", ["site-1", "a b/c?d#e%f", "Müller", "x" * 200, "ada@example.org"])
def test_a_certificate_carries_the_identity(name: str) -> None:
    identity = Identity("p", "o" * 100, name, Role.CLIENT)
    assert identity_of(Authority.create("p").issue(identity).certificate) == identity


def test_a_certificate_that_names_nobody() -> None:
    with pytest.raises(KitError, match="names no participant"):
        identity_of(Authority.create("p").certificate)
    with pytest.raises(KitError, match="names no participant"):
        identity_of(b"nonsense")
