"""conv2d: images N C H W, weights O C/groups KH KW, optional bias O; cross-correlation, as neural networks mean it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from edgeagent.accel.dtypes import FLOATS
from edgeagent.accel.kernel_errors import WrongShape
from edgeagent.accel.kernels.arrays import block_elements, working_of
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

_SIDE_MAX = 1 << 16


class _Sizes(NamedTuple):
    groups: int
    channels: int  # of a group
    filters: int  # of a group
    kernel: tuple[int, int]
    out: tuple[int, int]


def _reach(kernel: int, dilation: int) -> int:
    return (kernel - 1) * dilation + 1


def _sizes(call: Call) -> _Sizes:
    image, weights = call.inputs[:2]
    groups = call.whole("groups")
    channels, kernel = image.shape[1], weights.shape[2:]
    if channels % groups or weights.shape[0] % groups or weights.shape[1] != channels // groups:
        raise WrongShape(
            f"{channels} channels and weights {list(weights.shape)} do not go together in {groups} groups"
        )
    out = []
    for side, size, dilation, pad, stride in zip(
        image.shape[2:],
        kernel,
        _pair(call, "dilation"),
        _pair(call, "pad"),
        _pair(call, "stride"),
        strict=True,
    ):
        left = side + 2 * pad - _reach(size, dilation)
        if left < 0:
            raise WrongShape(f"a kernel of {size} does not fit into {side} and its padding")
        out.append(left // stride + 1)
    return _Sizes(
        groups, channels // groups, weights.shape[0] // groups, (kernel[0], kernel[1]), (out[0], out[1])
    )


def _pair(call: Call, name: str) -> tuple[int, int]:
    return call.whole(f"{name}_y"), call.whole(f"{name}_x")


def _plan(call: Call) -> Work:
    image, weights, out = *call.inputs[:2], call.outputs[0]
    takes_dtype("the image", image, FLOATS)
    takes_rank("the image", image, 4, 4)
    takes_rank("the weights", weights, 4, 4)
    for what, one in (
        ("the weights", weights),
        ("the output", out),
        *(("the bias", b) for b in call.inputs[2:]),
    ):
        takes_dtype(what, one, {image.dtype})
    sizes = _sizes(call)
    if len(call.inputs) > 2:
        same_shape("the bias", call.inputs[2], (weights.shape[0],))
    same_shape("the output", out, (image.shape[0], weights.shape[0], *sizes.out))
    per_output = sizes.channels * sizes.kernel[0] * sizes.kernel[1]
    item = working_of(image.dtype).item_bytes
    pad_y, pad_x = _pair(call, "pad")
    padded = image.shape[1] * (image.shape[2] + 2 * pad_y) * (image.shape[3] + 2 * pad_x)
    columns = sizes.out[1] * max(per_output, sizes.filters)
    scratch = item * (padded + weights.elements + 3 * columns) + (32 << 20)
    return work_of(call, 2 * out.elements * per_output, scratch, 1e10)


def _run(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    """Per image, group and some rows of the output: the patches as columns of a matrix, and one product."""
    sizes = _sizes(call)
    name = working_of(call.inputs[0].dtype).array_name
    pad_y, pad_x = _pair(call, "pad")
    weights = xp.ascontiguousarray(inputs[1].astype(name, copy=False))
    weights = weights.reshape(sizes.groups, sizes.filters, -1)
    bias = inputs[2].astype(name, copy=False) if len(inputs) > 2 else None
    rows = max(1, 16 * block_elements(xp) // (weights.shape[-1] * sizes.out[1]))
    for image, out in zip(inputs[0], outputs[0], strict=True):
        padded = xp.pad(image.astype(name, copy=False), ((0, 0), (pad_y, pad_y), (pad_x, pad_x)))
        for group in range(sizes.groups):
            patches = _patches(xp, padded[group * sizes.channels : (group + 1) * sizes.channels], sizes, call)
            filters = slice(group * sizes.filters, (group + 1) * sizes.filters)
            for top in range(0, sizes.out[0], rows):
                part = patches[:, :, :, top : top + rows]
                product = xp.matmul(weights[group], part.reshape(weights.shape[-1], -1))
                if bias is not None:
                    product = product + bias[filters, None]
                out[filters, top : top + rows] = product.reshape(-1, *part.shape[3:])


def _patches(xp: Any, image: Any, sizes: _Sizes, call: Call) -> Any:
    """A view C, KH, KW, OH, OW of a padded image C, H, W.

    By strides: CuPy's ``sliding_window_view`` asks the device whether its windows are negative, and waits.
    """
    (dilation_y, dilation_x), (stride_y, stride_x) = _pair(call, "dilation"), _pair(call, "stride")
    channel, row, column = image.strides
    strides = (channel, dilation_y * row, dilation_x * column, stride_y * row, stride_x * column)
    return xp.lib.stride_tricks.as_strided(image, (image.shape[0], *sizes.kernel, *sizes.out), strides)


def _sides(name: str, default: float, low: float) -> tuple[Param, Param]:
    return Param(f"{name}_y", default, low, _SIDE_MAX), Param(f"{name}_x", default, low, _SIDE_MAX)


KERNELS = (
    Kernel(
        "conv2d",
        _plan,
        _run,
        inputs=(2, 3),
        params=(
            *_sides("stride", 1, 1),
            *_sides("pad", 0, 0),
            *_sides("dilation", 1, 1),
            Param("groups", 1, 1, _SIDE_MAX),
        ),
    ),
)
