"""What an invocation gives back, and how an async one stands."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from edgeagent.runtime.port import Handover, Payload

__all__ = ["InvocationState", "InvocationView", "Result", "Step"]

InvocationState = Literal["queued", "running", "succeeded", "failed"]


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One function of a chain: how its input reached it, and what it took. ``node``: which ran it, "" for this
    one; ``hose`` is "wire" where ``wire_bytes`` came from another host for it. ``energy_uj`` and ``gpu_us`` as in
    Result.
    """

    function: str
    duration_us: int
    cold: bool
    hose: str
    copied_bytes: int
    mapped_bytes: int
    bytes_in: int
    bytes_out: int
    node: str = ""
    wire_bytes: int = 0
    energy_uj: int = 0
    gpu_us: int = 0


class Result(msgspec.Struct, kw_only=True):
    """A success: the function's bytes and how they were made.

    ``duration_us`` covers the run, not the wait; ``cold`` tells that the function had to be loaded first,
    ``inline`` that the event loop's thread ran it, ``replayed`` that an earlier execution with the same
    Idempotency-Key answers. ``payload`` is the output of a run that was asked to keep it, ``hose`` how its input
    reached it, ``steps`` the functions of a chain. ``session`` is the token of the state that the run has seen,
    ``backend`` what ran the kernels that it called, of a chain those of the last function. ``energy_uj`` are the
    microjoules that it drew over idle, an estimate (docs/energy.md); 0 where it did not run for this answer.
    ``gpu_us``: how long GPUs worked for it.
    """

    output: bytes | memoryview
    duration_us: int = 0
    cold: bool = False
    inline: bool = False
    replayed: bool = False
    exit_code: int = 0
    payload: Payload | None = None
    hose: Handover = Handover()
    steps: tuple[Step, ...] = ()
    session: str = ""
    backend: Literal["cpu", "gpu"] = "cpu"
    energy_uj: int = 0
    gpu_us: int = 0


class InvocationView(msgspec.Struct, frozen=True, kw_only=True):
    """How an async invocation stands; ``problem`` is an RFC 9457 document when it has failed.

    Times are UTC, ISO 8601, "" while unknown. ``duration_us`` and ``exit_code`` are None where there is none: before
    the end, and of a run that failed otherwise than by exiting.
    """

    id: str
    function: str
    state: InvocationState
    created_at: str
    finished_at: str = ""
    attempts: int = 0
    duration_us: int | None = None
    exit_code: int | None = None
    output: bytes = b""
    problem: dict[str, Any] | None = None
