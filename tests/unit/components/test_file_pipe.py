"""Messages through files."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hansa.components.pipes.file_pipe import FilePipe


def ends(folder: Path) -> tuple[FilePipe, FilePipe]:
    return FilePipe(str(folder), "talk"), FilePipe(str(folder), "talk")


def test_what_one_end_puts_the_other_gets_in_order(tmp_path: Path) -> None:
    x, y = ends(tmp_path)
    sent = [("task/1", b"\x00\xff"), ("bye", b""), ("task/1", b"third")]
    for topic, data in sent:
        x.x_put(topic, data)
    assert y.x_get() == (None, None)  # nothing for x
    assert [y.y_get() for _ in range(4)] == [*sent, (None, None)]
    y.y_put("answer", b"42")
    assert x.y_get() == (None, None)
    assert x.x_get() == ("answer", b"42")


def test_messages_outlive_their_sender_and_can_be_dropped(tmp_path: Path) -> None:
    FilePipe(str(tmp_path), "talk").x_put("kept", b"1")
    y = FilePipe(str(tmp_path), "talk")
    y.y_put("other", b"2")
    assert y.y_get() == ("kept", b"1")
    y.x_put("kept", b"3")
    y.clear()
    assert (y.y_get(), y.x_get()) == ((None, None), (None, None))
    y.x_put("again", b"4")
    assert y.y_get() == ("again", b"4")


def test_a_waiting_end_is_woken(tmp_path: Path) -> None:
    x, y = ends(tmp_path)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.extend([y.y_get(20), y.y_get(20)]))
    thread.start()
    x.x_put("first", b"1")
    x.x_put("second", b"2")
    thread.join(10)
    assert got == [("first", b"1"), ("second", b"2")]
    assert y.y_get(0.01) == (None, None)


def test_a_half_written_message_is_not_seen(tmp_path: Path) -> None:
    x, y = ends(tmp_path)
    (tmp_path / "talk" / "to_y" / ".new-abc").write_bytes(b"half")
    assert y.y_get() == (None, None)
    x.x_put("whole", b"1")
    assert y.y_get() == ("whole", b"1")


def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    for name in ("", "a/b", ".."):
        with pytest.raises(ValueError, match="name must be a name without a path"):
            FilePipe(str(tmp_path), name)
    with pytest.raises(TypeError, match="root_path must be str"):
        FilePipe(tmp_path, "talk")  # type: ignore[arg-type]
    pipe = FilePipe(str(tmp_path), "talk")
    for topic in ("", "t" * 101):
        with pytest.raises(ValueError, match="topic must be"):
            pipe.x_put(topic, b"")
    with pytest.raises(TypeError, match="data_bytes"):
        pipe.x_put("topic", "text")  # type: ignore[arg-type]
