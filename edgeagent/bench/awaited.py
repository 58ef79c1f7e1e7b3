"""``inprocess-1KiB-awaited``: the same call through an event loop, as the daemon makes it.

Ours is ``Function.start``, awaited when it is a future. The baseline is wasmtime-py by ``run_in_executor``,
the way to keep a loop alive while a guest runs there.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edgeagent.bench import guests
from edgeagent.bench.harness import Bench, Case, Sample, Sampler
from edgeagent.bench.inprocess import (
    CALLS,
    batch_sample,
    check_output,
    load_guest,
    opened_engine,
    outcome_bytes,
    wasmtime_py,
)

__all__ = ["awaited_case", "new_loop"]


def new_loop() -> asyncio.AbstractEventLoop:
    """The loop that the daemon uses: uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _awaited(loop: asyncio.AbstractEventLoop, one: Callable[[], Coroutine[Any, Any, bytes]]) -> Sampler:
    async def batch() -> list[int]:
        spent = [0] * CALLS
        clock = time.perf_counter_ns
        for number in range(CALLS):
            start = clock()
            output = await one()
            spent[number] = clock() - start
        check_output(output, guests.EXPECTED)
        return spent

    def sampler() -> Sample:
        gc.collect()
        gc.disable()
        try:
            return batch_sample(loop.run_until_complete(batch()))
        finally:
            gc.enable()

    loop.run_until_complete(batch())
    return sampler


@contextmanager
def _open_awaited(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        loop = new_loop()
        stack.callback(loop.close)
        engine = stack.enter_context(opened_engine())
        engine.attach(loop)
        add1 = load_guest(engine, guests.add1(), folder, "add1")
        plain = stack.enter_context(wasmtime_py(guests.add1()))
        pool = stack.enter_context(ThreadPoolExecutor(1))

        async def ours() -> bytes:
            started = add1.start(guests.INPUT)
            return outcome_bytes(await started if isinstance(started, asyncio.Future) else started)

        async def theirs() -> bytes:
            return await loop.run_in_executor(pool, plain, guests.INPUT)

        yield {"ours": _awaited(loop, ours), "wasmtime-py": _awaited(loop, theirs)}


def awaited_case() -> Case:
    return Case(
        name="inprocess-1KiB-awaited",
        unit="us",
        better="lower",
        open=_open_awaited,
        params={"body_bytes": guests.BODY_BYTES, "calls_per_round": CALLS, "baseline": "run_in_executor"},
        memory_bytes=256 << 20,
    )
