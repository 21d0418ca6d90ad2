"""What `docs/the-wire.md` says of limits and calls is what the code holds."""

from __future__ import annotations

import re

from hansa.wire import blob_service, federation_pb2, net_frames, net_options, refusals
from hansa.wire.net_options import NetLimits
from source_code import ROOT

PAGE = (ROOT / "docs" / "the-wire.md").read_text(encoding="utf-8")
LIMITS = NetLimits()
OPTIONS = dict(net_options.server_options(LIMITS))

ROWS = {
    "one message": LIMITS.message_bytes,
    "one frame, with all that belongs to it": net_options.MAX_FRAME_BYTES,
    "a head, a command's arguments, what a site says of itself": net_frames.MAX_JSON_BYTES,
    "parts of a frame; blobs of one": net_frames.MAX_PARTS,
    "frames in one message": net_options.MAX_FRAMES,
    "headers of a call": LIMITS.metadata_bytes,
    "calls at a time on one connection": LIMITS.streams_per_connection,
    "what one direction of a session holds back for an end that does not read": LIMITS.unacknowledged_bytes,
    "one blob": LIMITS.blob_bytes,
    "blobs of one peer that move at a time": LIMITS.blobs_per_peer,
    "a piece of a blob": net_options.CHUNK_BYTES,
    "a blob that does not move": int(LIMITS.blob_stall_s),
    "TLS and HTTP/2 handshake": OPTIONS["grpc.server_handshake_timeout_ms"] // 1000,
    "a connection without a call": OPTIONS["grpc.max_connection_idle_ms"] // 1000,
    "heartbeat (`heartbeat_s`)": int(LIMITS.heartbeat_s),
    "silence (`lost_after_s`, a setting of the server)": int(LIMITS.lost_after_s),
    "reasons logged for one peer": refusals.MOST_REASONS,
}


def test_the_table_of_limits_is_the_codes() -> None:
    section = PAGE.split("## Limits")[1].split("## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)[1:]
    found = {name.strip(): re.findall(r"\d+", value) for name, value in rows if "---" not in name}
    assert set(found) == set(ROWS)
    assert not {name: (found[name], value) for name, value in ROWS.items() if str(value) not in found[name]}
    assert f"but {blob_service.DISK_RESERVE_BYTES >> 20} MB" in section


def test_the_calls_and_the_version_are_the_codes() -> None:
    service = net_options.SERVICE
    assert f"service `{service}`" in PAGE
    assert f"This is protocol {net_options.PROTOCOL}." in PAGE
    assert f"after {net_options.ACK_DELAY_S * 1000:.0f} ms" in PAGE
    for call in ("Session", "Call", "Watch", "Upload", "UploadOffset", "Download"):
        assert f"`{call}`" in PAGE


def test_every_message_keeps_numbers_for_later_versions() -> None:
    text = (ROOT / "src" / "hansa" / "wire" / "federation.proto").read_text(encoding="utf-8")
    messages = re.findall(r"^message (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in messages} == set(federation_pb2.DESCRIPTOR.message_types_by_name)
    for name, body in messages:
        numbers = [int(number) for number in re.findall(r"= (\d+);", body)]
        assert numbers == list(range(1, len(numbers) + 1)), name
        assert f"reserved {len(numbers) + 1} to 15;" in body, name


def test_what_was_made_of_the_proto_file_is_of_it() -> None:
    text = (ROOT / "src" / "hansa" / "wire" / "federation.proto").read_text(encoding="utf-8")
    for name, body in re.findall(r"^message (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        declared = re.findall(r"(?:repeated )?(\w+) (\w+) = (\d+);", body)
        fields = federation_pb2.DESCRIPTOR.message_types_by_name[name].fields
        assert [(each.name, str(each.number)) for each in fields] == [(field, number) for _, field, number in declared]


def test_a_proxy_of_the_environment_is_not_for_this_machine() -> None:
    for server, used in (("localhost:8002", 0), ("127.0.0.1:1", 0), ("[::1]:1", 0), ("fl.example.org:8002", 1)):
        assert dict(net_options.client_options(LIMITS, server))["grpc.enable_http_proxy"] == used
