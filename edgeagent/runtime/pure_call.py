"""One invocation of the pure engine: deadline, cancellation, and what it leaves behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Protocol, cast

import msgspec

from edgeagent.hose.sealed import sealed_memfd
from edgeagent.model import errors
from edgeagent.runtime.port import Ask, AskKind, LoadSpec, Payload, Window

__all__ = [
    "LOG_LINE_BYTES_MAX",
    "STDERR_BYTES_MAX",
    "Asked",
    "PureCall",
    "PureLease",
    "PureOutcome",
    "PurePayload",
    "StopGuest",
]

LOG_LINES_MAX = 256
LOG_LINE_BYTES_MAX = 1024
STDERR_BYTES_MAX = 64 << 10
BAD, FULL = -1, -5  # errors of edge_hose, as in sdk/edge_hose.h


class StopGuest(Exception):
    """Raised by a host function to end the guest; the call knows why."""


class PurePayload:
    """The port's Payload: bytes of the host, which every consumer copies."""

    def __init__(self, data: bytes, attachments: dict[int, bytes], hops: int = 0) -> None:
        self.attachments = attachments
        self.hops = hops  # how many runs were started by messages of each other before this
        self._data: bytes | None = data

    @property
    def size(self) -> int:
        return len(self._data or b"")

    @property
    def kind(self) -> str:
        return "" if self._data is None else "host"

    def share(self) -> bool:
        return False

    def read(self) -> bytes:
        if self._data is None:
            raise ValueError("the payload is closed")
        return self._data

    def export(self) -> tuple[int, int, int]:
        data = self.read()
        return sealed_memfd(data), 0, len(data)

    def close(self) -> None:
        self._data = None
        self.attachments = {}


class PureLease:
    """The port's Lease: plain memory, copied once more when it is published."""

    def __init__(self, count: int) -> None:
        self._bytes: bytearray | None = bytearray(count)

    @property
    def view(self) -> memoryview:
        if self._bytes is None:
            raise ValueError("the lease is closed")
        return memoryview(self._bytes)

    def publish(self, length: int) -> PurePayload:
        with self.view as view:
            return PurePayload(bytes(view[:length]), {})

    def close(self) -> None:
        self._bytes = None


class PureOutcome(msgspec.Struct, kw_only=True):
    """The port's Outcome as plain data."""

    output: bytes | memoryview = b""
    duration_us: int = 0
    exit_code: int = 0
    stderr: bytes = b""
    log: Sequence[tuple[int, bytes]] = ()
    inline: bool = False
    error: errors.EdgeError | None = None
    payload: PurePayload | None = None
    hose: tuple[int, int, int, int] = (0, 0, 0, 0)


class Asked(Protocol):
    """Who answers what guests ask; the twin of Asked in native/ask.hpp."""

    def about_to_wait(self) -> bool: ...
    def done_waiting(self) -> None: ...
    def post(self, ask: Ask) -> None: ...


class PureCall:
    """``wall_ms`` > 0 is the caller's limit, counted from now; the manifest's counts from ``begin``."""

    def __init__(
        self,
        spec: LoadSpec,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None,
        wall_ms: float,
        keep: bool = False,
    ) -> None:
        self.spec = spec
        self.keep = keep
        self.attachments: dict[int, bytes] = {}
        self.hops = body.hops if isinstance(body, PurePayload) else 0
        if isinstance(body, PurePayload):
            self.attachments = dict(body.attachments)
            self.body: bytes | memoryview = body.read()
        else:
            self.body = cast("bytes | memoryview", body)
        # A command copies what it reads of its standard input.
        self.copied_bytes = 0 if spec.info.abi == "command" else len(self.body)
        self.args = tuple(spec.args if args is None else args)
        self.future: asyncio.Future[PureOutcome] | None = None
        self.caller_deadline = time.monotonic() + wall_ms / 1000 if wall_ms > 0 else float("inf")
        self.deadline = self.caller_deadline
        self.failure: errors.EdgeError | None = None
        self.exit_code: int | None = None
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.log: list[tuple[int, bytes]] = []
        self.id = 0
        self.asked: Asked | None = None  # None: a synchronous call, whose asks are refused
        self.context: object = None
        # Of edge_state: a value whose length was told for a buffer that was too small, and the reply of a group.
        self.told: tuple[bytes, bytes | memoryview] | None = None
        self.reply: bytes | memoryview | None = None
        self.next: dict[int, bytes | memoryview] = {}  # messages told to the guest and not taken yet, by slot
        self._wakes = threading.Condition()
        self._is_cancelled = False
        self._answer: tuple[int, bytes | memoryview | None] | None = None

    def begin(self) -> None:
        self.deadline = min(self.caller_deadline, time.monotonic() + self.spec.limits.wall_ms / 1000)

    def cancel(self) -> None:
        with self._wakes:
            self._is_cancelled = True
            self._wakes.notify_all()

    def answer(self, status: int, data: bytes | memoryview | None) -> None:
        with self._wakes:
            self._answer = (status, data)
            self._wakes.notify_all()

    def ask(
        self,
        kind: AskKind,
        *,
        name: bytes = b"",
        slot: int = 0,
        may_wait: bool = True,
        data: bytes | None = None,
        extra: bytes = b"",
        window: Window | None = None,
    ) -> tuple[int, bytes | memoryview | None]:
        """Ask the node and wait for its answer; raises StopGuest at the deadline or when cancelled."""
        if self.asked is None:
            return BAD, None
        if not self.asked.about_to_wait():
            return FULL, None
        try:
            payload = None if data is None else PurePayload(data, {}, self.hops + 1)
            self.asked.post(
                Ask(self.id, self.spec.name, kind, name, slot, may_wait, payload, extra, self.context, window)
            )
            with self._wakes:
                while self._answer is None and not self.must_stop():
                    self._wakes.wait(max(0.0, self.deadline - time.monotonic()))
                answer, self._answer = self._answer, None
        finally:
            self.asked.done_waiting()
        if answer is None:
            raise StopGuest
        return answer

    def must_stop(self) -> bool:
        """Whether the guest must end now; sets why."""
        if self.failure is not None:
            return True
        if self._is_cancelled:
            self.failure = errors.Cancelled("the call was cancelled")
        elif time.monotonic() >= self.deadline:
            if self.deadline == self.caller_deadline:
                self.failure = errors.DeadlineExceeded("the caller's deadline passed")
            else:
                wall_ms = self.spec.limits.wall_ms
                self.failure = errors.DeadlineExceeded(f"the wall limit of {wall_ms} ms passed")
        return self.failure is not None

    def sleep_until(self, moment: float) -> None:
        """Wait until ``moment`` (monotonic); raises StopGuest at the deadline or when cancelled."""
        while not self.must_stop():
            left = min(moment, self.deadline) - time.monotonic()
            if left <= 0:
                return
            with self._wakes:
                if not self._is_cancelled:
                    self._wakes.wait(left)
        raise StopGuest

    def reserve_output(self, count: int) -> None:
        """Make sure that ``count`` more bytes fit; raises StopGuest when they are over the limit."""
        limit = self.spec.limits.output_bytes
        if len(self.stdout) + count > limit:
            self.failure = errors.OutputTooLarge(f"the output is over the limit of {limit} bytes")
            raise StopGuest

    def write_stderr(self, data: bytes) -> None:
        self.stderr += data
        if len(self.stderr) > 2 * STDERR_BYTES_MAX:
            del self.stderr[:-STDERR_BYTES_MAX]

    def wants_log(self) -> bool:
        return len(self.log) < LOG_LINES_MAX

    def stderr_tail(self) -> bytes:
        return bytes(self.stderr[-STDERR_BYTES_MAX:])
