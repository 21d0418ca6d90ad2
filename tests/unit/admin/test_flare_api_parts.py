"""The small parts of FLARE's admin API: responses, options of file commands, passwords."""

from __future__ import annotations

import json

import pytest

from hansa.admin.flare_files import fitting, last_bytes, listed, named_run, shown, tail_lines
from hansa.admin.flare_passwords import hash_password, make_session_token, verify_password
from hansa.admin.flare_response import (
    APIStatus,
    APISyntaxError,
    FLAdminAPIResponse,
    FLDetailKey,
    wrap_with_return_exception_responses,
)
from hansa.admin.permissions import NotPermitted
from hansa.errors import HansaError, RunError
from hansa.provision.identity import KitError

TEXT = "one\n\n\n\ttwo\n"


def test_a_response_is_a_dict() -> None:
    assert FLAdminAPIResponse(APIStatus.SUCCESS) == {"status": "SUCCESS"}
    full = FLAdminAPIResponse(APIStatus.ERROR_CERT, {"message": "no"}, {"data": []})
    assert json.loads(json.dumps(full)) == {"status": "ERROR_CERT", "details": {"message": "no"}, "raw": {"data": []}}
    assert {"run_number": 1}[FLDetailKey.RUN_NUMBER] == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (APISyntaxError("no"), APIStatus.ERROR_SYNTAX),
        (KitError("no"), APIStatus.ERROR_CERT),
        (NotPermitted("no"), APIStatus.ERROR_AUTHORIZATION),
        (RunError("no"), APIStatus.ERROR_RUNTIME),
        (OSError("no"), APIStatus.ERROR_RUNTIME),
    ],
)
def test_what_is_raised_becomes_a_response(error: Exception, status: APIStatus) -> None:
    @wrap_with_return_exception_responses
    def call(answer: str) -> FLAdminAPIResponse:
        raise error

    assert call("x") == {"status": status, "details": {"message": "no"}}


def test_a_mistake_in_the_program_is_raised() -> None:
    @wrap_with_return_exception_responses
    def call() -> FLAdminAPIResponse:
        raise KeyError("details")

    with pytest.raises(KeyError):
        call()
    assert issubclass(APISyntaxError, HansaError)


def test_paths_name_the_log_and_perhaps_a_run() -> None:
    assert named_run("log.txt", call="cat_target") is None
    assert named_run("run_12/log.txt", call="cat_target") == 12
    for file in (None, "", "config.json", "/etc/log.txt", "run_1/../log.txt", "runs/log.txt", "log.txt/.."):
        with pytest.raises(APISyntaxError, match="cat_target reads log.txt or"):
            named_run(file, call="cat_target")


def test_options_of_tail() -> None:
    assert tail_lines(None) == (10, None)
    assert tail_lines("-n 3") == (3, None)
    assert tail_lines("-c5") == (100_000, 5)
    assert last_bytes("aé", 1) == ""
    assert last_bytes("aé", 2) == "é"
    for options, text in (
        ("-n x", "no whole number"),
        ("-n 0", "from 1 to"),
        ("-f", "not recognized"),
        ("3", "and not"),
    ):
        with pytest.raises(APISyntaxError, match=text):
            tail_lines(options)


def test_options_of_cat() -> None:
    assert shown(TEXT, None) == TEXT
    assert shown(TEXT, "-s -T") == "one\n\n^Itwo\n"
    assert shown(TEXT, "-ns") == "     1\tone\n     2\t\n     3\t\ttwo\n"
    assert shown(TEXT, "-b") == "     1\tone\n\n\n     2\t\ttwo\n"
    with pytest.raises(APISyntaxError, match=r"cat_target: .* \(offered: -n, -b, -s, -T\)"):
        shown(TEXT, "-v")


def test_options_of_grep_and_ls() -> None:
    assert fitting(TEXT, "", "o") == "one\n\ttwo\n"
    assert fitting(TEXT, "-ni", "TWO") == "4:\ttwo\n"
    for options, pattern in (("-b", "o"), ("", None), ("", "("), ("'", "o")):
        with pytest.raises(APISyntaxError, match="grep_target"):
            fitting(TEXT, options, pattern)
    assert listed("-a -t", ".") == "log.txt\n"
    for options, path in (("-l", None), (None, "startup")):
        with pytest.raises(APISyntaxError, match="ls_target"):
            listed(options, path)


def test_passwords() -> None:
    stored = hash_password("secret")
    assert stored != hash_password("secret")
    assert verify_password(stored, "secret")
    assert not verify_password(stored, "secreT")
    assert not verify_password("nonsense", "secret")
    assert not verify_password(stored[:-2], "secret")
    assert len(make_session_token()) == 64
    assert make_session_token() != make_session_token()
