"""A folder as one file, and back: what job folders and results travel as.

An archive comes from elsewhere, so nothing in it is trusted: names, kinds, counts and sizes are looked at before the
first byte is written, sizes and checksums while it is, and what was written is removed when anything is wrong.
"""

from __future__ import annotations

import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hansa.errors import ConfigError

_CHUNK = 1 << 20
_MB = 1 << 20
_STORED = {".safetensors", ".png", ".zip", ".gz", ".npz", ".pt", ".pth"}
_MOST_DIRECTORY_BYTES = 16 * _MB
_END = struct.Struct("<4s4H2LH")
_END64_AT = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")


@dataclass(frozen=True)
class ArchiveLimits:
    """How much an archive may hold.

    Attributes:
        num_entries: Files and folders.
        size_bytes: All files together, unpacked.
        ratio: Unpacked to packed, for what is larger than `free_bytes`: more is no data, but a bomb.
        free_bytes: So much may be as dense as it likes.
        name_length: Bytes of a path.
        depth: Folders within each other.
    """

    num_entries: int = 10_000
    size_bytes: int = 64 << 30
    ratio: int = 100
    free_bytes: int = 64 * _MB
    name_length: int = 400
    depth: int = 16


def pack(folder: Path, target: Path | None = None) -> Path:
    """Put a folder's files into an archive; the same files give the same bytes. Hidden files stay out.

    Args:
        folder: The folder.
        target: The archive; the folder's name with `.zip`, beside it, if None.

    Returns:
        The archive.

    Raises:
        ConfigError: A file cannot be read, or the archive cannot be written.
    """
    target = target or folder.with_name(f"{folder.name}.zip")
    try:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(folder.rglob("*")):
                name = path.relative_to(folder)
                if path.is_file() and not any(_is_left_out(part) for part in name.parts):
                    _add(archive, path, name.as_posix())
    except OSError as error:
        target.unlink(missing_ok=True)
        raise ConfigError(f"cannot be packed: {error.strerror}", file=str(error.filename or folder)) from None
    return target


def unpack(archive: Path, folder: Path, *, limits: ArchiveLimits | None = None) -> None:
    """Unpack an archive into a new folder; if anything is wrong with it, the folder is not there afterwards.

    Args:
        archive: The file.
        folder: Must not exist.
        limits: How much it may hold.

    Raises:
        ConfigError: It is no archive, breaks a limit, or holds what could harm; says which entry.
    """
    limits = limits or ArchiveLimits()
    if folder.exists():
        raise ConfigError("is there already", file=str(folder))
    try:
        with archive.open("rb") as stream:
            _check_end(stream, archive, limits)
            with zipfile.ZipFile(stream) as opened:
                entries = opened.infolist()
                _check_entries(entries, archive, limits)
                folder.mkdir(mode=0o700, parents=True)
                for entry in entries:
                    _extract(opened, entry, folder)
    except ConfigError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(f"is damaged, or no archive: {error}", file=archive.name) from None
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(f"cannot be unpacked: {error.strerror or error}", file=archive.name) from None


def _is_left_out(part: str) -> bool:
    return part.startswith(".") or part == "__pycache__"


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    entry = zipfile.ZipInfo(name)  # dated 1980: the same files, the same bytes
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    entry.compress_type = zipfile.ZIP_STORED if path.suffix in _STORED else zipfile.ZIP_DEFLATED
    entry.file_size = path.stat().st_size  # so that files past 2 GB get the long form
    with path.open("rb") as source, archive.open(entry, "w") as target:
        shutil.copyfileobj(source, target, _CHUNK)


# -- looking before unpacking -----------------------------------------------------------------------------------------


def _check_end(stream: IO[bytes], archive: Path, limits: ArchiveLimits) -> None:
    """Hold the size of the archive's directory to its limit before it is read as a whole."""
    size = archive.stat().st_size
    tail_size = min(size, 0xFFFF + _END.size)
    stream.seek(size - tail_size)
    tail = stream.read(tail_size)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise ConfigError("is damaged, or no archive", file=archive.name)
    _, _, _, _, num_entries, directory_bytes, _, _ = _END.unpack_from(tail, at)
    if num_entries == 0xFFFF or directory_bytes == 0xFFFFFFFF:
        num_entries, directory_bytes = _long_form(stream, size - tail_size + at, archive)
    if num_entries > limits.num_entries:
        raise ConfigError(f"holds {num_entries} entries; {limits.num_entries} may be in it", file=archive.name)
    if directory_bytes > _MOST_DIRECTORY_BYTES:
        raise ConfigError(f"has a directory of {directory_bytes} bytes", file=archive.name)


def _long_form(stream: IO[bytes], end: int, archive: Path) -> tuple[int, int]:
    try:
        stream.seek(end - _END64_AT.size)
        mark, _, offset, _ = _END64_AT.unpack(stream.read(_END64_AT.size))
        stream.seek(offset)
        mark64, *_, num_entries, directory_bytes, _ = _END64.unpack(stream.read(_END64.size))
    except (struct.error, OSError, ValueError, OverflowError):
        raise ConfigError("is damaged, or no archive", file=archive.name) from None
    if mark != b"PK\x06\x07" or mark64 != b"PK\x06\x06":
        raise ConfigError("is damaged, or no archive", file=archive.name)
    return num_entries, directory_bytes


def _check_entries(entries: list[zipfile.ZipInfo], archive: Path, limits: ArchiveLimits) -> None:
    if len(entries) > limits.num_entries:
        raise ConfigError(f"holds {len(entries)} entries; {limits.num_entries} may be in it", file=archive.name)
    total = sum(entry.file_size for entry in entries)
    packed = max(1, archive.stat().st_size)  # not what the entries say of themselves: several may share one's bytes
    if total > limits.size_bytes:
        raise ConfigError(f"holds {total} bytes; {limits.size_bytes} may be in it", file=archive.name)
    if total > limits.free_bytes and total > limits.ratio * packed:
        raise ConfigError(f"holds {total} bytes in {packed}: more than {limits.ratio} to 1", file=archive.name)
    seen: dict[str, tuple[str, bool]] = {}  # without its case: the path, and whether it is a folder
    for entry in entries:
        _check_kind(entry, archive)
        _check_name(entry, archive, limits)
        _check_unique(entry, archive, seen)


def _check_kind(entry: zipfile.ZipInfo, archive: Path) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    wanted = (0, stat.S_IFDIR) if entry.is_dir() else (0, stat.S_IFREG)
    if kind not in wanted:
        raise _refused(entry, archive, "is neither a file nor a folder")
    if entry.flag_bits & 0x1:
        raise _refused(entry, archive, "is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(entry, archive, f"is packed by method {entry.compress_type}")
    if entry.is_dir() and entry.file_size:
        raise _refused(entry, archive, "is a folder with content of its own")


def _check_name(entry: zipfile.ZipInfo, archive: Path, limits: ArchiveLimits) -> None:
    name = entry.orig_filename  # as it stands there: zipfile itself cuts names at a zero byte
    parts = name.removesuffix("/").split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in parts[0]:
        raise _refused(entry, archive, "leads elsewhere")
    if not name.isprintable():  # control characters, and what cannot be encoded
        raise _refused(entry, archive, "has a name that cannot be printed")
    if len(parts) > limits.depth or len(name.encode()) > limits.name_length:
        raise _refused(entry, archive, "has too long or too deep a name")
    if any(len(part.encode()) > 255 for part in parts):
        raise _refused(entry, archive, "has too long a name")


def _check_unique(entry: zipfile.ZipInfo, archive: Path, seen: dict[str, tuple[str, bool]]) -> None:
    """Refuse two entries that are one on some file system, and a file that is a folder, too."""
    parts = entry.filename.removesuffix("/").split("/")
    for depth in range(1, len(parts) + 1):
        path, is_last = "/".join(parts[:depth]), depth == len(parts)
        key = unicodedata.normalize("NFC", path).casefold()
        is_folder = not is_last or entry.is_dir()
        known = seen.setdefault(key, (path, is_folder))
        if known != (path, is_folder):
            raise _refused(entry, archive, f"clashes with {known[0]!a}")
        if is_last and not is_folder and key + "/" in seen:
            raise _refused(entry, archive, "is there twice")
        if is_last and not is_folder:
            seen[key + "/"] = (path, False)  # the mark of a file that has had its turn; no path ends so


def _refused(entry: zipfile.ZipInfo, archive: Path, why: str) -> ConfigError:
    return ConfigError(f"{entry.orig_filename[:100]!a} {why}", file=archive.name)


# -- unpacking --------------------------------------------------------------------------------------------------------


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    path = folder / entry.filename
    if entry.is_dir():
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = 0
    # Reading stops at the size that was declared, and compares the checksum there; what is in the entry beyond it is
    # never unpacked.
    with archive.open(entry) as source, path.open("xb") as target:
        while piece := source.read(_CHUNK):
            written += len(piece)
            target.write(piece)
    if written != entry.file_size:
        raise ConfigError(f"{entry.filename[:100]!a} holds {written} bytes, not {entry.file_size}")
