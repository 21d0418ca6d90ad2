from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Blob(_message.Message):
    __slots__ = ("name", "size_bytes", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    size_bytes: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., size_bytes: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("number", "kind", "job", "head", "parts", "blobs")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    number: int
    kind: str
    job: str
    head: bytes
    parts: _containers.RepeatedScalarFieldContainer[bytes]
    blobs: _containers.RepeatedCompositeFieldContainer[Blob]
    def __init__(self, number: _Optional[int] = ..., kind: _Optional[str] = ..., job: _Optional[str] = ..., head: _Optional[bytes] = ..., parts: _Optional[_Iterable[bytes]] = ..., blobs: _Optional[_Iterable[_Union[Blob, _Mapping]]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol", "software", "session", "received", "incarnation", "about")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    ABOUT_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    software: str
    session: str
    received: int
    incarnation: str
    about: bytes
    def __init__(self, protocol: _Optional[int] = ..., software: _Optional[str] = ..., session: _Optional[str] = ..., received: _Optional[int] = ..., incarnation: _Optional[str] = ..., about: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "software", "session", "resumed", "received", "epoch", "heartbeat_s", "lost_after_s")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_S_FIELD_NUMBER: _ClassVar[int]
    LOST_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    software: str
    session: str
    resumed: bool
    received: int
    epoch: int
    heartbeat_s: float
    lost_after_s: float
    def __init__(self, protocol: _Optional[int] = ..., software: _Optional[str] = ..., session: _Optional[str] = ..., resumed: bool = ..., received: _Optional[int] = ..., epoch: _Optional[int] = ..., heartbeat_s: _Optional[float] = ..., lost_after_s: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "text")
    CODE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    code: str
    text: str
    def __init__(self, code: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class Up(_message.Message):
    __slots__ = ("hello", "frames", "received")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    received: int
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ..., received: _Optional[int] = ...) -> None: ...

class Down(_message.Message):
    __slots__ = ("welcome", "refusal", "frames", "received")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    refusal: Refusal
    frames: _containers.RepeatedCompositeFieldContainer[Frame]
    received: int
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., frames: _Optional[_Iterable[_Union[Frame, _Mapping]]] = ..., received: _Optional[int] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("name", "args", "protocol")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    name: str
    args: bytes
    protocol: int
    def __init__(self, name: _Optional[str] = ..., args: _Optional[bytes] = ..., protocol: _Optional[int] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("content", "refusal")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    refusal: Refusal
    def __init__(self, content: _Optional[bytes] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...
