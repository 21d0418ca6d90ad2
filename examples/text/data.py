"""Shakespeare's plays by speaking role: every role a site, the end of each role's text for the test."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from hansa.errors import ConfigError

FILE = Path("shakespeare") / "roles.jsonl.gz"
LEAST_CHARACTERS = 2_000
"""Roles that say less are left out."""
TEST_SHARE = 0.2
"""The last fifth of a role's text is for the test; a random choice would let the model read around every gap."""
ALPHABET = "\n !\"&'(),-.0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz"
UNKNOWN = len(ALPHABET)
"""Code of every other character; 0 to 77 are those of the alphabet."""
NUM_CODES = len(ALPHABET) + 1
LENGTH = 64
"""Characters that the network reads in one go."""


@dataclass(frozen=True)
class Role:
    """A role and its text.

    Attributes:
        site: The site's name, `role-001` and so on, in the order of the file.
        name: Who speaks, and where: `Orsino, 12night`.
        train: Codes of the first characters, uint8.
        test: Codes of the last ones, uint8.
    """

    site: str
    name: str
    train: np.ndarray
    test: np.ndarray


@lru_cache(maxsize=1)
def load(folder: Path) -> dict[str, Role]:
    """The roles by their sites' names.

    Args:
        folder: Holds `shakespeare/roles.jsonl.gz`.

    Raises:
        ConfigError: The file is not there, or is not what it should be.
    """
    file = folder / FILE
    roles: dict[str, Role] = {}
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for line in lines:
                each = json.loads(line)
                if len(each["text"]) < LEAST_CHARACTERS:
                    continue
                codes = encoded(each["text"])
                cut = round(len(codes) * (1 - TEST_SHARE))
                site = f"role-{len(roles) + 1:03}"
                roles[site] = Role(site, f"{each['role']}, {each['play']}", codes[:cut], codes[cut:])
    except FileNotFoundError:
        raise ConfigError("there is no such file; --data is the folder above shakespeare", file=str(file)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"is not the file of roles: {error}", file=str(file)) from None
    return roles


def encoded(text: str) -> np.ndarray:
    """Codes of a text's characters, uint8, shape (n,)."""
    return np.array([_CODES.get(character, UNKNOWN) for character in text], np.uint8)


def decoded(codes: np.ndarray) -> str:
    """The text of codes."""
    return "".join(ALPHABET[code] if code < UNKNOWN else "\N{REPLACEMENT CHARACTER}" for code in codes)


_CODES = {character: code for code, character in enumerate(ALPHABET)}
