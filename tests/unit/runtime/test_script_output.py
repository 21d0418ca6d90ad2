"""What a script prints: the log as far as it has room, and the last lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hansa.runtime.script_output import ScriptOutput

TRACEBACK = """Traceback (most recent call last):
  File "/site/custom/train.py", line 12, in <module>
    train(net)
  File "/site/custom/net.py", line 3, in train
    np.zeros(-1)
"""


Feed = Callable[..., ScriptOutput]


@pytest.fixture
def fed(tmp_path: Path) -> Iterator[Feed]:
    """Makes an output that has had these bytes."""
    made: list[ScriptOutput] = []

    def feed(*chunks: bytes, folder: Path = tmp_path) -> ScriptOutput:
        made.append(ScriptOutput(folder / "log.txt"))
        for chunk in chunks:
            made[-1].feed(chunk)
        return made[-1]

    yield feed
    for output in made:
        output.close()


def test_all_bytes_are_in_the_log_and_the_lines_are_whole(tmp_path: Path, fed: Feed) -> None:
    text = "übung\nzwei\n\ndrei"
    data = text.encode()
    output = fed(*(data[index : index + 1] for index in range(len(data))))
    assert output.last_lines == ["übung", "zwei", "drei"]
    output.close()
    assert (tmp_path / "log.txt").read_text() == text + "\n"
    assert output.last_lines == ["übung", "zwei", "drei"]


def test_it_goes_on_where_the_log_stands(tmp_path: Path, fed: Feed) -> None:
    (tmp_path / "log.txt").write_text("before\n")
    fed(b"after\n").close()
    assert (tmp_path / "log.txt").read_text() == "before\nafter\n"


def test_few_lines_are_kept_and_of_long_ones_a_part(fed: Feed) -> None:
    output = fed(b"\n".join(b"%d" % number for number in range(1000)), b"\n" + b"x" * 10**6)
    assert len(output.last_lines) == 21
    assert output.last_lines[0] == "980"
    assert output.last_lines[-1] == "x" * 1000


def test_the_log_is_bounded_and_says_so_once(tmp_path: Path, fed: Feed) -> None:
    (tmp_path / "log.txt").write_bytes(b"." * ((10 << 20) - 5))
    fed(b"12345678", b"more", b"and more").close()
    end = (tmp_path / "log.txt").read_bytes()[(10 << 20) - 5 :]
    assert end == b"12345\n(the log is full; the rest of what the script prints is not kept)\n"
    fed(b"a new start").close()
    assert (tmp_path / "log.txt").read_bytes()[(10 << 20) - 5 :] == end


def test_a_log_that_cannot_be_written_costs_nothing_else(tmp_path: Path, fed: Feed) -> None:
    output = fed(b"line\n", folder=tmp_path / "nosuch")
    output.close()
    assert output.last_lines == ["line"]


@pytest.mark.parametrize(
    ("printed", "summary"),
    [
        ("", ""),
        ("1\n2\n3\n4\n", "2 | 3 | 4"),
        (TRACEBACK + "ValueError: negative\n", "ValueError: negative (net.py:3)"),
        (TRACEBACK + "pkg.errors.Odd\n", "Odd (net.py:3)"),
        (TRACEBACK + "RuntimeError: two:\n\tsize mismatch\n", "RuntimeError: two: size mismatch (net.py:3)"),
        (TRACEBACK + "ValueError: first\n" + TRACEBACK + "KeyError: 'w'\n", "KeyError: 'w' (net.py:3)"),
        ('  File "/a/train.py", line 2\n    x = = 1\n        ^\nSyntaxError: bad\n', "SyntaxError: bad (train.py:2)"),
        ("  5%|#    |\r 50%|##   |\r100%|#####|\n", "100%|#####|"),
    ],
)  # fmt: skip
def test_how_it_ended_in_one_line(fed: Feed, printed: str, summary: str) -> None:
    assert fed(printed.encode()).summary() == summary


def test_a_line_of_a_library_is_not_the_script_s(fed: Feed) -> None:
    library = f'  File "{pytest.__file__}", line 99, in load\n    raise\n'
    assert fed((TRACEBACK + library + "ValueError\n").encode()).summary() == "ValueError (net.py:3)"
