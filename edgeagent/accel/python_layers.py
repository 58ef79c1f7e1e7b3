"""Layers of networks: how much work one is when it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeagent.accel.python_arrays import elements, is_known, size_of, touch
from edgeagent.accel.python_values import Array, Layer, Value
from edgeagent.accel.python_work import Cost

__all__ = ["apply_layer", "make_layer"]


def make_layer(path: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Layer | None:
    """``torch.nn.Linear`` and friends."""
    name = path.rsplit(".", 1)[-1]
    if name == "Sequential":
        return Layer("chain", parts=tuple(one for one in args if isinstance(one, Layer)))
    names = {"Linear": ("in_features", "out_features")}.get(
        name, ("in_channels", "out_channels", "kernel_size")
    )
    if name not in ("Linear", "Conv2d", "Conv1d", "Conv3d"):
        is_plain = name in (
            "ReLU",
            "GELU",
            "SiLU",
            "Tanh",
            "Sigmoid",
            "Dropout",
            "BatchNorm2d",
            "BatchNorm1d",
            "LayerNorm",
            "Identity",
            "Softmax",
        )
        return Layer("same") if is_plain else None
    sizes = [size_of(args[i] if i < len(args) else keywords.get(key)) for i, key in enumerate(names)]
    if None in sizes:
        return None
    rank = int(name[4]) if name.startswith("Conv") else 1
    return Layer("linear" if name == "Linear" else "conv", (*(size or 0 for size in sizes), rank))


def apply_layer(layer: Layer, value: Value) -> Cost:
    """A layer called with an input: of an unknown one, a row or a pixel is the least."""
    known = value if isinstance(value, Array) and is_known(value.shape) else None
    if layer.kind == "chain":
        total, exact = 0.0, True
        for part in layer.parts:
            value, cost = apply_layer(part, value)
            total, exact = total + (cost or 0.0), exact and cost is not None
        return value, total if exact else None
    if layer.kind == "linear":
        if known is None:
            return None, None
        shape = (*known.shape[:-1], layer.sizes[1])
        return Array(shape), 2.0 * elements(known.shape[:-1]) * layer.sizes[0] * layer.sizes[1]
    if layer.kind == "conv":
        if known is None or len(known.shape) < 3:
            return None, None
        each = layer.sizes[0] * layer.sizes[1] * layer.sizes[2] ** layer.sizes[3]
        shape = (known.shape[0], layer.sizes[1], *known.shape[2:])
        return Array(shape), 2.0 * (known.shape[0] or 1) * elements(known.shape[2:]) * each
    return value, (touch(known, known) if known is not None else None)
