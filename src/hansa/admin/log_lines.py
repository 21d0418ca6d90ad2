"""What is new in the end of a log that is read again and again."""

from __future__ import annotations


def unseen(before: str, now: str) -> str:
    """The part of a log's end that an earlier reading of it did not have.

    Args:
        before: The end as it was read before.
        now: The end as it is; where more was added than it holds, all of it is new.
    """
    old, new = before.splitlines(keepends=True), now.splitlines(keepends=True)
    if not old:
        return now
    half = "" if old[-1].endswith("\n") else old.pop()  # a line that was being written
    for start in range(len(old) + 1):
        kept = old[start:]
        if new[: len(kept)] == kept and "".join(new[len(kept) : len(kept) + 1]).startswith(half):
            return "".join(new[len(kept) :])[len(half) :]
    return now
