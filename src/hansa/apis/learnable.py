"""What a federation learns: any dict, in practice a model."""

from __future__ import annotations

from typing import Any

from hansa.apis import byte_form


class Learnable(dict[str, Any]):  # Any: what is learned is the application's affair
    """The state that workflows hand to persistors and shareable generators; a dict."""

    def is_empty(self) -> bool:
        """Whether there is nothing learned yet; plain learnables cannot tell and say False."""
        return False

    def to_bytes(self) -> bytes:
        """The learnable as bytes: tagged data, no pickle.

        Raises:
            EncodeError: A value in it has no form as bytes; the error names its place.
        """
        return byte_form.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Learnable:
        """The learnable that `to_bytes` wrote; of the class that it had, else of this one.

        Raises:
            DecodeError: These bytes are no learnable.
        """
        value = byte_form.decode(data, dict)
        return value if isinstance(value, Learnable) else cls(value)
