"""FLARE 2.0's functions for passwords and tokens, for programs that use them for something of their own.

Nothing in Hansa takes a password: who calls is told by a certificate.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

_SALT_BYTES = 16
_COST = {"n": 2**14, "r": 8, "p": 1}  # 16 MB and some 50 ms: OWASP's smaller setting


def hash_password(password: str) -> str:
    """A password as it may be stored: salt and scrypt hash, in hex.

    Args:
        password: The password.
    """
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"{salt.hex()}:{_hashed(password, salt).hex()}"


def verify_password(stored_password: str, provided_password: str) -> bool:
    """Whether a password is the one that was stored.

    Args:
        stored_password: What `hash_password` gave; anything else fits no password, what FLARE stored included.
        provided_password: The password to look at.
    """
    salt, _, wanted = stored_password.partition(":")
    try:
        return hmac.compare_digest(_hashed(provided_password, bytes.fromhex(salt)), bytes.fromhex(wanted))
    except ValueError:
        return False


def make_session_token() -> str:
    """A new token that nobody can guess."""
    return secrets.token_hex(32)


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)
