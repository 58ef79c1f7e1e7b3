"""The key store against a dictionary, over reopenings: whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edgeagent.model.errors import StorageFull
from edgeagent.state.calls import Op
from edgeagent.state.entry import Entry
from edgeagent.state.errors import VersionMismatch
from edgeagent.state.hlc import Version
from edgeagent.state.keystore import KeyStore
from tests.unit.state.keystore_rig import Clock, foreign, lww, make

T = TypeVar("T")

KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "é/x"])
SIZES = st.sampled_from([0, 1, 1000, 65_536, 65_537, 300_000, 600_000])
BYTES_MAX = 3 << 20
COUNTED = """SELECT (SELECT count(*) FROM entries),
    (SELECT coalesce(sum(charged_bytes), 0) FROM entries) + (SELECT coalesce(sum(size_bytes), 0) FROM chunks),
    (SELECT count(*) FROM chunks), (SELECT coalesce(sum(size_bytes), 0) FROM chunks WHERE refs = 0)"""


def value_of(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Model(RuleBasedStateMachine):
    """``values``: what a reader must get, and when it expires; ``versions``: of every key that is held or deleted."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.values: dict[str, tuple[bytes, int]] = {}
        self.versions: dict[str, Version] = {}
        self.highest = Version(0, 0, "")
        self.store: KeyStore

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.store = make(Path(self.folder.name), self.clock, bytes_max=BYTES_MAX, inbound_bytes=1 << 20)
        self.do(self.store.open())

    def teardown(self) -> None:
        self.do(self.store.close())
        self.do(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    @rule()
    def reopen(self) -> None:
        self.do(self.store.close())
        self.begin()

    @rule(
        ops=st.lists(
            st.tuples(KEYS, SIZES | st.none(), st.integers(0, 3), st.sampled_from([0, 50])), max_size=4
        ),
        expect=st.sampled_from([None, "right", "wrong"]),
    )
    def write(self, ops: list[tuple[str, int | None, int, int]], expect: str | None) -> None:
        made = [
            Op(op="delete", key=key)
            if size is None
            else Op(op="put", key=key, value=value_of(size, seed), ttl_ms=ttl_ms)
            for key, size, seed, ttl_ms in ops
        ]
        if made and expect is not None:
            key = made[0].key
            version = self.versions[key].text() if self.is_there(key) else ""
            made[0].expect = version if expect == "right" else "1.0.nobody"
        try:
            written = self.do(self.store.write(made, lww))
        except VersionMismatch:
            assert expect == "wrong"
            return
        except StorageFull:
            return  # nothing has changed, as the next look at everything shows
        assert not made or expect != "wrong"
        for op, one in zip(made, written, strict=True):
            assert one.entry is not None
            if one.changed:
                assert one.entry.version > self.highest
                self.highest = one.entry.version
            self.took(op.key, one.entry, op.value)

    def took(self, key: str, entry: Entry, value: bytes | None) -> None:
        self.versions[key] = entry.version
        self.values.pop(key, None)
        if value is not None:
            self.values[key] = (value, entry.expires_ms)

    def is_there(self, key: str) -> bool:
        return key in self.values and not 0 < self.values[key][1] <= self.clock.utc_ms

    @rule(
        key=KEYS,
        size=SIZES | st.none(),
        seed=st.integers(0, 3),
        off_ms=st.integers(-40, 40),
        custody=st.booleans(),
    )
    def accept(self, key: str, size: int | None, seed: int, off_ms: int, custody: bool) -> None:
        value = None if size is None else value_of(size, seed)
        entry, pieces = foreign(key, value, wall_ms=self.clock.utc_ms + off_ms, node="n2")
        try:
            self.do(self.store.put_chunks(pieces))
            (merged,) = self.do(self.store.accept([entry], custody=custody))
        except StorageFull:
            return
        assert merged.changed == (entry.version > self.versions.get(key, Version(0, 0, "")))
        self.highest = max(self.highest, entry.version)
        if merged.changed:
            self.took(key, entry, value)

    @rule(key=KEYS, right=st.booleans())
    def drop(self, key: str, right: bool) -> None:
        version = self.versions.get(key, self.highest)
        dropped = self.do(self.store.drop([(key, version if right else Version(1, 0, "n9"))]))
        assert dropped == ([key] if right and key in self.versions else [])
        if dropped:
            del self.versions[key]
            self.values.pop(key, None)

    @rule(later_ms=st.integers(0, 60))
    def later(self, later_ms: int) -> None:
        self.clock.utc_ms += later_ms

    @rule()
    def sweep(self) -> None:
        while not self.do(self.store.sweep()).is_done:
            pass

    @rule(budget=st.integers(1, 1 << 20))
    def scrub(self, budget: int) -> None:
        assert self.do(self.store.scrub(budget)).damaged == []

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        got = self.do(self.store.get(key))
        assert (None if got is None else got[1]) == (self.values[key][0] if self.is_there(key) else None)

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        there = sorted(key for key in self.values if self.is_there(key))
        assert [one.key for one in self.do(self.store.list(""))] == there
        for entry, value in self.do(self.store.get_many([], "")):
            whole = self.do(self.store.value_of(entry)) if value is None else value
            assert whole == self.values[entry.key][0]
            assert entry.version == self.versions[entry.key]
        feed = [entry for _, entry in self.do(self.store.entries_since(0, 100))]
        assert {entry.key: entry.version for entry in feed} == self.versions
        for key in [*self.versions, "a"]:  # from memory, where it is there
            got = self.do(self.store.get(key))
            assert (None if got is None else got[1]) == (self.values[key][0] if self.is_there(key) else None)
        usage = self.do(self.store.usage())
        assert self.do(self.store._store.read(lambda c: c.execute(COUNTED).fetchone())) == (
            usage.keys,
            usage.bytes,
            usage.chunks,
            usage.inbound_bytes,
        )
        assert usage.keys == len(self.versions)
        assert usage.bytes <= BYTES_MAX


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
