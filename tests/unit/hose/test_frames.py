"""The codec of cross-host hoses: what it makes it reads again, and all else is refused by type."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.hose.errors import (
    AbortCode,
    FrameRefused,
    HoseFault,
    LinkCut,
    NoRoom,
    TransferTooLarge,
    VersionRefused,
    fault_of,
)
from edgeagent.hose.frames import (
    FRAME_BYTES,
    NO_DIGEST,
    NO_ID,
    PAYLOAD_BYTES_MAX,
    RESENT,
    STRIPES_MAX,
    TEXT_BYTES,
    TOTAL_BYTES_MAX,
    VERSION,
    ZSTD,
    Abort,
    Accept,
    Ack,
    Again,
    Data,
    Done,
    Frame,
    Greeting,
    Hello,
    Offer,
    Ping,
    Pong,
    Welcome,
    Window,
    abort,
    decode,
    encode,
)

ID = bytes(range(1, 17))
NONCE = bytes(range(16, 32))
PROOF = bytes(range(32, 64))

# Version 1, for ever: the frame, its type, and its fields as they lie behind the first 8 bytes, without the padding.
GOLDEN: list[tuple[Frame, int, str]] = [
    (Greeting(NONCE, 3), 1, NONCE.hex() + "0300"),
    (Hello(ID, NONCE, PROOF, 3, 1), 2, ID.hex() + NONCE.hex() + PROOF.hex() + "03000100"),
    (Welcome(PROOF, 2, 0, 1 << 20, 5 << 30), 3, PROOF.hex() + "02000000" + "00001000" + "0000004001000000"),
    (
        Offer(ID, 7, 0x1000, 0x800, 0x800, 1, 2, PROOF),
        4,
        ID.hex() + "07000000" + "0010000000000000" + "0008000000000000" * 2 + "01000200" + PROOF.hex(),
    ),
    (Accept(ID, 7, 0x10, 0x20), 5, ID.hex() + "07000000" + "1000000000000000" + "2000000000000000"),
    (
        Data(ID, 7, 0x10, 0x400, 0x3FF, ZSTD, NONCE),
        6,
        ID.hex() + "07000000" + "1000000000000000" + "00040000" + "ff030000" + "0100" + NONCE.hex(),
    ),
    (Window(ID, 7, 0x20), 7, ID.hex() + "07000000" + "2000000000000000"),
    (Again(ID, 7, 0x10, 0x400), 8, ID.hex() + "07000000" + "1000000000000000" + "00040000"),
    (Done(ID, 7, 0x1000), 9, ID.hex() + "07000000" + "0010000000000000"),
    (Ack(ID, 7), 10, ID.hex() + "07000000"),
    (Abort(ID, AbortCode.NO_ROOM, "no room"), 11, ID.hex() + "0800" + b"no room".hex()),
    (Ping(9), 12, "0900000000000000"),
    (Pong(9), 13, "0900000000000000"),
]

u16 = st.integers(0, (1 << 16) - 1)
u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
ids = st.binary(min_size=16, max_size=16)
digests = st.binary(min_size=32, max_size=32)
lengths = st.integers(1, PAYLOAD_BYTES_MAX)
offsets = st.integers(0, TOTAL_BYTES_MAX - PAYLOAD_BYTES_MAX)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)


@st.composite
def _offers(draw: st.DrawFn) -> Offer:
    stripes = draw(st.integers(1, STRIPES_MAX))
    total = draw(st.integers(0, TOTAL_BYTES_MAX))
    base = draw(st.integers(0, total)) if stripes > 1 else 0
    length = draw(st.integers(0, total - base)) if stripes > 1 else total
    id_ = draw(ids.filter(lambda one: one != NO_ID))
    return Offer(
        id_, draw(u32), total, base, length, draw(st.integers(0, stripes - 1)), stripes, draw(digests)
    )


@st.composite
def _data(draw: st.DrawFn) -> Data:
    flags, length = draw(st.sampled_from((0, ZSTD, RESENT, ZSTD | RESENT))), draw(lengths)
    stored = draw(lengths) if flags & ZSTD else length
    return Data(draw(ids), draw(u32), draw(offsets), length, stored, flags, draw(ids))


@st.composite
def _accepts(draw: st.DrawFn) -> Accept:
    credit = draw(st.integers(0, TOTAL_BYTES_MAX))
    return Accept(draw(ids), draw(u32), draw(st.integers(0, credit)), credit)


frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Greeting, ids, u16),
    st.builds(Hello, ids, ids, digests, u16, st.integers(0, 1)),
    st.builds(Welcome, digests, u16, st.integers(0, 1), lengths, u64),
    _offers(),
    _accepts(),
    _data(),
    st.builds(Window, ids, u32, u64),
    st.builds(Again, ids, u32, u64, lengths),
    st.builds(Done, ids, u32, u64),
    st.builds(Ack, ids, u32),
    st.builds(Abort, ids, u16, texts),
    st.builds(Ping, u64),
    st.builds(Pong, u64),
)


def _sealed(head: bytes) -> bytes:
    return head + struct.pack("<I", zlib.crc32(head))


@given(frames)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    data = encode(frame)
    assert len(data) == FRAME_BYTES == 128
    assert decode(data) == decode(memoryview(data)) == frame


@given(st.binary(max_size=300))
def test_any_bytes_are_a_frame_or_refused(data: bytes) -> None:
    with pytest.raises(FrameRefused):
        decode(data)


@given(st.integers(0, 20), st.binary(min_size=116, max_size=116))
def test_any_well_sealed_fields_are_a_frame_or_refused(number: int, body: bytes) -> None:
    data = _sealed(struct.pack("<4sBBH", b"EHRW", VERSION, number, 0) + body)
    try:
        frame = decode(data)
    except FrameRefused:
        return
    assert encode(frame) == data


@given(frames, st.integers(0, FRAME_BYTES - 1), st.integers(1, 255))
def test_no_changed_byte_goes_unnoticed(frame: Frame, at: int, change: int) -> None:
    data = bytearray(encode(frame))
    data[at] ^= change
    with pytest.raises(FrameRefused if at != 4 else VersionRefused):
        decode(data)


@given(frames, st.integers(0, FRAME_BYTES - 1))
def test_a_truncated_frame_is_refused(frame: Frame, length: int) -> None:
    with pytest.raises(FrameRefused, match="128 bytes"):
        decode(encode(frame)[:length])


@pytest.mark.parametrize(("frame", "number", "fields"), GOLDEN, ids=lambda value: type(value).__name__)
def test_version_1_stays_as_it_is(frame: Frame, number: int, fields: str) -> None:
    body = bytes.fromhex(fields).ljust(116, b"\0")
    data = _sealed(b"EHRW" + bytes((1, number, 0, 0)) + body)
    assert encode(frame) == data
    assert decode(data) == frame


def test_every_type_has_a_golden_sample() -> None:
    assert {type(frame) for frame, _, _ in GOLDEN} == set(Frame.__args__)


def test_a_later_version_is_named() -> None:
    data = _sealed(b"EHRW" + bytes((2, 1, 0, 0)) + bytes(116))
    with pytest.raises(VersionRefused, match="version 2"):
        decode(data)


@pytest.mark.parametrize(
    "frame",
    [
        Data(ID, 0, 0, PAYLOAD_BYTES_MAX + 1, PAYLOAD_BYTES_MAX + 1, 0, NONCE),
        Data(ID, 0, 0, 0, 0, 0, NONCE),
        Data(ID, 0, 0, 10, 9, 0, NONCE),
        Data(ID, 0, 0, 10, PAYLOAD_BYTES_MAX + 1, ZSTD, NONCE),
        Data(ID, 0, 0, 10, 10, 4, NONCE),
        Data(ID, 0, TOTAL_BYTES_MAX, 10, 10, 0, NONCE),
        Data(ID, 0, 0, 10, 10, 0, b"short"),
        Offer(NO_ID, 0, 10, 0, 10),
        Offer(ID, 0, TOTAL_BYTES_MAX + 1, 0, TOTAL_BYTES_MAX + 1),
        Offer(ID, 0, 10, 1, 10, 0, 2),
        Offer(ID, 0, 10, 0, 5),
        Offer(ID, 0, 10, 0, 10, 1, 1),
        Offer(ID, 0, 10, 0, 10, 0, STRIPES_MAX + 1),
        Offer(ID[:5], 0, 10, 0, 10),
        Accept(ID, 0, 11, 10),
        Again(ID, 0, 0, 0),
        Again(ID, 0, 0, PAYLOAD_BYTES_MAX + 1),
        Welcome(PROOF, 1, 0, 0, 0),
        Welcome(PROOF, 1, 2, 1, 0),
        Hello(ID, NONCE, PROOF, 1, 2),
        Window(ID, 0, 1 << 64),
        Ack(ID, -1),
        Abort(ID, 0, "x" * (TEXT_BYTES + 1)),
        Abort(ID, 0, "a\0b"),
    ],
)
def test_what_must_not_be_said_is_not_encoded(frame: Frame) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        encode(frame)


def test_what_must_not_be_said_is_not_decoded() -> None:
    def offer(total: int, base: int, length: int, stripe: int, stripes: int) -> bytes:
        body = struct.pack("<16sIQQQHH32s", ID, 0, total, base, length, stripe, stripes, NO_DIGEST)
        return _sealed(b"EHRW" + bytes((1, 4, 0, 0)) + body.ljust(116, b"\0"))

    assert decode(offer(10, 0, 10, 0, 1)) == Offer(ID, 0, 10, 0, 10)
    for wrong in ((10, 0, 11, 0, 1), (10, 0, 9, 0, 1), (10, 0, 10, 1, 1), (1 << 60, 0, 1 << 60, 0, 1)):
        with pytest.raises(FrameRefused):
            decode(offer(*wrong))


def test_a_reason_is_cut_at_a_characters_end() -> None:
    said = abort(HoseFault("ä" * 100))
    assert said.text == "ä" * (TEXT_BYTES // 2)
    assert decode(encode(said)) == said
    assert abort(HoseFault("x" + "ä" * 100)).text == "x" + "ä" * 39
    assert abort(AbortCode.STALE, "a\0b") == Abort(NO_ID, AbortCode.STALE, "a b")


def test_an_abort_becomes_the_error_that_it_was_made_of() -> None:
    for kind in (NoRoom, TransferTooLarge, LinkCut):
        sent = abort(kind("because"))
        got = fault_of(sent.code, sent.text)
        assert type(got) is kind
        assert got.from_peer
        assert "because" in got.message
    assert type(fault_of(9999, "")) is HoseFault
