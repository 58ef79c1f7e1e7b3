"""What the replicator hears of the store, also of one that fails; sums of groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import EdgeError, StorageFull, StoreFailed, TooLarge
from edgeagent.node.state_ledger import LOOK_S, WHOLE_S, StateLedger
from edgeagent.state import effects as fx
from edgeagent.state.calls import Op
from edgeagent.state.entry import Mode, entry_of
from edgeagent.state.errors import BadKey, ClockAhead, MissingChunks, WrongHash
from edgeagent.state.hlc import Version
from edgeagent.state.keys import digest_of
from edgeagent.state.messages import Refusal
from tests.unit.state.keystore_rig import with_store

SHA = b"x" * 32


class Core:
    """Answers of the ledger as they come."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda token, *rest: (name, token, *rest)


def ledger_of(store: Any, clock: Callable[[], float] = lambda: 0.0) -> Callable[[Any], Any]:
    ledger, core = StateLedger(store, clock=clock), Core()
    return lambda effect: ledger.carry_out(effect, core)  # type: ignore[arg-type]


class Broken:
    """A store every method of which raises."""

    def __init__(self, error: EdgeError) -> None:
        self._error = error
        self.seq = 1

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def fail(*args: Any, **more: Any) -> Any:
            raise self._error

        return fail


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (StorageFull("full"), Refusal.QUOTA),
        (TooLarge("large"), Refusal.QUOTA),
        (ClockAhead("ahead"), Refusal.CLOCK),
        (MissingChunks("missing"), Refusal.UNKNOWN),
        (WrongHash("hash"), Refusal.DAMAGED),
        (BadKey("key"), Refusal.INVALID),
        (StoreFailed("broken"), Refusal.STORE),
    ],
)
def test_a_store_that_refuses_is_told_as_a_refusal(error: EdgeError, refusal: Refusal) -> None:
    async def body() -> None:
        of = ledger_of(Broken(error))
        entry = entry_of("a", b"v", Version(1, 0, "n"))
        assert await of(fx.StoreChunks(1, ((SHA, b"v"),))) == ("stored", 1, refusal)
        assert await of(fx.Commit(2, (entry,), True)) == ("committed", 2, [], refusal)
        assert await of(fx.Load(3, ("a",))) == ("loaded", 3, None)
        assert await of(fx.Look(4, ("a",), (SHA,))) == ("looked", 4, None, None)
        assert await of(fx.ReadPieces(5, ((SHA, ""),))) == ("read", 5, None)
        assert await of(fx.ReadPieces(5, ((SHA, "a"),))) == ("read", 5, None)
        assert await of(fx.MayDrop(6, (("a", entry.version),))) == ("dropped", 6)
        assert await of(fx.Summarize(7)) == ("summed", 7, None)
        assert await of(fx.ListGroup(8, b"12345678")) == ("listed", 8, None)
        with pytest.raises(AssertionError):
            await of(None)

    asyncio.run(body())


def lww(key: str) -> Mode:
    return Mode.LWW


async def write(store: Any, **values: str | None) -> None:
    ops = [
        Op(op="delete", key=key.replace("_", "/"))
        if text is None
        else Op(op="put", key=key.replace("_", "/"), text=text)
        for key, text in values.items()
    ]
    await store.write(ops, lww)


def test_sums_follow_what_changes_and_only_that_is_read(tmp_path: Path) -> None:
    async def scenario(store: Any) -> None:
        now = [0.0]
        ledger = StateLedger(store, clock=lambda: now[0])

        async def sums(of: StateLedger) -> dict[bytes, bytes]:
            now[0] += LOOK_S + 1
            found: Any = await of.carry_out(fx.Summarize(1), Core())  # type: ignore[arg-type]
            return dict(found[2])

        async def fresh() -> dict[bytes, bytes]:
            return await sums(StateLedger(store, clock=lambda: now[0]))

        await write(store, a_x="1", a_y="1", b="1", runs_r_x="1", runs_s_x="1", runs="1")
        first = await sums(ledger)
        assert first == await fresh()
        assert set(first) == {digest_of(one) for one in ("a", "b", "runs/r", "runs/s", "runs")}
        read: list[str] = []
        real = store.versions_of

        async def spied(group: str) -> Any:
            read.append(group)
            return await real(group)

        store.versions_of = spied
        await write(store, a_x="2", runs_r_y="1")
        assert await sums(ledger) == await fresh() != first
        assert sorted(read) == ["a", "runs/r"]
        read.clear()
        await write(store, b=None)
        assert await sums(ledger) == await fresh()
        held = await store.held(["a/x"])
        await ledger.carry_out(fx.MayDrop(1, (("a/x", held[0].version),)), Core())  # type: ignore[arg-type]
        assert await sums(ledger) == await fresh()
        await store.drop([("a/y", (await store.held(["a/y"]))[0].version)])  # as by others
        stale = await sums(ledger)
        now[0] += WHOLE_S
        assert await sums(ledger) == await fresh() != stale

    with_store(tmp_path, scenario)


def test_a_group_is_listed_with_its_deletions_and_no_other(tmp_path: Path) -> None:
    async def scenario(store: Any) -> None:
        await write(store, a="1", a_x="1", ab_x="1", a_z=None, runs="1", runs_r_x="1")
        of = ledger_of(store)
        for group, keys in (
            ("a", ["a", "a/x", "a/z"]),
            ("runs", ["runs"]),
            ("runs/r", ["runs/r/x"]),
            ("c", []),
        ):
            _, _, names = await of(fx.ListGroup(1, digest_of(group)))
            assert [key for key, _ in names] == keys

    with_store(tmp_path, scenario)


def test_pieces_are_of_the_value_that_is_meant(tmp_path: Path) -> None:
    async def scenario(store: Any) -> None:
        await write(store, a="1")
        (held,) = await store.held(["a"])
        of = ledger_of(store)
        assert await of(fx.ReadPieces(1, ((held.sha256, "a"),))) == ("read", 1, [b"1"])
        assert await of(fx.ReadPieces(1, ((SHA, "a"),))) == ("read", 1, None)
        assert await of(fx.Look(2, (), ())) == ("looked", 2, [], [])
        ledger = StateLedger(store)
        ledger.used_bytes = store.bounds.bytes_max + 1
        assert ledger.free_bytes() == 0

    with_store(tmp_path, scenario)
