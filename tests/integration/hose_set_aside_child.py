"""A process that has no mappings left while functions hold windows; prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from edgeagent.bench.hose_rig import load_guest
from edgeagent.runtime.open_engine import open_engine
from edgeagent.runtime.port import Engine, Function, Outcome, Payload
from tests.contract.calls import start
from tests.contract.hose_calls import HoseProgram, hose_guest, results
from tests.integration.exhausted import no_mappings

MIB = 1 << 20
WAIT_S = 30.0  # only reached when the test fails
SLOTS = 4


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def written(count: int, *, lent: bool) -> bytes:
    """A program whose output is ``count`` bytes of 0x5a."""
    p = HoseProgram()
    at = p.call("loan", count) if lent else p.call("take", count, 4096)
    p.call("fill", at, 0x5A, count)
    p.call("reply", at, count)
    return p.encoded()


def looks(count: int) -> bytes:
    """A program that answers in its second result whether fresh memory is other than zeros."""
    p = HoseProgram()
    p.call("any", p.call("take", count, 4096), count)
    return p.encoded()


def kept(function: Function) -> list[Payload]:
    payloads = []
    for count, lent in ((2 * MIB, True), (2 * MIB, False), (3 * MIB, True)):
        payload = function.call(written(count, lent=lent), keep=True).payload
        assert payload is not None
        payloads.append(payload)
    return payloads


def slug(outcome: Outcome) -> str:
    return outcome.error.slug if outcome.error is not None else "fine"


class OtherThread:
    """A thread that is there already, and has run no guest."""

    def __init__(self, function: Function) -> None:
        self.slug = ""
        self._go, self._done = threading.Event(), threading.Event()
        self._function = function
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self._go.wait()
        self.slug = slug(self._function.call(looks(65536)))
        self._done.set()

    def go(self) -> None:
        self._go.set()
        self._done.wait()

    def join(self) -> None:
        self._thread.join()


def play(engine: Engine, function: Function, loop: asyncio.AbstractEventLoop) -> dict[str, object]:
    other, payloads = OtherThread(function), kept(function)
    with no_mappings():
        for payload in payloads:
            payload.close()
        until(lambda: engine.stats().live_instances == 2)
        until(lambda: engine.hose_stats().quarantined == 2)
        other.go()
        on_worker = slug(loop.run_until_complete(start(function, looks(65536))))
    other.join()
    until(lambda: engine.stats().live_instances == 0)
    found = [results(function.call(looks(8 * MIB)))[1] for _ in range(3 * SLOTS)]
    again = kept(function)
    for payload in again:
        assert bytes(payload.read()) == b"\x5a" * payload.size
        payload.close()
    until(lambda: engine.stats().live_instances == 0)
    return {
        "set aside": engine.hose_stats().quarantined,
        "first call of a thread": other.slug,
        "first call of a worker": on_worker,
        "found by the next": sorted(set(found)),
    }


def main() -> None:
    loop = asyncio.new_event_loop()
    engine = open_engine("native", workers=1, small_slots=2 * SLOTS, large_slots=2 * SLOTS)
    engine.attach(loop)
    with tempfile.TemporaryDirectory() as folder:
        function = load_guest(engine, hose_guest(), Path(folder), "guest", memory_bytes=64 * MIB)
        sys.stdout.write(json.dumps(play(engine, function, loop)))
    engine.close()
    loop.close()


main()
