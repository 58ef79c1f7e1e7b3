"""``inprocess-1KiB`` and ``inprocess-1KiB-awaited``: a fresh instance, 1 KiB in, 1 KiB out, without a
network.

Ours is ``Function.call`` (``Function.start``, awaited when it is a future) with the default limits on. The
baseline does the same through plain wasmtime-py as its documentation shows, with what a careful user
prepares once (engine, module, epoch ticker) outside of the call, and with the same protection: memory limit
and epoch deadline. ``wasmtime-py-pooled`` is the same over a pooling engine, which wasmtime-py has no
public name for: it tells how much of the difference is the allocator's.

A sample is the median of the calls of one batch, each timed on its own, garbage collection off as in
``timeit``.
"""

from __future__ import annotations

import gc
import hashlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import wasmtime

from edgeagent.bench import guests
from edgeagent.bench.harness import Bench, Case, Rounds, Sample, Sampler
from edgeagent.bench.stats import quantile, significant
from edgeagent.model.function import Limits, ModuleInfo
from edgeagent.runtime.engine_config import Settings, compile_config, pooled_engine
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Code, Engine, Function, LoadSpec, Outcome

__all__ = [
    "CALLS",
    "batch_sample",
    "check_output",
    "inprocess_case",
    "load_guest",
    "opened_engine",
    "outcome_bytes",
    "wasmtime_py",
]

CALLS = 300
WARM_UP_CALLS = 200
TICK_S = 0.01
LIMITS = Limits()

Call = Callable[[bytes], bytes]


# -- ours -----------------------------------------------------------------------------------------------


@contextmanager
def opened_engine() -> Iterator[Engine]:
    engine = open_engine()
    try:
        yield engine
    finally:
        engine.close()


def load_guest(engine: Engine, wasm: bytes, folder: Path, name: str) -> Function:
    """Compile one of our own guests as the compile worker does, and load it with the default limits."""
    compiled = wasmtime.Module(wasmtime.Engine(compile_config(Settings())), wasm).serialize()
    path = folder / f"{name}.cwasm"
    path.write_bytes(compiled)
    digest = hashlib.sha256(wasm).hexdigest()
    info = ModuleInfo(sha256=digest, size_bytes=len(wasm), abi="bytes", memory_min_bytes=128 << 10)
    code = Code(path=str(path), sha256=hashlib.sha256(compiled).hexdigest(), size_bytes=len(compiled))
    return engine.load(code, LoadSpec(name=name, info=info, limits=LIMITS))


def outcome_bytes(outcome: Outcome) -> bytes:
    if outcome.error is not None:
        raise outcome.error
    return bytes(outcome.output)


# -- the baseline ---------------------------------------------------------------------------------------


@contextmanager
def wasmtime_py(wasm: bytes, *, pooled: bool = False) -> Iterator[Call]:
    """The same work in wasmtime-py: yields a function from body to output."""
    if pooled:
        engine = pooled_engine(Settings(), 256, 256 << 10)
    else:
        config = wasmtime.Config()
        config.epoch_interruption = True
        engine = wasmtime.Engine(config)
    module = wasmtime.Module(engine, wasm)
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(TICK_S):
            engine.increment_epoch()

    def call(body: bytes) -> bytes:
        store = wasmtime.Store(engine)
        store.set_limits(memory_size=LIMITS.memory_bytes)
        store.set_epoch_deadline(int(LIMITS.wall_ms / 1000 / TICK_S))
        exports = wasmtime.Instance(store, module, []).exports(store)
        memory: Any = exports["memory"]
        alloc: Any = exports["edge_alloc"]
        handle: Any = exports["edge_handle"]
        at = alloc(store, len(body))
        memory.write(store, body, at)
        packed = handle(store, at, len(body))
        start, length = packed >> 32, packed & 0xFFFFFFFF
        output = bytes(memory.read(store, start, start + length))
        store.close()
        return output

    ticker = threading.Thread(target=tick, name="epoch", daemon=True)
    ticker.start()
    try:
        yield call
    finally:
        stop.set()
        ticker.join()


# -- samplers -------------------------------------------------------------------------------------------


def batch_sample(spent_ns: list[int]) -> Sample:
    return statistics.median(spent_ns) / 1000, {
        "p05_us": quantile(spent_ns, 0.05) / 1000,
        "p99_us": quantile(spent_ns, 0.99) / 1000,
    }


def check_output(output: bytes, expected: bytes) -> None:
    if output != expected:
        raise AssertionError("the guest gave a wrong answer")


def _timed(
    one: Callable[[bytes], Any], body: bytes, expected: bytes, text: Callable[[Any], bytes]
) -> Sampler:
    def sampler() -> Sample:
        spent = [0] * CALLS
        clock = time.perf_counter_ns
        gc.collect()
        gc.disable()
        try:
            for number in range(CALLS):
                start = clock()
                result = one(body)
                spent[number] = clock() - start
        finally:
            gc.enable()
        check_output(text(result), expected)
        return batch_sample(spent)

    for _ in range(WARM_UP_CALLS):
        check_output(text(one(body)), expected)
    return sampler


@contextmanager
def _open(_bench: Bench) -> Iterator[dict[str, Sampler]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeagent-bench-")))
        engine = stack.enter_context(opened_engine())
        add1 = load_guest(engine, guests.add1(), folder, "add1")
        echo = load_guest(engine, guests.echo(), folder, "echo")
        plain = stack.enter_context(wasmtime_py(guests.add1()))
        pooled = stack.enter_context(wasmtime_py(guests.add1(), pooled=True))
        yield {
            "ours": _timed(add1.call, guests.INPUT, guests.EXPECTED, outcome_bytes),
            "wasmtime-py": _timed(plain, guests.INPUT, guests.EXPECTED, bytes),
            "wasmtime-py-pooled": _timed(pooled, guests.INPUT, guests.EXPECTED, bytes),
            "_echo": _timed(echo.call, guests.INPUT, guests.INPUT, outcome_bytes),
            "_echo-empty": _timed(echo.call, b"", b"", outcome_bytes),
        }


def _parts(rounds: Rounds, _bench: Bench) -> dict[str, Any]:
    """Differences of interleaved medians: what the instance, the copies and the guest's own work cost."""

    def us(name: str) -> float:
        return statistics.median(value for value, _ in rounds[name])

    return {
        "breakdown": {
            "instance_and_crossing_us": significant(us("_echo-empty"), 3),
            "copies_in_and_out_us": significant(us("_echo") - us("_echo-empty"), 3),
            "guest_us": significant(us("ours") - us("_echo"), 3),
        }
    }


def inprocess_case() -> Case:
    return Case(
        name="inprocess-1KiB",
        unit="us",
        better="lower",
        open=_open,
        params={"body_bytes": guests.BODY_BYTES, "guest_memory_bytes": 128 << 10, "calls_per_round": CALLS},
        memory_bytes=256 << 20,
        fields=_parts,
    )
