"""What guests and the node tell each other by bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.state.errors import BadKey
from edgeagent.state.guest_layout import (
    Answered,
    Flag,
    GuestOp,
    OpCode,
    pack_list,
    pack_replies,
    unpack_group,
)
from tests.guest_frames import pack_group, unpack_replies

_text = st.text(st.characters(codec="utf-8"), max_size=40)
_none = st.just(Flag(0))
_puts = st.tuples(
    st.just(OpCode.PUT),
    _text,
    st.binary(max_size=64),
    st.sampled_from([Flag(0), Flag.NOW, Flag.PEER | Flag.GROUND]),
    st.just(""),
    st.integers(0, (1 << 32) - 1),
)
_others = st.tuples(
    st.sampled_from([OpCode.GET, OpCode.DELETE]), _text, st.just(b""), _none, st.just(""), st.just(0)
)
_guarded = st.tuples(st.just(OpCode.DELETE), _text, st.just(b""), st.just(Flag.EXPECT), _text, st.just(0))
GROUP = pack_group([GuestOp(OpCode.PUT, "tasks/a", b"value"), GuestOp(OpCode.GET, "tasks/b")])


@given(st.lists(st.one_of(_puts, _others, _guarded), min_size=1, max_size=8))
def test_a_group_is_read_as_it_was_written(fields: list[tuple[OpCode, str, bytes, Flag, str, int]]) -> None:
    ops = [GuestOp(*one) for one in fields]
    found = unpack_group(pack_group(ops))
    assert [one._replace(value=bytes(one.value)) for one in found] == ops


@given(st.lists(st.tuples(st.integers(-20, 3), _text, _text, st.binary(max_size=64)), max_size=8))
def test_replies_are_read_as_they_were_written(fields: list[tuple[int, str, str, bytes]]) -> None:
    replies = [Answered(*one) for one in fields]
    assert unpack_replies(b"".join(pack_replies(replies))) == replies


def test_bytes_are_those_of_the_header() -> None:
    assert GROUP.hex() == (
        "02000000"  # count
        "01000700000000000500000000000000"
        + b"tasks/avalue".hex()
        + "00000700000000000000000000000000"
        + b"tasks/b".hex()
    )
    assert b"".join(pack_replies([Answered(-10, "ab", "1.0.n", b"xyz")])).hex() == (
        "01000000" + "f6ffffff" + "0200" + "0500" + "03000000" + b"ab1.0.nxyz".hex()
    )
    assert pack_list([("ab", "1.0.n", 7)], more=True).hex() == (
        "0100000001000000" + "07000000" + "0200" + "0500" + b"ab1.0.n".hex()
    )


def _with(at: int, layout: str, value: int) -> Callable[[], bytes]:
    def made() -> bytes:
        raw = bytearray(GROUP)
        struct.pack_into(layout, raw, at, value)
        return bytes(raw)

    return made


@pytest.mark.parametrize(
    "made",
    [
        lambda: b"",
        lambda: b"\1\0\0",
        lambda: struct.pack("<I", 0),
        lambda: struct.pack("<I", 1025) + GROUP[4:],
        lambda: GROUP[:-1],
        lambda: GROUP[:12],
        lambda: GROUP + b"\0",
        _with(0, "<I", 3),
        _with(0, "<I", 0xFFFFFFFF),
        _with(4, "<B", 9),  # an operation that there is not
        _with(5, "<B", 64),  # a flag that there is not
        _with(6, "<H", 0xFFFF),
        _with(8, "<H", 2),  # a version that nothing asks for
        _with(10, "<H", 1),  # reserved
        _with(12, "<I", 0xFFFFFFFF),
        _with(20, "<B", 0xFF),  # no UTF-8
        lambda: pack_group([GuestOp(OpCode.GET, "a", b"value")]),
        lambda: pack_group([GuestOp(OpCode.DELETE, "a", ttl_ms=1)]),
        lambda: pack_group([GuestOp(OpCode.GET, "a", flags=Flag.EXPECT)]),
        lambda: pack_group([GuestOp(OpCode.BELOW, "a"), GuestOp(OpCode.BELOW, "b")]),
    ],
)
def test_what_is_no_group_is_refused(made: Callable[[], bytes]) -> None:
    with pytest.raises(BadKey):
        unpack_group(made())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_group_or_refused(data: bytes) -> None:
    try:
        ops = unpack_group(data)
    except BadKey:
        return
    assert pack_group([one._replace(value=bytes(one.value)) for one in ops]) == data
