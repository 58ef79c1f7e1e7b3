"""Layers of networks, as torch and Keras call them: what comes out when one is called, and how much work that is.

Kinds (sizes): ``linear`` (in, out), ``conv`` (in, out) and ``pool`` with a window, ``flat`` (the first index that
goes), ``global`` (1: the indices stay, with size 1), ``adaptive`` (the new sizes), ``shape`` (the new ones but the
first), ``embedding`` (out), ``recurrent`` (gates, hidden, layers, directions, 1: the last step only, 1: as torch
answers), ``attention`` (width, 1: as torch answers), ``encoder`` (width, hidden, blocks of attention), ``same``,
``sum`` and ``join`` of a list, ``up`` (factor), ``fixed`` (its answer's sizes; the work of a sample). What calls
its parts (``chain``, ``partial``, ``each``, ``times``) is python_made.py's. A size that is not known counts 1: work
is the least that it can be.
"""

from __future__ import annotations

import math

from edgeagent.accel.python_arrays import ELEMENTS_MAX, elements, is_known, touch
from edgeagent.accel.python_shapes import flattened
from edgeagent.accel.python_values import Array, Layer, Value, Window
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["Applied", "apply_layer"]

# The value that comes out, its work, and whether all sizes were known.
Applied = tuple[Value, float, bool]

_NOTHING: Applied = (None, 0.0, False)


def apply_layer(layer: Layer, value: Value) -> Applied:
    """A layer that calls no other, called with an input."""
    if layer.kind in ("sum", "join"):
        return _together(layer.kind, value)
    if isinstance(value, Written) and layer.kind == "attention":
        value = value.items[0] if value.items else None
    if not isinstance(value, Array) or layer.kind == "unknown":
        return _NOTHING
    known = is_known(value.shape)
    if layer.kind in ("conv", "pool"):
        return _windowed(layer, value)
    if layer.kind == "linear":
        out = Array((*value.shape[:-1], layer.sizes[1]), value.item_bytes)
        inner = layer.sizes[0] or (value.shape[-1] if value.shape else 1) or 1
        return (
            out,
            2.0 * elements(value.shape[:-1]) * inner * (layer.sizes[1] or 1),
            known and None not in out.shape,
        )
    if layer.kind == "recurrent":
        return _recurrent(layer, value)
    if layer.kind in ("attention", "encoder"):
        return _attention(layer, value)
    if layer.kind == "fixed":
        batch = value.shape[0] if value.shape else None
        return (
            Array((batch, *layer.sizes), value.item_bytes),
            layer.work_flops * (batch or 1),
            batch is not None,
        )
    return _arranged(layer, value), touch(value, value) or 0.0, known


def _arranged(layer: Layer, value: Array) -> Value:
    """Layers that compute little."""
    shape, kind = value.shape, layer.kind
    if kind == "flat":
        return flattened(value, layer.sizes[0] or 0)
    if kind == "embedding":
        return Array((*shape, layer.sizes[0]))
    if kind == "adaptive":
        return Array((*shape[: len(shape) - len(layer.sizes)], *layer.sizes))
    if kind == "global":
        stays = (1,) * max(0, len(shape) - 2) if layer.sizes[0] else ()
        return Array((shape[0], shape[-1], *stays) if len(shape) > 2 else shape)
    if kind == "up":
        factor = layer.sizes[0]
        last = 1 if layer.window is not None else 0
        middle = tuple(
            None if size is None or factor is None else min(size * factor, ELEMENTS_MAX)
            for size in shape[2 - last : len(shape) - last]
        )
        return Array((*shape[: 2 - last], *middle, *shape[len(shape) - last :]))
    if kind == "shape":
        return Array((*shape[:1], *layer.sizes)) if None not in layer.sizes else None
    return value


def _together(kind: str, value: Value) -> Applied:
    """``Add()([a, b])`` and ``Concatenate()([a, b])``, along the last index."""
    arrays = [one for one in value.items if isinstance(one, Array)] if isinstance(value, Written) else []
    if not arrays or not arrays[0].shape:
        return _NOTHING
    shape = arrays[0].shape
    if kind == "join":
        last = [one.shape[-1] if one.shape else None for one in arrays]
        shape = (*shape[:-1], None if None in last else sum(size or 0 for size in last))
    work = touch(*arrays)
    return Array(shape, arrays[0].item_bytes), work or 0.0, work is not None


def _windowed(layer: Layer, value: Array) -> Applied:
    window = layer.window
    rank = len(window.kernel) if window is not None else 0
    if window is None or len(value.shape) < rank + 1 or 0 in window.stride:
        return _NOTHING
    last = window.is_channels_last
    space = value.shape[-rank - 1 : -1] if last else value.shape[-rank:]
    front = value.shape[: len(value.shape) - rank - 1]
    channels = value.shape[-1] if last else value.shape[-rank - 1]
    out_space = tuple(_out_size(size, window, i) for i, size in enumerate(space))
    batch = elements(front)
    if layer.kind == "pool":
        out_channels, work = channels, touch(value) or 0.0
    else:
        given, out_channels = layer.sizes
        inner = given or channels or 1
        if out_channels is None:  # depthwise
            out_channels = channels
        groups = window.groups or inner  # 0: as many as there are channels
        places = elements(space if window.is_transposed else out_space)
        work = 2.0 * batch * places * inner * (out_channels or 1) / groups * math.prod(window.kernel)
    shape = (*front, *out_space, out_channels) if last else (*front, out_channels, *out_space)
    return Array(shape, value.item_bytes), work, is_known(value.shape)


def _out_size(size: int | None, window: Window, i: int) -> int | None:
    if size is None:
        return None
    reach = window.dilation[i] * (window.kernel[i] - 1)
    if window.is_transposed:
        return (
            size * window.stride[i]
            if window.padding is None
            else max(1, (size - 1) * window.stride[i] - 2 * window.padding[i] + reach + 1)
        )
    if window.padding is None:
        return -(-size // window.stride[i])
    return max(0, size + 2 * window.padding[i] - reach - 1) // window.stride[i] + 1


def _recurrent(layer: Layer, value: Array) -> Applied:
    gates, hidden, layers, directions, is_last, is_torch = (size or 0 for size in layer.sizes)
    if len(value.shape) < 2 or hidden == 0:
        return _NOTHING
    steps = elements(value.shape[:-1])
    inner, out_size = value.shape[-1] or 1, hidden * directions
    work = 2.0 * steps * directions * gates * hidden * (inner + hidden)
    work += 2.0 * steps * directions * gates * hidden * (out_size + hidden) * max(0, layers - 1)
    out: Value = Array((*value.shape[: -2 if is_last else -1], out_size), value.item_bytes)
    if is_torch:
        state = Array((layers * directions, value.shape[0], hidden), value.item_bytes)
        out = Written((out, Written((state, state)) if gates == 4 else state))
    return out, work, is_known(value.shape)


def _attention(layer: Layer, value: Array) -> Applied:
    """Four projections a block, and every place with every place. The longer index is taken for the sequence."""
    if len(value.shape) < 2:
        return _NOTHING
    width = layer.sizes[0] or value.shape[-1] or 1
    tokens, length = elements(value.shape[:-1]), max(size or 1 for size in value.shape[-3:-1])
    each = 8.0 * tokens * width * width + 4.0 * tokens * length * width
    if layer.kind == "attention":
        return (Written((value, None)) if layer.sizes[-1] else value), each, is_known(value.shape)
    hidden, blocks = layer.sizes[1] or 1, layer.sizes[2] or 1
    return value, each * blocks + 4.0 * tokens * width * hidden, is_known(value.shape)
