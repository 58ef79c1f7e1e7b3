"""elementwise, normalized_difference, threshold: each element of the output from one element of each input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from edgeagent.accel.descriptors import OPERANDS_MAX, Operand
from edgeagent.accel.dtypes import FLOATS, REALS, Dtype
from edgeagent.accel.kernel_errors import BadExpression, WrongShape
from edgeagent.accel.kernels.arrays import DEVICE_BLOCK_ELEMENTS, block_elements, blocks, store, working
from edgeagent.accel.kernels.expression import Program, evaluate, parse
from edgeagent.accel.kernels.kernel import Call, Kernel, Param, Work, same_shape, takes_dtype, work_of

__all__ = ["KERNELS"]

# A long division by hand, a bit at a time: of numbers whose sizes lie far apart.
_REMAINDER_S, _REMAINDER_WIDE_S = 1e-7, 5e-7
_program = lru_cache(maxsize=256)(parse)


def _blocks_scratch(call: Call, values: int) -> int:
    """Of that many values kept at once, of the larger block of the two kinds of namespace."""
    return values * 8 * min(call.outputs[0].elements, DEVICE_BLOCK_ELEMENTS)


def _fits(what: str, one: Operand, shape: tuple[int, ...]) -> None:
    """An input may lack leading indices, or have 1 where the output has more."""
    sizes = shape[len(shape) - one.rank :] if one.rank <= len(shape) else ()
    if one.rank > len(shape) or any(
        size not in {1, wanted} for size, wanted in zip(one.shape, sizes, strict=True)
    ):
        raise WrongShape(f"{what} of shape {list(one.shape)} does not go with an output of {list(shape)}")


def _plan_elementwise(call: Call) -> Work:
    program = _program(call.text)
    if program.inputs > len(call.inputs):
        name = chr(ord("a") + program.inputs - 1)
        raise BadExpression(f"the expression names {name}, and there are {len(call.inputs)} inputs", at=0)
    out = call.outputs[0]
    takes_dtype("the output", out, REALS)
    for i, one in enumerate(call.inputs):
        takes_dtype(f"input {i}", one, REALS)
        _fits(f"input {i}", one, out.shape)
    scratch = _blocks_scratch(call, len(call.inputs) + program.depth + 2)
    work = work_of(call, out.elements * max(1, program.flops), scratch)
    is_wide = working(*(one.dtype for one in (*call.inputs, out))) is Dtype.F64
    remainder_s = _REMAINDER_WIDE_S if is_wide else _REMAINDER_S
    return work._replace(cpu_s=work.cpu_s + out.elements * program.remainders * remainder_s)


def _run_elementwise(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    program: Program = _program(call.text)
    (out,), target = outputs, call.outputs[0]
    name = working(*(one.dtype for one in (*call.inputs, target))).array_name
    wide = [xp.broadcast_to(array, out.shape) for array in inputs]
    for block in blocks(out.shape, block_elements(xp)):
        parts = [array[block].astype(name, copy=False) for array in wide]
        store(xp, out[block], evaluate(xp, program, parts), target.dtype)


def _plan_difference(call: Call) -> Work:
    a, b, out = *call.inputs, *call.outputs
    takes_dtype("a", a, REALS)
    takes_dtype("b", b, {a.dtype})
    takes_dtype("the output", out, FLOATS)
    for what, one in (("a", a), ("b", b)):
        same_shape(what, one, out.shape)
    return work_of(call, 8 * out.elements, _blocks_scratch(call, 6))


def _run_difference(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    (out,), fill = outputs, call.values["fill"]
    name = working(call.inputs[0].dtype, call.outputs[0].dtype).array_name
    for block in blocks(out.shape, block_elements(xp)):
        a, b = (array[block].astype(name, copy=False) for array in inputs)
        total = a + b
        is_zero = total == 0
        quotient = (a - b) / xp.where(is_zero, xp.asarray(1, dtype=name), total)
        out[block] = xp.where(is_zero, xp.asarray(fill, dtype=name), quotient)


def _plan_threshold(call: Call) -> Work:
    takes_dtype("the input", call.inputs[0], REALS)
    takes_dtype("the output", call.outputs[0], {Dtype.U8})
    same_shape("the output", call.outputs[0], call.inputs[0].shape)
    return work_of(call, call.inputs[0].elements, _blocks_scratch(call, 3))


_COMPARISONS = ("greater_equal", "greater", "less_equal", "less")


def _run_threshold(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    (image,), (out,) = inputs, outputs
    name = working(call.inputs[0].dtype).array_name
    compare = getattr(xp, _COMPARISONS[call.whole("comparison")])
    value = xp.asarray(call.values["value"], dtype=name)
    yes, no = (xp.asarray(call.whole(which), dtype="uint8") for which in ("yes", "no"))
    for block in blocks(out.shape, block_elements(xp)):
        out[block] = xp.where(compare(image[block].astype(name, copy=False), value), yes, no)


_BIG = 1.7e308

KERNELS = (
    Kernel(
        "elementwise",
        _plan_elementwise,
        _run_elementwise,
        inputs=(1, OPERANDS_MAX - 1),
        has_text=True,
        in_place=True,
        tolerance=4.0,
    ),
    Kernel(
        "normalized_difference",
        _plan_difference,
        _run_difference,
        inputs=(2, 2),
        params=(Param("fill", 0, -_BIG, _BIG, is_integer=False),),
        in_place=True,
    ),
    Kernel(
        "threshold",
        _plan_threshold,
        _run_threshold,
        params=(
            Param("value", None, -_BIG, _BIG, is_integer=False),
            Param("comparison", 0, 0, len(_COMPARISONS) - 1),
            Param("yes", 1, 0, 255),
            Param("no", 0, 0, 255),
        ),
        in_place=True,
        tolerance=0.0,
    ),
)
