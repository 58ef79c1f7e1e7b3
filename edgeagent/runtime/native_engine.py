"""The engine port over the C++ extension: which engines exist, where a function is loaded, and its futures.

The hot path is in ``native/``; this file only decides. Engines (``notes`` in docs/decisions/0002):

- ``small``: pooled, 256 KiB of each slot stay resident: about 6 us a call for guests that touch little memory.
- ``large``: pooled, 16 MiB stay resident; the native engine moves a function here when it sees page faults.
- on demand: made when a function needs another stack size, fuel, or does not fit a pool's slot.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
import wasmtime
from wasmtime import _ffi

from edgeagent import native
from edgeagent.hose.settings import HoseSettings
from edgeagent.model import errors
from edgeagent.model.function import ModuleInfo
from edgeagent.runtime import engine_config as ec
from edgeagent.runtime import port
from edgeagent.runtime.guest_text import clean
from edgeagent.runtime.port import (
    Ask,
    AskKind,
    ChainOutcome,
    EngineStats,
    Function,
    HoseStats,
    Lease,
    LoadSpec,
    Outcome,
    Payload,
)
from edgeagent.state.guest_layout import Code

__all__ = ["NativeEngine"]

SMALL_KEEP_BYTES = 256 << 10
LARGE_KEEP_BYTES = 16 << 20
# Inline calls are serial: when their sum since the loop last turned nears this, the next calls go to workers.
INLINE_BUDGET_US = 500

# Keep in step with Failure in native/outcome.hpp.
_FAILURES: dict[int, type[errors.EdgeError]] = {
    1: errors.GuestTrap,
    2: errors.StackOverflow,
    3: errors.OutOfFuel,
    4: errors.GuestExit,
    5: errors.BadGuestOutput,
    6: errors.OutputTooLarge,
    7: errors.DeadlineExceeded,
    8: errors.Cancelled,
    9: errors.WasmRefused,
    10: errors.Unavailable,
    11: errors.StorageFull,
}
_TRAPS = (1, 2, 3)
_PLAIN_NOWHERE = 2**64 - 1
_REFUSED = -1  # EDGE_HOSE_BAD
# Imports that may wait inside the host: such a function never runs on the event loop.
_MAY_BLOCK = {
    ("wasi_snapshot_preview1", "poll_oneoff"),
    *(("edge_hose", name) for name in ("recv_info", "recv", "open", "close", "accept", "send")),
}


def _make_error(
    kind: int, message: str, trap_code: int, exit_code: int, backtrace: list[str], stderr: bytes
) -> errors.EdgeError:
    details: dict[str, Any] = {}
    if kind in _TRAPS:
        details["code"] = trap_code if trap_code >= 0 else None
    if kind in _TRAPS or backtrace:
        details["backtrace"] = [clean(frame.encode()) for frame in backtrace]
    if kind == 4:
        details["exit_code"] = exit_code
    if stderr:
        details["stderr"] = clean(stderr)
    return _FAILURES[kind](clean(message.encode()), **details)


class _CallFuture(asyncio.Future[Outcome]):
    """The future of a call that a worker has; cancelling it stops the guest."""

    call_id: int
    context: object
    stop_guest: Callable[[int], None]

    def cancel(self, msg: Any | None = None) -> bool:
        if not self.done():
            self.stop_guest(self.call_id)
        return super().cancel(msg)


class _NativeFunction:
    def __init__(self, engine: NativeEngine, handle: Any) -> None:
        self._engine = engine
        self._handle = handle

    def call(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> Outcome:
        return cast(Outcome, self._opened().call(body, args, wall_ms, keep, move))

    def start(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
        context: object = None,
    ) -> Outcome | asyncio.Future[Outcome]:
        engine = self._engine
        started = self._opened().start(body, args, wall_ms, engine.inline_left_us > 0, keep, move)
        if type(started) is int:
            return engine._future_of(started, context)
        outcome = cast(Outcome, started)
        engine._spend_inline(outcome.duration_us)
        return outcome

    def call_chain(
        self,
        then: Sequence[Function],
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> ChainOutcome:
        outcome = self._opened().call(body, args, wall_ms, keep, move, _handles(then))
        return cast(ChainOutcome, outcome)

    def start_chain(
        self,
        then: Sequence[Function],
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> asyncio.Future[ChainOutcome]:
        call_id = self._opened().start(body, args, wall_ms, False, keep, move, _handles(then))
        return cast("asyncio.Future[ChainOutcome]", self._engine._future_of(call_id, None))

    def close(self) -> None:
        self._handle = None

    def _opened(self) -> Any:
        if self._handle is None:
            raise errors.Unavailable("the function is closed")
        return self._handle


def _handles(functions: Sequence[Function]) -> list[Any]:
    return [cast(_NativeFunction, function)._opened() for function in functions]


class _NativeLease:
    def __init__(self, core: Any, count: int) -> None:
        self._core = core
        self._lease: Any = core.lease(count)
        if self._lease is None:
            raise MemoryError(f"no hose of {count} bytes is to be had (hose.pool_bytes_max)")

    @property
    def view(self) -> memoryview:
        return memoryview(self._lease)

    def publish(self, length: int) -> Payload:
        lease, self._lease = self._lease, None
        return cast(Payload, self._core.publish(lease, length))

    def close(self) -> None:
        self._lease = None


class NativeEngine:
    """See :mod:`edgeagent.runtime.port`; construct through ``open_engine``."""

    accelerated = True

    def __init__(
        self, *, workers: int, small_slots: int, large_slots: int, target: ec.Target, inline: bool
    ) -> None:
        if native.core is None:
            raise errors.Unavailable(f"the native engine is not available: {native.why_not}")
        native.core.open_library(str(_ffi.filename), ec.wheel_version())
        native.core.set_error_factory(_make_error)
        self._core = native.core.Engine(workers)
        self._target: ec.Target = target
        self._lock = threading.Lock()
        self._keep_alive: list[wasmtime.Engine] = []
        self._pools: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._futures: dict[int, _CallFuture] = {}
        self._asked: Callable[[Ask], None] | None = None
        self._ended: Callable[[int], None] | None = None
        self._have_asked: set[int] = set()
        self._closed = False
        self._inline_budget_us = INLINE_BUDGET_US if inline else 0
        self.inline_left_us = self._inline_budget_us
        self._refill_armed = False
        self._add_pooled("small", small_slots, SMALL_KEEP_BYTES)
        self._add_pooled("large", large_slots, LARGE_KEEP_BYTES)

    def load(self, code: port.Code, spec: LoadSpec) -> Function:
        pools = self._pools_for(spec)
        plain = _spec_dict(spec)
        try:
            handle = self._core.load(plain, code.path, pools)
        except RuntimeError as first:
            demand = self._on_demand(spec)
            if demand in pools:
                raise errors.WasmRefused(f"wasmtime does not take the module: {first}") from None
            try:  # larger than a pool's slot: more tables, a larger minimum memory
                handle = self._core.load(plain, code.path, [demand])
            except RuntimeError as error:
                raise errors.WasmRefused(f"wasmtime does not take the module: {error}") from None
        return _NativeFunction(self, handle)

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.add_reader(self._core.event_fd(), self._resolve_done)

    def stats(self) -> EngineStats:
        live, workers, busy, queued, inline_calls, worker_calls, overruns = self._core.stats()
        return EngineStats(
            live_instances=live,
            workers=workers,
            workers_busy=busy,
            queued=queued,
            inline_calls=inline_calls,
            worker_calls=worker_calls,
            inline_overruns=overruns,
        )

    def use_hoses(self, settings: HoseSettings) -> None:
        self._core.set_hoses(
            msgspec.to_builtins(settings.crossovers)
            | {"pool_bytes_max": settings.pool_bytes_max, "idle_ms": settings.idle_ms}
        )

    def hose_stats(self) -> HoseStats:
        return HoseStats(**dict(zip(HoseStats.__struct_fields__, self._core.hose_stats(), strict=True)))

    def hose_missing(self) -> Sequence[str]:
        return cast("list[str]", native.core.missing_features()) if native.core is not None else ()

    def serve(self, asked: Callable[[Ask], None], ended: Callable[[int], None]) -> None:
        self._asked, self._ended = asked, ended

    def answer(self, call_id: int, status: int, payload: Payload | None = None) -> None:
        self._core.answer(call_id, status, payload)

    def lease(self, count: int) -> Lease:
        return _NativeLease(self._core, count)

    def payload_of(self, data: bytes | memoryview) -> Payload:
        return cast(Payload, self._core.payload_of(data))

    def adopt(self, fd: int, offset: int, count: int) -> Payload:
        return cast(Payload, self._core.adopt(fd, offset, count))

    def settle_hoses(self) -> None:
        """Wait until no hose is left to be cleared; for benchmarks and tests."""
        self._core.settle_hoses()

    def trim_hoses(self) -> None:
        """Free what nobody has borrowed; for benchmarks and tests."""
        self._core.trim_hoses()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._core.stop()
        self._core.trim_hoses()  # else they stay until they were idle for long enough
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._core.event_fd())
            self._resolve_done()
        for future in self._futures.values():
            if not future.done() and not future.get_loop().is_closed():
                future.set_exception(errors.Cancelled("the engine was closed"))
        self._futures.clear()

    # -- hot path helpers, on the loop's thread ---------------------------------------------------------------------

    def _future_of(self, call_id: int, context: object) -> _CallFuture:
        future = _CallFuture(loop=self._loop)
        future.call_id = call_id
        future.context = context
        future.stop_guest = self._core.cancel
        self._futures[call_id] = future
        return future

    def _spend_inline(self, duration_us: int) -> None:
        self.inline_left_us -= duration_us
        if not self._refill_armed and self.inline_left_us < self._inline_budget_us // 2 and self._loop:
            # Refilled when the loop turns: a scheduled callback, and only for every few dozen short calls.
            self._refill_armed = True
            self._loop.call_soon(self._refill_inline)

    def _refill_inline(self) -> None:
        self.inline_left_us = self._inline_budget_us
        self._refill_armed = False

    def _resolve_done(self) -> None:
        for call_id, outcome in self._core.take_done():
            future = self._futures.pop(call_id, None)
            if future is not None and not future.done():
                future.set_result(outcome)
            if call_id in self._have_asked:
                self._have_asked.discard(call_id)
                if self._ended is not None:
                    self._ended(call_id)
        for call_id, function, kind, name, slot, may_wait, payload, extra, window in self._core.take_asks():
            future = self._futures.get(call_id)
            if future is not None:  # else it was over before the loop turned
                context = future.context
                asked = AskKind(kind)
                self._forward(
                    Ask(call_id, function, asked, name, slot, may_wait, payload, extra, context, window)
                )

    def _forward(self, ask: Ask) -> None:
        if self._asked is None:
            is_off = ask.kind.is_state or ask.kind >= AskKind.ACCEL_CALL
            self._core.answer(ask.call_id, Code.OFF if is_off else _REFUSED)
            return
        self._have_asked.add(ask.call_id)
        self._asked(ask)

    # -- engines ----------------------------------------------------------------------------------------------------

    def _add_pooled(self, name: str, slots: int, keep_bytes: int) -> None:
        fitting = ec.pool_slots_that_fit(slots)
        if fitting:
            settings = ec.Settings(target=self._target)
            self._add(name, ec.pooled_engine(settings, fitting, keep_bytes), fitting, keep_bytes)

    def _add(self, name: str, engine: wasmtime.Engine, slots: int, keep_bytes: int = 0) -> int:
        pointer = ctypes.cast(engine.ptr(), ctypes.c_void_p).value
        self._keep_alive.append(engine)
        self._pools[name] = self._core.add_pool(pointer, slots, name == "large", keep_bytes)
        return self._pools[name]

    def _on_demand(self, spec: LoadSpec) -> int:
        fuel, stack = spec.limits.fuel > 0, ec.stack_step(spec.limits.stack_bytes)
        name = f"demand-{stack}-{fuel}"
        with self._lock:
            if name not in self._pools:
                settings = ec.Settings(fuel=fuel, target=self._target)
                self._add(name, ec.on_demand_engine(settings, stack), 0)
            return self._pools[name]

    def _pools_for(self, spec: LoadSpec) -> list[int]:
        pooled = [self._pools[name] for name in ("small", "large") if name in self._pools]
        if spec.limits.fuel or spec.limits.stack_bytes != ec.DEFAULT_STACK_BYTES or not pooled:
            return [self._on_demand(spec)]
        return pooled


def _may_block(info: ModuleInfo) -> bool:
    return any(
        item.module in {"edge_state", "edge_accel", "wasi_ephemeral_nn"}
        or (item.module, item.name) in _MAY_BLOCK
        for item in info.imports
    )


def _spec_dict(spec: LoadSpec) -> dict[str, Any]:
    limits = spec.limits
    return {
        "name": spec.name,
        "abi": spec.info.abi or "bytes",
        "memory_bytes": limits.memory_bytes,
        "output_bytes": limits.output_bytes,
        "wall_ms": limits.wall_ms,
        "fuel": limits.fuel,
        "stack_bytes": limits.stack_bytes,
        "args": list(spec.args),
        "env": [f"{name}={value}" for name, value in spec.env.items()],
        "scratch_dir": spec.scratch_dir,
        "scratch_bytes_max": spec.scratch_bytes_max,
        "may_block": _may_block(spec.info),
        "has_start": spec.info.has_start,
        "needs_wasi": any(item.module == "wasi_snapshot_preview1" for item in spec.info.imports),
        "uses_hose": any(item.module == "edge_hose" for item in spec.info.imports),
        "has_alloc": spec.info.exports_function("edge_alloc"),
        "has_aligned_alloc": spec.info.exports_function("edge_alloc_aligned"),
        "data_end": _PLAIN_NOWHERE if spec.info.data_end_bytes is None else spec.info.data_end_bytes,
        "has_initialize": any(item.name == "_initialize" for item in spec.info.exports),
    }
