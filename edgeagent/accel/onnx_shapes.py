"""Shapes along an ONNX graph (operators: onnx/onnx docs/Operators.md, and those of ONNX Runtime).

Where an operator is not here its first input's shape stands for the output's, which holds for most that work element
by element; None is a shape, or a size, that is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeagent.accel.onnx_flops import (
    GEMMS,
    HOST_OPS,
    RECURRENT,
    einsum_sizes,
    elements,
    is_convolution,
    is_product,
    names,
    second_place,
)
from edgeagent.accel.onnx_graph import RANK_MAX, Dims, Node
from edgeagent.accel.onnx_values import Ints, Known

__all__ = ["node_shape", "other_shapes"]

_SIZE_MAX = 1 << 48
_POOLS = frozenset(["MaxPool", "AveragePool", "LpPool", "MaxUnpool"])
_GLOBAL_POOLS = frozenset(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
_ELEMENTWISE = names(
    "Add Sub Mul Div Pow Max Min Sum Mean Where And Or Xor Equal Greater Less GreaterOrEqual LessOrEqual Mod"
    " PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor"
)
_MOVES = names(
    "Reshape Transpose Flatten Concat Gather Unsqueeze Squeeze Slice Split Pad Expand Tile TopK Resize Upsample"
)
_UNKNOWN = names("NonZero Compress Unique NonMaxSuppression GatherND OneHot Range RoiAlign")


def node_shape(node: Node, known: Known) -> Dims | None:
    """The shape of the first output, None: not known."""
    found = _shape(node, known)
    if found is None or len(found) > RANK_MAX:
        return None
    return tuple(size if size is None or 0 < size <= _SIZE_MAX else None for size in found)


def other_shapes(node: Node, known: Known, first: Dims | None) -> list[Dims | None]:
    """Of the outputs after the first."""
    if node.op == "Split":
        return _split(node, known)[1:]
    return [first if node.op == "TopK" else None] * (len(node.outputs) - 1)


def _shape(node: Node, known: Known) -> Dims | None:
    first = known.shape(node, 0)
    op = node.op
    if is_product(op):
        return _product(node, known)
    if op == "Einsum":
        sizes = einsum_sizes(node, [known.shape(node, place) for place in range(len(node.inputs))])
        return None if sizes is None else tuple(sizes[0][letter] for letter in sizes[1])
    if op == "ConstantOfShape":
        return known.ints(node, 0)
    if first is None or op in _UNKNOWN:
        return None
    if is_convolution(op) or op == "ConvTranspose" or op in _POOLS:
        return _windowed(node, first, known)
    if op in _GLOBAL_POOLS:
        return (*first[:2], *(1 for _ in first[2:]))
    if op == "MatMulNBits":
        return (*first[:-1], node.number("N", 0))
    if op in _MOVES:
        return _moved(node, first, known)
    if op.startswith("Reduce") or op in ("ArgMax", "ArgMin"):
        return _reduced(node, first, known)
    if op in RECURRENT:
        return _recurrent(node, first, known)
    if op in HOST_OPS - {"Identity"}:
        return None
    several = [known.shape(node, place) for place, name in enumerate(node.inputs) if name]
    return _broadcast(several) if op in _ELEMENTWISE else first


def _broadcast(several: list[Dims | None]) -> Dims | None:
    known = [one for one in several if one is not None]
    if len(known) != len(several) or not known:
        return None
    rank = max(len(one) for one in known)
    out: list[int | None] = []
    for axis in range(-rank, 0):
        sizes = [one[axis] for one in known if len(one) >= -axis]
        fixed = [size for size in sizes if size not in (None, 1)]
        out.append(fixed[0] if fixed else None if None in sizes else 1)
    return tuple(out)


def _product(node: Node, known: Known) -> Dims | None:
    a, b = known.shape(node, 0), known.shape(node, second_place(node.op))
    if a is None or b is None or not a or not b:
        return None
    if node.op in GEMMS:
        rows = a[-1] if node.number("transA", 0) else a[0]
        columns = b[0] if node.number("transB", 0) else b[-1]
        return (rows, columns)
    batch = _broadcast([a[:-2], b[:-2]]) or ()
    return (*batch, *(a[-2:-1]), *(b[-1:] if len(b) > 1 else ()))


def _windowed(node: Node, first: Dims, known: Known) -> Dims | None:
    """Convolutions and pools (Operators.md: output shape of Conv, ConvTranspose and MaxPool)."""
    weights = None
    if node.op not in _POOLS:
        weights = known.shape(node, second_place(node.op))
        if weights is None or len(weights) != len(first):
            return None
    rank = len(first) - 2
    kernel = node.ints.get("kernel_shape") or [size or 1 for size in (weights or ())[2:]]
    strides = node.ints.get("strides") or [1] * rank
    dilations = node.ints.get("dilations") or [1] * rank
    pads = node.ints.get("pads") or [0] * (2 * rank)
    if rank < 1 or {len(kernel), len(strides), len(dilations)} != {rank} or len(pads) != 2 * rank:
        return None
    same = node.texts.get("auto_pad", "NOTSET").startswith("SAME")
    sizes: list[int | None] = []
    for axis in range(rank):
        size, reach, step = first[2 + axis], dilations[axis] * (kernel[axis] - 1) + 1, max(strides[axis], 1)
        padding = pads[axis] + pads[rank + axis]
        if size is None:
            sizes.append(None)
        elif node.op in ("ConvTranspose", "MaxUnpool"):
            sizes.append(max(1, step * size if same else step * (size - 1) + reach - padding))
        elif same:
            sizes.append(-(-size // step))
        else:
            sizes.append(max(1, (size + padding - reach) // step + 1))
    channels = first[1]
    if weights is not None:
        channels = weights[0]
        if node.op == "ConvTranspose":
            channels = (weights[1] or 1) * node.number("group", 1)
    return (first[0], channels, *sizes)


def _recurrent(node: Node, first: Dims, known: Known) -> Dims | None:
    """Y: steps, directions, batch, hidden; with layout 1 batch, steps, directions, hidden."""
    weights = known.shape(node, 2)
    if len(first) != 3 or weights is None or len(weights) != 3:
        return None
    if node.number("layout", 0):
        return (first[0], first[1], weights[0], weights[2])
    return (first[0], weights[0], first[1], weights[2])


def _reduced(node: Node, first: Dims, known: Known) -> Dims | None:
    axes: Ints | None
    if node.op.startswith("Arg"):
        axes = (node.number("axis", 0),)
    else:
        axes = _given(node, "axes", known, 1)
        if axes is None and len(node.inputs) > 1 and node.inputs[1]:
            return None
    if axes is None:
        axes = () if node.number("noop_with_empty_axes", 0) else tuple(range(len(first)))
    places = _places(axes, len(first))
    if places is None:
        return None
    if node.number("keepdims", 1):
        return tuple(1 if axis in places else size for axis, size in enumerate(first))
    return tuple(size for axis, size in enumerate(first) if axis not in places)


def _places(axes: Sequence[int | None], rank: int) -> list[int] | None:
    """Axes counted from the front; None where one is not known, or none."""
    found = [axis % rank for axis in axes if axis is not None and -rank <= axis < rank]
    return found if len(found) == len(axes) else None


def _given(node: Node, name: str, known: Known, place: int) -> Ints | None:
    """What older versions have as an attribute and newer ones as an input."""
    written = node.ints.get(name)
    return tuple(written) if written is not None else known.ints(node, place)


# -- what moves, cuts and repeats ------------------------------------------------------------------------------


def _moved(node: Node, first: Dims, known: Known) -> Dims | None:
    op = node.op
    if op == "Transpose":
        order = node.ints.get("perm") or list(range(len(first)))[::-1]
        return tuple(first[axis] for axis in order) if sorted(order) == list(range(len(first))) else None
    if op == "Flatten":
        axis = node.number("axis", 1)
        return tuple(None if None in part else elements(part) for part in (first[:axis], first[axis:]))
    if op == "Concat":
        return _concat(node, first, known)
    if op == "Gather":
        taken, axis = known.shape(node, 1), node.number("axis", 0)
        if taken is None or not -len(first) <= axis < len(first):
            return None
        place = axis % len(first)
        return (*first[:place], *taken, *first[place + 1 :])
    if op == "Reshape":
        wanted = _given(node, "shape", known, 1)
        return _reshaped(first, wanted) if wanted is not None else None
    if op in ("Squeeze", "Unsqueeze"):
        return _axes(op, first, _given(node, "axes", known, 1))
    if op == "Split":
        return next(iter(_split(node, known)), None)
    if op == "Slice":
        return _slice(node, first, known)
    return _resized(node, first, known)


def _concat(node: Node, first: Dims, known: Known) -> Dims | None:
    axis = node.number("axis", 0)
    parts = [known.shape(node, place) for place in range(len(node.inputs))]
    same = [one for one in parts if one is not None and len(one) == len(first)]
    if len(same) != len(parts) or not -len(first) <= axis < len(first):
        return None
    sizes = [one[axis] for one in same]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    place = axis % len(first)
    return (*first[:place], total, *first[place + 1 :])


def _split(node: Node, known: Known) -> list[Dims | None]:
    """Of all outputs."""
    count = len(node.outputs)
    first, parts = known.shape(node, 0), _given(node, "split", known, 1)
    axis = node.number("axis", 0)
    if first is None or not -len(first) <= axis < len(first):
        return [None] * count
    place = axis % len(first)
    whole = first[place]
    sizes: Ints = (None,) * count
    if parts is not None:
        sizes = (*parts[:count], *sizes[len(parts) :])
    elif whole is not None and count:
        each = -(-whole // count)
        sizes = tuple(max(min(each, whole - each * output), 1) for output in range(count))
    return [(*first[:place], size, *first[place + 1 :]) for size in sizes]


def _slice(node: Node, first: Dims, known: Known) -> Dims | None:
    starts, ends = _given(node, "starts", known, 1), _given(node, "ends", known, 2)
    axes = _given(node, "axes", known, 3)
    steps = known.ints(node, 4) if len(node.inputs) > 4 else None
    count = len(starts or ends or ())
    places = _places(axes if axes is not None else tuple(range(count)), len(first))
    if starts is None or ends is None or places is None or not len(places) == len(starts) == len(ends):
        # An axis that is cut somewhere is one of unknown size.
        return tuple(None if places is None or axis in places else one for axis, one in enumerate(first))
    sizes = list(first)
    for at, axis in enumerate(places):
        whole, start, end = first[axis], starts[at], ends[at]
        step = steps[at] if steps is not None and at < len(steps) else 1
        if whole is None or start is None or end is None or not step:
            sizes[axis] = None
        else:
            sizes[axis] = len(range(*slice(start, end if end > -(1 << 62) else None, step).indices(whole)))
    return tuple(sizes)


def _resized(node: Node, first: Dims, known: Known) -> Dims | None:
    """Resize, Upsample, Pad, Expand, Tile, TopK: axes of another size."""
    op, rank = node.op, len(first)
    if op == "Expand":
        wanted = known.ints(node, 1)
        return None if wanted is None else _broadcast([first, wanted])
    if op == "TopK":
        most, axis = _given(node, "k", known, 1), node.number("axis", -1)
        if most is None or len(most) != 1 or not -rank <= axis < rank:
            return None
        place = axis % rank
        return (*first[:place], most[0], *first[place + 1 :])
    if op == "Tile":
        return _times(first, known.ints(node, 1))
    if op == "Pad":
        pads = _given(node, "pads", known, 1)
        if pads is None or len(pads) != 2 * rank or len(node.inputs) > 3:
            return (None,) * rank
        both = [
            None if None in pair else sum(one or 0 for one in pair)
            for pair in zip(pads, pads[rank:], strict=False)
        ]
        return tuple(
            None if size is None or more is None else size + more
            for size, more in zip(first, both, strict=True)
        )
    sizes = known.ints(node, 3) if op == "Resize" else None
    if sizes is not None and len(sizes) == rank:
        return sizes
    scales = node.floats.get("scales") or known.floats(
        node, 2 if op == "Resize" and len(node.inputs) > 2 else 1
    )
    return _times(first, scales) if scales else (None,) * rank


def _times(first: Dims, factors: Sequence[float | None] | None) -> Dims:
    if factors is None or len(factors) != len(first):
        return (None,) * len(first)
    return tuple(
        None if size is None or factor is None or not 0 <= factor <= _SIZE_MAX else math.floor(size * factor)
        for size, factor in zip(first, factors, strict=True)
    )


def _reshaped(first: Dims, wanted: Ints) -> Dims:
    sizes: list[int | None] = [
        (first[i] if i < len(first) else None)
        if size == 0
        else size
        if size is not None and size > 0
        else None
        for i, size in enumerate(wanted)
    ]
    if wanted.count(-1) == 1 and None not in first and sizes.count(None) == 1:
        sizes[wanted.index(-1)] = elements(first) // max(1, elements(tuple(sizes)))
    return tuple(sizes)


def _axes(op: str, first: Dims, wanted: Ints | None) -> Dims | None:
    if op == "Squeeze":
        axes = wanted or tuple(i for i, size in enumerate(first) if size == 1)
        gone = _places(axes, len(first))
        return None if gone is None else tuple(size for i, size in enumerate(first) if i not in gone)
    if wanted is None or len(wanted) > RANK_MAX:
        return None
    places = _places(wanted, len(first) + len(wanted))
    if places is None:
        return None
    sizes = list(first)
    for axis in sorted(places):
        sizes.insert(axis, 1)
    return tuple(sizes)
