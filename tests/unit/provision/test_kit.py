"""Startup kits: what is refused, and that the line says what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hansa.provision.authority import Authority, write_secret
from hansa.provision.identity import Identity, KitError, Role
from hansa.provision.kit import Kit, sign
from hansa.provision.provisioner import make_kits, write_kit

SITE = Identity("p", "org", "site-1", Role.CLIENT)
DAY = timedelta(days=1)
AUTHORITY = Authority.create("p")
Spoil = Callable[[Path], object]


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    return write_kit(
        tmp_path / "site-1", SITE, authority=AUTHORITY, settings={"server": {"host": "localhost", "port": 8002}}
    )


def refusal(folder: Path, role: Role | None = None) -> str:
    with pytest.raises(KitError) as caught:
        Kit.load(folder, role)
    line = str(caught.value)
    assert line.startswith(str(folder.absolute()))
    assert "\n" not in line
    return line


def test_an_ipv6_address_stands_in_brackets(tmp_path: Path) -> None:
    settings = {"server": {"host": "::1", "port": 8002}}
    assert (
        Kit.load(write_kit(tmp_path / "s", SITE, authority=AUTHORITY, settings=settings)).server_address == "[::1]:8002"
    )


def test_a_kit_can_be_read(kit: Path) -> None:
    loaded = Kit.load(kit, Role.CLIENT)
    assert (loaded.identity, loaded.server_host, loaded.server_port) == (SITE, "localhost", 8002)
    assert loaded.folder == kit
    assert "PRIVATE" not in repr(loaded)
    assert {path.name for path in (kit / "startup").iterdir()} == {
        "client.crt", "client.key", "fed_client.json", "hansa.service", "readme.txt", "rootCA.pem", "signature.json",
        "start.sh",
    }  # fmt: skip


def test_the_startup_folder_may_be_named(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Kit.load(kit / "startup").folder == kit
    monkeypatch.chdir(kit)
    assert Kit.load(Path()).folder == kit
    monkeypatch.chdir(kit / "startup")
    assert Kit.load(Path()).folder == kit


def test_a_kit_may_be_moved_and_written_beside(kit: Path, tmp_path: Path) -> None:
    (kit / "run_1").mkdir()
    moved = kit.rename(tmp_path / "somewhere else")
    assert Kit.load(moved).folder == moved


def test_folders_that_are_no_kits(tmp_path: Path) -> None:
    assert "there is no such folder: name the kit's" in refusal(tmp_path / "none")
    assert "no folder startup in it; name the folder that has one" in refusal(tmp_path)
    (tmp_path / "startup").mkdir()
    assert "is no startup kit: it has none of fed_server.json" in refusal(tmp_path)
    file = tmp_path / "file"
    file.touch()
    assert "cannot be read: Not a directory" in refusal(file)


def test_the_kit_of_another_role(kit: Path) -> None:
    assert "is the kit of a site, and here a server's is needed: name that one" in refusal(kit, Role.SERVER)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: (s / "rootCA.pem").unlink(), "rootCA.pem: cannot be read: No such file or directory; get the kit"),
        (lambda s: (s / "client.key").unlink(), "client.key: cannot be read: No such file or directory; get the kit"),
        (lambda s: (s / "client.crt").unlink(), "client.crt: cannot be read: No such file or directory; get the kit"),
        (lambda s: (s / "signature.json").unlink(), "signature.json: cannot be read: No such file"),
        (lambda s: (s / "start.sh").unlink(), "start.sh: is missing; get the kit anew"),
        (lambda s: (s / "start.sh").write_text("#"), "start.sh: was changed after it was issued; undo that, or get"),
        (lambda s: (s / "fed_client.json").write_text("{}"), "fed_client.json: was changed after it was issued"),
        (lambda s: (s / "client.crt").write_text("x"), "client.crt: was changed after it was issued"),
        (lambda s: (s / "rootCA.pem").write_text("x"), "signature.json: the kit's signature is not the project's"),
        (lambda s: (s / "signature.json").write_text("[]"), "signature is not the project's; get the kit anew"),
        (lambda s: (s / "more.txt").touch(), "more.txt: does not belong to the kit; take it away"),
        (lambda s: (s / "more").mkdir(), "more: is no plain file, and a kit has nothing else; take it away"),
        (lambda s: (s / "more").symlink_to("start.sh"), "more: is no plain file"),
        (lambda s: (s / "client.key").chmod(0o640), "may be read by others (mode 0640): chmod 600 client.key"),
        (lambda s: (s / "client.key").chmod(0o604), "client.key: may be read by others (mode 0604)"),
        (lambda s: shutil.move(s / "client.key", s / "k") and (s / "client.key").symlink_to("k"), "is no plain file"),
    ],
)  # fmt: skip
def test_what_is_missing_changed_or_open_is_refused(spoil: Spoil, says: str, kit: Path) -> None:
    spoil(kit / "startup")
    assert says in refusal(kit)


def test_a_key_of_another_user(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert "belongs to another user, and must be yours alone: start as that user, or chown it" in refusal(kit)


# -- signed by the authority, and wrong all the same ------------------------------------------------------------------


def reissue(kit: Path, *, now: datetime | None = None, identity: Identity = SITE, by: Authority = AUTHORITY) -> None:
    made = by.issue(identity, now=now, days=30)
    (kit / "startup" / "client.crt").write_bytes(made.certificate)
    write_secret(kit / "startup" / "client.key", made.key)
    sign(kit / "startup", AUTHORITY)


def test_a_certificate_that_has_expired_or_a_clock_a_day_ahead(kit: Path) -> None:
    reissue(kit, now=datetime.now(UTC) - 31 * DAY)
    line = refusal(kit)
    assert "the certificate has expired on " in line
    assert "UTC (here it is " in line
    assert "ask the project for a new kit" in line


def test_a_certificate_that_is_not_valid_yet_or_a_clock_a_day_behind(kit: Path) -> None:
    reissue(kit, now=datetime.now(UTC) + DAY)
    line = refusal(kit)
    assert "the certificate is valid from " in line
    assert "is the clock right?" in line


def test_clocks_may_differ_by_less_than_an_hour(kit: Path) -> None:
    reissue(kit, now=datetime.now(UTC) + timedelta(minutes=55))
    assert Kit.load(kit).identity == SITE


def test_a_certificate_of_another_project(kit: Path) -> None:
    reissue(kit, by=Authority.create("p"))
    assert "was not issued by the authority beside it (is it another project's?); get the kit anew" in refusal(kit)


def test_a_certificate_of_another_role(kit: Path) -> None:
    reissue(kit, identity=Identity("p", "org", "a@b.org", Role.ADMIN))
    assert "client.crt: is the certificate of an admin, not a site's; get the kit anew" in refusal(kit)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("client.crt", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "names no participant"),
        ("client.crt", b"\xff\x00", "names no participant"),
        ("client.key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key: is no private key"),
        ("client.key", AUTHORITY.issue(SITE).key, "is not the key of the certificate beside it; get the kit anew"),
        ("fed_client.json", b"{", "fed_client.json: is no JSON"),
        ("fed_client.json", b"[]", "fed_client.json: must be an object"),
        ("fed_client.json", b"{}", "fed_client.json: names no host and port of the server"),
    ],
)  # fmt: skip
def test_a_damaged_file(name: str, content: bytes, says: str, kit: Path) -> None:
    write_secret(kit / "startup" / name, content)
    sign(kit / "startup", AUTHORITY)
    assert says in refusal(kit)


def test_kits_for_a_federation_on_one_machine(tmp_path: Path) -> None:
    kits = make_kits(tmp_path, server_port=9, sites=["a", "b"])
    assert {name: Kit.load(folder).identity.role for name, folder in kits.items()} == {
        "server": Role.SERVER, "a": Role.CLIENT, "b": Role.CLIENT, "admin": Role.ADMIN,
    }  # fmt: skip
    assert not (kits["admin"] / "startup" / "start.sh").exists()
