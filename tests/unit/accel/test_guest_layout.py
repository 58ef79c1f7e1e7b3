"""What guests are told: codes, and what there is; as in sdk/edge_accel.h."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.accel import descriptors
from edgeagent.accel import kernel_errors as errors
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.guest_layout import Backend, Code, code_of, pack_query
from edgeagent.accel.registry import shipped
from edgeagent.model.errors import Busy, EdgeError, Internal
from tests.guest_frames import unpack_query

SDK = Path(__file__).parents[3] / "sdk"
HEADER = (SDK / "edge_accel.h").read_text(encoding="utf-8")


def constants(pattern: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(rf"\b{pattern} = (-?\d+),", HEADER)}


def test_codes_types_and_limits_are_the_headers() -> None:
    assert constants(r"EDGE_ACCEL_(\w+)") == {code.name: int(code) for code in Code}
    assert constants(r"EDGE_([UIFC]\d+)") == {dtype.name: int(dtype) for dtype in Dtype}
    limits = constants(r"EDGE_(\w+_MAX)")
    assert limits["RANK_MAX"] == descriptors.RANK_MAX
    assert limits["OPERANDS_MAX"] == descriptors.OPERANDS_MAX
    assert limits["NUMBERS_MAX"] == descriptors.NUMBERS_MAX
    assert limits["TEXT_MAX"] == descriptors.TEXT_BYTES_MAX
    sizes = re.search(r"kBytes\[\] = \{0, ([\d, ]+)\}", HEADER)
    assert sizes is not None
    assert [int(size) for size in sizes[1].split(",")] == [dtype.item_bytes for dtype in Dtype]
    assert descriptors.CALL_BYTES_MAX <= 4096  # what both engines let through


def test_every_kernel_is_in_the_readme() -> None:
    text = (SDK / "README.md").read_text(encoding="utf-8")
    assert [kernel.name for kernel in shipped() if f"`{kernel.name}`" not in text] == []


@given(st.lists(st.from_regex(r"[a-z][a-z0-9_.]{0,63}", fullmatch=True)), st.sampled_from([1, 2, 3]))
def test_what_there_is_is_what_was_packed(names: list[str], backends: int) -> None:
    assert unpack_query(pack_query(Backend(backends), names)) == (Backend(backends), names)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.BadDescriptor, Code.BAD),
        (errors.BadOperand, Code.BAD),
        (errors.BadParameter, Code.BAD),
        (errors.BadExpression, Code.EXPRESSION),
        (errors.OperandOutside, Code.RANGE),
        (errors.OperandsOverlap, Code.OVERLAP),
        (errors.WrongDtype, Code.DTYPE),
        (errors.WrongShape, Code.SHAPE),
        (errors.UnknownKernel, Code.NONE),
        (errors.KernelTooLarge, Code.TOO_LARGE),
        (errors.KernelFailed, Code.FAILED),
        (Busy, Code.FULL),
        (Internal, Code.FAILED),
    ],
)
def test_every_error_has_its_code(error: type[EdgeError], code: Code) -> None:
    assert code_of(error("x")) is code
