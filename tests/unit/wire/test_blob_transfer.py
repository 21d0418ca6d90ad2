"""Blobs up and down over real mutual TLS: whole or not at all, resumed after a cut, bounded, and for whom they are."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from hansa.errors import DecodeError, RunError
from hansa.faults.tcp_proxy import Faults, TcpProxy, Way
from hansa.provision.identity import Role
from hansa.wire.admin_client import AdminClient, Unreachable
from hansa.wire.blob_files import Part, part_of
from hansa.wire.frames import BlobRef
from hansa.wire.net_options import CHUNK_BYTES, SERVICE, NetLimits
from network import WITHIN_S, Network, Site, Watch, dialled, logged, play, tls

MB = 1 << 20
DATA = os.urandom(3 * MB + 17)


def ref_of(data: bytes, name: str = "blob") -> BlobRef:
    return BlobRef(name, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")


REF = ref_of(DATA)


@asynccontextmanager
async def network(
    folder: Path, limits: NetLimits | None = None, faults: Faults | None = None
) -> AsyncIterator[tuple[Network, Site, TcpProxy]]:
    """A server with a job `j` of site-1, whose way leads through a proxy."""
    async with (
        Network.up(limits, folder=folder / "server") as net,
        TcpProxy(("127.0.0.1", net.port), faults or Faults()) as proxy,
    ):
        net.told.jobs["j"] = ("site-1",)
        yield net, await net.joined("site-1", port=proxy.address[1]), proxy


def offer(folder: Path, data: bytes = DATA, name: str = "blob") -> None:
    place = folder / "server" / "j" / "out"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)


def incoming(folder: Path) -> Path:
    return folder / "server" / "j" / "in"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir()) if folder.exists() else []


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    path.write_bytes(DATA)
    return path


# -- whole -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES])
def test_a_blob_of_any_size_comes_and_goes_whole(size: int, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (_, site, _proxy):
            data = DATA[:size]
            offer(tmp_path, data)
            await site.client.download("j", ref_of(data), path=tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == data
            await site.client.upload("j", ref_of(data, "up"), path=tmp_path / "got")
            assert (incoming(tmp_path) / "up").read_bytes() == data
            assert names(incoming(tmp_path)) == ["up"]

    play(scenario())


def test_an_admin_needs_no_session(tmp_path: Path, file: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (net, _, _proxy):
            client = AdminClient(tls("a@b", Role.ADMIN), f"127.0.0.1:{net.port}")
            offer(tmp_path)
            await client.upload("j", REF, path=file)
            await client.download("j", REF, path=tmp_path / "got")
            assert (tmp_path / "got").read_bytes() == (incoming(tmp_path) / "blob").read_bytes() == DATA
            await client.close()

    play(scenario())


def test_several_move_at_once(tmp_path: Path, file: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (_, site, _proxy):
            refs = [ref_of(DATA, f"b{number}") for number in range(10)]
            await asyncio.gather(*(site.client.upload("j", ref, path=file) for ref in refs))
            assert len(names(incoming(tmp_path))) == 10

    play(scenario())


# -- after a cut -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_cut_costs_no_more_than_what_was_under_way(way: str, tmp_path: Path) -> None:
    async def scenario() -> None:
        data = os.urandom(14 * MB)
        (tmp_path / "mine").write_bytes(data)
        offer(tmp_path, data)
        async with network(tmp_path) as (_, site, proxy):
            # Faster than the receiver takes it up, and all of what a connection brought could be lost with it.
            proxy.faults = Faults(cut_after_bytes=6 * MB, bytes_per_s=40 * MB, ways=frozenset((Way(way),)))
            with logged() as lines:
                if way == "up":
                    await site.client.upload("j", ref_of(data), path=tmp_path / "mine")
                    assert (incoming(tmp_path) / "blob").read_bytes() == data
                    assert names(incoming(tmp_path)) == ["blob"]
                else:
                    await site.client.download("j", ref_of(data), path=tmp_path / "got")
                    assert (tmp_path / "got").read_bytes() == data
                    assert part_of(tmp_path / "got", ref_of(data)).exists() is False
            passed = proxy.counts.up_bytes if way == "up" else proxy.counts.down_bytes
            assert proxy.counts.cut >= 2
            assert passed < len(data) + proxy.counts.cut * 5 * MB
            assert not [line for line in lines if "refused" in line or "rror" in line]

    play(scenario())


def test_bytes_that_are_damaged_on_their_way_are_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        data = os.urandom(7 * MB)
        (tmp_path / "mine").write_bytes(data)
        async with network(tmp_path) as (_, site, proxy):
            proxy.faults = Faults(corrupt_at=4 * MB, bytes_per_s=40 * MB, ways=frozenset((Way.UP,)))
            await site.client.upload("j", ref_of(data), path=tmp_path / "mine")
        assert (incoming(tmp_path) / "blob").read_bytes() == data

    play(scenario())


def test_an_upload_that_begins_anew_takes_over_from_the_one_that_hangs(tmp_path: Path, file: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (net, site, _), dialled(net.port, tls("site-1")) as channel:
            hangs = upload_call(channel, said(site))
            await hangs.write(DATA[:CHUNK_BYTES])
            part = part_of(incoming(tmp_path) / "blob", REF)
            await until(lambda: part.exists() and part.stat().st_size == CHUNK_BYTES)
            await site.client.upload("j", REF, path=file)
            assert (incoming(tmp_path) / "blob").read_bytes() == DATA
            assert await code_of(hangs) is grpc.StatusCode.FAILED_PRECONDITION

    play(scenario())


def test_stop_ends_transfers_and_leaves_no_part_of_a_download(tmp_path: Path) -> None:
    async def scenario() -> None:
        data = os.urandom(8 * MB)
        offer(tmp_path, data)
        async with network(tmp_path) as (_, site, proxy):
            proxy.faults = Faults(bytes_per_s=2 * MB)
            task = asyncio.ensure_future(site.client.download("j", ref_of(data), path=tmp_path / "got"))
            await until(lambda: part_of(tmp_path / "got", ref_of(data)).exists())
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(2):
                await site.stop()
            assert names(tmp_path) == ["server"]

    play(scenario())


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "ref", "problem"),
    [
        ("other", REF, "site-1 takes no part in job 'other'"),
        ("j", replace(REF, name="../../evil"), "no name of a blob"),
        ("j", replace(REF, name=".."), "no name of a blob"),
        ("j", replace(REF, name=""), "a call about no blob"),
        ("j", replace(REF, digest="md5:00"), "a blob without a digest"),
        ("j", replace(REF, size_bytes=-1), "a size or an offset that is none"),
        ("j", replace(REF, size_bytes=1 << 40), "has 1099511627776 bytes; the server takes 68719476736 at most"),
        ("j", replace(REF, size_bytes=1 << 36), "never have room"),
        ("j", replace(REF, digest="sha256:" + "0" * 64), "another digest than was announced"),
        ("j", replace(REF, size_bytes=2 * MB), "is longer than the 2097152 bytes that were announced"),
        ("j", replace(REF, size_bytes=3 * MB + 18), "comes in pieces of 17 bytes"),
        ("j", replace(REF, size_bytes=9 * MB), "comes in pieces of 17 bytes"),
    ],
)
def test_an_upload_that_is_not_as_it_should_be_is_refused(
    job: str, ref: BlobRef, problem: str, tmp_path: Path, file: Path
) -> None:
    async def scenario() -> None:
        limits = NetLimits(blob_bytes=1 << 60) if ref.size_bytes == 1 << 36 else None
        wanted = replace(ref, size_bytes=1 << 59) if limits else ref
        async with network(tmp_path, limits) as (_, site, _proxy):
            with logged() as lines:
                for _ in range(3):
                    with pytest.raises(RunError, match=problem):
                        await site.client.upload(job, wanted, path=file)
            assert len([line for line in lines if "refused" in line]) == 1  # once for each peer and reason
            assert names(incoming(tmp_path)) == []
            assert not (tmp_path / "evil").exists()
            await site.client.upload("j", ref_of(DATA, "good"), path=file)

    play(scenario())


@pytest.mark.parametrize(
    ("job", "ref", "data", "problem"),
    [
        ("other", REF, DATA, "takes no part"),
        ("j", replace(REF, name="../in/x"), DATA, "no name of a blob"),
        ("j", replace(REF, name="absent"), DATA, "the blob is not there"),
        ("j", REF, DATA[:-1], "job j: blob has 3145744 bytes, and 3145745 were announced"),
        ("j", REF, DATA + b"x", "job j: blob is longer than the 3145745 bytes that were announced"),
        ("j", REF, bytes(len(DATA)), "job j: blob has another digest than was announced"),
    ],
)
def test_a_download_that_is_not_as_it_should_be_is_refused_and_leaves_nothing(
    job: str, ref: BlobRef, data: bytes, problem: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        offer(tmp_path, data)
        async with network(tmp_path) as (_, site, _proxy):
            with pytest.raises(RunError, match=problem):
                await site.client.download(job, ref, path=tmp_path / "got")
            assert names(tmp_path) == ["server"]

    play(scenario())


def test_only_the_program_that_has_the_session_moves_blobs(tmp_path: Path) -> None:
    async def scenario() -> None:
        offer(tmp_path)
        async with network(tmp_path) as (net, site, _), dialled(net.port, tls("site-1")) as copied:
            with logged() as lines:
                for session in ("", "0" * 32):
                    call = upload_call(copied, {**said(site), "session": session})
                    assert await code_of(call) is grpc.StatusCode.UNAVAILABLE
                    request = json.dumps({**said(site), "session": session}).encode()
                    fetch = copied.unary_stream(f"/{SERVICE}/Download")(request)
                    assert await code_of(fetch) is grpc.StatusCode.UNAVAILABLE
            assert len([line for line in lines if "this is not the session of the site" in line]) == 1
            assert names(incoming(tmp_path)) == []

    play(scenario())


@pytest.mark.parametrize("chunk", [b"", b"x", bytes(CHUNK_BYTES - 1), bytes(CHUNK_BYTES + 1)])
def test_pieces_have_one_size_so_that_no_stream_is_endless(chunk: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (net, site, _), dialled(net.port, tls("site-1")) as channel:
            call = upload_call(channel, said(site))
            await call.write(chunk)
            assert await code_of(call) is grpc.StatusCode.FAILED_PRECONDITION
            assert names(incoming(tmp_path)) == []

    play(scenario())


def test_a_blob_that_breaks_off_in_order_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (net, site, _), dialled(net.port, tls("site-1")) as channel:
            call = upload_call(channel, said(site))
            await call.write(DATA[:CHUNK_BYTES])
            await call.done_writing()
            assert await code_of(call) is grpc.StatusCode.FAILED_PRECONDITION
            assert "breaks off at 1048576 of 3145745 bytes" in await call.details()
            assert names(incoming(tmp_path)) == []

    play(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        *(b"", b"\xff", b"[]", b"{}", b'{"name":[]}', b'{"name":"b","size":1e999}', b'{"name":"b","size":true}'),
        *(b'{"name":"b","size":1,"offset":2}', b'{"name":"b","size":9223372036854775808}', b"[" * 8000, bytes(100_000)),
    ],
)
def test_a_call_about_nothing_is_refused(request_: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (net, _, _proxy), dialled(net.port, tls("a@b", Role.ADMIN)) as channel:
            for method in ("UploadOffset", "Download"):
                with logged() as lines:
                    call = channel.unary_stream(f"/{SERVICE}/{method}")(request_)
                    assert await code_of(call) is grpc.StatusCode.FAILED_PRECONDITION
                assert not [line for line in lines if "Traceback" in line or "Unexpected" in line]

    play(scenario())


def test_peers_move_so_many_blobs_at_a_time_and_those_that_hang_are_given_up(tmp_path: Path, file: Path) -> None:
    async def scenario() -> None:
        limits = NetLimits(blobs_per_peer=3, blob_threads=2, blob_stall_s=0.5)
        async with network(tmp_path, limits) as (net, site, _), dialled(net.port, tls("site-1")) as channel:
            net.told.jobs["j"] = ("site-1", "site-2")
            hang = [upload_call(channel, {**said(site), "name": f"h{number}"}) for number in range(5)]
            codes = [await code_of(each) for each in hang]
            assert codes == [grpc.StatusCode.UNAVAILABLE] * 5  # two at once, three after a while
            other = await net.joined("site-2")
            hang = [upload_call(channel, {**said(site), "name": f"h{number}"}) for number in range(3)]
            await other.client.upload("j", REF, path=file)  # more hang than there are threads
            assert (incoming(tmp_path) / "blob").exists()
            for each in hang:
                each.cancel()

    play(scenario())


def test_a_file_that_is_not_there_here_is_the_callers_problem(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (_, site, _proxy):
            with pytest.raises(FileNotFoundError):
                await site.client.upload("j", REF, path=tmp_path / "absent")

    play(scenario())


def test_an_admin_whose_server_is_away_is_told_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with network(tmp_path) as (net, _, _proxy):
            async with TcpProxy(("127.0.0.1", net.port), Faults(cut_after_bytes=100)) as proxy:
                client = AdminClient(tls("a@b", Role.ADMIN), f"127.0.0.1:{proxy.address[1]}", tries=2)
                with pytest.raises(Unreachable):
                    await client.download("j", REF, path=tmp_path / "got")
                await client.close()
            assert names(tmp_path) == []

    play(scenario())


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Part]:
    opened = Part(tmp_path / "blob", REF)
    yield opened
    opened.close()


def test_a_file_appears_by_rename_alone(part: Part, tmp_path: Path) -> None:
    part.write(DATA[:MB])
    assert not (tmp_path / "blob").exists()
    part.write(DATA[MB:])
    part.finish()
    assert names(tmp_path) == ["blob"]


def test_a_part_goes_on_where_it_is_told_and_nowhere_else(part: Part, tmp_path: Path) -> None:
    part.write(DATA[: 2 * MB])
    part.close()
    with pytest.raises(DecodeError, match="bytes from 2097153 on, and 2097152 are there"):
        Part(tmp_path / "blob", REF, offset=2 * MB + 1)
    again = Part(tmp_path / "blob", REF, offset=MB)
    again.write(DATA[MB:])
    again.finish()
    again.close()
    assert (tmp_path / "blob").read_bytes() == DATA


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"dear")
    part_of(tmp_path / "blob", REF).symlink_to(tmp_path / "victim")
    with pytest.raises(OSError):
        Part(tmp_path / "blob", REF, offset=0)
    assert (tmp_path / "victim").read_bytes() == b"dear"


# -- callers that are no clients of ours -------------------------------------------------------------------------------


def said(site: Site) -> dict[str, Any]:
    return {
        "session": site.client.session,
        "job": "j",
        "name": REF.name,
        "size": REF.size_bytes,
        "digest": REF.digest,
    }


def upload_call(channel: grpc.aio.Channel, header: dict[str, Any]) -> Any:
    metadata = (("hansa-blob-bin", json.dumps(header).encode()),)
    return channel.stream_unary(f"/{SERVICE}/Upload")(metadata=metadata)


async def code_of(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(WITHIN_S):
        code: grpc.StatusCode = await call.code()
        return code


async def until(what: Callable[[], object]) -> None:
    """For what another thread does: look again every few milliseconds."""
    async with asyncio.timeout(WITHIN_S):
        while not what():
            await Watch().until_past(0.005)
