"""resize and connected_components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeagent.accel.dtypes import INTEGERS, REALS, Dtype
from edgeagent.accel.kernel_errors import BadParameter, WrongShape
from edgeagent.accel.kernels.arrays import DEVICE_BLOCK_ELEMENTS, block_elements, blocks, store, working
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

_PIXELS_MAX = 1 << 30  # of an image whose components are labelled: labels are I32
_NEAREST = 0


def _plan_resize(call: Call) -> Work:
    image, out = call.inputs[0], call.outputs[0]
    takes_dtype("the image", image, REALS)
    takes_dtype("the output", out, {image.dtype})
    takes_rank("the image", image, 2)
    takes_rank("the output", out, image.rank, image.rank)
    same_shape("the output", out, (*image.shape[:-2], *out.shape[-2:]))
    height, line = out.shape[-2:]
    block = max(line, min(out.elements, DEVICE_BLOCK_ELEMENTS))
    return work_of(call, 8 * out.elements, 8 * 8 * (block + height))


def _run_resize(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    """Pixels are areas: the centre of the first output pixel lies half an output pixel inside the image."""
    (image,), (out,) = inputs, outputs
    nearest = call.whole("mode") == _NEAREST
    dtype = working(call.inputs[0].dtype)
    rows, columns = (_sources(xp, image.shape[i], out.shape[i], nearest=nearest) for i in (-2, -1))
    for block in blocks(out.shape[:-1], max(1, block_elements(xp) // out.shape[-1])):
        block = () if block == (...,) else block
        index = (*block, *(slice(None),) * (out.ndim - 1 - len(block)))
        source, some = image[index[:-1]], index[-1]
        if nearest:
            out[index] = source[..., rows[0][some][:, None], columns[0]]
            continue
        y, x = rows[2][some].astype(dtype.array_name)[:, None], columns[2].astype(dtype.array_name)
        left, right = _mixed(xp, source, [at[some] for at in rows[:2]], columns[:2], y, dtype.array_name)
        store(xp, out[index], left * (1 - x) + right * x, call.outputs[0].dtype)


def _mixed(
    xp: Any, source: Any, rows: Sequence[Any], columns: Sequence[Any], y: Any, dtype: str
) -> list[Any]:
    """Lines between two rows of the image, at the columns left and right of each output pixel.

    By index, for numpy's take copies all of a source that has gaps, is turned, or is seen many times. Of an image that
    is wider than the output only the columns that it needs are mixed.
    """
    if source.shape[-1] <= len(columns[0]):
        lines = [source[..., at, :].astype(dtype, copy=False) for at in rows]
        mixed = lines[0] * (1 - y) + lines[1] * y
        return [xp.take(mixed, at, axis=-1) for at in columns]
    found = []
    for at in columns:
        upper, lower = (source[..., row[:, None], at].astype(dtype, copy=False) for row in rows)
        found.append(upper * (1 - y) + lower * y)
    return found


def _sources(xp: Any, size: int, wanted: int, *, nearest: bool) -> tuple[Any, Any, Any]:
    """For each output index: the two input indices beside it, and how near it is to the second (0 to 1)."""
    centres = (xp.arange(wanted, dtype="float64") + 0.5) * (size / wanted)
    if nearest:
        first = xp.minimum(xp.floor(centres), size - 1).astype("int64")
        return first, first, centres
    at = xp.clip(centres - 0.5, 0, size - 1)
    first = xp.floor(at).astype("int64")
    return first, xp.minimum(first + 1, size - 1), at - first


def _plan_components(call: Call) -> Work:
    mask, labels = call.inputs[0], call.outputs[0]
    takes_dtype("the mask", mask, INTEGERS)
    takes_rank("the mask", mask, 2, 2)
    takes_dtype("the output of labels", labels, {Dtype.I32})
    if call.whole("connectivity") not in {4, 8}:
        raise BadParameter("a pixel touches 4 or 8 others")
    same_shape("the output of labels", labels, mask.shape)
    if mask.elements > _PIXELS_MAX:
        raise WrongShape(f"a mask of {mask.elements} pixels", hint=f"up to {_PIXELS_MAX}")
    for count in call.outputs[1:]:
        takes_dtype("the output of the count", count, {Dtype.I32, Dtype.I64})
        if count.elements != 1:
            raise WrongShape("the output of the count has one element")
    return work_of(call, 64 * mask.elements, 64 * mask.elements, 1e8)  # of noise; pictures take a tenth


def _run_components(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    """Runs of each row are nodes, runs that touch are edges; labels count from 1 in the order of first pixels."""
    mask = inputs[0] != 0
    begins = mask.copy()
    begins[:, 1:] &= ~mask[:, :-1]
    # the run that a pixel belongs to; nonsense where there is none
    runs = xp.cumsum(begins.reshape(-1), dtype="int32").reshape(mask.shape)
    runs -= 1
    count = int(runs[-1, -1]) + 1
    shifts = (0,) if call.whole("connectivity") == 4 else (-1, 0, 1)
    edges = [ends for shift in shifts for ends in _touching(xp, mask, runs, shift)]
    upper, lower = (xp.concatenate(edges[end::2]) for end in (0, 1))
    del edges, begins
    roots = _roots(xp, count, upper, lower)
    is_root = roots == xp.arange(count, dtype="int32")
    numbers = xp.cumsum(is_root, dtype="int32")[roots]
    labels = outputs[0]
    labels[...] = 0
    for block in blocks(mask.shape, block_elements(xp)):
        some = mask[block]
        labels[block][some] = numbers[runs[block][some]]
    for out in outputs[1:]:
        out[...] = xp.sum(is_root)


def _touching(xp: Any, mask: Any, runs: Any, shift: int) -> tuple[Any, Any]:
    """(upper run, lower run) of each two that touch by a pixel and one below it, ``shift`` columns further: once where
    they touch by many in a row.
    """
    width = mask.shape[1]
    upper, lower = slice(max(0, -shift), width - max(0, shift)), slice(max(0, shift), width + min(0, shift))
    both = mask[:-1, upper] & mask[1:, lower]
    again = both[:, :-1].copy()
    both[:, 1:] &= ~again
    return runs[:-1, upper][both], runs[1:, lower][both]


def _roots(xp: Any, nodes: int, a: Any, b: Any) -> Any:
    """The least node of each node's component: parents are hooked to lesser ones and paths halved until nothing
    changes, which takes about as many rounds as the logarithm of the longest path.
    """
    parents = xp.arange(nodes, dtype="int32")
    while True:
        of_a, of_b = parents[a], parents[b]
        if bool((of_a == of_b).all()):
            return parents
        least = xp.minimum(of_a, of_b)
        for ends in (of_a, of_b):
            xp.minimum.at(parents, ends, least)
        parents = parents[parents]
        while not bool((parents[parents] == parents).all()):
            parents = parents[parents]


KERNELS = (
    Kernel("resize", _plan_resize, _run_resize, params=(Param("mode", 1, 0, 1),)),
    Kernel(
        "connected_components",
        _plan_components,
        _run_components,
        outputs=(1, 2),
        params=(Param("connectivity", 4, 4, 8),),
        tolerance=0.0,
    ),
)
