"""The wire of state: golden samples, bounds, and typed error or value for anything at all."""

from __future__ import annotations

import contextlib
import hashlib
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.state.entry import Entry, Mode, entry_of
from edgeagent.state.errors import BadTransfer
from edgeagent.state.hlc import NONE, Version
from edgeagent.state.keys import CHUNK_BYTES
from edgeagent.state.messages import (
    Ack,
    Chunks,
    Coming,
    CommitRequest,
    Custody,
    Differs,
    Digest,
    Have,
    Listing,
    Message,
    Offer,
    Others,
    Part,
    Piece,
    Refusal,
    Release,
    Released,
    Want,
    pieces_of,
    seal_of,
)
from edgeagent.state.wire import MESSAGE_BYTES_MAX, PARTS_MAX, VERSION, decode, encode, is_heavy

AT = Version(1_790_000_000_000, 3, "sat-1")
SMALL = entry_of("runs/r1/out", b"value", AT, mode=Mode.ONCE, epoch=1)
GONE = entry_of("a/b", None, AT, mode=Mode.OWNER, epoch=2, owner="sat-2")
LARGE = entry_of("big", bytes(300_000), AT)
LEFT_OUT = msgspec.structs.replace(entry_of("mid", b"m" * 3000, AT), inline=None)
EIGHT = bytes(range(8))

# Samples of version 1. A change of theirs is a change of the wire: it needs a new version.
GOLDEN: dict[str, Message] = {
    "0195010708929dab72756e732f72312f6f7574cf000001a0c4506c0003a57361742d310001a0c205c420cd4240"
    "4d52ad55ccfa9aca4adc828aa5800ad9d385a0671fbcbf724118320619c40576616c7565c400009da3612f62cf"
    "000001a0c4506c0003a57361742d310102a57361742d32c300c400c0c40000c3": Offer(
        7, 8, (SMALL, GONE), custody=True
    ),
    "0195020102c40105a0": Have(1, 2, b"\x05"),
    "0195020102c400a571756f7461": Have(1, 2, refused=Refusal.QUOTA),
    "019403010291940305c2c4057069656365": Chunks(1, 2, (Part(3, b"piece"),)),
    "01950401029103a0": Ack(1, 2, (3,)),
    "0195050102919da3612f62cf000001a0c4506c0003a57361742d310102a57361742d32c300c400c0c40000c2": CommitRequest(
        1, 2, (GONE,)
    ),
    "0196060102c41000000000000000000000000000000000c3a0": Custody(1, 2, bytes(16), is_ground=True),
    "019507019194a3612f62cf000001a0c4506c0003a57361742d310291a57361742d32": Release(
        1, (("a/b", AT),), 2, ("sat-2",)
    ),
    "01950801c40101c2a0": Released(1, b"\x01"),
    "019309019192c4080001020304050607c4080001020304050607": Digest(1, ((EIGHT, EIGHT),)),
    "01930a0190": Differs(1, ()),
    "01940b01c40800010203040506079294a3612f62cf000001a0c4506c0003a57361742d3194a1630000a0": Listing(
        1, EIGHT, (("a/b", AT), ("c", NONE))
    ),
    "01930c019194a3612f62cf000001a0c4506c0003a57361742d31": Others(1, (("a/b", AT),)),
    "01930d0191a3612f62": Want(1, ("a/b",)),
    "01930e0191a3612f62": Coming(1, ("a/b",)),
}
ALL: list[Message] = [
    *GOLDEN.values(),
    Offer(7, 8, (SMALL, GONE, LARGE, LEFT_OUT), custody=True),
    CommitRequest(9, 8, (SMALL, GONE, LARGE)),
    Chunks(1, 2, (Part(0, b"x" * 5000), Part(3, random.Random(1).randbytes(5000)))),
]


@pytest.mark.parametrize(("sample", "message"), GOLDEN.items())
def test_version_1_stays_as_it_is(sample: str, message: Message) -> None:
    assert encode(message).hex() == sample
    assert decode(bytes.fromhex(sample)) == message


@pytest.mark.parametrize("level", [0, 1, 3])
@pytest.mark.parametrize("message", ALL, ids=lambda one: type(one).__name__)
def test_what_is_written_is_read(message: Message, level: int) -> None:
    assert decode(encode(message, level)) == message


def test_pieces_shrink_where_it_pays() -> None:
    same = Chunks(1, 2, (Part(0, b"x" * CHUNK_BYTES),))
    assert len(encode(same, 1)) < 1000 < len(encode(same, 0))
    noise = Chunks(1, 2, (Part(0, random.Random(1).randbytes(CHUNK_BYTES)),))
    assert len(encode(noise, 3)) == len(encode(noise, 0))


def test_pieces_are_counted_in_order() -> None:
    assert pieces_of((SMALL, GONE, LARGE, LEFT_OUT)) == [
        Piece(LARGE.chunks[0], CHUNK_BYTES),
        Piece(LARGE.chunks[1], 300_000 - CHUNK_BYTES),
        Piece(hashlib.sha256(b"m" * 3000).digest(), 3000),
    ]
    assert seal_of(1, (SMALL,)) != seal_of(2, (SMALL,))


def test_heavy_is_what_takes_long() -> None:
    assert is_heavy(Chunks(1, 2, (Part(0, b"x"),)))
    assert not is_heavy(Offer(1, 2, (SMALL,)))
    assert is_heavy(Offer(1, 2, tuple(entry_of(f"k{at}", b"x", AT) for at in range(1000))))
    assert not is_heavy(Want(1, ("a",)))


def _with(entry: Entry, **changed: Any) -> Offer:
    return Offer(1, 2, (msgspec.structs.replace(entry, **changed),))


BAD: dict[str, Message] = {
    "a wrong hash": _with(SMALL, sha256=bytes(32)),
    "a short hash": _with(SMALL, sha256=b"x"),
    "another size": _with(SMALL, size_bytes=4),
    "too few chunks": _with(LARGE, chunks=LARGE.chunks[:1]),
    "odd chunks": _with(LARGE, chunks=(b"x",)),
    "both": _with(LARGE, inline=b"x"),
    "an empty value left out": _with(entry_of("k", b"", AT), inline=None),
    "a tombstone with a value": _with(GONE, size_bytes=1),
    "no key": _with(SMALL, key="a//b"),
    "a long key": _with(SMALL, key="k" * 513),
    "no node": _with(SMALL, version=Version(1, 0, "a b")),
    "no version": _with(SMALL, version=NONE),
    "a large clock": _with(SMALL, version=Version(1 << 48, 0, "a")),
    "no owner": _with(GONE, owner="!"),
    "nothing": Offer(1, 2, ()),
    "a key twice": Offer(1, 2, (SMALL, SMALL)),
    "no value": CommitRequest(1, 2, (LEFT_OUT,)),
    "too many pieces": Offer(
        1,
        2,
        tuple(
            _with(LARGE, key=f"k{at}", size_bytes=40_000 * CHUNK_BYTES, chunks=(bytes(32),) * 40_000).entries[
                0
            ]
            for at in (1, 2)
        ),
    ),
    "no parts": Chunks(1, 2, ()),
    "an empty part": Chunks(1, 2, (Part(0, b""),)),
    "a large part": Chunks(1, 2, (Part(0, bytes(CHUNK_BYTES + 1)),)),
    "many parts": Chunks(1, 2, (Part(0, b"x"),) * (PARTS_MAX + 1)),
    "a negative ask": Want(-1, ("a",)),
    "a short group": Listing(1, b"x", ()),
    "no copies": Release(1, (("a", AT),), copies=0),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD)
def test_what_makes_no_sense_is_refused(message: Message) -> None:
    with pytest.raises(BadTransfer):
        decode(encode(message))


def test_a_part_that_does_not_unpack_to_its_size_is_refused() -> None:
    packed = bytearray(encode(Chunks(1, 2, (Part(0, b"x" * 5000),)), 1))
    packed[-2] ^= 0xFF
    with pytest.raises(BadTransfer):
        decode(bytes(packed))
    raw = msgspec.msgpack.encode([3, 1, 2, [[0, 5, False, b"four"]]])
    with pytest.raises(BadTransfer, match="4 bytes"):
        decode(bytes((VERSION,)) + raw)


def test_other_versions_and_sizes_are_refused() -> None:
    with pytest.raises(BadTransfer, match="version 2"):
        decode(b"\x02" + encode(Want(1, ()))[1:])
    for raw in (b"", b"\x01", bytes(MESSAGE_BYTES_MAX + 1)):
        with pytest.raises(BadTransfer, match="bytes"):
            decode(raw)
    with pytest.raises(BadTransfer, match="are sent"):
        encode(Chunks(1, 2, (Part(0, bytes(MESSAGE_BYTES_MAX)),)))


def test_a_refusal_of_a_later_version_is_a_refusal() -> None:
    raw = bytes((VERSION,)) + msgspec.msgpack.encode([2, 1, 2, b"", "moon phase"])
    assert decode(raw) == Have(1, 2, b"", Refusal.REFUSED)


_VERSIONS = st.builds(
    Version,
    st.integers(1, (1 << 48) - 1),
    st.integers(0, 65535),
    st.from_regex(r"[a-z0-9.-]{1,64}", fullmatch=True),
)
_KEYS = st.from_regex(r"[a-zé]{1,20}(/[a-z0-9]{1,20}){0,3}", fullmatch=True)
_ENTRIES = st.builds(
    entry_of,
    _KEYS,
    st.none() | st.binary(max_size=300),
    _VERSIONS,
    mode=st.sampled_from(Mode),
    epoch=st.integers(0, 1 << 40),
    owner=st.sampled_from(["", "n1"]),
    expires_ms=st.integers(0, 1 << 50),
)
_ASKS = st.integers(0, (1 << 63) - 1)
_NAMES = st.lists(st.tuples(_KEYS, _VERSIONS), max_size=5).map(tuple)
_MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Offer, _ASKS, _ASKS, st.lists(_ENTRIES, min_size=1, max_size=5, unique_by=lambda e: e.key).map(tuple)
    ),
    st.builds(Have, _ASKS, _ASKS, st.binary(max_size=20), st.sampled_from(Refusal)),
    st.builds(
        Ack, _ASKS, _ASKS, st.lists(st.integers(0, 99), max_size=9).map(tuple), st.sampled_from(Refusal)
    ),
    st.builds(Custody, _ASKS, _ASKS, st.binary(max_size=16), st.booleans(), st.sampled_from(Refusal)),
    st.builds(Release, _ASKS, _NAMES, st.integers(1, 16), st.just(("n1", "n2"))),
    st.builds(Others, _ASKS, _NAMES),
    st.builds(
        Chunks,
        _ASKS,
        _ASKS,
        st.lists(st.builds(Part, st.integers(0, 9), st.binary(min_size=1)), min_size=1).map(tuple),
    ),
)


@given(message=_MESSAGES, level=st.sampled_from([0, 1, 3]))
def test_round_trip(message: Message, level: int) -> None:
    assert decode(encode(message, level)) == message


@given(raw=st.binary(max_size=200))
def test_anything_is_a_message_or_a_typed_error(raw: bytes) -> None:
    with contextlib.suppress(BadTransfer):
        decode(bytes((VERSION,)) + raw)


def test_mutated_messages_are_messages_or_typed_errors() -> None:
    chance = random.Random(6)
    for message in ALL * 40:
        raw = bytearray(encode(message, chance.choice((0, 1))))
        for _ in range(chance.randint(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        with contextlib.suppress(BadTransfer):
            decode(bytes(raw[: chance.randint(1, len(raw))]))
