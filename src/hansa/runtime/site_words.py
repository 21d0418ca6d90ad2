"""What the process of a job at a site may say to the one at the server; anything else is refused on its way."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any

_TASK: dict[str, tuple[type, ...]] = {"number": (int,), "task_id": (str,)}
_WORDS: dict[str, dict[str, tuple[type, ...]]] = {
    "ready": {"error": (str, NoneType)},
    "started": {},
    "result": {**_TASK, "ended": (str, NoneType)},
    "lost": {**_TASK, "cause": (str,)},
    "ask": {"number": (int,)},
    "reply": {"number": (int,)},
    "failed": {"where": (str,), "cause": (str,), "detail": (str,)},
    "ended": {"sent": (list,)},
    "disk": {"cause": (str,)},
    "damaged": {"cause": (str,)},
}
_NUM_SENT = 3


def _is_message(said: object) -> bool:
    """Whether this may say how a message lies in a frame."""
    if not isinstance(said, Mapping):
        return False
    lists = [said.get(key, []) for key in ("tables", "with", "blobs")]
    names = [name for each in lists[:2] if isinstance(each, list) for name in each]
    return all(isinstance(each, list) for each in lists) and all(isinstance(name, str) for name in names)


def problem_of(head: Mapping[str, Any]) -> str | None:  # Any: JSON
    """Why a site's frame is refused; None if it may pass."""
    word = head.get("k")
    wanted = _WORDS.get(word) if isinstance(word, str) else None
    if wanted is None:
        return f"a site does not say {word!r:.40}"
    for key, kinds in wanted.items():
        value = head.get(key)
        if not isinstance(value, kinds) or isinstance(value, bool):
            return f"{word} with {key} {value!r:.40}"
    if "m" in head and not _is_message(head["m"]):
        return f"{word} with m {head['m']!r:.40}"
    sent = head.get("sent", ())
    if word == "ended" and not (len(sent) == _NUM_SENT and all(type(each) is int and each >= 0 for each in sent)):
        return f"ended with sent {sent!r:.40}"
    return None
