"""Project files: what is read, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.errors import ConfigError
from hansa.provision.identity import Role
from hansa.provision.project import Project, read_project
from hansa.provision.sample import SAMPLE

SERVER = "{name: fl.example.org, type: server, org: lead}"
SITE = "{name: site-1, type: client, org: one}"


def read(folder: Path, text: str | bytes) -> Project:
    file = folder / "project.yml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_project(file)


def made(*participants: str, more: str = "") -> str:
    return "\n".join(["api_version: 2", "name: p", "participants:", *(f"  - {each}" for each in participants), more])


def test_the_sample_can_be_read(tmp_path: Path) -> None:
    project = read(tmp_path, SAMPLE)
    assert project.server.name == "fl.example.org"
    assert [each.role for each in project.participants] == [Role.SERVER, Role.CLIENT, Role.CLIENT, Role.ADMIN]
    assert project.ignored == ()


@pytest.mark.parametrize("address", ["2001:DB8::1", "[2001:db8::1]"])
def test_a_server_may_be_reached_at_an_ipv6_address(tmp_path: Path, address: str) -> None:
    server = f"{{name: fl.example.org, type: server, org: lead, default_host: '{address}', host_names: ['[::1]']}}"
    project = read(tmp_path, made(server, SITE))
    assert project.server.hosts == ("2001:db8::1", "fl.example.org", "::1")


@pytest.mark.parametrize("address", ["[2001:db8::1", "2001:db8::1]", "[[::1]]", "[fl.example.org]", "[]", "::1:x"])
def test_what_is_no_ipv6_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="is no host name or"):
        read(tmp_path, made(f"{{name: a.org, type: server, org: lead, default_host: '{address}'}}", SITE))


def test_what_the_file_says_becomes_settings(tmp_path: Path) -> None:
    server = (
        "{name: fl.example.org, type: server, org: lead, fed_learn_port: 9000, default_host: 10.0.0.1,"
        " host_names: ['::1', other], listen: 127.0.0.1, lost_after_s: 5, second_session: supersede, enable_byoc: true}"
    )
    site = "{name: a, type: client, org: x, tags: [mri], max_jobs: 2, gpus: [0, 1], memory_mb: 100, cpus: 2, days: 3}"
    project = read(tmp_path, made(server, site))
    assert project.server.port == 9000
    assert project.server.hosts == ("10.0.0.1", "fl.example.org", "::1", "other")
    assert project.server.settings == {
        "allow_custom_code": True,
        "listen": "127.0.0.1",
        "lost_after_s": 5,
        "policy": {"second_session": "supersede"},
    }
    assert project.participants[1].days == 3
    assert project.participants[1].settings == {
        "allow_custom_code": False,
        "tags": ["mri"],
        "max_jobs": 2,
        "gpus": [0, 1],
        "memory_mb": 100,
        "cpus": 2,
    }


def test_what_has_no_effect_yet_is_named(tmp_path: Path) -> None:
    server = "{name: s.org, type: server, org: lead, admin_port: 8003, components: {a: b}}"
    admin = "{name: a@b.org, type: admin, org: lead, roles: [super]}"
    overseer = "{name: o.org, type: overseer, org: lead}"
    builders = "builders: [{path: x.y.HEBuilder, args: {}}, {path: x.y.CertBuilder}, {path: x.DistributionBuilder}]"
    assert read(tmp_path, made(server, admin, overseer, more=builders)).ignored == (
        "participants[0].components",
        "participants[0].admin_port: admins use port 8002, too",
        "participants[1].roles",
        "participant 'o.org' of type overseer",
        "builders HEBuilder, DistributionBuilder",
    )


BAD = {
    "empty": ("", "must be a mapping"),
    "no version": ("name: p", "api_version: is missing"),
    "version 3": ("api_version: 3", "api_version: must be 2, not 3 (3 is of FLARE 2.1 and later)"),
    "version true": ("api_version: true", "api_version: must be 2"),
    "no name": ("api_version: 2", "name: is missing"),
    "bad project name": ("api_version: 2\nname: ../up", "name: '../up' is no project name"),
    "name is a number": ("api_version: 2\nname: 7", "name: must be a text, not 7: put it in quotes"),
    "unknown key": ("api_version: 2\nnme: p", "nme: there is no such key; did you mean name?"),
    "no participants": ("api_version: 2\nname: p", "participants: must be a list"),
    "a word as participant": (made("word"), "participants[0]: must be a mapping"),
    "no server": (made(SITE), "participants: a project has exactly one server; there is none"),
    "two servers": (made(SERVER, SERVER.replace("fl.", "f2.")), "there are 2: fl.example.org, f2.example.org"),
    "twice": (made(SERVER, SITE, SITE), "participants: the name 'site-1' stands there twice"),
    "case": (made(SERVER, SITE, SITE.replace("site", "Site")), "'site-1' and 'Site-1' differ in nothing but case"),
    "no type": (made("{name: a, org: b}"), "participants[0].type: is missing"),
    "bad type": (made("{name: a, org: b, type: king}"), "type: must be one of server, client, admin, not 'king'"),
    "list as type": (made("{name: a, org: b, type: [x]}"), "participants[0].type: must be one of"),
    "no org": (made("{name: a, type: client}"), "participants[0].org: is missing"),
    "bad org": (made("{name: a, type: client, org: 'a b'}"), "participants[0].org: 'a b' is no organisation"),
    "bad site": (made("{name: a/b, type: client, org: b}"), "participants[0].name: 'a/b' is no name of a site"),
    "reserved site": (made("{name: Server, type: client, org: b}"), "'Server' means something else"),
    "bad host": (made("{name: fl_x.org, type: server, org: b}"), "'fl_x.org' is no host name"),
    "bad address": (made("{name: 300.1.1.1, type: server, org: b}"), "'300.1.1.1' is no host name"),
    "bad further host": (made("{name: s, type: server, org: b, host_names: [x, '*']}"), "host_names[1]: '*' is no"),
    "bad e-mail": (made("{name: ada, type: admin, org: b}"), "participants[0].name: 'ada' is no e-mail address"),
    "e-mail with a path": (made("{name: ../a@b.org, type: admin, org: b}"), "is no e-mail address"),
    "port 0": (made("{name: s, type: server, org: b, fed_learn_port: 0}"), "fed_learn_port: must be a port"),
    "port text": (made("{name: s, type: server, org: b, fed_learn_port: '1'}"), "fed_learn_port: must be a port"),
    "byoc": (made("{name: s, type: client, org: b, enable_byoc: 1}"), "enable_byoc: must be true or false"),
    "key of another role": (made("{name: s, type: client, org: b, fed_learn_port: 1}"), "fed_learn_port: there is no"),
    "tags": (made("{name: s, type: client, org: b, tags: [1]}"), "participants[0].tags[0]: '1' is no tag"),
    "max_jobs": (made("{name: s, type: client, org: b, max_jobs: 0}"), "max_jobs: must be a whole number from 1 on"),
    "gpus": (made("{name: s, type: client, org: b, gpus: [0, 0]}"), "gpus: must be a number of GPUs, or a list"),
    "days": (made("{name: s, type: client, org: b, days: .nan}"), "days: must be a number from 0.01 to 3650"),
    "second": (made("{name: s, type: server, org: b, second_session: x}"), "must be refuse or supersede, not 'x'"),
    "builders": (made(SERVER, more="builders: 3"), "builders: must be a list"),
    "builder": (made(SERVER, more="builders: [x]"), "builders[0]: must be a mapping with a path"),
    "syntax": ("api_version: 2\nname: [p", "line 2, column "),
    "tab": ("api_version: 2\n\tname: p", "line 2, column 1: no YAML"),
    "key twice": ("api_version: 2\nname: p\nname: q", "line 3, column 1: no YAML: the key 'name' is there twice"),
    "alias": ("a: &a [x]\nb: [*a, *a]", "line 2, column 5: no YAML: aliases"),
    "tag": ("a: !!python/object/apply:os.system [ls]", "line 1, column 4: no YAML"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "large": ("#" * (1 << 20) + "#", "is larger than 1 MB"),
    "no date": ("a: 2024-13-01", "has a value that is none"),
    "long number": ("a: " + "9" * 10_000, "has a value that is none"),
    "zeros": (b"a: \0", "no YAML"),
    "latin": (b"name: \xe4", "is not UTF-8 at byte 6"),
}


@pytest.mark.parametrize("case", BAD)
def test_every_mistake_is_one_line_with_file_and_place(case: str, tmp_path: Path) -> None:
    text, says = BAD[case]
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    line = str(caught.value)
    assert says in line
    assert line.startswith(f"{tmp_path / 'project.yml'}: ")
    assert "\n" not in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there; for a sample: hansa provision --generate"):
        read_project(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_project(tmp_path)
