"""What is believed of what a guest says about a call."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.accel.descriptors import (
    CALL_BYTES_MAX,
    CALL_LAYOUT,
    NUMBERS_MAX,
    OPERAND_LAYOUT,
    OPERANDS_MAX,
    RANK_MAX,
    TEXT_BYTES_MAX,
    Description,
    Operand,
    check_operands,
    contiguous,
    unpack_call,
)
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.kernel_errors import BadDescriptor, BadOperand, OperandOutside, OperandsOverlap
from edgeagent.accel.wasm_work import Shape, read_shapes
from tests.guest_frames import pack_call

MEMORY = 1 << 16
ONE = contiguous(0, Dtype.F32, (4, 4))
TWO = contiguous(1024, Dtype.F32, (4, 4))
GOOD = pack_call(Description((ONE,), (TWO,), (1.0,), "a+1"))

_operands = st.builds(
    lambda offset, dtype, sides: Operand(
        offset, dtype, tuple(n for n, _ in sides), tuple(stride for _, stride in sides)
    ),
    st.integers(0, (1 << 64) - 1),
    st.sampled_from(Dtype),
    st.lists(
        st.tuples(st.integers(0, (1 << 64) - 1), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=RANK_MAX
    ),
)


@given(
    st.lists(_operands, min_size=1, max_size=8),
    st.lists(_operands, min_size=1, max_size=8),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=NUMBERS_MAX),
    st.text(st.characters(codec="utf-8"), max_size=200),
)
def test_a_call_is_what_was_packed(
    inputs: list[Operand], outputs: list[Operand], numbers: list[float], text: str
) -> None:
    call = Description(tuple(inputs), tuple(outputs), tuple(numbers), text)
    assert unpack_call(pack_call(call)) == call


def test_the_scanner_reads_shapes_where_they_are_packed() -> None:
    seen: list[int | None] = list(GOOD)
    shapes = [Shape((4, 4), 4)]
    assert read_shapes(seen) == (shapes, shapes)
    seen[CALL_LAYOUT.size : CALL_LAYOUT.size + 8] = [None] * 8  # an offset that only the run knows
    assert read_shapes(seen) == (shapes, shapes)
    seen[CALL_LAYOUT.size + OPERAND_LAYOUT.shape] = None
    assert read_shapes(seen) is None


def test_the_layout_is_that_of_the_header() -> None:
    """A golden sample: sdk/edge_accel.h is compiled against the same numbers."""
    operand = Operand(256, Dtype.F32, (2, 3), (12, -4))
    data = pack_call(Description((operand,), (TWO,), (0.5,), "hé"))
    assert len(data) == 16 + 2 * 144 + 8 + 3
    assert data[:16] == struct.pack("<HHHHHHI", 1, 0, 1, 1, 1, 0, 3)
    assert data[16 : 16 + 144] == struct.pack("<QII8Q8q", 256, 10, 2, 2, 3, *[0] * 6, 12, -4, *[0] * 6)
    assert data[304:312] == struct.pack("<d", 0.5)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_call_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadDescriptor):
        check_operands(unpack_call(data), MEMORY)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_another_call_or_refused(at: int, byte: int) -> None:
    data = bytearray(GOOD)
    data[at] = byte
    try:
        call = unpack_call(bytes(data))
        check_operands(call, MEMORY)
    except BadDescriptor:
        return
    assert pack_call(call) == bytes(data)
    for operand in (*call.inputs, *call.outputs):
        low, high = operand.range
        assert 0 <= low < high <= MEMORY


@pytest.mark.parametrize(
    ("at", "patch"),
    [
        (0, b"\x02"),  # version
        (2, b"\x01"),  # flags
        (4, b"\x00"),  # no input
        (6, b"\x00"),  # no output
        (4, b"\xff"),
        (8, b"\xff"),
        (10, b"\x01"),  # reserved
        (12, b"\xff\xff"),
        (24, b"\x00"),  # dtype
        (24, b"\x0e"),
        (28, b"\x09"),  # rank
        (32 + 8 * 2, b"\x01"),  # a size beyond the rank
        (96 + 8 * 7, b"\x01"),  # a stride beyond the rank
        (304, struct.pack("<d", float("nan"))),
        (304, struct.pack("<d", float("inf"))),
        (312, b"\xff"),  # no UTF-8
    ],
)
def test_what_is_no_call_is_refused(at: int, patch: bytes) -> None:
    data = bytearray(GOOD)
    data[at : at + len(patch)] = patch
    with pytest.raises(BadDescriptor):
        unpack_call(bytes(data))


@pytest.mark.parametrize("size", [0, 15, 16, len(GOOD) - 1, len(GOOD) + 1])
def test_a_call_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(BadDescriptor):
        unpack_call(GOOD.ljust(size, b"\0")[:size])


def test_the_largest_call_has_the_size_that_is_said() -> None:
    operands = tuple(contiguous(0, Dtype.U8, (1,) * RANK_MAX) for _ in range(OPERANDS_MAX))
    call = Description(operands[:1], operands[1:], (0.0,) * NUMBERS_MAX, "x" * TEXT_BYTES_MAX)
    assert len(pack_call(call)) == CALL_BYTES_MAX
    assert unpack_call(pack_call(call)) == call


def check(inputs: list[Operand], outputs: list[Operand], *, in_place: bool = False) -> None:
    check_operands(Description(tuple(inputs), tuple(outputs)), MEMORY, in_place=in_place)


@pytest.mark.parametrize(
    "operand",
    [
        contiguous(MEMORY - 63, Dtype.U8, (64,)),
        contiguous(MEMORY, Dtype.U8, ()),
        contiguous((1 << 64) - 8, Dtype.F64, ()),
        contiguous(0, Dtype.U8, (1 << 63, 2)),  # whose product is 0 in 64 bits
        contiguous(0, Dtype.F32, (1 << 32, 1 << 32)),
        Operand(4, Dtype.F32, (3,), (-4,)),  # begins before the memory
        Operand(0, Dtype.F32, (2,), (MEMORY,)),
        Operand(0, Dtype.F32, ((1 << 64) - 1,), (-(1 << 63),)),
    ],
)
def test_nothing_outside_the_memory_is_touched(operand: Operand) -> None:
    with pytest.raises(OperandOutside):
        check([operand], [contiguous(0, Dtype.U8, ())])


@pytest.mark.parametrize(
    "operand",
    [
        contiguous(2, Dtype.F32, (4,)),
        contiguous(4, Dtype.F64, ()),
        contiguous(4, Dtype.C128, ()),
        Operand(0, Dtype.F32, (2,), (6,)),
        contiguous(0, Dtype.F32, (4, 0)),
        Operand(0, Dtype.U8, (1 << 48,), (0,)),
    ],
)
def test_what_is_no_array_is_refused(operand: Operand) -> None:
    with pytest.raises(BadOperand):
        check([operand], [TWO])


def test_complex_numbers_are_aligned_as_their_parts() -> None:
    check([contiguous(4, Dtype.C64, (3,)), contiguous(40, Dtype.C128, (3,))], [TWO])


def test_inputs_may_be_backwards_repeated_and_overlap() -> None:
    check([Operand(60, Dtype.F32, (4, 4), (-16, -4)), Operand(0, Dtype.F32, (9, 4), (0, 4)), ONE, ONE], [TWO])


@pytest.mark.parametrize(
    "output",
    [
        Operand(1024, Dtype.F32, (2,), (0,)),
        Operand(1024, Dtype.F32, (2, 2), (4, 4)),
        Operand(1024, Dtype.F32, (3, 3), (8, 4)),
        Operand(1024, Dtype.C64, (2,), (4,)),
        Operand(1036, Dtype.F32, (2, 2), (-4, 4)),
    ],
)
def test_elements_of_an_output_do_not_overlap(output: Operand) -> None:
    with pytest.raises(OperandsOverlap):
        check([ONE], [output])


@pytest.mark.parametrize(
    "output",
    [
        ONE,
        contiguous(60, Dtype.F32, (1,)),
        Operand(64, Dtype.F32, (2,), (-4,)),
        Operand(2, Dtype.U8, (64,), (3,)),
    ],
)
def test_an_output_shares_no_range_with_an_input(output: Operand) -> None:
    with pytest.raises(OperandsOverlap):
        check([ONE], [output])


def test_outputs_share_no_range() -> None:
    with pytest.raises(OperandsOverlap):
        check([ONE], [TWO, TWO], in_place=True)


def test_in_place_is_exactly_in_place() -> None:
    check([ONE, TWO], [ONE], in_place=True)
    with pytest.raises(OperandsOverlap):
        check([ONE], [Operand(0, Dtype.F32, (4, 4), (4, 16))], in_place=True)
    with pytest.raises(OperandsOverlap):
        check([ONE], [contiguous(0, Dtype.I32, (4, 4))], in_place=True)


def test_a_stride_that_is_never_stepped_is_nobodys_business() -> None:
    check([Operand(0, Dtype.F32, (1, 4), ((1 << 63) - 4, 4))], [Operand(1024, Dtype.F32, (1, 2), (0, 4))])
