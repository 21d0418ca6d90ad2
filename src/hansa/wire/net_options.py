"""What both ends of the network must agree on, and the limits they hold each other to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hansa
from hansa.errors import ConfigError

PROTOCOL = 1
"""The version of `federation.proto`; peers one version apart understand each other."""

SERVICE = "hansa.v1.Federation"
CHUNK_BYTES = 1 << 20

MESSAGE_BYTES = 4 << 20
"""One message of gRPC; more is cut off while it comes."""
MAX_FRAME_BYTES = MESSAGE_BYTES - (64 << 10)
"""One frame, all that belongs to it; its sender refuses more."""
MAX_FRAMES = 1_000
"""Frames of one message."""
BATCH_BYTES = 1 << 20
"""So much goes into one message, or one frame if that is larger."""
ACK_DELAY_S = 0.05
"""How long an acknowledgement may wait for a frame that takes it along."""
SECOND_SESSION = ("refuse", "supersede")
_HANDSHAKE_MS = 10_000
_IDLE_MS = 600_000
WINDOW_BYTES = 4 << 20
"""How much of a stream may be under way: 80 MB/s over a round trip of 50 ms; what a server holds per transfer."""
_CONNECT_MS = 20_000


@dataclass(frozen=True)
class Tls:
    """What a participant needs for mutual TLS, as PEM.

    Attributes:
        ca: The project's authority.
        certificate: Its own.
        key: Its private key.
    """

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class NetLimits:
    """What a server allows, and how long it waits.

    Attributes:
        message_bytes: One message.
        metadata_bytes: Headers of one call.
        streams_per_connection: Calls at a time on one connection.
        blob_threads: Blobs that are written, read or hashed at a time.
        blobs_per_peer: Blobs of one peer that move at a time.
        blob_bytes: One blob.
        heartbeat_s: After how much silence of its own an end gives a sign of life.
        lost_after_s: After how much silence of the other end it counts as gone.
        blob_stall_s: After how long a blob that does not move is given up.
        unacknowledged_bytes: How much one direction of a session may hold back for a peer that does not read.
        second_session: `refuse`: a second program of one identity is turned away; `supersede`: it takes the place.
    """

    message_bytes: int = MESSAGE_BYTES
    metadata_bytes: int = 16 << 10
    streams_per_connection: int = 64
    blob_threads: int = 16
    blobs_per_peer: int = 8
    blob_bytes: int = 64 << 30
    heartbeat_s: float = 5.0
    lost_after_s: float = 30.0
    blob_stall_s: float = 60.0
    unacknowledged_bytes: int = 64 << 20
    second_session: str = "refuse"

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> NetLimits:  # Any: JSON
        """The limits that a server's settings ask for.

        Raises:
            ConfigError: One of them is none.
        """
        lost_after_s = settings.get("lost_after_s", cls.lost_after_s)
        if (
            isinstance(lost_after_s, bool)
            or not isinstance(lost_after_s, int | float)
            or not 1 <= lost_after_s <= 86400
        ):
            raise ConfigError(f"must be a number of seconds from 1 to 86400, not {lost_after_s!r}", key="lost_after_s")
        policy = settings.get("policy") or {}
        if not isinstance(policy, Mapping):
            raise ConfigError(f"must be an object, not {policy!r}", key="policy")
        second_session = policy.get("second_session", cls.second_session)
        if second_session not in SECOND_SESSION:
            known = " or ".join(SECOND_SESSION)
            raise ConfigError(f"must be {known}, not {second_session!r}", key="policy.second_session")
        return cls(
            heartbeat_s=min(cls.heartbeat_s, lost_after_s / 4),
            lost_after_s=float(lost_after_s),
            second_session=second_session,
        )


def software() -> str:
    """What runs here, for the other end's log."""
    return f"hansa {hansa.__version__}"


def version_problem(*, theirs: int, software_there: str, they: str, we: str) -> str | None:
    """Why two programs cannot work together; None if they can.

    Args:
        theirs: The protocol of the other end.
        software_there: What runs there.
        they: What the other end is, such as `the site`.
        we: What this end is.
    """
    if abs(theirs - PROTOCOL) <= 1:
        return None
    older = they if theirs < PROTOCOL else we
    return (
        f"{we} speaks protocol {PROTOCOL} ({software()}), {they} protocol {theirs} ({software_there[:80]}): "
        f"they must be at most one apart; upgrade {older}"
    )


def server_options(limits: NetLimits) -> list[tuple[str, int]]:
    """For gRPC's server."""
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_metadata_size", limits.metadata_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
        ("grpc.max_connection_idle_ms", _IDLE_MS),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.bdp_probe", 0),  # it lets windows grow without a bound
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ]


def client_options(limits: NetLimits, server: str = "") -> list[tuple[str, int]]:
    """For gRPC's channels to a server; `http_proxy` of the environment is for others than this machine."""
    host = server.rpartition(":")[0]
    return [
        ("grpc.enable_http_proxy", int(host not in ("localhost", "127.0.0.1", "[::1]"))),
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS),  # how long connecting may take, whatever it is called
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.http2.bdp_probe", 0),  # it lets windows grow without a bound
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
    ]
