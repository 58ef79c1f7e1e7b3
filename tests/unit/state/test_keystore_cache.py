"""The values in memory: never older than what was acknowledged, and bounded."""

from __future__ import annotations

from edgeagent.state.entry import Entry, entry_of
from edgeagent.state.keystore_cache import ValueCache


def pair(key: str, value: bytes) -> tuple[Entry, bytes]:
    return entry_of(key, value), value


def test_a_read_that_a_write_has_overtaken_puts_nothing_in() -> None:
    cache = ValueCache(1 << 20)
    token = cache.begin_read("a")
    cache.begin_write(["a"])
    cache.end_write(["a"])
    cache.end_read("a", token, pair("a", b"old"))
    assert cache.get("a") is None


def test_a_read_during_a_write_puts_nothing_in() -> None:
    cache = ValueCache(1 << 20)
    cache.begin_write(["a"])
    token = cache.begin_read("a")
    cache.end_read("a", token, pair("a", b"old"))
    assert cache.get("a") is None
    cache.end_write(["a"], [pair("a", b"new")[0]])
    assert cache.get("a") == pair("a", b"new")


def test_of_writes_at_once_none_puts_anything_in() -> None:
    cache = ValueCache(1 << 20)
    cache.begin_write(["a", "b"])
    cache.begin_write(["a"])
    cache.end_write(["a"], [pair("a", b"2")[0]])  # which may have been the second
    assert cache.get("a") is None
    cache.end_write(["a", "b"], [pair("a", b"1")[0], pair("b", b"1")[0]])
    assert cache.get("a") is None
    assert cache.get("b") == pair("b", b"1")
    cache.begin_write(["a"])
    cache.end_write(["a"], [pair("a", b"3")[0]])
    assert cache.get("a") == pair("a", b"3")


def test_it_is_bounded_and_forgets_what_was_used_least() -> None:
    cache = ValueCache(16 << 10)
    for key in "abcdefghij":
        cache.end_read(key, cache.begin_read(key), pair(key, bytes(1500)))
        cache.get("a")
    assert cache.get("a") is not None
    assert cache.get("b") is None
    assert cache.get("j") is not None
    cache.end_read("large", cache.begin_read("large"), pair("large", bytes(3000)))
    assert cache.get("large") is None  # no value takes more than its share
    cache.clear()
    assert cache.get("a") is None


def test_of_a_key_that_a_group_writes_twice_the_last_counts() -> None:
    cache = ValueCache(1 << 20)
    cache.begin_write(["a", "a"])
    cache.end_write(["a", "a"], [entry_of("a", b"1"), entry_of("a", None)])
    assert cache.get("a") is None
