"""fft2: over the last two indices, any number of them before; the inverse is divided by the number of elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeagent.accel.dtypes import COMPLEX, REALS, Dtype
from edgeagent.accel.kernels.arrays import block_elements, blocks, working
from edgeagent.accel.kernels.kernel import (
    Call,
    Kernel,
    Param,
    Work,
    same_shape,
    takes_dtype,
    takes_rank,
    work_of,
)

__all__ = ["KERNELS"]


def _plan(call: Call) -> Work:
    image, out = call.inputs[0], call.outputs[0]
    takes_dtype("the input", image, REALS | COMPLEX)
    takes_rank("the input", image, 2)
    wanted = image.dtype
    if wanted not in COMPLEX:
        wanted = Dtype.C64 if working(wanted) is Dtype.F32 else Dtype.C128
    takes_dtype("the output", out, {wanted})
    same_shape("the output", out, image.shape)
    plane = image.shape[-2] * image.shape[-1]
    return work_of(call, 5 * out.elements * max(1, plane.bit_length() - 1), 6 * out.bytes)


def _run(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    (image,), (out,) = inputs, outputs
    transform = xp.fft.ifft2 if call.whole("inverse") else xp.fft.fft2
    plane = out.shape[-2] * out.shape[-1]
    for block in blocks(out.shape[:-2], max(1, 16 * block_elements(xp) // plane)):
        # a real input becomes complex first, so that every namespace works in the output's width
        out[block] = transform(image[block].astype(out.dtype, copy=False))


KERNELS = (Kernel("fft2", _plan, _run, params=(Param("inverse", 0, 0, 1),), tolerance=2.0),)
