"""Sealed packets: what opens, what does not, and what counts once."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.mesh import sealing
from edgeagent.mesh.errors import KeysRefused, SealRefused
from edgeagent.mesh.keyring import Keyring, Secret, added, dropped, read_keyring, used, write_keyring
from edgeagent.mesh.replay import WINDOW, ReplayWindow
from edgeagent.mesh.sealing import FORGET_S, OVERHEAD_BYTES, SealedPackets

RING = Keyring("test", (Secret(1, b"s" * 32),), 1)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def packets(
    name: str = "a",
    epoch: int = 1000,
    ring: Keyring = RING,
    nonce: bytes = b"12345678",
    clock: Callable[[], float] | None = None,
) -> SealedPackets:
    return SealedPackets(ring, name, epoch, nonce, clock or Clock())


def test_what_is_sealed_opens_once() -> None:
    a, b = packets("a"), packets("b")
    for plain in (b"", b"hello", bytes(1300)):
        sealed = a.seal(plain)
        assert len(sealed) == len(plain) + OVERHEAD_BYTES
        assert b.open(sealed, "x") == plain
        with pytest.raises(SealRefused, match="was here before"):
            b.open(sealed, "x")


def test_late_packets_count_within_the_window() -> None:
    a, b = packets("a"), packets("b")
    sent = [a.seal(b"%d" % number) for number in range(WINDOW + 5)]
    assert b.open(sent[-1], "x") == b"%d" % (WINDOW + 4)
    assert b.open(sent[10], "x") == b"10"
    for late in (sent[10], sent[0], sent[4]):
        with pytest.raises(SealRefused):
            b.open(late, "x")


def test_every_changed_bit_is_noticed() -> None:
    sealed = packets("a").seal(b"plain")
    b = packets("b")
    for place in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[place // 8] ^= 1 << place % 8
        with pytest.raises(SealRefused):
            b.open(bytes(broken), "x")
    assert b.open(sealed, "x") == b"plain"  # and none of them did harm
    assert len(b._lives) == 1


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(SealRefused):
        packets("b").open(data, "x")


@pytest.mark.parametrize(
    "ring",
    [
        Keyring("other", RING.secrets, 1),
        Keyring("test", (Secret(1, b"t" * 32),), 1),
        Keyring("test", (Secret(2, b"s" * 32),), 2),
    ],
)
def test_other_clusters_do_not_open(ring: Keyring) -> None:
    with pytest.raises(SealRefused):
        packets("b", ring=ring).open(packets("a").seal(b"x"), "x")


def test_an_earlier_life_is_refused_until_the_later_one_is_forgotten() -> None:
    clock = Clock()
    b = packets("b", clock=clock)
    old = packets("a", 1000, nonce=b"old-life")
    early = old.seal(b"old news")
    assert b.open(packets("a", 2000).seal(b"new"), "x") == b"new"
    with pytest.raises(SealRefused, match="earlier life"):
        b.open(early, "x")
    clock.now_s += FORGET_S
    assert b.open(old.seal(b"its clock fell back"), "x") == b"its clock fell back"


def test_no_key_meets_a_nonce_twice_where_clock_and_disk_are_lost() -> None:
    one, other = packets("a", 5, nonce=b"life-one"), packets("a", 5, nonce=b"life-two")
    assert one.seal(b"same")[-20:] != other.seal(b"same")[-20:]


def test_rotation_without_a_pause() -> None:
    rings = [RING]
    rings.append(added(rings[-1], b"n" * 32))
    rings.append(used(rings[-1]))
    rings.append(dropped(rings[-1]))
    a, b = packets("a"), packets("b")
    for ring in rings[1:]:  # at every moment some have it and others do not
        a.use(ring)
        assert b.open(a.seal(b"x"), "x") == b"x"
        assert a.open(b.seal(b"y"), "x") == b"y"
        b.use(ring)
        assert a.open(b.seal(b"z"), "x") == b"z"
    with pytest.raises(SealRefused, match="secret 1"):
        b.open(packets("c").seal(b"with the old one"), "x")


def test_a_ring_in_the_middle_of_nothing() -> None:
    with pytest.raises(KeysRefused, match="in use"):
        dropped(RING)
    full = RING
    for _ in range(3):
        full = added(full, b"n" * 32)
    with pytest.raises(KeysRefused, match="4 secrets"):
        added(full, b"n" * 32)
    assert read_keyring(write_keyring(full)) == full


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"\xff", write_keyring(msgspec.structs.replace(RING, primary=7)),
     write_keyring(msgspec.structs.replace(RING, version=9)),
     write_keyring(msgspec.structs.replace(RING, secrets=RING.secrets * 2)),
     write_keyring(RING).replace(b"c3", b"!!")],
)  # fmt: skip
def test_rings_that_are_none(data: bytes) -> None:
    with pytest.raises(KeysRefused):
        read_keyring(data)


def test_the_table_of_senders_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SENDERS_MAX", 8)
    b = packets("b")
    for number in range(20):
        b.open(packets(f"n{number}").seal(b"x"), "x")
    assert len(b._lives) == 8


def test_a_life_ends_before_its_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_COUNTER_MAX", 2)
    a = packets("a")
    a.seal(b"")
    a.seal(b"")
    with pytest.raises(SealRefused, match="too many"):
        a.seal(b"")


def test_the_window_against_a_set() -> None:
    chance = random.Random(7)
    window, seen, highest = ReplayWindow(), set[int](), -1
    for _ in range(5000):
        counter = max(0, highest + chance.randrange(-2 * WINDOW, 50))
        expected = counter not in seen and counter > highest - WINDOW
        assert window.is_new(counter) == expected
        if expected:
            window.take(counter)
            seen.add(counter)
            highest = max(highest, counter)
