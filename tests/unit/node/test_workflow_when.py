"""Conditions: what they mean, and that nothing else is understood."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.errors import WorkflowRefused
from edgeagent.node.workflow_when import ALWAYS, parse_when


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("  ", True),
        ("exit == 3", True),
        ("exit != 3", False),
        ("bytes > 10", False),
        ("bytes >= 10", True),
        ("bytes<11", True),
        ("items <= 1.5", False),
        ("exit == -1", False),
        ("exit == 0 and items == 2", False),
        ("exit == 0 or items == 2", True),
        ("items == 2 or exit == 0 and bytes == 0", True),
        ("exit == 0 and items == 2 or bytes == 10", True),
        ("exit == 0 and items == 2 or exit == 1 and bytes == 10", False),
    ],
)
def test_what_holds_for_exit_3_ten_bytes_two_items(text: str, holds: bool) -> None:
    assert parse_when(text).holds(exit=3, bytes=10, items=2) is holds


def test_nothing_always_holds() -> None:
    assert parse_when("") == ALWAYS
    assert ALWAYS.holds()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("size > 1", "'size' is no name"),
        ("exit", "'' is no comparison"),
        ("exit =", "'=' is no comparison"),
        ("exit = 0", "'=' is no comparison"),
        ("exit ==", "'' is no number"),
        ("exit == exit", "'exit' is no number"),
        ("exit == 0 and", "nothing follows 'and'"),
        ("exit == 0 exit == 1", "where 'and' or 'or' would"),
        ("and exit == 0", "'and' is no name"),
        ("(exit == 0)", "not understood"),
        ("exit == 0x10", "not understood"),
        ("exit == 1e9", "not understood"),
        ("bytes == nan", "'nan' is no number"),
        ("__import__('os')", "not understood"),
        ("exit == 0; exit", "not understood"),
        ("exit == " + "9" * 300, "at most"),
    ],
)
def test_what_is_no_condition(text: str, said: str) -> None:
    with pytest.raises(WorkflowRefused) as refused:
        parse_when(text)
    assert said in refused.value.message
    assert "NAME OP NUMBER" in refused.value.hint


@given(st.text(max_size=80))
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    try:
        condition = parse_when(text)
    except WorkflowRefused:
        return
    assert condition.holds(exit=0, bytes=1, items=1) in {True, False}
