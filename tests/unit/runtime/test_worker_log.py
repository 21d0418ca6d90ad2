"""Which log a line of a worker ends up in."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hansa.runtime.worker_log import SiteLogs


class Desk:
    """A worker's logs for 40 sites; `with desk.open() as logs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sites = [f"site-{number}" for number in range(1, 41)]
        for site in self.sites:
            (folder / site).mkdir()
        self.forwarded: list[str] = []
        self.outside = io.StringIO()

    @contextmanager
    def open(self) -> Iterator[SiteLogs]:
        streams, level = (sys.stdout, sys.stderr), logging.getLogger().level
        sys.stdout = sys.stderr = self.outside
        try:
            with SiteLogs(self.folder, lambda record: self.forwarded.append(record.getMessage())) as logs:
                yield logs
            assert sys.stdout is sys.stderr is self.outside
        finally:
            sys.stdout, sys.stderr = streams
            logging.getLogger().setLevel(level)

    def __getitem__(self, site: str) -> str:
        file = self.folder / site / "log.txt"
        return file.read_text(encoding="utf-8") if file.exists() else ""


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_what_is_printed_goes_to_the_site_at_work(desk: Desk) -> None:
    with desk.open() as logs:
        logs.enter("site-1")
        print("one")
        logs.enter("site-2")
        print("two, ü")
        print("and an error", file=sys.stderr)
        logs.enter("site-1")
        print("three", end="")
        assert desk["site-1"] == "one\nthree"  # already now
    assert desk["site-1"] == "one\nthree"
    assert desk["site-2"] == "two, ü\nand an error\n"
    assert desk.outside.getvalue() == ""


def test_while_nobody_works_it_goes_where_it_always_goes(desk: Desk) -> None:
    with desk.open() as logs:
        print("before")
        logs.enter("site-1")
        print("hidden")
        logs.enter(None)
        print("between", file=sys.stderr)
    assert desk["site-1"] == "hidden\n"
    assert desk.outside.getvalue() == "before\nbetween\n"


def test_what_is_logged_goes_to_both(desk: Desk) -> None:
    with desk.open() as logs:
        logs.enter("site-3")
        logging.getLogger("trainer").info("loss is %s", 0.5)
        logging.getLogger("trainer").debug("nobody hears this")
        logs.enter(None)
        logging.getLogger("hansa").warning("nobody's")
    logging.getLogger("trainer").warning("afterwards")
    [line] = desk["site-3"].splitlines()
    assert line.endswith(" INFO trainer: loss is 0.5")
    assert desk.forwarded == ["loss is 0.5", "nobody's"]


def test_more_sites_than_files_may_be_open(desk: Desk) -> None:
    with desk.open() as logs:
        for turn in range(3):
            for site in desk.sites:
                logs.enter(site)
                print(site, turn)
        opened = [entry for entry in Path("/proc/self/fd").iterdir() if entry.resolve().is_relative_to(desk.folder)]
        assert len(opened) <= 16
    for site in desk.sites:
        assert desk[site] == f"{site} 0\n{site} 1\n{site} 2\n"


def test_a_log_ends_at_10_mb_and_says_so_once(desk: Desk) -> None:
    with desk.open() as logs:
        logs.enter("site-1")
        for _ in range(30):
            print("x" * (1 << 20))
        logs.enter("site-2")
        print("goes on")
    text = desk["site-1"]
    assert 10 << 20 < len(text) < 12 << 20
    assert text.count("the rest is not kept") == 1
    assert desk["site-2"] == "goes on\n"


def test_a_log_that_cannot_be_written_costs_nothing_else(desk: Desk) -> None:
    with desk.open() as logs:
        logs.enter("no-such-site")
        print("lost")
        logging.getLogger("trainer").info("kept by the server")
    assert desk.forwarded == ["kept by the server"]


def test_a_message_whose_arguments_do_not_fit_costs_itself_alone(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    # As with Python's own handlers, which say so on stderr and go on. pytest's would raise.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with desk.open() as logs:
        logs.enter("site-1")
        logging.getLogger("trainer").info("loss %d", "none")
        print("next")
    assert desk["site-1"].endswith("next\n")


def test_it_can_be_used_as_a_stream(desk: Desk) -> None:
    with desk.open() as logs:
        logs.enter("site-1")
        assert sys.stdout.writable()
        assert not sys.stdout.isatty()
        sys.stdout.writelines(["a\n", "b\n"])
        sys.stdout.flush()
    assert desk["site-1"] == "a\nb\n"
