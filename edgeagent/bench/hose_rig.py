"""What the hose benchmarks run on: the native engine with our guests, and a second one that may only copy.

Both engines run the same machine code with the same limits. The second stands for the ways to compare with: it never
flips, lends or maps, and asks for no large pages.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import wasmtime

from edgeagent import native
from edgeagent.bench.harness import CaseSkipped, Sample
from edgeagent.bench.hose_cost import Cost
from edgeagent.bench.hose_guests import both, consumer, expected_sum, holder, producer, request
from edgeagent.hose.settings import TIERS, Crossovers, HoseSettings
from edgeagent.model.function import Limits
from edgeagent.model.wasm_sections import scan
from edgeagent.runtime.engine_config import Settings, compile_config
from edgeagent.runtime.introspect import module_info
from edgeagent.runtime.native_engine import NativeEngine
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import ChainFunction, ChainOutcome, Function, LoadSpec, Outcome, Payload
from edgeagent.runtime.port import Code as MachineCode

__all__ = [
    "COPY_ONLY",
    "KIB",
    "MIB",
    "Rig",
    "Side",
    "checked",
    "good",
    "handed_over",
    "kept",
    "load_guest",
    "made",
    "opened_rig",
    "size_name",
    "spent",
]

KIB, MIB = 1 << 10, 1 << 20
_GIB = 1 << 30
_NEVER = 1 << 62
COPY_ONLY = Crossovers(
    flip_bytes_min=_NEVER,
    exchange_bytes_min=_NEVER,
    window_bytes_min=_NEVER,
    share_bytes_min=_NEVER,
    loan_bytes_min=_NEVER,
    huge_bytes_min=_NEVER,
)


class Side:
    """One engine and the guests loaded into it; ``plain`` guests know neither loans nor aligned memory."""

    def __init__(self, folder: Path, name: str, crossovers: Crossovers, pool_bytes_max: int) -> None:
        self.engine = open_engine("native", workers=2, small_slots=256, large_slots=8)
        assert isinstance(self.engine, NativeEngine)
        self.engine.use_hoses(HoseSettings(crossovers=crossovers, pool_bytes_max=pool_bytes_max))
        modules = {
            "produce": producer(),
            "consume": consumer(),
            "hold": holder(),
            "both": both(),
            "plain_produce": producer(aligned=False),
            "plain_consume": consumer(aligned=False),
        }
        loaded = {
            guest: load_guest(self.engine, wasm, folder, f"{name}-{guest}") for guest, wasm in modules.items()
        }
        self.produce, self.consume = loaded["produce"], loaded["consume"]
        self.hold, self.both = loaded["hold"], loaded["both"]
        self.plain_produce, self.plain_consume = loaded["plain_produce"], loaded["plain_consume"]

    def settle(self) -> None:
        """Nothing is left to be cleared."""
        assert isinstance(self.engine, NativeEngine)
        self.engine.settle_hoses()

    def empty(self) -> None:
        """No instance and no hose is left."""
        assert isinstance(self.engine, NativeEngine)
        while self.engine.stats().live_instances:
            time.sleep(0.001)
        self.engine.settle_hoses()
        self.engine.trim_hoses()

    def chain(self, count: int, *, lent: bool, plain: bool = False) -> ChainOutcome:
        """Produce, hand over, consume every byte, as one chain: as the node runs it."""
        first = self.plain_produce if plain else self.produce
        second = self.plain_consume if plain else self.consume
        outcome = first.call_chain([second], request(count, lent=lent))
        checked(outcome, count)
        return outcome

    def through_the_host(self, count: int) -> Outcome:
        """The output is copied into a buffer of the host, and from there into the consumer."""
        output = good(self.plain_produce.call(request(count, lent=False))).output
        return checked(self.plain_consume.call(output), count)

    def alone(self, count: int, *, reads: int = 1) -> Outcome:
        """Produced and read by one guest in a lent buffer."""
        return checked(self.both.call(request(count, lent=True, reads=reads)), count)


class Rig(msgspec.Struct, frozen=True):
    ours: Side
    copies: Side


def load_guest(
    engine: Any, wasm: bytes, folder: Path, name: str, *, memory_bytes: int = _GIB
) -> ChainFunction:
    """Compile a guest as the daemon does, and load it with limits that the largest case keeps."""
    module = wasmtime.Module(wasmtime.Engine(compile_config(Settings())), wasm)
    code = bytes(module.serialize())
    path = folder / f"{name}.cwasm"
    path.write_bytes(code)
    info = module_info(
        module, sha256=hashlib.sha256(wasm).hexdigest(), size_bytes=len(wasm), sections=scan(wasm)
    )
    machine_code = MachineCode(path=str(path), sha256=hashlib.sha256(code).hexdigest(), size_bytes=len(code))
    limits = Limits(memory_bytes=memory_bytes, output_bytes=_GIB, wall_ms=120_000)
    loaded: ChainFunction = engine.load(machine_code, LoadSpec(name=name, info=info, limits=limits))
    return loaded


def good(outcome: Outcome) -> Outcome:
    if outcome.error is not None:
        raise outcome.error
    return outcome


def checked(outcome: Outcome, count: int) -> Outcome:
    if bytes(good(outcome).output) != expected_sum(count):
        raise AssertionError("the consumer read something else than was produced")
    return outcome


def made(function: Function, count: int, *, lent: bool) -> Payload | bytes | memoryview:
    """What the function produces, where it lies; small outputs are simply bytes."""
    outcome = good(function.call(request(count, lent=lent), keep=True))
    return outcome.output if outcome.payload is None else outcome.payload


def kept(function: Function, count: int) -> Payload:
    """What the function produces in a lent buffer, where it lies."""
    payload = good(function.call(request(count, lent=True), keep=True)).payload
    assert payload is not None
    return payload


@contextmanager
def opened_rig(
    pool_bytes_max: int = 2 * _GIB, crossovers: Crossovers | None = None, copies: Crossovers = COPY_ONLY
) -> Iterator[Rig]:
    """Both engines; raises CaseSkipped without the extension."""
    if not native.accelerated:
        raise CaseSkipped(f"hoses need the native engine: {native.why_not}")
    with tempfile.TemporaryDirectory(prefix="edgeagent-bench-") as folder:
        ours = Side(Path(folder), "ours", crossovers or Crossovers(), pool_bytes_max)
        other = Side(Path(folder), "copies", copies, 0)
        try:
            yield Rig(ours, other)
        finally:
            ours.engine.close()
            other.engine.close()


def size_name(count: int) -> str:
    return f"{count // MIB}MiB" if count >= MIB else f"{count // KIB}KiB"


def handed_over(outcome: Outcome) -> dict[str, Any]:
    """How the input came: the tier's name, and the bytes that were copied and mapped."""
    tier, copied, mapped, _ = outcome.hose
    return {"tier": TIERS[tier], "copied_bytes": copied, "mapped_bytes": mapped}


def spent(work: Callable[[], Outcome | None], times: int = 1, pids: Sequence[int] = ()) -> Sample:
    """Wall time of one run in ms, with its cost (``hose_cost``), and how the input came where a hose brought it."""
    cost = Cost(*pids)
    for _ in range(times):
        outcome = work()
    wall_ms, more = cost.spent(times)
    return wall_ms, more if outcome is None else {**more, **handed_over(outcome)}
