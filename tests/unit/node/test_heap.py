"""Freed memory: kept while there is work, given back once when the process idles."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from edgeagent.node import heap
from edgeagent.node.heap import KEPT_BYTES, HeapKeeper


def keeper(calls: list[tuple[object, ...]], cpu_s: Callable[[], float] = lambda: 0.0) -> HeapKeeper:
    libc = SimpleNamespace(
        mallopt=lambda *of: calls.append(("keep", *of)), malloc_trim=lambda *of: calls.append(("trim", *of))
    )
    return HeapKeeper(libc, cpu_s=cpu_s)


def test_it_is_time_when_the_work_is_over_and_only_once() -> None:
    used = [0.0]
    made = keeper([], lambda: used[0])
    made.begin()
    looks = []
    for work_s in (0.5, 0.5, 0.01, 0.01, 0.2, 0.0):
        used[0] += work_s
        looks.append(made.look(1.0))
    assert looks == [False, False, True, False, False, True]


def test_freed_memory_is_kept_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_LOOK_S", 0.001)
    calls: list[tuple[object, ...]] = []

    async def body() -> None:
        made = keeper(calls)
        made.begin()
        keeping = asyncio.ensure_future(made.run())
        async with asyncio.timeout(20):
            while ("trim", 0) not in calls:  # noqa: ASYNC110 - another thread does it
                await asyncio.sleep(0.001)
        keeping.cancel()

    asyncio.run(body())
    assert calls == [("keep", -1, KEPT_BYTES), ("keep", -3, 32 << 20), ("trim", 0)]


def test_where_the_library_has_no_such_thing_nothing_happens() -> None:
    made = HeapKeeper(SimpleNamespace(), cpu_s=lambda: 0.0)
    made.begin()
    assert not made.look(1.0)
    HeapKeeper().begin()  # the library of this machine
