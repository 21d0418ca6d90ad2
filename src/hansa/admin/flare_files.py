"""What FLARE's `ls`, `cat`, `tail` and `grep` show of the one file that an admin can read at a participant: its log."""

from __future__ import annotations

import getopt
import re
import shlex
from pathlib import PurePosixPath

from hansa.admin.flare_response import APISyntaxError

LOG = "log.txt"
ALL_LINES = 100_000
"""The most that the server hands out; `cat` and `grep` see no more than that, from the end."""
_TAIL_LINES = 10
_RUN = re.compile(r"run_(\d+)")


def named_run(file: str | None, *, call: str) -> int | None:
    """The run that a path names: `log.txt` names none, `run_7/log.txt` the seventh.

    Raises:
        APISyntaxError: It is another file.
    """
    parts = PurePosixPath(file or "").parts
    run = _RUN.fullmatch(parts[0]) if len(parts) == 2 else None
    if not parts or parts[-1] != LOG or (len(parts) > 1 and run is None):
        raise APISyntaxError(f"{call} reads {LOG} or run_<n>/{LOG} of a participant, not {file!r}")
    return int(run[1]) if run is not None else None


def listed(options: str | None, path: str | None) -> str:
    """What `ls` shows.

    Raises:
        APISyntaxError: An option or a path is not offered.
    """
    _options(options, "atSRu", call="ls_target")
    if path not in (None, "", ".", LOG):
        raise APISyntaxError(f"ls_target shows what an admin can read at a participant, {LOG}, and no {path!r}")
    return f"{LOG}\n"


def tail_lines(options: str | None) -> tuple[int, int | None]:
    """How many lines of a log `tail` needs, and how many of their last bytes it shows; None: all.

    Raises:
        APISyntaxError: Something else than -n or -c, or no number.
    """
    found = dict(_options(options, "n:c:", call="tail_target_log"))
    try:
        counts = {flag: int(value) for flag, value in found.items()}
    except ValueError:
        raise APISyntaxError(f"tail_target_log: {options!r} has no whole number after its option") from None
    if any(not 1 <= count <= ALL_LINES for count in counts.values()):
        raise APISyntaxError(f"tail_target_log: {options!r} must have a number from 1 to {ALL_LINES}")
    if "-c" in counts:
        return ALL_LINES, counts["-c"]
    return counts.get("-n", _TAIL_LINES), None


def last_bytes(text: str, count: int | None) -> str:
    """The end of a text; a letter that is cut in two is left out."""
    return text if count is None else text.encode()[-count:].decode(errors="ignore")


def shown(text: str, options: str | None) -> str:
    """A text as `cat` shows it, with -n, -b, -s and -T.

    Raises:
        APISyntaxError: Another option.
    """
    flags = {flag for flag, _ in _options(options, "nbsT", call="cat_target")}
    lines: list[str] = []
    number, was_blank = 0, False
    for each in text.splitlines():
        is_blank = not each
        if "-s" in flags and is_blank and was_blank:
            continue
        was_blank = is_blank
        line = each.replace("\t", "^I") if "-T" in flags else each
        if ("-b" in flags and not is_blank) or ("-n" in flags and "-b" not in flags):
            number += 1
            line = f"{number:6d}\t{line}"
        lines.append(f"{line}\n")
    return "".join(lines)


def fitting(text: str, options: str | None, pattern: str | None) -> str:
    """The lines of a text that fit a pattern, as `grep` shows them, with -n and -i.

    Raises:
        APISyntaxError: Another option, or no pattern that Python's `re` understands.
    """
    flags = {flag for flag, _ in _options(options, "ni", call="grep_target")}
    try:
        wanted = re.compile(pattern or "", re.IGNORECASE if "-i" in flags else 0)
    except re.error as error:
        raise APISyntaxError(f"grep_target: {pattern!r} is no regular expression: {error}") from None
    if not pattern:
        raise APISyntaxError("grep_target needs a pattern")
    return "".join(
        f"{number}:{line}\n" if "-n" in flags else f"{line}\n"
        for number, line in enumerate(text.splitlines(), 1)
        if wanted.search(line)
    )


def _options(options: str | None, offered: str, *, call: str) -> list[tuple[str, str]]:
    """The options in a text, as (`-n`, value)."""
    names = ", ".join(f"-{letter}" for letter in offered if letter != ":")
    try:
        found, others = getopt.getopt(shlex.split(options or ""), offered)
    except (getopt.GetoptError, ValueError) as error:
        raise APISyntaxError(f"{call}: {error} (offered: {names})") from None
    if others:
        raise APISyntaxError(f"{call}: options are {names}, and not {' '.join(others)!r}")
    return found
