"""The message that server and sites exchange."""

from __future__ import annotations

from typing import Any

from hansa.apis import byte_form
from hansa.apis.fl_constant import ReservedKey, ReturnCode

__all__ = ["ReservedHeaderKey", "ReservedKey", "ReturnCode", "Shareable", "make_reply"]


class ReservedHeaderKey:
    """Headers with a fixed meaning, and the entry that holds them."""

    HEADERS = "__headers__"  # the entry of the Shareable itself
    TOPIC = "__topic__"  # what an aux message is about
    RC = ReservedKey.RC  # a ReturnCode
    COOKIE_JAR = ReservedKey.COOKIE_JAR  # dict: the server's notes, echoed with the result
    PEER_PROPS = "__peer_props__"  # dict: the sender's public properties
    REPLY_IS_LATE = "__reply_is_late__"  # True: the task had moved on to somebody else
    TASK_NAME = ReservedKey.TASK_NAME
    TASK_ID = ReservedKey.TASK_ID
    WORKFLOW = ReservedKey.WORKFLOW
    CONTENT_TYPE = "__content_type__"  # "DXO" where the content is one


class Shareable(dict[str, Any]):  # Any: a message carries whatever the codec can
    """A dict with headers. The headers lie in its entry `__headers__`, a plain dict.

    Equality, copying and pickling are the dict's. Which values can travel is the codec's affair.
    """

    def __init__(self) -> None:
        super().__init__()
        self[ReservedHeaderKey.HEADERS] = {}

    def set_header(self, key: str, value: Any) -> None:  # Any: see the class
        """Set one header."""
        headers = self.get(ReservedHeaderKey.HEADERS)
        if headers is None:  # the user emptied or rebuilt the dict
            headers = self[ReservedHeaderKey.HEADERS] = {}
        headers[key] = value

    def get_header(self, key: str, default: Any = None) -> Any:  # Any: see the class
        """One header, or the default."""
        headers = self.get(ReservedHeaderKey.HEADERS)
        return headers.get(key, default) if headers else default

    def set_return_code(self, rc: str) -> None:
        """Say how it went: a `ReturnCode`."""
        self.set_header(ReservedHeaderKey.RC, rc)

    def get_return_code(self, default: str = ReturnCode.OK) -> str:
        """How it went; OK where nobody said."""
        code: str = self.get_header(ReservedHeaderKey.RC, default)
        return code

    def add_cookie(self, name: str, data: Any) -> None:  # Any: see the class
        """Put a note on a task; the site sends it back with its result, unread."""
        jar = self.get_cookie_jar()
        if jar is None:
            jar = {}
            self.set_cookie_jar(jar)
        jar[name] = data

    def get_cookie(self, name: str, default: Any = None) -> Any:  # Any: see the class
        """One of the notes, or the default."""
        jar = self.get_cookie_jar()
        return jar.get(name, default) if jar else default

    def get_cookie_jar(self) -> dict[str, Any] | None:
        """All notes, as the dict itself; None if there never was one."""
        jar: dict[str, Any] | None = self.get_header(ReservedHeaderKey.COOKIE_JAR)
        return jar

    def set_cookie_jar(self, jar: dict[str, Any] | None) -> None:
        """Replace all notes."""
        self.set_header(ReservedHeaderKey.COOKIE_JAR, jar)

    def set_peer_props(self, props: dict[str, Any]) -> None:
        """Attach the sender's public properties."""
        self.set_header(ReservedHeaderKey.PEER_PROPS, props)

    def get_peer_props(self) -> dict[str, Any] | None:
        """The sender's public properties, or None."""
        props: dict[str, Any] | None = self.get_header(ReservedHeaderKey.PEER_PROPS)
        return props

    def get_peer_prop(self, key: str, default: Any) -> Any:  # Any: see the class
        """One of the sender's public properties, or the default."""
        props = self.get_peer_props()
        return props.get(key, default) if isinstance(props, dict) else default

    def to_bytes(self) -> bytes:
        """The whole message as bytes.

        Raises:
            EncodeError: A value has no form on the wire; the error names its path.
        """
        return byte_form.encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Shareable:
        """The message that `to_bytes` wrote.

        Raises:
            DecodeError: The bytes are something else.
        """
        return byte_form.decode(data, Shareable)


def make_reply(rc: str) -> Shareable:
    """A message that says only how it went."""
    reply = Shareable()
    reply.set_return_code(rc)
    return reply
