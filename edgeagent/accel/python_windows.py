"""Functions that slide a window over an array: convolutions, filters and pools of several libraries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeagent.accel.python_arrays import each_of, elements, is_known, size_of, sizes_of, touch
from edgeagent.accel.python_layers import apply_layer
from edgeagent.accel.python_names import words
from edgeagent.accel.python_values import Array, Const, Layer, Value, Window

__all__ = ["Cost", "convolved"]

# The value that comes out and its work; work None: it cannot be told.
Cost = tuple[Value, float | None]

_OF_NETWORKS = words(
    "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv conv_general_dilated"
)
_OF_SIGNALS = words("convolve convolve2d correlate correlate2d filter2D correlate1d convolve1d")
_BY_TRANSFORM = words("fftconvolve oaconvolve")
_POOLS = words("max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool avg_pool")
_RESIZED = words("interpolate upsample resize zoom")


def convolved(owner: Array, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost | None:
    """None: it is no such function."""
    weights = args[0] if args else keywords.get("weight", keywords.get("filters"))
    if name in _OF_NETWORKS:
        return _network(owner, name, weights, args, keywords) if isinstance(weights, Array) else (None, None)
    if name in _OF_SIGNALS or name in _BY_TRANSFORM:
        return _signal(owner, name, weights)
    if name in _POOLS:
        return _pool(owner, name, args, keywords)
    if name.startswith("adaptive_") and args:
        sizes = sizes_of(args[0]) or (None,)
        rank = int(name[-2]) if name[-2:-1].isdigit() else 2
        new = sizes * rank if len(sizes) == 1 else sizes
        return Array((*owner.shape[: max(0, len(owner.shape) - rank)], *new), owner.item_bytes), touch(owner)
    if name in _RESIZED:
        return _resized(owner, args, keywords)
    return None


def _network(
    owner: Array, name: str, weights: Array, args: Sequence[Value], keywords: Mapping[str, Value]
) -> Cost:
    """``torch.nn.functional.conv2d`` (weights out, in, window) or tensorflow's (window, in, out, channels last)."""
    rank = len(weights.shape) - 2
    if rank < 1 or not is_known(weights.shape):
        return None, None
    sizes = [size or 1 for size in weights.shape]
    is_transposed = "transpose" in name
    is_last = "strides" in keywords or (
        len(args) > 2 and isinstance(args[2], Const) and isinstance(args[2].value, str)
    )
    stride = keywords.get("stride", keywords.get("strides", args[2] if len(args) > 2 else None))
    padding = keywords.get("padding", args[3] if len(args) > 3 else None)
    if is_last and owner.shape and owner.shape[-1] == sizes[-2]:
        stride = keywords.get("strides", args[1] if len(args) > 1 else None)
        window = Window(tuple(sizes[:rank]), each_of(stride, rank, 1), None, (1,) * rank, 1, True)
        made = apply_layer(Layer("conv", (sizes[-2], sizes[-1]), window=window), owner)
    else:
        groups = size_of(keywords.get("groups")) or 1
        is_same = isinstance(padding, Const) and isinstance(padding.value, str)
        window = Window(
            kernel=tuple(sizes[2:]),
            stride=each_of(stride, rank, 1),
            padding=None if is_same else each_of(padding, rank, 0),
            dilation=each_of(keywords.get("dilation"), rank, 1),
            groups=groups,
            is_transposed=is_transposed,
        )
        ends = (sizes[0], sizes[1] * groups) if is_transposed else (sizes[1] * groups, sizes[0])
        made = apply_layer(Layer("conv", ends, window=window), owner)
    value, work, exact = made
    return value, work if exact and value is not None else None


def _signal(owner: Array, name: str, weights: Value) -> Cost:
    """One filter over one array, which keeps about its size."""
    if not isinstance(weights, Array) or not is_known(owner.shape) or not is_known(weights.shape):
        return None, None
    count = elements(owner.shape)
    if name in _BY_TRANSFORM:
        return owner, 15.0 * count * math.log2(max(count, 2))
    return owner, 2.0 * count * elements(weights.shape)


def _pool(owner: Array, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost:
    rank = int(name[-2]) if name[-2].isdigit() else 2
    kernel = each_of(args[0] if args else keywords.get("kernel_size"), rank, 2)
    stride = keywords.get("stride", args[1] if len(args) > 1 else None)
    window = Window(
        kernel,
        kernel if stride is None else each_of(stride, rank, 1),
        each_of(keywords.get("padding", args[2] if len(args) > 2 else None), rank, 0),
        (1,) * rank,
    )
    value, work, exact = apply_layer(Layer("pool", window=window), owner)
    return value, work if exact else None


def _resized(owner: Array, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost:
    """To other sizes of the last indices; channels that come last are not told apart."""
    sizes = sizes_of(keywords.get("size", args[0] if args else None))
    factor = size_of(keywords.get("scale_factor"))
    space = owner.shape[2:]
    if factor is not None:
        sizes = tuple(None if size is None else size * factor for size in space)
    if sizes is None or not space or len(sizes) > len(space):
        return None, None
    sizes = sizes * len(space) if len(sizes) == 1 else sizes
    out = Array((*owner.shape[: len(owner.shape) - len(sizes)], *sizes), owner.item_bytes)
    return out, touch(out)
