"""conv2d: images N C H W, weights O C/groups KH KW, optional bias O; cross-correlation, as neural networks mean it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from edgeagent.accel.dtypes import FLOATS
from edgeagent.accel.kernel_errors import WrongShape
from edgeagent.accel.kernels.arrays import BLOCK_ELEMENTS, block_elements, working_of
from edgeagent.accel.kernels.kernel import (
    PRODUCT_S,
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

    @property
    def terms(self) -> int:
        """Of the sum that an output is."""
        return self.channels * self.kernel[0] * self.kernel[1]


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
    at_once = _at_once(call, sizes, BLOCK_ELEMENTS)
    item = working_of(image.dtype).item_bytes
    padded = at_once.images * _padded(call)
    columns = at_once.images * at_once.groups * at_once.rows * sizes.out[1] * max(sizes.terms, sizes.filters)
    scratch = item * (2 * padded + weights.elements + 3 * columns)
    work = work_of(call, 2 * out.elements * sizes.terms, scratch, 1e10)
    products = image.shape[0] * sizes.groups
    pads_s = image.shape[0] * _padded(call) * 2 * item / 4e9
    return work._replace(cpu_s=work.cpu_s + pads_s + products * PRODUCT_S)


class _AtOnce(NamedTuple):
    """How many images, groups and rows of the output one product of matrices is for."""

    images: int
    groups: int
    rows: int


def _padded(call: Call) -> int:
    """Elements of one image and its padding."""
    _, channels, height, width = call.inputs[0].shape
    pad_y, pad_x = _pair(call, "pad")
    return channels * (height + 2 * pad_y) * (width + 2 * pad_x)


def _at_once(call: Call, sizes: _Sizes, elements: int) -> _AtOnce:
    """So that small images and groups share a product, and of large ones a part is worked on at a time."""
    most = 16 * elements
    row = sizes.out[1] * max(sizes.terms, sizes.filters)
    images = most // max(sizes.groups * row * sizes.out[0], _padded(call))
    groups = most // (row * sizes.out[0])
    return _AtOnce(
        min(max(1, images), call.inputs[0].shape[0]),
        min(max(1, groups), sizes.groups),
        min(max(1, most // row), sizes.out[0]),
    )


def _run(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    """The patches as columns of matrices, and products of them."""
    sizes = _sizes(call)
    at_once = _at_once(call, sizes, block_elements(xp))
    name = working_of(call.inputs[0].dtype).array_name
    weights = xp.ascontiguousarray(inputs[1].astype(name, copy=False))
    weights = weights.reshape(sizes.groups, sizes.filters, -1)
    bias = inputs[2].astype(name, copy=False).reshape(sizes.groups, -1, 1) if len(inputs) > 2 else None
    for first in range(0, len(inputs[0]), at_once.images):
        images = slice(first, first + at_once.images)
        patches = _patches(xp, inputs[0][images].astype(name, copy=False), sizes, call)
        for group in range(0, sizes.groups, at_once.groups):
            groups = slice(group, group + at_once.groups)
            filters = slice(group * sizes.filters, (group + at_once.groups) * sizes.filters)
            for top in range(0, sizes.out[0], at_once.rows):
                part = patches[:, groups, :, :, :, top : top + at_once.rows]
                columns = part.reshape(*part.shape[:2], sizes.terms, -1)
                product = xp.matmul(weights[groups], columns)
                if bias is not None:
                    product += bias[groups]
                out = outputs[0][images, filters, top : top + at_once.rows]
                out[...] = product.reshape(out.shape)
        del patches, part  # the next images' padding would come on top of it


def _patches(xp: Any, images: Any, sizes: _Sizes, call: Call) -> Any:
    """A view N, groups, C, KH, KW, OH, OW of images N, C, H, W with their padding.

    By strides: CuPy's ``sliding_window_view`` asks the device whether its windows are negative, and waits.
    """
    (dilation_y, dilation_x), (stride_y, stride_x) = _pair(call, "dilation"), _pair(call, "stride")
    pad_y, pad_x = _pair(call, "pad")
    if pad_y or pad_x:
        images = xp.pad(images, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    image, channel, row, column = images.strides
    shape = (len(images), sizes.groups, sizes.channels, *sizes.kernel, *sizes.out)
    group = sizes.channels * channel
    patch = (dilation_y * row, dilation_x * column, stride_y * row, stride_x * column)
    return xp.lib.stride_tricks.as_strided(images, shape, (image, group, channel, *patch))


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
