"""Small numbers along an ONNX graph: of constants, and what is computed of shapes, for it ends up in shapes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import msgspec

from edgeagent.accel.onnx_graph import Dims, Node, Tensor

__all__ = ["Ints", "Known", "node_ints"]

# None: a number that is not known.
Ints = tuple[int | None, ...]

_COUNT_MAX = 64
_NUMBER_MAX = 1 << 62
_PASSES = frozenset(["Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten"])
_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": lambda a, b: int(a / b) if b else 0,
    "Max": max,
    "Min": min,
}


class Known(msgspec.Struct):
    """What is known of the names that a node sees."""

    shapes: dict[str, Dims] = msgspec.field(default_factory=dict)
    numbers: dict[str, Ints] = msgspec.field(default_factory=dict)
    reals: dict[str, tuple[float, ...]] = msgspec.field(default_factory=dict)

    def copy(self) -> Known:
        """For a graph inside: what it learns stays there."""
        return Known(dict(self.shapes), dict(self.numbers), dict(self.reals))

    def shape(self, node: Node, place: int) -> Dims | None:
        """Of an input."""
        return self.shapes.get(node.inputs[place]) if place < len(node.inputs) else None

    def ints(self, node: Node, place: int) -> Ints | None:
        """An input's numbers."""
        return self.numbers.get(node.inputs[place]) if place < len(node.inputs) else None

    def floats(self, node: Node, place: int) -> tuple[float, ...] | None:
        return self.reals.get(node.inputs[place]) if place < len(node.inputs) else None

    def hold(self, name: str, tensor: Tensor) -> None:
        """A constant."""
        self.shapes[name] = tensor.dims
        if tensor.ints is not None:
            self.numbers[name] = tensor.ints
        if tensor.floats is not None:
            self.reals[name] = tensor.floats


def node_ints(node: Node, known: Known) -> Ints | None:
    """The numbers of the first output; None: too many, or not of integers that are followed."""
    found = _ints(node, known)
    if found is None or len(found) > _COUNT_MAX:
        return None
    return tuple(None if one is None or abs(one) > _NUMBER_MAX else one for one in found)


def _ints(node: Node, known: Known) -> Ints | None:
    first = known.ints(node, 0)
    op = node.op
    if op in ("Shape", "Size"):
        return _measured(node, known.shape(node, 0))
    if op == "Concat":
        parts = [known.ints(node, place) for place in range(len(node.inputs))]
        if any(part is None for part in parts):
            return None
        return tuple(one for part in parts for one in part or ())
    if first is None:
        return None
    if op in _PASSES:
        return first
    if op == "Gather":
        places = known.ints(node, 1)
        if places is None:
            return None
        return tuple(
            first[one] if one is not None and -len(first) <= one < len(first) else None for one in places
        )
    if op == "Slice":
        return _sliced(node, first, known)
    if op == "ReduceProd":
        return (None if None in first else math.prod(one or 0 for one in first),)
    second = known.ints(node, 1)
    if op in _ARITHMETIC and second is not None and len(node.inputs) == 2:
        return _computed(_ARITHMETIC[op], first, second)
    return None


def _measured(node: Node, dims: Dims | None) -> Ints | None:
    if dims is None:
        return None
    if node.op == "Size":
        return (None if None in dims else math.prod(size or 0 for size in dims),)
    start, end = node.ints.get("start", [0])[0], node.ints.get("end", [len(dims)])[0]
    return dims[start:end]


def _sliced(node: Node, first: Ints, known: Known) -> Ints | None:
    bounds = [
        tuple(node.ints[name]) if name in node.ints else known.ints(node, place)
        for name, place in (("starts", 1), ("ends", 2))
    ]
    steps = known.ints(node, 4) or (1,)
    start, end = (one[0] if one else None for one in bounds)
    if start is None or end is None or not steps[0]:
        return None
    return first[slice(start, end, steps[0])]


def _computed(compute: Callable[[int, int], int], a: Ints, b: Ints) -> Ints | None:
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        return None
    count = max(len(a), len(b))
    pairs = zip(a * count if len(a) == 1 else a, b * count if len(b) == 1 else b, strict=True)
    return tuple(None if x is None or y is None else compute(x, y) for x, y in pairs)
