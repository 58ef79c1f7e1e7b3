"""The log's two forms, and what guests may put into it."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from edgeagent.node.config_schema import LogSection
from edgeagent.node.guest_log import LINE_CHARACTERS_MAX, GuestLog
from edgeagent.node.log_stream import LogStream
from edgeagent.node.logs import configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_for_machines() -> None:
    stream = io.StringIO()
    configure(LogSection(level="info"), stream)
    log = structlog.get_logger("x")
    log.debug("hidden")
    log.info("seen", odd=object(), node="n")
    line = lines(stream)[0]
    assert (line["event"], line["level"], line["node"]) == ("seen", "info", "n")
    assert line["timestamp"].endswith("Z")
    assert "object" in line["odd"]


def test_an_exception_is_one_line() -> None:
    stream = io.StringIO()
    configure(LogSection(), stream)
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError:
        structlog.get_logger("x").exception("broke")
    assert "ZeroDivisionError: oh" in lines(stream)[0]["exception"]


def test_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    configure(LogSection(format="console", level="debug"), stream)
    structlog.get_logger("x").debug("seen", node="n")
    assert "seen" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    configure(LogSection(), terminal)
    structlog.get_logger("x").warning("seen")
    assert "\x1b[" in terminal.getvalue()


def test_priorities_for_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    stream = io.StringIO()
    configure(LogSection(), stream)
    structlog.get_logger("x").error("bad")
    structlog.get_logger("x").info("good")
    first, second = stream.getvalue().splitlines()
    assert first.startswith('<3>{"')
    assert second.startswith('<6>{"')


def test_lines_that_cannot_be_written_are_counted_and_said(tmp_path: Path) -> None:
    file = (tmp_path / "log").open("w")
    configure(LogSection(), file)
    log = structlog.get_logger("x")
    log.info("one")
    kept = os.dup(file.fileno())
    with Path("/dev/full").open("w") as full:
        os.dup2(full.fileno(), file.fileno())
    log.info("two")
    log.info("three")
    logging.getLogger("library").warning("four")
    os.dup2(kept, file.fileno())
    os.close(kept)
    log.info("five")
    log.info("six")
    file.close()
    first, second, third = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [line["event"] for line in (first, second, third)] == ["one", "five", "six"]
    assert second["lines_lost_before"] == 3
    assert "lines_lost_before" not in third


def test_a_line_cut_by_a_full_disk_does_not_swallow_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    real, room = os.write, [3]

    def write(descriptor: int, data: bytes) -> int:
        if not room:
            raise OSError(28, "No space left on device")
        return real(descriptor, bytes(data)[: room.pop()])

    with os.fdopen(writer, "w") as out:
        stream = LogStream(out)
        monkeypatch.setattr(os, "write", write)
        stream.write("abcdef\n")
        monkeypatch.setattr(os, "write", real)
        stream.write("next\n")
    with os.fdopen(reader) as found:
        assert found.read() == "abc\nnext\n"


def test_a_log_to_nowhere() -> None:
    closed = io.StringIO()
    closed.close()
    for nowhere in (None, closed):
        stream = LogStream(nowhere)
        assert not stream.isatty()
        assert stream.write("x\n") == 2
    assert stream.lost == 1


# -- guests ---------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def guest_log(**section: int) -> tuple[GuestLog, io.StringIO, Clock]:
    stream, clock = io.StringIO(), Clock()
    configure(LogSection(level="debug"), stream)
    return GuestLog(LogSection(**section), clock), stream, clock  # type: ignore[arg-type]


def test_lines_are_bound_to_their_function_and_cleaned() -> None:
    log, stream, _ = guest_log()
    log.write("f", [(4, b"bad \x1b[31m"), (9, b"\xff")], b"one\n\ntwo \x07\n")
    found = [(line["function"], line["level"], line["text"]) for line in lines(stream)]
    assert found[0] == ("f", "error", "bad \ufffd[31m")
    assert found[1] == ("f", "info", "\ufffd")
    assert [text for _, _, text in found[2:]] == ["one", "two \ufffd"]


def test_a_call_has_a_bound_and_what_is_left_out_is_said() -> None:
    log, stream, _ = guest_log(guest_lines_max=2)
    log.write("f", [(2, b"%d" % n) for n in range(5)], b"x" * 10_000)
    found = lines(stream)
    assert [line.get("text") for line in found] == ["0", "1", None]
    assert found[2]["lines"] == log.dropped == 4


def test_a_line_has_a_bound() -> None:
    log, stream, _ = guest_log()
    log.write("f", [], b"y" * 10_000)
    assert len(lines(stream)[0]["text"]) == LINE_CHARACTERS_MAX


def test_a_second_has_a_bound_for_the_whole_node() -> None:
    log, stream, clock = guest_log(guest_lines_per_s_max=3)
    for name in ("f", "g", "h"):
        log.write(name, [(2, b"a"), (2, b"b")], b"")
    assert sum("text" in line for line in lines(stream)) == 3
    assert log.dropped == 3
    clock.now_s = 1.0
    log.write("h", [(2, b"c")], b"")
    assert lines(stream)[-1]["text"] == "c"
