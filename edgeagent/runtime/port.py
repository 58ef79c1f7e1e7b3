"""The engine port: what every engine (native or pure Python) offers to the rooms above.

Rules of the port, held by ``tests/contract/test_engine_*.py`` for each implementation:

1. Every invocation gets a fresh store and instance; nothing of one invocation is seen by another.
2. ``call`` runs on the calling thread; ``start`` never blocks the event loop for more than the inline budget and
   returns either the finished outcome or a future of it.
3. A guest's failure is data: the outcome's ``error`` holds a typed error and nothing is raised. Only misuse of the
   engine (closed, wrong thread) and a lack of capacity (``Busy``) raise.
4. Cancelling the future stops the guest within about two epoch ticks.
5. After ``close`` no guest runs, every pending future is done, and ``live_instances`` is 0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec

from edgeagent.hose.settings import HoseSettings
from edgeagent.model.errors import EdgeError
from edgeagent.model.function import Limits, ModuleInfo

__all__ = [
    "Ask",
    "AskKind",
    "ChainFunction",
    "ChainOutcome",
    "Code",
    "Engine",
    "EngineStats",
    "Function",
    "Handover",
    "HoseSource",
    "HoseStats",
    "Lease",
    "LoadSpec",
    "Outcome",
    "PassedOutcome",
    "Payload",
    "Window",
]


class Handover(NamedTuple):
    """How a call's input reached it: index into ``hose.settings.TIERS``, bytes copied and mapped, time taken."""

    tier: int = 0
    copied_bytes: int = 0
    mapped_bytes: int = 0
    duration_ns: int = 0


class Payload(Protocol):
    """A function's output on its way to other functions, and whatever keeps it alive.

    ``kind`` tells where it lies: ``guest`` (the producer's memory, whose instance waits), ``hose``, ``host``, or ``""``
    once it has been moved into a consumer. ``share`` copies it into a hose, once, for any number of consumers; False
    where there is none to be had (it can be read by several all the same, each copies it). ``read`` gives the bytes;
    raises ValueError when they were moved or the payload is closed. ``close`` lets it go; idempotent.
    """

    @property
    def size(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def hops(self) -> int:
        """How many runs started each other by messages before the one that made it; it can be set."""
        ...

    @hops.setter
    def hops(self, hops: int) -> None: ...
    def share(self) -> bool: ...
    def read(self) -> bytes | memoryview: ...
    def export(self) -> tuple[int, int, int]:
        """(descriptor, offset, bytes) of a sealed memfd for another process; raises RuntimeError. Close the first."""
        ...

    def close(self) -> None: ...


class Lease(Protocol):
    """Memory that the host fills and then publishes as a payload; any thread, one at a time."""

    @property
    def view(self) -> memoryview:
        """Writable bytes. No slice of it may be left when it is published."""
        ...

    def publish(self, length: int) -> Payload:
        """The first ``length`` bytes, which nobody may change from now on. Once, and not after ``close``."""
        ...

    def close(self) -> None:
        """Give the memory back, unless it was published; idempotent."""
        ...


class HoseSource(Protocol):
    """Bytes of a hose, which is kept for as long as this is: a descriptor to read by, and where they begin in it."""

    @property
    def fd(self) -> int: ...
    @property
    def offset(self) -> int: ...


class Window(Protocol):
    """The whole memory of a guest that waits for what it has asked, for somebody who works there. From any thread.

    The memory stays for as long as somebody is inside, whatever becomes of the call, so that nobody should be for long.
    """

    @property
    def size(self) -> int: ...
    def enter(self) -> memoryview:
        """Writable bytes; ``leave`` must follow, and no view of them be left then. Raises ValueError: it is over."""
        ...

    def leave(self) -> None: ...

    def source(self, start: int, count: int) -> HoseSource | None:
        """Where so many bytes lie in a hose, if they are still what the guest got by it. None: nowhere, or nobody
        knows: copy them. It looks at the list of pages, so that a thread is the place to ask for much.
        """
        ...


class AskKind(IntEnum):
    """What a running guest wants of the node; as in native/ask.hpp."""

    OPEN = 0
    CLOSE = 1
    ACCEPT = 2
    SEND = 3
    NEXT = 4
    STATE_GET = 5
    STATE_PUT = 6
    STATE_DELETE = 7
    STATE_LIST = 8
    STATE_CAS = 9
    STATE_GROUP = 10
    STATE_VERSION = 11
    ACCEL_CALL = 12
    ACCEL_QUERY = 13
    NN_CALL = 14

    @property
    def is_state(self) -> bool:
        return AskKind.STATE_GET <= self <= AskKind.STATE_VERSION

    @property
    def is_accel(self) -> bool:
        return AskKind.ACCEL_CALL <= self <= AskKind.ACCEL_QUERY


class Ask(NamedTuple):
    """A guest waits for the answer to this: ``edge_hose`` open, close, accept and send of ``name`` (as the guest gave
    it), or the next message of ``slot``; ``edge_state`` of the key ``name``, with the flags of a put as ``slot`` and as
    ``extra`` the version of a cas or the key that a listing goes on after; ``edge_accel`` of the kernel ``name``, with
    its description as ``extra`` and the guest's memory as ``window``; the function ``slot`` of
    ``wasi_ephemeral_nn``, with its arguments, 32 bits each, as ``extra`` and the guest's memory as ``window``.
    ``call_id`` names the call for as long as it runs, ``context`` is what ``start`` was given.
    """

    call_id: int
    function: str
    kind: AskKind
    name: bytes
    slot: int
    may_wait: bool
    payload: Payload | None
    extra: bytes = b""
    context: object = None
    window: Window | None = None


class Outcome(Protocol):
    """What one invocation came to.

    ``output`` is bytes-like (``bytes`` up to 64 KiB, a read-only ``memoryview`` above); ``duration_us`` covers
    instantiation to copy-out; ``exit_code`` is 0 unless a command left with another; ``stderr`` is the raw bounded
    tail of a command's standard error; ``log`` are ``edge_log`` lines as (level, raw text), bounded; ``inline``
    tells whether the event loop's thread ran it. ``payload`` is the output of a call that was asked to keep it, and
    ``output`` is empty then; outputs below 32 KiB come as ``output`` all the same, unless messages go with them.
    ``hose`` is (tier, bytes copied, bytes mapped, ns) of the input's hand-over.
    """

    @property
    def output(self) -> bytes | memoryview: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def exit_code(self) -> int: ...
    @property
    def stderr(self) -> bytes: ...
    @property
    def log(self) -> Sequence[tuple[int, bytes]]: ...
    @property
    def inline(self) -> bool: ...
    @property
    def payload(self) -> Payload | None: ...
    @property
    def hose(self) -> tuple[int, int, int, int]: ...
    @property
    def error(self) -> EdgeError | None: ...


class PassedOutcome(Outcome, Protocol):
    """Of a call of a chain whose output, of so many bytes, the next one had."""

    @property
    def passed_bytes(self) -> int: ...


class ChainOutcome(Outcome, Protocol):
    """Of the call that ended a chain: its last one, or the one that failed. ``earlier``: those before it."""

    @property
    def earlier(self) -> Sequence[PassedOutcome]: ...


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """Checked, immutable machine code: ``path`` names a sealed memfd (or a private file) that is safe to map."""

    path: str
    sha256: str
    size_bytes: int


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that an engine needs to make a module callable."""

    name: str
    info: ModuleInfo
    limits: Limits
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    scratch_dir: str = ""  # parent of private scratch directories; "" = no scratch
    scratch_bytes_max: int = 0


class Function(Protocol):
    """A loaded function; safe to use from any thread, closed by the engine at the latest."""

    def call(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> Outcome:
        """Run on the calling thread. ``args`` replaces the manifest's; ``wall_ms`` > 0 shortens its wall limit.

        ``keep`` leaves the output where it is, as ``payload``. ``move`` lets the pages of a payload be taken: nobody
        else may need it afterwards.
        """
        ...

    def start(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
        context: object = None,
    ) -> Outcome | asyncio.Future[Outcome]:
        """Run inline when history says it is short, else on a worker; only on the attached loop's thread.

        ``context`` comes with all that the call asks.
        """
        ...

    def close(self) -> None: ...


@runtime_checkable
class ChainFunction(Function, Protocol):
    """A function whose engine runs whole chains on one thread: nobody has to wake up between two calls, and the next
    one's instance is there when the one before it returns.

    ``then`` are functions of the same engine; each gets the output of the one before. ``wall_ms`` > 0 bounds all of
    them together, ``args`` are the first one's, and ``keep`` is about the last one's output.
    """

    def call_chain(
        self,
        then: Sequence[Function],
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> ChainOutcome:
        """Run on the calling thread."""
        ...

    def start_chain(
        self,
        then: Sequence[Function],
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> asyncio.Future[ChainOutcome]:
        """Run on a worker; only on the attached loop's thread. Cancelling the future stops the guest that runs."""
        ...


class EngineStats(msgspec.Struct, frozen=True, kw_only=True):
    live_instances: int
    workers: int
    workers_busy: int
    queued: int
    inline_calls: int
    worker_calls: int
    inline_overruns: int


class HoseStats(msgspec.Struct, frozen=True, kw_only=True):
    """The hose pool: bytes of all hoses and of idle ones, how many there are, with 2 MiB pages, made in all; loans
    that could not be had; hoses that had to be cleared while a guest waited; instances that are set aside, for the
    kernel would not take their windows away.
    """

    bytes: int = 0
    idle_bytes: int = 0
    hoses: int = 0
    huge: int = 0
    made: int = 0
    refused: int = 0
    cleared_in_line: int = 0
    quarantined: int = 0


class Engine(Protocol):
    @property
    def accelerated(self) -> bool: ...
    def load(self, code: Code, spec: LoadSpec) -> Function:
        """Make ``code`` callable; raises WasmRefused when the engine cannot take it. Blocking: call on a thread."""
        ...

    def attach(self, loop: asyncio.AbstractEventLoop) -> None: ...
    def stats(self) -> EngineStats: ...
    def use_hoses(self, settings: HoseSettings) -> None:
        """Before the first call."""
        ...

    def hose_stats(self) -> HoseStats: ...
    def hose_missing(self) -> Sequence[str]:
        """What hoses lack on this kernel, by names of system calls: bytes are copied where they would need it."""
        ...

    def serve(self, asked: Callable[[Ask], None], ended: Callable[[int], None]) -> None:
        """Who answers what guests ask: ``asked`` on the attached loop's thread, ``ended`` (call id) once when a call
        that has asked something is over. Without it every ask is refused.
        """
        ...

    def answer(self, call_id: int, status: int, payload: Payload | None = None) -> None:
        """The answer to a call's ask: an error of edge_hose, edge_state or edge_accel, 0, a slot, or 0 with the next
        message or value. From the loop's thread; of a call that is over it is dropped. The payload stays the
        caller's to close.
        """
        ...

    def lease(self, count: int) -> Lease:
        """Memory for ``count`` bytes from elsewhere. Raises MemoryError. From any thread."""
        ...

    def payload_of(self, data: bytes | memoryview) -> Payload:
        """Bytes of the host as a payload (copied)."""
        ...

    def adopt(self, fd: int, offset: int, count: int) -> Payload:
        """A range of another process's sealed memfd as a payload; ``fd`` stays the caller's. Raises ValueError."""
        ...

    def close(self) -> None:
        """Cancel what runs, join the threads, resolve every future; idempotent."""
        ...
