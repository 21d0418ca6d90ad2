"""Bad input of every kind through the real command: one line that names place and cause, and nothing left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from acceptance.bad_cases import CASES, ENDS, RESULTS, Case
from acceptance.bad_folders import CODE, ROUNDS, Outcome, Workshop, good_job, write_job
from hansa import tensors
from hansa.apis.dxo import DXO, DataKind, from_bytes
from hansa.errors import DecodeError
from hansa.wire.blobs import Blob
from hansa.wire.codec import Encoder, Message, decode
from source_code import ROOT

BY_NAME = {case.name: case for case in CASES}


def spoil_and_run(case: Case, folder: Path) -> Outcome:
    """Write the case's folder and run the command over it."""
    workshop = Workshop(folder)
    job = good_job(folder / "job", {"site-2": case.trouble} if case.trouble else {})
    case.change(job)
    write_job(job)
    arguments = [str(folder / case.folder), *case.arguments]
    if "-w" not in arguments and "HANSA_WORKERS" not in case.environment:
        arguments += ["--workers", "1"]
    if "--home" not in arguments:
        arguments += ["--home", str(workshop.home)]
    return workshop.hansa("simulate", *arguments, environment=case.environment, prefix=case.prefix)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Outcome]]]:
    """What came of the cases that are asked for, two at a time."""
    asked = {
        item.callspec.params["name"] for item in request.session.items if "name" in getattr(item, "fixturenames", ())
    }
    folder = tmp_path_factory.mktemp("bad")
    with ThreadPoolExecutor(2) as pool:
        yield {
            case.name: pool.submit(spoil_and_run, case, folder / f"case-{index}")
            for index, case in enumerate(CASES)
            if case.name in asked
        }


def test_the_table_is_long_and_names_each_case_once() -> None:
    assert len(BY_NAME) == len(CASES) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("name", BY_NAME)
def test_bad_input_gives_one_line_and_leaves_nothing(name: str, outcomes: dict[str, Future[Outcome]]) -> None:
    case, outcome = BY_NAME[name], outcomes[name].result()
    assert outcome.code == case.code, outcome.stderr
    if case.code:
        [line] = outcome.stderr.splitlines()
        assert line.startswith("hansa: ")
        assert not [text for text in (case.says, *case.words) if text not in line], line
        assert outcome.stdout == ""
    else:
        assert outcome.stderr == ""
        model = tensors.read(outcome.run / "model.safetensors", mmap=False)
        assert {name: np.unique(value).tolist() for name, value in model.items()} == {"w": [ROUNDS], "b": [ROUNDS]}
    assert outcome.left == []
    runs = list(outcome.home.iterdir()) if outcome.home.is_dir() else []
    assert len(runs) == (1 if case.kept else 0)
    if case.kept:
        record = outcome.record()
        assert record["status"] == case.kept
        assert record["config"]["workers"] == 1
        assert case.kept != "FAILED" or case.says in record["cause"]


@pytest.mark.parametrize("case", [case for case in CASES if case.says], ids=lambda case: case.name)
def test_the_page_says_what_to_do(case: Case) -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    assert case.says in " ".join(page.split())


def everything_at_once(folder: Path, cases: list[Case], workers: int) -> Outcome:
    """FLARE's own arguments: what fails or is refused costs only itself. Each site has another trouble."""
    workshop = Workshop(folder)
    job = good_job(folder / "job", {f"site-{index}": case.trouble for index, case in enumerate(cases, 2)})
    del job.server["workflows"][0]["args"]["min_counted"]
    write_job(job)
    numbers = "-n", str(len(cases) + 1), "--workers", str(workers)
    done = workshop.hansa("simulate", str(folder / "job"), *numbers, "--home", str(workshop.home))
    assert (done.code, done.stderr, done.left) == (0, "", [])
    return workshop.hansa("runs", "show", "last", "--home", str(workshop.home), "--json")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_with_flares_own_arguments_the_run_goes_on_and_keeps_the_reasons(workers: int, tmp_path: Path) -> None:
    cases = RESULTS + [case for case in ENDS if case.trouble in ("leaves", "aborts")] * bool(workers)
    shown = everything_at_once(tmp_path / "case", cases, workers)
    assert shown.stderr == ""
    first, second = json.loads(shown.stdout)["rounds"]
    sites = [f"site-{index}" for index in range(1, len(cases) + 2)]
    assert (sorted(first["counted"]), first["refused"]) == (sorted(sites), {})
    assert list(second["counted"]) == ["site-1"]
    assert sorted(second["refused"]) == sorted(sites[1:])
    for site, case in zip(sites[1:], cases, strict=True):
        [reason] = second["refused"][site]
        assert case.says in reason


@pytest.mark.slow
def test_only_debug_shows_the_traceback(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "case")
    job = good_job(workshop.folder / "job", {})
    job.files[CODE] = b"import nosuch\n"
    write_job(job)
    done = workshop.hansa("--debug", "simulate", str(job.folder), "-n", "2", "--home", str(workshop.home))
    assert (done.code, done.left) == (2, [])
    assert "Traceback (most recent call last):" in done.stderr
    assert "No module named 'nosuch'" in done.stderr.splitlines()[-1]


# -- messages, bit by bit ----------------------------------------------------------------------------------------------

SMALL = DXO(DataKind.WEIGHTS, {"w": np.arange(6, dtype=np.float32).reshape(2, 3)})
LARGE = DXO(DataKind.WEIGHTS, {"w": np.arange(60_000, dtype=np.float32), "b": np.ones(3, np.int8)})


def reason(message: Message) -> str | None:
    """Why a message cannot be read, None if it can."""
    try:
        decode(message)
    except DecodeError as error:
        return str(error)
    return None


def is_refused(message: Message) -> bool:
    """Whether a message cannot be read, and that in one line."""
    line = reason(message)
    return line is not None and len(line.splitlines()) == 1


def test_a_truncated_message_is_refused_wherever_it_breaks_off() -> None:
    message = Encoder().encode(SMALL)
    assert reason(message) is None
    for size in range(len(message.envelope)):
        assert is_refused(Message(message.envelope[:size], message.blobs, message.tables)), size
    data = SMALL.to_bytes()
    for size in range(len(data)):
        with pytest.raises(DecodeError):
            from_bytes(data[:size])


def test_a_truncated_blob_is_refused() -> None:
    message = Encoder().encode(LARGE)
    [blob] = message.blobs
    assert reason(message) is None
    memory = bytes(memoryview(blob.memory))
    for size in (0, 1, 63, 64, len(memory) // 2, len(memory) - 1):
        assert is_refused(Message(message.envelope, (Blob(memory[:size]),), message.tables)), size
    assert is_refused(Message(message.envelope, (), message.tables))


def test_a_flipped_bit_gives_one_line_or_another_value() -> None:
    message = Encoder().encode(LARGE)
    [blob] = message.blobs
    memory = bytes(memoryview(blob.memory))
    damaged = []
    for part in (message.envelope, *message.tables.values()):
        for bit in range(8 * len(part)):
            flipped = bytearray(part)
            flipped[bit // 8] ^= 1 << bit % 8
            damaged.append((part, bytes(flipped)))
    refused = 0
    for part, changed in damaged:
        envelope = changed if part is message.envelope else message.envelope
        tables = {digest: changed if part is table else table for digest, table in message.tables.items()}
        refused += is_refused(Message(envelope, (Blob(memory),), tables))
    assert refused > len(damaged) / 2  # a bit in a number or a name gives another number or name, and no harm
