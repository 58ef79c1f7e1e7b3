"""The wire: golden samples, bounds, and typed error or value for anything at all."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.gossip.codec import (
    DATAGRAM_BYTES_MAX,
    Accusation,
    Death,
    Items,
    Kind,
    decode_item,
    decode_packet,
    encode_item,
    encode_packet,
    encode_record,
    header_bytes,
)
from edgeagent.gossip.errors import RecordRefused, WireRefused
from edgeagent.gossip.frames import (
    ENTRIES_MAX,
    FRAME_BYTES_MAX,
    SECTIONS_TOLD,
    Digest,
    Entry,
    Frame,
    Summary,
    Transfer,
    Want,
    decode_frame,
    encode_frame,
)
from edgeagent.gossip.records import (
    NAME_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    SIGNATURE_BYTES_MAX,
    VERSION_MAX,
    Identity,
    Load,
    Record,
    write_payload,
)

# Samples of version 1. A change of theirs is a change of the wire: it needs a new version.
VERSION = 1_790_000_000_000 << 16 | 1
IDENTITY = "9701a67361742d313200cf01a0c4506c000001c4149491ad31302e302e302e313a37393436c2c400a0c4040505050500"
LOAD = "9701a67361742d313206cf01a0c4506c000002c41097cb3fe000000000000003c0c0c0c0c3c40001"
ACCUSATION = "9402a67361742d313207a57361742d33"
DEATH = "9403a67361742d313207a57361742d33"
PING = "019500a57361742d334da67361742d313291c4109402a67361742d313207a57361742d33"
FRAMES: dict[str, Frame] = {
    "019301a57361742d33c4080000000000000000": Summary("sat-3", bytes(8)),
    "019402c401009193a67361742d3132cf01a0c4506c0000019501c0fecd012cd3ffffff0000000000c3": Digest(
        b"\x00", [Entry("sat-12", VERSION, (1, None, -2, 300, -(2**40)))], True
    ),
    "01940391c401789192a67361742d31321fc2": Transfer([b"x"], [Want("sat-12", 31)], False),
}


def test_golden_records() -> None:
    one = encode_record(
        "sat-12", 0, VERSION, write_payload(Identity(("10.0.0.1:7946",))), signature=b"\x05" * 4
    )
    assert one.blob.hex() == IDENTITY
    assert one.mark == 6410152415500596285
    read = decode_item(bytes.fromhex(IDENTITY))
    assert isinstance(read, Record)
    assert (read.name, read.section, read.version, read.hops) == ("sat-12", 0, VERSION, 0)
    assert read.identity == Identity(("10.0.0.1:7946",))
    payload = write_payload(Load(cpu=0.5, queue=3, sunlit=True))
    assert encode_record("sat-12", 6, VERSION + 1, payload, signature=b"", hops=1).blob.hex() == LOAD


@pytest.mark.parametrize(
    ("item", "form"), [(Accusation("sat-12", 7, "sat-3"), ACCUSATION), (Death("sat-12", 7, "sat-3"), DEATH)]
)
def test_golden_claims(item: Accusation | Death, form: str) -> None:
    assert encode_item(item).hex() == form
    assert decode_item(bytes.fromhex(form)) == item


def test_golden_packet() -> None:
    data = encode_packet(Kind.PING, "sat-3", 77, "sat-12", [bytes.fromhex(ACCUSATION)])
    assert data.hex() == PING
    read = decode_packet(data)
    assert (read.kind, read.sender, read.seq, read.target) == (Kind.PING, "sat-3", 77, "sat-12")
    assert read.items == [bytes.fromhex(ACCUSATION)]


@pytest.mark.parametrize("form", FRAMES)
def test_golden_frames(form: str) -> None:
    assert encode_frame(FRAMES[form]).hex() == form
    assert decode_frame(bytes.fromhex(form)) == FRAMES[form]


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused(version: int) -> None:
    with pytest.raises(WireRefused, match="version"):
        decode_packet(bytes([version]) + bytes.fromhex(PING)[1:])
    with pytest.raises(WireRefused, match="version"):
        decode_frame(bytes([version]) + bytes.fromhex(next(iter(FRAMES)))[1:])


def test_what_is_too_large_is_refused_unread() -> None:
    with pytest.raises(WireRefused, match="bytes and version"):
        decode_packet(b"\x01" * (DATAGRAM_BYTES_MAX + 1))
    with pytest.raises(WireRefused, match="bytes and version"):
        decode_frame(b"\x01" * (FRAME_BYTES_MAX + 1))
    with pytest.raises(WireRefused):
        decode_packet(b"")


@pytest.mark.parametrize("data", [b"\x91" * 1200, b"\xdc\xff\xff" * 400, b"\x81" * 1200])
def test_deep_nesting_is_refused(data: bytes) -> None:
    with pytest.raises(WireRefused):
        decode_packet(b"\x01" + data)
    with pytest.raises(WireRefused):
        decode_item(data)
    with pytest.raises(WireRefused):
        decode_frame(b"\x01" + data)


def test_text_that_is_no_utf_8_is_refused() -> None:
    with pytest.raises(WireRefused):
        decode_packet(bytes.fromhex(PING).replace(b"sat-3", b"\xff\xfe\xff\xfe\xff", 1))


@pytest.mark.parametrize("name", ["", "a b", "naïve", "x" * (NAME_BYTES_MAX + 1), "line\n"])
def test_names_of_other_letters_or_lengths_are_refused(name: str) -> None:
    with pytest.raises(RecordRefused, match="no record can carry this"):
        encode_record(name, 1, 5, b"", signature=b"")
    with pytest.raises(WireRefused):
        decode_item(encode_item(Accusation(name, 1, "a")))


def test_records_keep_their_bounds() -> None:
    for changed in (
        {"section": 7},
        {"version": VERSION_MAX + 1},
        {"payload": bytes(PAYLOAD_BYTES_MAX + 1)},
        {"signature": bytes(SIGNATURE_BYTES_MAX + 1)},
        {"hops": 16},
    ):
        values = {"section": 1, "version": 5, "payload": b"", "signature": b"", "hops": 0, **changed}
        with pytest.raises(RecordRefused):
            encode_record("n", **values)  # type: ignore[arg-type]
    with pytest.raises(RecordRefused, match="no record"):
        encode_record("n", 0, 5, b"no identity", signature=b"")


def test_the_largest_record_fits_a_datagram_with_the_longest_names() -> None:
    name = "x" * NAME_BYTES_MAX
    one = encode_record(
        name, 1, VERSION_MAX, bytes(PAYLOAD_BYTES_MAX), signature=bytes(SIGNATURE_BYTES_MAX), hops=15
    )
    data = encode_packet(Kind.PING_REQ, name, 2**32 - 1, name, [one.blob])
    assert len(data) <= DATAGRAM_BYTES_MAX
    assert len(encode_packet(Kind.PING, name, 2**32 - 1, name, [])) <= header_bytes(name, name)


def test_the_fullest_digest_fits_a_frame() -> None:
    entry = Entry("x" * NAME_BYTES_MAX, VERSION_MAX, (-VERSION_MAX,) * len(SECTIONS_TOLD))
    assert len(encode_frame(Digest(bytes(256), [entry] * ENTRIES_MAX, True))) <= FRAME_BYTES_MAX


@pytest.mark.parametrize("size", [0, 4, 12, 24, 4096])
def test_summaries_have_a_power_of_two_of_sums(size: int) -> None:
    with pytest.raises(WireRefused):
        decode_frame(encode_frame(Summary("a", bytes(size))))


def test_an_item_is_read_once_and_the_cache_is_bounded() -> None:
    items = Items(size_max=3)
    blob = bytes.fromhex(IDENTITY)
    assert items.read(blob) is items.read(bytes(blob))
    for number in range(50):
        items.read(encode_item(Accusation("a", number, "b")))
        assert len(items) <= 3
    with pytest.raises(WireRefused):
        items.read(b"\xc1")


def _mutated(sample: bytes, chance: random.Random) -> bytes:
    data = bytearray(sample)
    for _ in range(chance.randrange(1, 5)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0 if data:
                data[place % len(data)] = chance.randrange(256)
            case 1 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
            case 2:
                data[place:place] = chance.randbytes(chance.randrange(1, 4))
            case 3 if data:
                del data[place % len(data) : place % len(data) + chance.randrange(1, 6)]
            case _:
                data = data[:place]
    return bytes(data)


def test_a_hundred_thousand_mutated_packets_give_a_value_or_a_typed_error() -> None:
    """Whatever is read can be written again and reads the same: there is no third outcome."""
    chance = random.Random(20_17)
    samples = [
        bytes.fromhex(PING),
        encode_packet(Kind.GOSSIP, "a", 0, "", [bytes.fromhex(IDENTITY), bytes.fromhex(LOAD)]),
        *(bytes.fromhex(form) for form in FRAMES),
        *(b"\x01" + bytes.fromhex(form) for form in (IDENTITY, LOAD, ACCUSATION, DEATH)),
    ]
    values = errors = 0
    for _ in range(100_000):
        data = _mutated(chance.choice(samples), chance)
        try:
            read = decode_packet(data)
            again = encode_packet(read.kind, read.sender, read.seq, read.target, read.items)
            assert decode_packet(again) == read
            for blob in read.items:
                decode_item(blob)
            values += 1
        except WireRefused:
            errors += 1
        try:
            frame = decode_frame(data)
            assert decode_frame(encode_frame(frame)) == frame
            values += 1
        except WireRefused:
            errors += 1
        try:
            decode_item(data[1:])
            values += 1
        except WireRefused:
            errors += 1
    assert values > 1000
    assert errors > 100_000


@given(st.binary(max_size=1500))
def test_any_bytes_give_a_value_or_a_typed_error(data: bytes) -> None:
    for read in (decode_packet, decode_frame, decode_item):
        for form in (data, b"\x01" + data):
            with contextlib.suppress(WireRefused):
                read(form)
