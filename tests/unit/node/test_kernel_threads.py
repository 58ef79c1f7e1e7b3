"""Whoever asks for long kernels keeps nobody from short ones, and no other function from its turn."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from edgeagent.model.errors import Busy
from edgeagent.node.kernel_threads import KernelThreads


class Gate:
    """Kernels that run until they are let go, in order."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._open = threading.Semaphore(0)

    def kernel(self, name: str) -> str:
        self.ran.append(name)
        assert self._open.acquire(timeout=30)
        return name

    def let(self, count: int) -> None:
        self._open.release(count)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it waits for happens on threads
            await asyncio.sleep(0.002)


def on_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


@on_loop
async def test_no_function_has_all_threads_and_short_kernels_wait_for_none() -> None:
    threads, gate = KernelThreads(one_max=2), Gate()
    flood = [asyncio.create_task(threads.long("flood", gate.kernel, f"f{i}")) for i in range(6)]
    await until(lambda: len(gate.ran) == 2)
    quiet = asyncio.create_task(threads.long("quiet", gate.kernel, "q"))
    await until(lambda: gate.ran == ["f0", "f1", "q"])
    assert await threads.short(lambda: "at once") == "at once"
    third = asyncio.create_task(threads.long("third", gate.kernel, "t"))
    await asyncio.sleep(0)
    assert gate.ran == ["f0", "f1", "q"]  # threads are full
    gate.let(3)
    await until(lambda: "t" in gate.ran[3:6])
    gate.let(20)
    assert await quiet == "q"
    assert await third == "t"
    assert await asyncio.gather(*flood) == [f"f{i}" for i in range(6)]
    await threads.stop()


@on_loop
async def test_what_waits_is_bounded_and_may_be_given_up() -> None:
    threads, gate = KernelThreads(one_max=1, waiting_max=4), Gate()
    first = asyncio.create_task(threads.long("f", gate.kernel, "first"))
    await until(lambda: gate.ran == ["first"])
    waiting = [asyncio.create_task(threads.long("f", gate.kernel, "second")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="too many kernels"):
        await threads.long("f", gate.kernel, "third")
    waiting[0].cancel()
    gate.let(2)
    assert await first == "first"
    assert await waiting[1] == "second"
    assert waiting[0].cancelled()
    assert gate.ran == ["first", "second"]
    await threads.stop()


@on_loop
async def test_who_is_given_up_as_its_turn_comes_gives_it_on() -> None:
    threads, gate = KernelThreads(one_max=1), Gate()
    first = asyncio.create_task(threads.long("f", gate.kernel, "first"))
    given = asyncio.create_task(threads.long("f", gate.kernel, "given"))
    await until(lambda: gate.ran == ["first"])
    give_turns = threads._give_turns

    def give_and_cancel() -> None:
        give_turns()
        given.cancel()  # it has its turn, and has not heard of it

    threads._give_turns = give_and_cancel  # type: ignore[method-assign]
    gate.let(2)
    await first
    await asyncio.gather(given, return_exceptions=True)
    assert given.cancelled()
    threads._give_turns = give_turns  # type: ignore[method-assign]
    assert await threads.long("f", gate.kernel, "next") == "next"
    assert gate.ran == ["first", "next"]
    await threads.stop()


@on_loop
async def test_a_kernel_that_fails_gives_its_turn_back() -> None:
    threads = KernelThreads(one_max=1)

    def fails() -> None:
        raise ValueError("as it does")

    for _ in range(3):
        with pytest.raises(ValueError, match="as it does"):
            await threads.long("f", fails)
    assert await threads.long("f", lambda: 7) == 7
    await threads.stop()
