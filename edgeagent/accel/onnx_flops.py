"""Shapes along an ONNX graph, and what each operator costs (operators: onnx/onnx docs/Operators.md).

A size that is given at run time counts 1 in costs, so that an estimate is the least that a call can be. Where a shape
is not known at all, each weight counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeagent.accel.modes import bytes_as_flops
from edgeagent.accel.onnx_graph import Dims, Node

__all__ = ["HOST_OPS", "elements", "node_flops", "node_shape"]


def _names(text: str) -> frozenset[str]:
    """A set of names."""
    return frozenset(text.split())


# They move no numbers that a GPU could work on: constants, shapes, control, strings, and trees of decisions.
HOST_OPS = _names(
    "Constant ConstantOfShape Identity Shape Size Reshape Squeeze Unsqueeze Flatten If Loop Scan"
    " Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty"
    " SequenceErase SequenceInsert SequenceLength SplitToSequence ConcatFromSequence StringNormalizer"
    " StringConcat StringSplit RegexFullMatch TfIdfVectorizer ArrayFeatureExtractor CategoryMapper"
    " DictVectorizer FeatureVectorizer LabelEncoder ZipMap TreeEnsemble TreeEnsembleClassifier"
    " TreeEnsembleRegressor"
)
_PRODUCTS = _names(
    "Conv ConvInteger QLinearConv ConvTranspose Gemm MatMul MatMulInteger QLinearMatMul FusedMatMul"
)
_RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
_POOLS = frozenset(["MaxPool", "AveragePool", "LpPool"])
_GLOBAL_POOLS = frozenset(["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
_FLOAT_BYTES = 4
_ELEMENTS_MAX = 1 << 60
_SIZE_MAX = 1 << 48
_RANK_MAX = 32

Shapes = Callable[[str], Dims | None]


def elements(dims: Dims | None) -> int:
    """How many there are at least: an axis of unknown size counts 1. Bounded, so that hostile sizes stay numbers."""
    return min(math.prod(size or 1 for size in dims), _ELEMENTS_MAX) if dims is not None else 1


def node_flops(node: Node, shape: Shapes, out: Dims | None) -> float:
    """The least that one run of the operator costs."""
    ins = [shape(name) for name in node.inputs]
    touched = bytes_as_flops(_FLOAT_BYTES * elements(out)) if out is not None else 0.0
    if node.op in _PRODUCTS:
        return _product(node, ins, out) + touched
    if node.op in _RECURRENT and len(ins) > 2 and ins[1] is not None and ins[2] is not None:
        steps = elements(ins[0][:2]) if ins[0] is not None else 1
        return 2.0 * steps * (elements(ins[1]) + elements(ins[2]))
    if node.op in ("Attention", "MultiHeadAttention", "GroupQueryAttention") and ins and ins[0] is not None:
        length = ins[0][1] or 1 if len(ins[0]) == 3 else 1
        weights = elements(ins[1]) if node.op == "Attention" and len(ins) > 1 else 0
        return 2.0 * length * weights + 4.0 * length * elements(ins[0])
    if node.op in ("DFT", "STFT") and ins:
        n = elements(ins[0])
        return 5.0 * n * math.log2(max(n, 2))
    if node.op in HOST_OPS:
        return 0.0
    return touched or bytes_as_flops(_FLOAT_BYTES * elements(ins[0] if ins else None))


def _product(node: Node, ins: list[Dims | None], out: Dims | None) -> float:
    places = {"QLinearConv": (0, 3), "QLinearMatMul": (0, 3)}.get(node.op, (0, 1))
    a, b = (ins[place] if place < len(ins) else None for place in places)
    if node.op == "ConvTranspose":
        return 2.0 * (elements(a) * elements(b[1:]) if a is not None and b is not None else elements(b))
    if node.op.endswith("Conv") or node.op == "ConvInteger":
        each = elements(b[1:]) if b is not None else 1
        return 2.0 * (elements(out) * each if out is not None else elements(b))
    if out is None or a is None or not a:
        return 2.0 * max(elements(a), elements(b))
    inner = a[-2] if node.op == "Gemm" and _int(node, "transA", 0) and len(a) > 1 else a[-1]
    if inner is None and b is not None and len(b) > 1:
        inner = b[-1] if node.op == "Gemm" and _int(node, "transB", 0) else b[-2]
    return 2.0 * elements(out) * (inner or 1)


def node_shape(node: Node, shape: Shapes, ints: Callable[[str], Sequence[int] | None]) -> Dims | None:
    """The shape of the first output, None: not known. ``ints``: the values of small constants."""
    found = _shape(node, shape, ints)
    if found is None or len(found) > _RANK_MAX:
        return None
    return tuple(size if size is None or 0 < size <= _SIZE_MAX else None for size in found)


def _shape(node: Node, shape: Shapes, ints: Callable[[str], Sequence[int] | None]) -> Dims | None:
    first = shape(node.inputs[0]) if node.inputs else None
    if node.op in ("MatMul", "MatMulInteger", "FusedMatMul", "QLinearMatMul", "Gemm"):
        return _matmul_shape(node, shape)
    if node.op == "ConstantOfShape":
        sizes = ints(node.inputs[0]) if node.inputs else None
        return None if sizes is None else tuple(size if size > 0 else None for size in sizes)
    if first is None:
        return None
    if node.op.endswith("Conv") or node.op in ("ConvInteger", "ConvTranspose") or node.op in _POOLS:
        return _windowed(node, first, shape)
    if node.op in _GLOBAL_POOLS:
        return (*first[:2], *(1 for _ in first[2:]))
    if node.op in ("Reshape", "Transpose", "Flatten", "Concat", "Gather", "Unsqueeze", "Squeeze"):
        return _moved(node, first, shape, ints)
    if node.op in (
        "Resize",
        "Upsample",
        "Pad",
        "Slice",
        "Split",
        "Expand",
        "Tile",
        "TopK",
        "NonZero",
        "Einsum",
    ):
        return None
    if node.op.startswith(("Reduce", "Arg")) or node.op in _RECURRENT or node.op in HOST_OPS - {"Identity"}:
        return None
    several = [shape(name) for name in node.inputs if name]
    return _broadcast(several) if node.op in _ELEMENTWISE else first


_ELEMENTWISE = _names("Add Sub Mul Div Pow Max Min Sum Mean Where And Or Xor Equal Greater Less Mod PRelu")


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


def _int(node: Node, name: str, default: int) -> int:
    found = node.ints.get(name)
    return found[0] if found else default


def _matmul_shape(node: Node, shape: Shapes) -> Dims | None:
    places = (0, 3) if node.op == "QLinearMatMul" else (0, 1)
    if len(node.inputs) <= places[1]:
        return None
    a, b = (shape(node.inputs[place]) for place in places)
    if a is None or b is None or not a or not b:
        return None
    if node.op == "Gemm":
        rows = a[-1] if _int(node, "transA", 0) else a[0]
        columns = b[0] if _int(node, "transB", 0) else b[-1]
        return (rows, columns)
    batch = _broadcast([a[:-2], b[:-2]]) or ()
    return (*batch, *(a[-2:-1]), *(b[-1:] if len(b) > 1 else ()))


def _windowed(node: Node, first: Dims, shape: Shapes) -> Dims | None:
    """Convolutions and pools (Operators.md: output shape of Conv, ConvTranspose and MaxPool)."""
    place = 3 if node.op == "QLinearConv" else 1
    weights = None
    if node.op not in _POOLS:
        weights = shape(node.inputs[place]) if place < len(node.inputs) else None
        if weights is None or len(weights) != len(first):
            return None
    rank = len(first) - 2
    kernel = node.ints.get("kernel_shape") or [size or 1 for size in (weights or ())[2:]]
    strides = node.ints.get("strides") or [1] * rank
    dilations = node.ints.get("dilations") or [1] * rank
    pads = node.ints.get("pads") or [0] * (2 * rank)
    if (
        rank < 1
        or len(kernel) != rank
        or len(strides) != rank
        or len(dilations) != rank
        or len(pads) != 2 * rank
    ):
        return None
    same = node.texts.get("auto_pad", "NOTSET").startswith("SAME")
    sizes: list[int | None] = []
    for axis in range(rank):
        size, reach, step = first[2 + axis], dilations[axis] * (kernel[axis] - 1) + 1, max(strides[axis], 1)
        if size is None:
            sizes.append(None)
        elif node.op == "ConvTranspose":
            sizes.append(
                max(1, step * size if same else step * (size - 1) + reach - pads[axis] - pads[rank + axis])
            )
        elif same:
            sizes.append(-(-size // step))
        else:
            sizes.append(max(1, (size + pads[axis] + pads[rank + axis] - reach) // step + 1))
    channels = first[1]
    if weights is not None:
        channels = weights[0]
        if node.op == "ConvTranspose":
            channels = (weights[1] or 1) * _int(node, "group", 1)
    return (first[0], channels, *sizes)


def _moved(
    node: Node, first: Dims, shape: Shapes, ints: Callable[[str], Sequence[int] | None]
) -> Dims | None:
    if node.op == "Transpose":
        order = node.ints.get("perm") or list(range(len(first)))[::-1]
        return tuple(first[axis] for axis in order) if sorted(order) == list(range(len(first))) else None
    if node.op == "Flatten":
        axis = _int(node, "axis", 1)
        return tuple(None if None in part else elements(part) for part in (first[:axis], first[axis:]))
    if node.op == "Concat":
        axis = _int(node, "axis", 0)
        parts = [shape(name) for name in node.inputs]
        known = [one for one in parts if one is not None and len(one) == len(first)]
        if len(known) != len(parts) or not -len(first) <= axis < len(first):
            return None
        sizes = [one[axis] for one in known]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        place = axis % len(first)
        return (*first[:place], total, *first[place + 1 :])
    second = node.inputs[1] if len(node.inputs) > 1 else ""
    if node.op == "Gather":
        taken = shape(second) if second else None
        axis = _int(node, "axis", 0)
        if taken is None or not -len(first) <= axis < len(first):
            return None
        place = axis % len(first)
        return (*first[:place], *taken, *first[place + 1 :])
    wanted = (ints(second) if second else None) or node.ints.get("axes")
    if node.op == "Reshape":
        return _reshaped(first, wanted) if wanted is not None else None
    return _axes(node.op, first, wanted)


def _reshaped(first: Dims, wanted: Sequence[int]) -> Dims:
    sizes: list[int | None] = [
        (first[i] if i < len(first) else None) if size == 0 else size if size > 0 else None
        for i, size in enumerate(wanted)
    ]
    if wanted.count(-1) == 1 and None not in first and sizes.count(None) == 1:
        sizes[list(wanted).index(-1)] = elements(first) // max(1, elements(tuple(sizes)))
    return tuple(sizes)


def _axes(op: str, first: Dims, wanted: Sequence[int] | None) -> Dims | None:
    if op == "Squeeze":
        gone = (
            {axis % max(len(first), 1) for axis in wanted}
            if wanted
            else {i for i, s in enumerate(first) if s == 1}
        )
        return tuple(size for i, size in enumerate(first) if i not in gone)
    if wanted is None or len(wanted) > _RANK_MAX:
        return None
    sizes = list(first)
    rank = len(first) + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        sizes.insert(axis, 1)
    return tuple(sizes)
