"""Folders as archives; and archives that want to do harm."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.errors import ConfigError
from hansa.jobs.archive import ArchiveLimits, pack, unpack


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def made_of(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def info(name: str, kind: int = 0, **more: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("x")
    entry.filename = entry.orig_filename = name
    entry.external_attr = kind << 16
    for key, value in more.items():
        setattr(entry, key, value)
    return entry


def refused(archive: Path, line: str, *, limits: ArchiveLimits | None = None) -> None:
    """It is refused, and nothing of it is anywhere."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(ConfigError) as error:
        unpack(archive, archive.parent / "into", limits=limits)
    assert line in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(archive.parent.rglob("*")) == before


# -- there and back ---------------------------------------------------------------------------------------------------

FILES = {
    "meta.json": b"{}",
    "app/config/a.json": b"1" * 5000,
    "app/custom/x.py": b"",
    "w.safetensors": bytes(range(256)),
}


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    archive = pack(write(tmp_path / "job", FILES))
    assert archive == tmp_path / "job.zip"
    unpack(archive, tmp_path / "into")
    assert tree(tmp_path / "into") == FILES


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one = pack(write(tmp_path / "one", FILES))
    two = pack(write(tmp_path / "two", dict(reversed(FILES.items()))), tmp_path / "other.zip")
    assert one.read_bytes() == two.read_bytes()


def test_hidden_files_and_caches_stay_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "job", {".git/x": b"", "app/__pycache__/y.pyc": b"", ".env": b"secret", "a": b"1"})
    unpack(pack(folder), tmp_path / "into")
    assert tree(tmp_path / "into") == {"a": b"1"}


def test_a_link_in_the_folder_travels_as_the_file_it_leads_to(tmp_path: Path) -> None:
    folder = write(tmp_path / "job", {"a": b"1"})
    (folder / "b").symlink_to(folder / "a")
    (folder / "gone").symlink_to(folder / "nothing")
    unpack(pack(folder), tmp_path / "into")
    assert tree(tmp_path / "into") == {"a": b"1", "b": b"1"}
    assert not (tmp_path / "into" / "b").is_symlink()


def test_entries_for_folders_are_taken(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", (info("app/", stat.S_IFDIR | 0o755), b""), ("app/x", b"1"), ("empty/", b""))
    unpack(archive, tmp_path / "into")
    assert tree(tmp_path / "into") == {"app/x": b"1"}
    assert (tmp_path / "into" / "empty").is_dir()


def test_nothing_is_made_executable_or_open_to_others(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", (info("run.sh", stat.S_IFREG | 0o4777), b"#!/bin/sh"))
    unpack(archive, tmp_path / "into")
    assert (tmp_path / "into" / "run.sh").stat().st_mode & 0o6111 == 0
    assert (tmp_path / "into").stat().st_mode & 0o077 == 0


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    archive = pack(write(tmp_path / "job", FILES))
    write(tmp_path / "into", {"mine": b"1"})
    refused(archive, "is there already")


def test_a_folder_that_cannot_be_packed_leaves_no_archive(tmp_path: Path) -> None:
    folder = write(tmp_path / "job", {"a": b"1"})
    with pytest.raises(ConfigError, match="cannot be packed"):
        pack(folder, tmp_path / "nowhere" / "a.zip")


# -- hostile archives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/../../x",
        "/etc/x",
        "a//x",
        "./x",
        "..",
        "a/..",
        "C:/x",
        "C:x",
        "\\\\host\\x",
        "a\\..\\x",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    refused(made_of(tmp_path / "a.zip", ("fine", b"1"), (info(name), b"1")), "leads elsewhere")


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "a\x1b[2Jb", "a\u202eb", "\x7f"])
def test_a_name_that_cannot_be_printed_is_refused_and_not_printed(tmp_path: Path, name: str) -> None:
    refused(made_of(tmp_path / "a.zip", (info(name), b"1")), "has a name that cannot be printed")


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", ("aXb", b"1"))
    archive.write_bytes(archive.read_bytes().replace(b"aXb", b"a\0b"))
    refused(archive, "has a name that cannot be printed")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR])
def test_links_devices_and_disguised_folders_are_refused(tmp_path: Path, kind: int) -> None:
    refused(made_of(tmp_path / "a.zip", (info("x", kind | 0o777), b"/etc/passwd")), "is neither a file nor a folder")


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (("a", "b", "a"), "is there twice"),
        (("net.py", "Net.py"), "clashes with 'net.py'"),
        (("App/x", "app/y"), "clashes with 'App'"),
        (("stra\u00dfe", "strasse"), "clashes with"),
        (("caf\u00e9", "cafe\u0301"), "clashes with"),
        (("a", "a/b"), "clashes with 'a'"),
        (("a/b", "a"), "clashes with 'a'"),
        (("a", "a/"), "clashes with 'a'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_one_somewhere_are_refused(tmp_path: Path, names: tuple[str, ...], line: str) -> None:
    refused(made_of(tmp_path / "a.zip", *((name, b"" if name.endswith("/") else b"1") for name in names)), line)


def test_too_much_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", *((f"f{i}", b"12345") for i in range(10)))
    refused(archive, "holds 10 entries; 9 may be in it", limits=ArchiveLimits(num_entries=9))
    refused(archive, "holds 50 bytes; 49 may be in it", limits=ArchiveLimits(size_bytes=49))
    refused(archive, "too long or too deep", limits=ArchiveLimits(name_length=1))
    refused(archive, "too long or too deep", limits=ArchiveLimits(depth=0))


def test_a_name_longer_than_a_file_system_takes_is_refused(tmp_path: Path) -> None:
    refused(made_of(tmp_path / "a.zip", ("\u00e9" * 150, b"1")), "has too long a name")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    entry = info("zeros", stat.S_IFREG, compress_type=zipfile.ZIP_DEFLATED)
    archive = made_of(tmp_path / "a.zip", (entry, bytes(8 << 20)))
    refused(archive, "more than 100 to 1", limits=ArchiveLimits(free_bytes=1 << 20))
    unpack(archive, tmp_path / "small_enough")


def test_entries_that_share_one_files_bytes_count_each(tmp_path: Path) -> None:
    """A bomb without deep compression: many entries of the directory that lead to the same bytes."""
    archive = made_of(tmp_path / "a.zip", ("a", b"x" * 1000), ("b", b"x" * 1000))
    data = bytearray(archive.read_bytes())
    second = data.rfind(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, 0)  # where its bytes begin: those of the first
    archive.write_bytes(data)
    refused(archive, "is damaged, or no archive")


def test_an_entry_that_holds_more_than_it_says_is_refused(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", (info("a", compress_type=zipfile.ZIP_DEFLATED), bytes(100_000)))
    data = bytearray(archive.read_bytes())
    at = data.rfind(b"PK\x01\x02")
    struct.pack_into("<L", data, at + 24, 10)  # its size, unpacked
    archive.write_bytes(data)
    refused(archive, "is damaged, or no archive")


def test_a_wrong_checksum_is_refused_and_what_was_written_is_removed(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", ("first", b"1"), ("second", b"hello world"))
    archive.write_bytes(archive.read_bytes().replace(b"hello world", b"hellO world"))
    refused(archive, "is damaged, or no archive")


def test_encrypted_and_unusual_entries_are_refused(tmp_path: Path) -> None:
    archive = made_of(tmp_path / "a.zip", ("a", b"1"))
    data = bytearray(archive.read_bytes())
    for at in (data.find(b"PK\x03\x04") + 6, data.find(b"PK\x01\x02") + 8):
        data[at] |= 1
    archive.write_bytes(data)
    refused(archive, "is encrypted")
    refused(made_of(tmp_path / "b.zip", (info("a", compress_type=zipfile.ZIP_LZMA), b"1" * 99)), "is packed by method")


def damaged_ends() -> list[Callable[[bytes], bytes]]:
    return [
        lambda data: b"",
        lambda data: b"no archive at all",
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data[:-22] + data[-22:].replace(struct.pack("<2H", 1, 1), b"\xff\xff\xff\xff"),  # long form: none
        lambda data: data[:-10] + b"\xff\xff\xff\x7f" + data[-6:],  # a directory of 2 GB
    ]


@pytest.mark.parametrize("damage", damaged_ends())
def test_what_is_no_archive_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    archive = made_of(tmp_path / "a.zip", ("a", b"1"))
    archive.write_bytes(damage(archive.read_bytes()))
    refused(archive, "a.zip: ")


@given(
    at=st.integers(0, 10_000),
    value=st.integers(0, 255),
)
def test_no_changed_byte_writes_elsewhere_or_ends_in_anything_but_one_line(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    archive = made_of(folder / "a.zip", ("app/x.py", b"print()"), (info("b", compress_type=8), b"2" * 100))
    data = bytearray(archive.read_bytes())
    data[at % len(data)] = value
    archive.write_bytes(data)
    line = ""
    try:
        unpack(archive, folder / "into")
    except ConfigError as error:
        line = str(error)
    assert "\n" not in line
    assert (folder / "into").exists() is (not line)
    assert {path.name for path in folder.iterdir()} <= {"a.zip", "into"}
