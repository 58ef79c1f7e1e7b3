"""What was written together goes together, from whoever has it; but for what was overwritten since."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from edgeagent.node.state_ledger import StateLedger
from edgeagent.state import effects as fx
from edgeagent.state.calls import Op
from edgeagent.state.effects import Effect, NetworkView, PeerView
from edgeagent.state.entry import Entry
from edgeagent.state.hlc import Version
from edgeagent.state.keys import GROUP_ITEMS_MAX
from edgeagent.state.keystore import KeyStore
from edgeagent.state.messages import CommitRequest, Custody
from edgeagent.state.obligations import SPACE
from edgeagent.state.replicator import Replicator
from tests.unit.state.keystore_rig import NOW_MS, Clock, foreign, lww, put, with_store


def _of(moment_ms: int, *keys: str) -> list[Entry]:
    """One transaction of another node."""
    return [foreign(key, key.encode(), wall_ms=moment_ms)[0] for key in keys]


async def _together(store: KeyStore, key: str) -> set[str]:
    return {entry.key for entry in await store.held([key], siblings_max=GROUP_ITEMS_MAX)}


def test_transactions_that_come_in_one_message_are_told_apart(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        entries = [*_of(NOW_MS, "a/1", "b/1", "c/1"), *_of(NOW_MS - 1, "a/2", "b/2")]
        entries.sort(key=lambda entry: entry.key)  # as Sending does
        merged = await store.accept(entries, custody=False)
        assert [one.entry for one in merged] == entries
        for key in ("a/1", "b/1", "c/1"):
            assert await _together(store, key) == {"a/1", "b/1", "c/1"}
        assert await _together(store, "b/2") == {"a/2", "b/2"}

    with_store(tmp_path, scenario)


def test_what_comes_again_stays_beside_what_was_here_already(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        group, other = _of(NOW_MS, "a/1", "a/2", "b/1"), _of(NOW_MS + 1, "c/1")
        await store.accept(group, custody=False)
        await store.accept(other, custody=False)
        seq = store.seq
        await store.accept([*group, *other], custody=False)
        assert store.seq == seq  # nothing is new
        await store.drop([(group[0].key, group[0].version), (group[2].key, group[2].version)])
        merged = await store.accept([group[0], *other, *group[1:]], custody=False)
        assert [one.changed for one in merged] == [True, False, False, True]
        assert await _together(store, "a/1") == {"a/1", "a/2", "b/1"}
        assert await _together(store, "c/1") == {"c/1"}
        assert [entry.key for _, entry in await store.entries_since(seq, 10)] == ["a/1", "b/1", "a/2"]

    with_store(tmp_path, scenario)


def test_what_was_here_already_takes_along_what_its_sender_has_forgotten(tmp_path: Path) -> None:
    async def scenario(store: KeyStore) -> None:
        group = _of(NOW_MS, "a/1", "a/2", "a/3", "b/1")
        await store.accept(group, custody=False)
        await store.drop([(group[0].key, group[0].version)])
        await store.accept(_of(NOW_MS + 1, "c/1"), custody=False)
        await store.accept(group[:2], custody=False)
        for entry in group:
            assert await _together(store, entry.key) == {"a/1", "a/2", "a/3", "b/1"}

    with_store(tmp_path, scenario)


def test_a_value_that_was_mended_is_still_beside_its_group(tmp_path: Path) -> None:
    entries = _of(NOW_MS, "a/1", "a/2")

    async def prepared(store: KeyStore) -> None:
        await store.accept(entries, custody=False)
        await put(store, "b/1", b"later")

    with_store(tmp_path, prepared)
    with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
        connection.execute("UPDATE entries SET value = x'00' WHERE key = 'a/1'")

    async def scenario(store: KeyStore) -> None:
        usage, seq = await store.usage(), store.seq
        (merged,) = await store.accept(entries[:1], custody=False)
        assert not merged.changed
        assert await store.get("a/1") == (entries[0], b"a/1")
        assert await _together(store, "a/2") == {"a/1", "a/2"}
        assert (await store.usage(), store.seq) == (usage, seq)

    with_store(tmp_path, scenario)


class _Member:
    """A core with a real store: its effects are carried out until it has nothing to do; what it sends is kept."""

    def __init__(self, store: KeyStore, peer: str) -> None:
        self.store = store
        self.core = Replicator("n1", life=1)
        self.sent: list[CommitRequest] = []
        self._ledger = StateLedger(store, clock=Clock())
        self.core.tick(1.0, NOW_MS, free_bytes=1 << 20)
        self.core.network(NetworkView({peer: PeerView()}))

    async def do(self, effects: list[Effect]) -> list[Custody]:
        replies = []
        while effects:
            match effect := effects.pop(0):
                case fx.Send(_, CommitRequest() as request):
                    self.sent.append(request)
                case fx.Send(_, Custody() as custody):
                    replies.append(custody)
                case fx.Load() | fx.Commit():
                    effects += await self._ledger.carry_out(effect, self.core)
        return replies


def test_what_was_overwritten_by_a_write_that_nobody_was_told_of_goes_by_itself(tmp_path: Path) -> None:
    group = ["a/2", "a/5", "a/3", "b/1"]
    at: dict[str, Version] = {}
    sent: list[CommitRequest] = []
    clock = Clock()

    async def writer(store: KeyStore) -> None:
        written = await store.write([Op(op="put", key=key, value=b"1") for key in group], lww)
        assert len({one.entry.version.moment for one in written if one.entry is not None}) == 1
        clock.utc_ms += 1000
        await put(store, "a/3", b"2")  # and it ends, before anybody hears of it

    async def restarted(store: KeyStore) -> None:
        at.update((one.key, one.version) for one in await store.held(group))
        member = _Member(store, "n2")
        notes = await store.notes(SPACE)
        feed = await store.entries_since(Replicator.mark_of(notes), 1024)
        assert [entry.key for _, entry in feed] == ["a/2", "a/5", "b/1", "a/3"]
        # A comparison comes first: another node has an older a/2.
        await member.do(member.core.push({"a/2": at["a/2"]}, "n2"))
        await member.do(member.core.restore(notes, feed))
        sent.extend(member.sent)

    async def replica(store: KeyStore) -> None:
        member = _Member(store, "n1")
        for request in sent:
            (custody,) = await member.do(member.core.message("n1", request))
            assert not custody.refused
            assert await _together(store, "a/2") == {"a/2", "a/5", "b/1"}
        assert {one.key: one.version for one in await store.held(group)} == at

    with_store(tmp_path / "writer", writer, clock)
    with_store(tmp_path / "writer", restarted, clock)
    assert [[entry.key for entry in one.entries] for one in sent] == [
        ["a/2", "a/5", "b/1"],
        ["a/2", "a/3", "a/5", "b/1"],
    ]
    with_store(tmp_path / "replica", replica, clock)
