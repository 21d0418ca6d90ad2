"""Kits from a project: where they lie, that they come all or not at all, what is in them."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from cryptography import x509

from hansa.errors import ConfigError
from hansa.provision.authority import Authority
from hansa.provision.identity import Identity, KitError, Role
from hansa.provision.kit import Kit
from hansa.provision.project import Participant, Project
from hansa.provision.provisioner import make_kits, provision
from hansa.provision.start_files import unit

PROJECT = Project(
    "p",
    "",
    (
        Participant("fl.org", Role.SERVER, "lead", hosts=("10.0.0.1", "fl.org", "::1"), port=9000, days=10),
        Participant("a", Role.CLIENT, "one", settings={"tags": ["x"]}),
        Participant("ada@fl.org", Role.ADMIN, "lead"),
    ),
)


def test_kits_lie_where_flare_puts_them(tmp_path: Path) -> None:
    made = provision(PROJECT, tmp_path)
    assert made.is_new
    assert made.folder == tmp_path / "p" / "prod_00"
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["prod_00", "state"]
    kits = {name: Kit.load(folder) for name, folder in made.kits.items()}
    assert {name: kit.identity.role for name, kit in kits.items()} == {
        "fl.org": Role.SERVER,
        "a": Role.CLIENT,
        "ada@fl.org": Role.ADMIN,
    }
    assert {(kit.server_host, kit.server_port) for kit in kits.values()} == {("10.0.0.1", 9000)}
    assert kits["a"].settings["tags"] == ["x"]
    for folder in made.kits.values():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_servers_certificate_has_all_its_names_and_days(tmp_path: Path) -> None:
    kit = Kit.load(provision(PROJECT, tmp_path).kits["fl.org"])
    certificate = x509.load_pem_x509_certificate(kit.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.org"]
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 10


def test_a_second_run_keeps_the_authority_and_the_kits_before(tmp_path: Path) -> None:
    first, second = provision(PROJECT, tmp_path), provision(PROJECT, tmp_path)
    assert not second.is_new
    assert second.folder.name == "prod_01"
    one, other = Kit.load(first.kits["a"]), Kit.load(second.kits["a"])
    assert one.ca == other.ca
    assert one.certificate != other.certificate


def test_only_the_owner_may_read_the_authority(tmp_path: Path) -> None:
    provision(PROJECT, tmp_path)
    state = tmp_path / "p" / "state"
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "rootCA.key").stat().st_mode) == 0o600


def test_a_run_that_fails_leaves_no_kits(tmp_path: Path) -> None:
    twice = Project("p", "", (*PROJECT.participants, PROJECT.participants[1]))  # the folder is there already
    with pytest.raises(ConfigError, match="cannot be written: File exists"):
        provision(twice, tmp_path)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["state"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "p").touch()
    with pytest.raises(ConfigError, match=r"p: cannot be written"):
        provision(PROJECT, tmp_path)


@pytest.mark.parametrize("host", ["2001:db8::1", "[2001:db8::1]"])
def test_a_server_at_an_ipv6_address(tmp_path: Path, host: str) -> None:
    kits = {name: Kit.load(folder) for name, folder in make_kits(tmp_path, server_host=host, sites=["site-1"]).items()}
    assert {each.server_address for each in kits.values()} == {"[2001:db8::1]:8002"}
    names = x509.load_pem_x509_certificate(kits["server"].certificate).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert IPv6Address("2001:db8::1") in names.value.get_values_for_type(x509.IPAddress)
    assert "[2001:db8::1]:8002" in (tmp_path / "site-1" / "startup" / "readme.txt").read_text()


def test_an_authority_that_is_damaged_is_not_made_anew(tmp_path: Path) -> None:
    provision(PROJECT, tmp_path)
    state = tmp_path / "p" / "state"
    whole = (state / "rootCA.key").read_bytes()
    (state / "rootCA.key").write_bytes(b"x")
    with pytest.raises(KitError, match="it is damaged.*bring its backup back"):
        provision(PROJECT, tmp_path)
    (state / "rootCA.key").unlink()
    with pytest.raises(KitError, match="No such file or directory.*bring its backup back"):
        provision(PROJECT, tmp_path)
    Authority.create("q").save(tmp_path / "q")
    shutil.copy(tmp_path / "q" / "rootCA.key", state)
    with pytest.raises(KitError, match=r"rootCA.key is not the key of rootCA.pem"):
        provision(PROJECT, tmp_path)
    (state / "rootCA.key").write_bytes(whole)
    (state / "rootCA.key").chmod(0o640)
    with pytest.raises(KitError, match=r"rootCA.key.*may be read by others \(mode 0640\): chmod 600 it"):
        provision(PROJECT, tmp_path)
    (state / "rootCA.key").chmod(0o600)
    assert provision(PROJECT, tmp_path).folder.name == "prod_01"


# -- the start script ------------------------------------------------------------------------------------------------


def started(kit: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [kit / "startup" / "start.sh", "--more"],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def program(path: Path) -> Path:
    path.write_text('#!/bin/sh\nfor each in "$@"; do echo "$each"; done\n')
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(("name", "verb"), [("fl.org", "server"), ("a", "site")])
def test_the_script_starts_its_own_kit_wherever_it_lies(name: str, verb: str, tmp_path: Path) -> None:
    kit = provision(PROJECT, tmp_path).kits[name].rename(tmp_path / "a place with $spaces")
    hansa = program(tmp_path / "hansa")
    said = f"{verb}\nstart\n{kit}\n--more\n"
    assert started(kit, HANSA=str(hansa), PATH=os.defpath).stdout == said
    assert started(kit, PATH=f"{tmp_path}:{os.defpath}").stdout == said


def test_the_script_says_what_to_do_where_there_is_no_hansa(tmp_path: Path) -> None:
    kit = provision(PROJECT, tmp_path).kits["a"]
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname"):
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    ended = started(kit, PATH=str(tools))
    assert ended.returncode == 127
    assert ended.stderr.startswith("start.sh: hansa is not found: install it")


# -- the unit --------------------------------------------------------------------------------------------------------


def test_the_unit_names_the_kit_and_its_script(tmp_path: Path) -> None:
    text = (provision(PROJECT, tmp_path).kits["fl.org"] / "startup" / "hansa.service").read_text()
    assert "ExecStart=/srv/hansa/fl.org/startup/start.sh\n" in text
    assert "KillMode=mixed\n" in text


@pytest.mark.parametrize("role", [Role.SERVER, Role.CLIENT])
def test_systemd_finds_nothing_wrong_with_the_unit(role: Role, tmp_path: Path) -> None:
    identity = Identity("p", "o", "a", role)
    script = tmp_path / "a" / "startup" / "start.sh"
    script.parent.mkdir(parents=True)
    program(script)
    file = tmp_path / "hansa.service"
    file.write_text(unit(identity, tmp_path))
    assert f"ExecStart={script}\n" in file.read_text()
    if shutil.which("systemd-analyze") is None:  # there is a unit without systemd, too, but nobody to judge it
        return
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert not [line for line in done.stderr.splitlines() if "hansa.service" in line], done.stderr
