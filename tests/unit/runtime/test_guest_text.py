"""Guests' text in logs: nothing that moves a terminal's cursor or lies about direction."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgeagent.runtime.guest_text import clean


def test_control_characters_are_replaced() -> None:
    assert clean(b"a\x1b[31mb\rc\x00\x7f\xc2\x9b") == "a\ufffd[31mb\ufffdc\ufffd\ufffd\ufffd"
    assert clean("keep\n\ttabs and ü".encode()) == "keep\n\ttabs and ü"
    assert clean("\u202eevil".encode()) == "\ufffdevil"
    assert clean(b"\xff\xfe") == "\ufffd\ufffd"
    assert clean(b"x" * 9000 + b"end", 5) == "xxend"


@given(st.binary(max_size=300))
def test_any_bytes_become_printable(raw: bytes) -> None:
    assert all(char.isprintable() or char in "\n\t" or not char.isascii() for char in clean(raw))
