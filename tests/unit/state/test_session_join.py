"""Tokens of steps that come together."""

from __future__ import annotations

from edgeagent.state.hlc import Version
from edgeagent.state.session import Session, joined_sessions, read_session


def test_what_both_have_seen_counts() -> None:
    one, other = Session(), Session()
    one.saw("a", Version(5, 0, "n"))
    other.saw("a", Version(7, 0, "n"))
    other.saw("b", Version(1, 0, "n"))
    both = read_session(joined_sessions(one.text(), other.text()))
    assert (both.least("a"), both.least("b")) == (Version(7, 0, "n"), Version(1, 0, "n"))
    assert joined_sessions("", other.text()) == other.text()
    assert joined_sessions("", "") == ""


def test_a_token_that_cannot_be_read_is_left_out() -> None:
    mine = Session()
    mine.saw("a", Version(5, 0, "n"))
    assert joined_sessions(mine.text(), "no token\r\nX: y") == mine.text()
    assert joined_sessions("", "%%%") == ""
