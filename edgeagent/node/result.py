"""What an invocation gives back, and how an async one stands."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["InvocationState", "InvocationView", "Result"]

InvocationState = Literal["queued", "running", "succeeded", "failed"]


class Result(msgspec.Struct, kw_only=True):
    """A success: the function's bytes and how they were made.

    ``duration_us`` covers the run, not the wait; ``cold`` tells that the function had to be loaded first,
    ``inline`` that the event loop's thread ran it, ``replayed`` that an earlier execution with the same
    Idempotency-Key answers.
    """

    output: bytes | memoryview
    duration_us: int = 0
    cold: bool = False
    inline: bool = False
    replayed: bool = False
    exit_code: int = 0


class InvocationView(msgspec.Struct, frozen=True, kw_only=True):
    """How an async invocation stands; ``problem`` is an RFC 9457 document when it has failed.

    Times are UTC, ISO 8601, "" while unknown.
    """

    id: str
    function: str
    state: InvocationState
    created_at: str
    finished_at: str = ""
    attempts: int = 0
    duration_us: int = 0
    exit_code: int = 0
    output: bytes = b""
    problem: dict[str, Any] | None = None
