"""The codec of the hose socket: what it makes it reads again, and all else is refused by type."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.hose.messages import (
    MESSAGE_BYTES,
    VERSION,
    BadMessage,
    Bye,
    Credit,
    Hello,
    Message,
    Publish,
    Refusal,
    Refused,
    Role,
    Welcome,
    check_hose_name,
    decode,
    encode,
    refused,
)

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
names = st.text("abcdefghijklmnopqrstuvwxyz0123456789._-", min_size=1, max_size=63)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Hello, st.sampled_from(Role), names, u32),
    st.builds(Welcome, u32, u64),
    st.builds(Publish, u64, u64, u64, u64),
    st.builds(Credit, u64, u64),
    st.builds(Refused, u32, st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)),
    st.builds(Bye),
)


@given(messages)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    data = encode(message)
    assert len(data) == MESSAGE_BYTES == 128
    assert decode(data) == message


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = decode(data)
    except BadMessage:
        return
    assert encode(message) == data


@given(messages, st.integers(0, MESSAGE_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_gives_another_message_or_a_refusal(message: Message, at: int, change: int) -> None:
    data = bytearray(encode(message))
    data[at] ^= change
    try:
        other = decode(bytes(data))
    except BadMessage:
        return
    assert other != message
    assert encode(other) == bytes(data)


@given(messages, st.integers(0, MESSAGE_BYTES - 1))
def test_a_truncated_message_is_refused(message: Message, length: int) -> None:
    with pytest.raises(BadMessage, match="128 bytes") as caught:
        decode(encode(message)[:length])
    assert caught.value.code is Refusal.PROTOCOL


def test_the_layout_is_the_documented_one() -> None:
    data = encode(Publish(seq=1, generation=2, offset=3, bytes=4))
    assert data[:40] == b"EHOS" + struct.pack("<HHQQQQ", VERSION, 3, 1, 2, 3, 4)
    assert data[40:] == bytes(88)
    data = encode(Hello(Role.CONSUMER, "camera", 8))
    assert data[6:8] == b"\1\0"
    assert data[40:54] == struct.pack("<II", 2, 8) + b"camera"


def test_another_version_is_refused_as_such() -> None:
    data = bytearray(encode(Bye()))
    data[4] = VERSION + 1
    with pytest.raises(BadMessage) as caught:
        decode(bytes(data))
    assert caught.value.code is Refusal.VERSION


@pytest.mark.parametrize(
    ("at", "value", "why"),
    [
        (0, 0, "not a message"),
        (6, 7, "no message of type 7"),
        (6, 0, "no message of type 0"),
        (40, 9, "no role 9"),
        (8, 1, "not zero"),
        (48, 0, "not the name"),
        (49, 0, "after its end"),
        (49, 0xFF, "not UTF-8"),
        (49, ord("A"), "not the name"),
        (49, ord("/"), "not the name"),
    ],
)
def test_a_wrong_field_is_refused(at: int, value: int, why: str) -> None:
    data = bytearray(encode(Hello(Role.PRODUCER, "cam" if at != 48 else "c")))
    data[at] = value
    with pytest.raises(BadMessage, match=why):
        decode(bytes(data))


@pytest.mark.parametrize("name", ["", "a" * 64, "Camera", "a b", "a/b", "a\0", "ä", "a\n"])
def test_what_may_not_name_a_hose(name: str) -> None:
    with pytest.raises(BadMessage):
        check_hose_name(name)


@given(st.text(max_size=200), st.sampled_from(Refusal))
def test_a_refusal_of_any_text_fits(text: str, code: Refusal) -> None:
    message = refused(code, text)
    assert decode(encode(message)) == message
    assert text.replace("\0", " ").encode("utf-8", "replace").startswith(message.text.encode())


@pytest.mark.parametrize(
    "message",
    [Publish(-1, 0, 0, 0), Credit(1 << 64, 0), Welcome(1 << 32, 0), Refused(1, "x" * 81), Refused(1, "a\0b")],
)
def test_what_does_not_fit_is_the_callers_mistake(message: Message) -> None:
    with pytest.raises(ValueError, match=r"fit|longer|zero byte"):
        encode(message)
