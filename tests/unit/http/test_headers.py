"""Request headers with meaning, and the trace context that goes out again."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.http.headers import new_traceparent, next_traceparent, read_invoke_headers
from edgeagent.model.errors import BadRequest


def test_nothing_said() -> None:
    found = read_invoke_headers({})
    assert not found.is_async
    assert found.idempotency_key is None
    assert found.deadline_ms == 0
    assert found.args is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("respond-async", True),
        ("Respond-Async", True),
        ("respond-async; wait=10", True),
        ("return=minimal, respond-async", True),
        ("respond-asynchronously", False),
        ("", False),
    ],
)
def test_prefer(value: str, expected: bool) -> None:
    assert read_invoke_headers({"Prefer": value}).is_async is expected


def test_quoted_keys_are_the_same_keys() -> None:
    assert read_invoke_headers({"Idempotency-Key": '"abc"'}).idempotency_key == "abc"


@given(st.text(max_size=80))
def test_any_value_is_read_or_refused(value: str) -> None:
    for name in ("Prefer", "Idempotency-Key", "Edgeagent-Deadline-Ms", "Edgeagent-Args", "traceparent"):
        with contextlib.suppress(BadRequest):
            read_invoke_headers({name: value})


@pytest.mark.parametrize(
    "invalid",
    [
        "",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
    ],
)
def test_invalid_contexts_start_a_new_trace(invalid: str) -> None:
    made = next_traceparent(invalid)
    assert len(made) == len(new_traceparent()) == 55
    assert "0af7651916cd43dd8448eb211c80319c" not in made


def test_later_versions_are_carried_too() -> None:
    later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes"
    assert next_traceparent(later).startswith("00-0af7651916cd43dd8448eb211c80319c-")
