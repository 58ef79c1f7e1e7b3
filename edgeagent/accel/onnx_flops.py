"""What each operator of an ONNX graph costs (operators: onnx/onnx docs/Operators.md, and those of ONNX Runtime).

A size that is given at run time counts 1 in costs, so that an estimate is the least that a call can be. Where a shape
is not known at all, each weight counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edgeagent.accel.modes import bytes_as_flops
from edgeagent.accel.onnx_graph import Dims, Node

__all__ = [
    "GEMMS",
    "HOST_OPS",
    "RECURRENT",
    "einsum_sizes",
    "elements",
    "is_convolution",
    "is_product",
    "names",
    "node_flops",
    "second_place",
]


def names(text: str) -> frozenset[str]:
    """A set of names."""
    return frozenset(text.split())


# They move no numbers that a GPU could work on: constants, shapes, control, strings, and trees of decisions.
HOST_OPS = names(
    "Constant ConstantOfShape Identity Shape Size Reshape Squeeze Unsqueeze Flatten If Loop Scan"
    " Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty"
    " SequenceErase SequenceInsert SequenceLength SplitToSequence ConcatFromSequence StringNormalizer"
    " StringConcat StringSplit RegexFullMatch TfIdfVectorizer ArrayFeatureExtractor CategoryMapper"
    " DictVectorizer FeatureVectorizer LabelEncoder ZipMap TreeEnsemble TreeEnsembleClassifier"
    " TreeEnsembleRegressor"
)
_CONVOLUTIONS = names("Conv ConvInteger QLinearConv FusedConv NhwcConv DeformConv")
_MATRICES = names(
    "Gemm MatMul MatMulInteger QLinearMatMul FusedMatMul FusedGemm QGemm DynamicQuantizeMatMul"
    " MatMulIntegerToFloat"
)
GEMMS = names("Gemm FusedGemm QGemm")
# Both operands with their scales and zero points between them.
_SECOND_AT_3 = names("QLinearConv QLinearMatMul QGemm")
_PRODUCTS = _CONVOLUTIONS | _MATRICES | {"ConvTranspose"}
RECURRENT = names("LSTM GRU RNN")
_FLOAT_BYTES = 4
_ELEMENTS_MAX = 1 << 60
_EQUATION_MAX = 1024  # characters of Einsum's

Shapes = Callable[[str], Dims | None]


def elements(dims: Dims | None) -> int:
    """How many there are at least: an axis of unknown size counts 1. Bounded, so that hostile sizes stay numbers."""
    return min(math.prod(size or 1 for size in dims), _ELEMENTS_MAX) if dims is not None else 1


def is_convolution(op: str) -> bool:
    return op in _CONVOLUTIONS


def is_product(op: str) -> bool:
    """Of matrices."""
    return op in _MATRICES


def second_place(op: str) -> int:
    """Where the weights stand among the inputs."""
    return 3 if op in _SECOND_AT_3 else 1


def einsum_sizes(node: Node, ins: Sequence[Dims | None]) -> tuple[dict[str, int | None], str] | None:
    """The size of each index, and the indices of the output; None where an operand is not known, or has an ellipsis."""
    equation = node.texts.get("equation", "")
    if len(equation) > _EQUATION_MAX:
        return None
    left, arrow, right = equation.replace(" ", "").partition("->")
    sizes: dict[str, int | None] = {}
    operands = left.split(",")
    if "." in left or len(operands) != len(ins):
        return None
    for letters, dims in zip(operands, ins, strict=True):
        if dims is None or len(letters) != len(dims):
            return None
        sizes.update((letter, size) for letter, size in zip(letters, dims, strict=True) if size is not None)
        for letter in letters:
            sizes.setdefault(letter, None)
    if not arrow:
        right = "".join(sorted(letter for letter in sizes if left.count(letter) == 1))
    return (sizes, right) if all(letter in sizes for letter in right) else None


def node_flops(node: Node, shape: Shapes, out: Dims | None) -> float:
    """The least that one run of the operator costs."""
    ins = [shape(name) for name in node.inputs]
    touched = bytes_as_flops(_FLOAT_BYTES * elements(out)) if out is not None else 0.0
    if node.op in _PRODUCTS:
        return _product(node, ins, out) + touched
    if node.op in RECURRENT and len(ins) > 2 and ins[1] is not None and ins[2] is not None:
        steps = elements(ins[0][:2]) if ins[0] is not None else 1
        return 2.0 * steps * (elements(ins[1]) + elements(ins[2]))
    if node.op in ("Attention", "MultiHeadAttention", "GroupQueryAttention") and ins and ins[0] is not None:
        length = ins[0][1] or 1 if len(ins[0]) == 3 else 1
        weights = elements(ins[1]) if node.op == "Attention" and len(ins) > 1 else 0
        return 2.0 * length * weights + 4.0 * length * elements(ins[0])
    if node.op == "Einsum" and (known := einsum_sizes(node, ins)) is not None:
        return 2.0 * elements(tuple(known[0].values())) + touched
    if node.op == "MatMulNBits" and ins:
        rows = elements(ins[0][:-1]) if ins[0] else 1
        return 2.0 * rows * node.number("K", 1) * node.number("N", 1) + touched
    if node.op in ("DFT", "STFT") and ins:
        n = elements(ins[0])
        return 5.0 * n * math.log2(max(n, 2))
    if node.op in HOST_OPS:
        return 0.0
    return touched or bytes_as_flops(_FLOAT_BYTES * elements(ins[0] if ins else None))


def _product(node: Node, ins: list[Dims | None], out: Dims | None) -> float:
    a, b = (ins[place] if place < len(ins) else None for place in (0, second_place(node.op)))
    if node.op == "ConvTranspose":
        return 2.0 * (elements(a) * elements(b[1:]) if a is not None and b is not None else elements(b))
    if node.op in _CONVOLUTIONS:
        each = elements(b[1:]) if b is not None else 1
        return 2.0 * (elements(out) * each if out is not None else elements(b))
    if out is None or a is None or not a:
        return 2.0 * max(elements(a), elements(b))
    inner = a[-2] if node.op in GEMMS and node.number("transA", 0) and len(a) > 1 else a[-1]
    if inner is None and b is not None and len(b) > 1:
        inner = b[-1] if node.op in GEMMS and node.number("transB", 0) else b[-2]
    return 2.0 * elements(out) * (inner or 1)
