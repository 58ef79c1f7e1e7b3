"""Many callers of the key store at once: they share commits, fail alone, and may go away."""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import StorageFull, StoreFailed
from edgeagent.state.calls import Op
from edgeagent.state.errors import VersionMismatch
from edgeagent.state.keystore import KeyStore
from edgeagent.state.keystore_types import Usage
from tests.unit.state.keystore_rig import NOW_MS, foreign, mode_of, put, with_store

BIG = random.Random(1).randbytes(700_000)  # three chunks


def test_writes_of_many_callers_share_commits(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        before = store.commits
        await asyncio.gather(*(put(store, f"k{n}", b"x") for n in range(200)))
        assert store.commits - before < 50
        assert (await store.usage()).keys == 200

    with_store(tmp_path, scenario)


def test_a_caller_that_is_cancelled_leaves_no_old_value_in_memory(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "a", b"old")
        await store.get("a")
        task = asyncio.ensure_future(put(store, "a", b"new"))
        await asyncio.sleep(0)  # it has asked for the write
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await put(store, "b", b"")  # done after it
        got = await store.get("a")
        again = await store.get("a")
        assert got is not None
        assert got == again
        assert got[1] == b"new"

    with_store(tmp_path, scenario)


def test_one_caller_that_does_not_fit_takes_nobody_with_it(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        ops = [("a", bytes(40_000)), ("b", bytes(60_000)), ("c", bytes(50_000))]
        results = await asyncio.gather(
            *(put(store, key, value) for key, value in ops), return_exceptions=True
        )
        assert [isinstance(one, StorageFull) for one in results] == [False, False, True]
        assert (await store.usage()).bytes == 100_000

    with_store(tmp_path, scenario, bytes_max=100_000, inbound_bytes=0)


def test_groups_that_share_a_commit_fail_alone_and_whole(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        def group(name: str, expect: str | None) -> list[Op]:
            first = Op(op="put", key=f"{name}/1", value=b"1")
            return [first, Op(op="put", key=f"{name}/2", value=b"2", expect=expect)]

        results = await asyncio.gather(
            *(
                store.write(group(name, expect), mode_of)
                for name, expect in (("a", ""), ("b", "1.0.x"), ("c", None))
            ),
            return_exceptions=True,
        )
        assert [isinstance(one, VersionMismatch) for one in results] == [False, True, False]
        assert [one.key for one in await store.list("")] == ["a/1", "a/2", "c/1", "c/2"]
        assert await store.usage() == Usage(bytes=4, keys=4, chunks=0, inbound_bytes=0)

    with_store(tmp_path, scenario)


def test_a_store_that_fails_says_it_to_every_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: KeyStore) -> None:
        async def refuse(*_: object, **__: object) -> None:
            raise StoreFailed("the disk is gone", hint="look for it")

        with monkeypatch.context() as patched:
            patched.setattr(store._store, "write", refuse)
            results = await asyncio.gather(*(put(store, key, b"") for key in "ab"), return_exceptions=True)
        assert [str(one) for one in results] == ["the disk is gone"] * 2
        assert results[0] is not results[1]
        await put(store, "a", b"")

    with_store(tmp_path, scenario)


def test_a_loop_that_ends_answers_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: KeyStore) -> None:
        asked = asyncio.Event()

        async def wait(*_: object, **__: object) -> None:
            asked.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patched:
            patched.setattr(store._store, "write", wait)
            callers = [asyncio.ensure_future(put(store, key, b"")) for key in "ab"]
            await asked.wait()
            for task in store._batches._tasks:
                task.cancel()
            results = await asyncio.gather(*callers, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in results)
        await put(store, "a", b"1")
        assert await store.get("a") is not None

    with_store(tmp_path, scenario)


def test_a_caller_of_a_large_write_that_is_cancelled_pins_nothing(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        task = asyncio.ensure_future(put(store, "big", BIG))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*store._tasks)
        got = await store.get("big")
        assert got is not None
        assert got[1] == BIG
        assert all(not file.pins for file in store._segments._files.values())

    with_store(tmp_path, scenario)


def test_chunks_that_go_while_a_value_is_written_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(store: KeyStore) -> None:
        await put(store, "a", BIG)
        really = store._chunks.store
        often = 0

        async def store_then_lose(*args: Any, **options: Any) -> Any:
            nonlocal often
            places = await really(*args, **options)
            if not options["every"]:
                await store.write([Op(op="delete", key="a")], mode_of)
            often += 1
            return places

        monkeypatch.setattr(store._chunks, "store", store_then_lose)
        await put(store, "b", BIG)
        assert often == 2
        got = await store.get("b")
        assert got is not None
        assert got[1] == BIG

    with_store(tmp_path, scenario)


def test_a_write_and_an_entry_of_another_node_in_one_commit_leave_the_winner_in_memory(
    tmp_path: Path,
) -> None:
    async def scenario(store: KeyStore) -> None:
        writer = store._store._writer
        assert writer is not None
        go = threading.Event()
        busy = asyncio.ensure_future(store._store.write(lambda _: go.wait(20)))
        entry, _ = foreign("a", b"theirs", wall_ms=NOW_MS - 1)
        tasks = []
        for number, work in enumerate((store.accept([entry], custody=True), put(store, "a", b"ours"))):
            tasks.append(asyncio.ensure_future(work))
            while writer._queue.qsize() <= number:  # noqa: ASYNC110 - other threads are on the way
                await asyncio.sleep(0.001)
        go.set()
        await asyncio.gather(busy, *tasks)
        got = await store.get("a")
        assert got is not None
        assert got[1] == b"ours", "it was written later, whoever is answered first"

    with_store(tmp_path, scenario)
