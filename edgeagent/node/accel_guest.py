"""What running guests ask of ``edge_accel``, done by numpy on threads of the node, in the guests' own memory.

A guest gets 0 or a code, whatever it says and whatever happens here: nothing that it does ends anything but its own
call.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import structlog

from edgeagent.accel.execute import CallLimits, Prepared, prepare, run_on_cpu
from edgeagent.accel.guest_layout import Backend, Code, code_of, pack_query
from edgeagent.accel.registry import Registry, load_others, shipped
from edgeagent.model.errors import Cancelled, EdgeError
from edgeagent.node.meters import Meters
from edgeagent.runtime.port import Ask, AskKind, Engine, Payload

__all__ = ["AccelGuest"]

log = structlog.get_logger("accel")

# numpy's products use all cores by themselves.
_THREADS_MAX = 4
_PREPARED_MAX = 1024


class AccelGuest:
    """On the event loop's thread; kernels run on threads of their own, first come, first served."""

    def __init__(
        self,
        engine: Engine,
        meters: Meters,
        registry: Registry | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        self._engine = engine
        self._meters = meters
        self._limits = limits or CallLimits()
        self._given = registry
        self._is_stopped = False
        self._loading = threading.Lock()
        self._threads = ThreadPoolExecutor(min(_THREADS_MAX, os.cpu_count() or 1), "edge-kernel")
        self._tasks: set[asyncio.Task[None]] = set()
        # Every run of a function begins in the same memory, and so describes its calls by the same bytes.
        self._prepared = lru_cache(_PREPARED_MAX)(self._prepare)

    def asked(self, ask: Ask) -> None:
        """A guest waits for ``engine.answer``."""
        if self._is_stopped:
            self._engine.answer(ask.call_id, Code.OFF)
            return
        task = asyncio.get_running_loop().create_task(self._serve(ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """What waits is given up, what runs comes to its end first: it cannot be stopped."""
        self._is_stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    async def _serve(self, ask: Ask) -> None:
        status, answer = int(Code.FAILED), None
        work = self._query if ask.kind is AskKind.ACCEL_QUERY else self._run
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, work, ask)
            status = 0
        except EdgeError as error:
            status = code_of(error)
            if status == Code.FAILED and not isinstance(error, Cancelled):
                log.warning("a kernel failed a function", function=ask.function, why=error.message)
        except Exception:  # a fault of ours must not leave the guest waiting
            log.exception("a kernel failed a function", function=ask.function)
        if ask.kind is AskKind.ACCEL_CALL:
            self._meters.count("accel_calls" if status == 0 else "accel_calls_failed")
        self._engine.answer(ask.call_id, status, answer)

    # -- on a kernel's thread ------------------------------------------------------------------------------------------

    def _kernels(self) -> Registry:
        """The shipped kernels and others', whose packages are imported at the first use."""
        with self._loading:
            if self._given is None:
                registry = shipped()
                for failed in load_others(registry):
                    log.warning("a kernel was not loaded", entry_point=failed.name, why=failed.why)
                self._given = registry
            return self._given

    def _prepare(self, name: str, described: bytes, memory_bytes: int) -> Prepared:
        return prepare(self._kernels(), name, described, memory_bytes, self._limits)

    def _query(self, _ask: Ask) -> Payload:
        return self._engine.payload_of(pack_query(Backend.CPU, (kernel.name for kernel in self._kernels())))

    def _run(self, ask: Ask) -> None:
        window = ask.window
        assert window is not None
        name = ask.name.decode("ascii", "replace")
        prepared = self._prepared(name, ask.extra, window.size)
        try:
            memory = window.enter()
        except ValueError:
            raise Cancelled("the call that asked is over") from None
        try:
            run_on_cpu(prepared, memory)
        finally:
            memory.release()
            window.leave()
