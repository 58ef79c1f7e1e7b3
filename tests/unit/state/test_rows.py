"""The registry of functions and the index of compiled code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edgeagent.model.errors import StoreFailed
from edgeagent.model.function import Deployed, FunctionSection, Import, Manifest, ModuleInfo, Slo
from edgeagent.state.code_index import CodeIndex
from edgeagent.state.functions import FunctionRows
from edgeagent.state.store import Store


def deployed(name: str, sha256: str = "ab" * 32) -> Deployed:
    return Deployed(
        name=name,
        sha256=sha256,
        abi="command",
        manifest=Manifest(
            function=FunctionSection(name=name, args=("a", "b"), env={"K": "V"}), slo=Slo(class_="fast")
        ),
        info=ModuleInfo(sha256=sha256, size_bytes=9, abi="command", imports=(Import("m", "n"),)),
        deployed_at="2026-11-23T09:00:00Z",
    )


def with_store(path: Path, scenario: Callable[[Store], Awaitable[None]]) -> None:
    async def main() -> None:
        store = Store(path)
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def test_functions_come_back_as_they_were_put(tmp_path: Path) -> None:
    async def put(store: Store) -> None:
        rows = FunctionRows(store)
        await rows.put(deployed("b"))
        await rows.put(deployed("a"))
        await rows.put(deployed("b", "cd" * 32))
        await rows.put(deployed("gone"))
        assert await rows.delete("gone")
        assert not await rows.delete("gone")

    async def read(store: Store) -> None:
        assert await FunctionRows(store).all() == [deployed("a"), deployed("b", "cd" * 32)]

    with_store(tmp_path / "db", put)
    with_store(tmp_path / "db", read)


def test_a_row_that_cannot_be_understood_is_named(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        await store.write(lambda c: c.execute("INSERT INTO functions VALUES ('odd', x'7b7d')").rowcount)
        with pytest.raises(StoreFailed, match="'odd'"):
            await FunctionRows(store).all()

    with_store(tmp_path / "db", scenario)


def test_the_code_index(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        index = CodeIndex(store)
        assert await index.get("k") is None
        await index.put("k", "1")
        await index.put("k", "2")
        assert await index.get("k") == "2"
        await index.drop("k")
        assert await index.get("k") is None
        kept, gone = "a" * 64, "b" * 64
        for digest in (kept, gone):
            await index.put(f"{digest}-50.0.1-x86_64", "1")
        assert await index.keep({kept}) == 1
        assert await index.get(f"{kept}-50.0.1-x86_64") == "1"
        assert await index.keep(set()) == 1

    with_store(tmp_path / "db", scenario)
