"""Which names participants may bear."""

from __future__ import annotations

import re

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_EMAIL = (rf"[A-Za-z0-9._%+-]+@(?:{_LABEL}\.)+[A-Za-z]{{2,}}", "an e-mail address")

_RULES = {
    "client": (r"[A-Za-z0-9_-]+", "letters, digits, '-' and '_'"),
    "org": (r"[A-Za-z0-9_]+", "letters, digits and '_'"),
    "admin": _EMAIL,
    "email": _EMAIL,
    "server": (rf"{_LABEL}(?:\.{_LABEL})*", "a host name: letters, digits and inner '-', joined by dots"),
}


def name_check(name: str, entity_type: str) -> tuple[bool, str]:
    """Look at a name.

    Args:
        name: The name.
        entity_type: `client`, `org`, `admin`, `email` or `server`.

    Returns:
        Whether the name is *bad*, and why, or why not.
    """
    if entity_type not in _RULES:
        return True, f"entity type {entity_type!r} is unknown; it is one of {', '.join(_RULES)}"
    pattern, words = _RULES[entity_type]
    if not isinstance(name, str) or not re.fullmatch(pattern, name):
        return True, f"name {name!r} of type {entity_type} is ill-formed: it must be {words}"
    return False, f"name {name!r} of type {entity_type} is well-formed"
