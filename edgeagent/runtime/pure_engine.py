"""The engine port in pure Python over wasmtime-py: the same results as the native engine, slower.

Guests always run on worker threads or, for ``call``, on the caller's: there is no inline path without fibers.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence

import wasmtime

from edgeagent.hose.descriptors import check_frame
from edgeagent.hose.settings import HoseSettings
from edgeagent.model import errors
from edgeagent.runtime import engine_config as ec
from edgeagent.runtime.port import (
    Ask,
    AskKind,
    Code,
    EngineStats,
    HoseStats,
    Lease,
    LoadSpec,
    Outcome,
    Payload,
)
from edgeagent.runtime.pure_call import PureCall, PureLease, PureOutcome, PurePayload
from edgeagent.runtime.pure_host import define_host_functions
from edgeagent.runtime.pure_run import Source, run_call
from edgeagent.state import guest_layout

__all__ = ["PureEngine"]

_TICK_S = 0.001
# Guests and host functions share the stack of the thread they run on.
_THREAD_STACK_BYTES = ec.STACK_BYTES_MAX + (4 << 20)
_CALLER_STACK_MAX = 2 << 20
_KEEP_BYTES = 256 << 10
# Calls that wait for the node at once; each has a thread to itself meanwhile.
_WAITING_MAX = 256
_REFUSED = -1  # EDGE_HOSE_BAD


class PureFunction:
    def __init__(self, engine: PureEngine, source: Source, spec: LoadSpec) -> None:
        self._engine = engine
        self._source: Source | None = source
        self._spec = spec

    def call(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
    ) -> Outcome:
        call = PureCall(self._spec, body, args, wall_ms, keep)
        source = self._opened()
        if self._spec.limits.stack_bytes > _CALLER_STACK_MAX:
            return self._engine.run_on_worker(source, call)
        return self._engine.run_here(source, call)

    def start(
        self,
        body: bytes | memoryview | Payload,
        args: Sequence[str] | None = None,
        wall_ms: float = 0,
        keep: bool = False,
        move: bool = True,
        context: object = None,
    ) -> Outcome | asyncio.Future[Outcome]:
        call = PureCall(self._spec, body, args, wall_ms, keep)
        call.context = context
        return self._engine.submit(self._opened(), call)

    def close(self) -> None:
        self._source = None

    def _opened(self) -> Source:
        self._engine.check_open()
        if self._source is None:
            raise errors.Unavailable("the function is closed")
        return self._source


class _CallFuture(asyncio.Future[Outcome]):
    """Cancelling it stops the guest."""

    call: PureCall

    def cancel(self, msg: object = None) -> bool:
        self.call.cancel()
        return super().cancel(msg)


_Job = tuple[Source, PureCall, "_CallFuture | queue.SimpleQueue[PureOutcome]"]


class PureEngine:
    """See :mod:`edgeagent.runtime.port`; construct through ``open_engine``."""

    accelerated = False

    def __init__(self, *, workers: int, target: ec.Target, slots: int) -> None:
        self._target: ec.Target = target
        self.closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._in_flight: set[PureCall] = set()
        self._submitted: dict[int, PureCall] = {}
        self._have_asked: set[int] = set()
        self._asked: Callable[[Ask], None] | None = None
        self._ended: Callable[[int], None] | None = None
        self._next_id = 1
        self._waiting = 0
        self._live = self._busy = self._worker_calls = self._queued = 0
        self._engines: dict[str, tuple[wasmtime.Engine, wasmtime.Linker]] = {}
        self._ticking = threading.Event()
        self._add_pooled(slots)
        self._ticker = threading.Thread(target=self._tick, name="edge-ticker", daemon=True)
        self._workers_wanted = workers  # that do not wait
        self._workers: list[threading.Thread] = []
        self._start_threads([self._ticker, *(self._new_worker() for _ in range(workers))])

    # -- loading ----------------------------------------------------------------------------------------------------

    def load(self, code: Code, spec: LoadSpec) -> PureFunction:
        pooled = (
            spec.limits.fuel == 0
            and spec.limits.stack_bytes == ec.DEFAULT_STACK_BYTES
            and "pool" in self._engines
        )
        try:
            if pooled:
                try:
                    return PureFunction(self, self._source(code, "pool"), spec)
                except wasmtime.WasmtimeError:
                    pass  # larger than a slot: more tables, a larger minimum memory
            return PureFunction(self, self._source(code, self._on_demand(spec)), spec)
        except wasmtime.WasmtimeError as error:
            text = str(error).replace("\n", " ")[:600]
            raise errors.WasmRefused(f"wasmtime does not take the module: {text}") from None

    def _source(self, code: Code, engine_name: str) -> Source:
        engine, linker = self._engines[engine_name]
        module = wasmtime.Module.deserialize_file(engine, code.path)
        return Source(engine, linker.instantiate_pre(module))

    def _add(self, name: str, engine: wasmtime.Engine) -> None:
        linker = wasmtime.Linker(engine)
        define_host_functions(linker)
        self._engines[name] = (engine, linker)

    def _add_pooled(self, slots: int) -> None:
        fitting = ec.pool_slots_that_fit(slots)
        if fitting:
            self._add("pool", ec.pooled_engine(ec.Settings(target=self._target), fitting, _KEEP_BYTES))

    def _on_demand(self, spec: LoadSpec) -> str:
        fuel, stack = spec.limits.fuel > 0, ec.stack_step(spec.limits.stack_bytes)
        name = f"demand-{stack}-{fuel}"
        with self._lock:
            if name not in self._engines:
                self._add(name, ec.on_demand_engine(ec.Settings(fuel=fuel, target=self._target), stack))
        return name

    # -- running ----------------------------------------------------------------------------------------------------

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run_here(self, source: Source, call: PureCall) -> PureOutcome:
        with self._lock:
            self._in_flight.add(call)
            if self.closed:
                call.cancel()
            self._live += 1
            self._ticking.set()
        try:
            return run_call(source, call)
        finally:
            with self._lock:
                self._in_flight.discard(call)
                self._live -= 1
                if self._live == 0:
                    self._ticking.clear()

    def run_on_worker(self, source: Source, call: PureCall) -> PureOutcome:
        answer: queue.SimpleQueue[PureOutcome] = queue.SimpleQueue()
        self._enqueue((source, call, answer))
        return answer.get()

    def submit(self, source: Source, call: PureCall) -> asyncio.Future[Outcome]:
        future = _CallFuture(loop=self._loop)
        future.call = call
        call.asked, call.id = self, self._next_id
        self._next_id += 1
        self._enqueue((source, call, future))
        return future

    def _enqueue(self, job: _Job) -> None:
        with self._lock:  # so that nothing is queued behind the mark that ends the workers
            self.check_open()
            self._queued += 1
            self._in_flight.add(job[1])
            if job[1].id:
                self._submitted[job[1].id] = job[1]
            self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            source, call, to = job
            with self._lock:
                self._queued -= 1
                self._busy += 1
                self._worker_calls += 1
            outcome = self.run_here(source, call)
            with self._lock:
                self._busy -= 1
            if isinstance(to, _CallFuture):
                self._resolve(to, outcome)
            else:
                to.put(outcome)
            with self._lock:
                if len(self._workers) - self._waiting > self._workers_wanted and not self.closed:
                    self._workers.remove(threading.current_thread())
                    return

    def _resolve(self, future: _CallFuture, outcome: PureOutcome) -> None:
        def resolve() -> None:
            self._submitted.pop(future.call.id, None)
            if not future.done():
                future.set_result(outcome)
            if future.call.id in self._have_asked:
                self._have_asked.discard(future.call.id)
                if self._ended is not None:
                    self._ended(future.call.id)

        try:
            future.get_loop().call_soon_threadsafe(resolve)
        except RuntimeError:
            return  # the loop has closed: nobody waits

    def _new_worker(self) -> threading.Thread:
        self._workers.append(threading.Thread(target=self._work, name="edge-worker", daemon=True))
        return self._workers[-1]

    def _start_threads(self, threads: Sequence[threading.Thread]) -> None:
        before = threading.stack_size(_THREAD_STACK_BYTES)
        try:
            for thread in threads:
                thread.start()
        finally:
            threading.stack_size(before)

    # -- what guests ask ----------------------------------------------------------------------------------------------

    def serve(self, asked: Callable[[Ask], None], ended: Callable[[int], None]) -> None:
        self._asked, self._ended = asked, ended

    def answer(self, call_id: int, status: int, payload: Payload | None = None) -> None:
        if (call := self._submitted.get(call_id)) is not None:
            call.answer(status, None if payload is None else payload.read())

    def lease(self, count: int) -> Lease:
        return PureLease(count)

    def payload_of(self, data: bytes | memoryview) -> Payload:
        return PurePayload(bytes(data), {})

    def about_to_wait(self) -> bool:
        with self._lock:
            if self._waiting >= _WAITING_MAX or self.closed:
                return False
            self._waiting += 1
            if len(self._workers) - self._waiting < self._workers_wanted:
                self._start_threads([self._new_worker()])
        return True

    def done_waiting(self) -> None:
        with self._lock:
            self._waiting -= 1

    def post(self, ask: Ask) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._forward, ask)
        except RuntimeError:
            return  # the loop has closed: the call ends by its deadline, or when the engine is closed

    def _forward(self, ask: Ask) -> None:
        if ask.call_id not in self._submitted:
            return  # it was over before the loop turned
        if self._asked is None:
            self.answer(
                ask.call_id,
                guest_layout.Code.OFF if ask.kind.is_state or ask.kind >= AskKind.ACCEL_CALL else _REFUSED,
            )
            return
        self._have_asked.add(ask.call_id)
        self._asked(ask)

    def _tick(self) -> None:
        while not self.closed:
            self._ticking.wait()
            time.sleep(_TICK_S)
            for engine, _ in list(self._engines.values()):
                engine.increment_epoch()

    # -- end --------------------------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        return EngineStats(
            live_instances=self._live,
            workers=self._workers_wanted,
            workers_busy=self._busy,
            queued=self._queued,
            inline_calls=0,
            worker_calls=self._worker_calls,
            inline_overruns=0,
        )

    def use_hoses(self, settings: HoseSettings) -> None:
        """Nothing to set: this engine copies."""

    def hose_stats(self) -> HoseStats:
        return HoseStats()

    def hose_missing(self) -> Sequence[str]:
        return ()

    def adopt(self, fd: int, offset: int, count: int) -> Payload:
        check_frame(fd, offset, count)
        return PurePayload(os.pread(fd, count, offset), {})

    def check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the engine is closed")

    def close(self) -> None:
        with self._lock:
            if self.closed:
                return
            self.closed = True
            for call in self._in_flight:
                call.cancel()
            for _ in self._workers:
                self._jobs.put(None)
        self._ticking.set()
        for engine, _ in self._engines.values():
            engine.increment_epoch()
        for thread in list(self._workers):
            thread.join()
        self._ticker.join()
