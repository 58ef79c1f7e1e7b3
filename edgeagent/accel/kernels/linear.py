"""matmul, batched_matmul. Transposes are strides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from edgeagent.accel.descriptors import Operand
from edgeagent.accel.dtypes import COMPLEX, FLOATS, Dtype
from edgeagent.accel.kernel_errors import WrongShape
from edgeagent.accel.kernels.arrays import working_of
from edgeagent.accel.kernels.kernel import (
    PRODUCT_S,
    Call,
    Kernel,
    Work,
    same_shape,
    takes_dtype,
    takes_rank,
    work_of,
)

__all__ = ["KERNELS", "dense", "matmul_flops"]

_TYPES = FLOATS | COMPLEX | {Dtype.I32, Dtype.I64}


def matmul_flops(dtype: Dtype, rows: int, inner: int, columns: int) -> int:
    """A complex multiply-add is four real ones."""
    return 2 * rows * inner * columns * (4 if dtype in COMPLEX else 1)


def _copied(one: Operand) -> bool:
    """Whether a product works on a dense copy: those libraries want one of the last two indices without gaps."""
    item = one.dtype.item_bytes
    rows, columns = one.strides[-2:]
    is_plain = (columns == item and rows >= one.shape[-1] * item) or (
        rows == item and columns >= one.shape[-2] * item
    )
    return not is_plain or 0 in one.strides


def dense(xp: Any, array: Any, one: Operand) -> Any:
    """In the type that is worked in, laid out for a product."""
    order = "C" if _copied(one) else "K"
    return array.astype(working_of(one.dtype).array_name, order=order, copy=False)


def _whole(xp: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """Whole numbers have no library, and a loop that steps through memory takes ten times as long as one that reads
    rows of ``a`` and columns of ``b`` as they lie.
    """
    return xp.ascontiguousarray(a), xp.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)


def _plan_pair(call: Call) -> Work:
    a, b, out = *call.inputs, *call.outputs
    takes_dtype("a", a, _TYPES)
    takes_dtype("b", b, {a.dtype})
    takes_dtype("the output", out, {a.dtype})
    rows, inner = a.shape[-2:]
    if b.shape[-2] != inner:
        raise WrongShape(f"a has {inner} columns and b {b.shape[-2]} rows")
    front = []
    for left, right in zip(a.shape[:-2], b.shape[:-2], strict=True):
        if left != right and 1 not in {left, right}:
            raise WrongShape(f"batches of {left} and {right} do not go together")
        front.append(max(left, right))
    same_shape("the output", out, (*front, rows, b.shape[-1]))
    wide = working_of(a.dtype) is not a.dtype
    has_library = a.dtype in FLOATS | COMPLEX
    copies = [one for one in call.inputs if wide or not has_library or _copied(one)]
    scratch = sum(2 * one.bytes for one in copies) + 2 * out.bytes
    products = math.prod(front)
    flops = products * matmul_flops(a.dtype, rows, inner, b.shape[-1])
    work = work_of(call, flops, scratch, 2e10 if has_library else 5e8)
    return work._replace(cpu_s=work.cpu_s + products * PRODUCT_S)


def _plan_matmul(call: Call) -> Work:
    for what, one in zip(("a", "b", "the output"), (*call.inputs, *call.outputs), strict=True):
        takes_rank(what, one, 2, 2)
    return _plan_pair(call)


def _plan_batched(call: Call) -> Work:
    takes_rank("a", call.inputs[0], 3)
    for what, one in (("b", call.inputs[1]), ("the output", call.outputs[0])):
        takes_rank(what, one, call.inputs[0].rank, call.inputs[0].rank)
    return _plan_pair(call)


def _run(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    if call.inputs[0].dtype in FLOATS | COMPLEX:
        a, b = (dense(xp, array, one) for array, one in zip(inputs, call.inputs, strict=True))
    else:
        a, b = _whole(xp, *inputs)
    (out,) = outputs
    if out.dtype == a.dtype and out.flags.c_contiguous:
        xp.matmul(a, b, out=out)
    else:
        out[...] = xp.matmul(a, b)


KERNELS = (
    Kernel("matmul", _plan_matmul, _run, inputs=(2, 2)),
    Kernel("batched_matmul", _plan_batched, _run, inputs=(2, 2)),
)
