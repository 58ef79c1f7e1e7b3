"""How much work a call of an array library is, by its name and the shapes that go in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeagent.accel.modes import bytes_as_flops
from edgeagent.accel.python_values import (
    Array,
    Const,
    Layer,
    Value,
    integer,
    options,
    shape_of,
)
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["Cost", "apply_layer", "combine", "library_call", "make_layer", "method_call", "product"]

_ELEMENTS_MAX = 1 << 60

# The value that comes out and its work; work None: it cannot be told.
Cost = tuple[Value, float | None]

_BY_SHAPE = frozenset("zeros ones empty full fill".split())
_BY_SIZES = frozenset("rand randn".split())
_BY_SIZE_ARGUMENT = frozenset(
    "random random_sample standard_normal normal uniform randint integers truncated_normal random_normal exponential"
    " poisson bernoulli".split()
)
_FROM_DATA = frozenset(
    "array asarray tensor as_tensor from_numpy constant Tensor FloatTensor Variable convert_to_tensor asanyarray"
    " ascontiguousarray asnumpy".split()
)
_LIKE = frozenset("zeros_like ones_like empty_like full_like rand_like randn_like".split())
_PRODUCTS = frozenset("matmul dot mm bmm mv inner vdot".split())
# Operations an element of n x n, times n. Source: LAPACK working note 41 and Golub and Van Loan, rounded.
_CUBIC = {
    "inv": 2.0, "solve": 0.67, "det": 0.67, "slogdet": 0.67, "lu": 0.67, "lu_factor": 0.67, "cholesky": 0.33,
    "qr": 1.33, "svd": 20.0, "svdvals": 4.0, "pinv": 20.0, "lstsq": 2.0, "eig": 25.0, "eigvals": 10.0, "eigh": 9.0,
    "eigvalsh": 1.33, "expm": 20.0, "matrix_power": 2.0, "matrix_rank": 20.0,
}  # fmt: skip
_TRANSFORMS = frozenset(
    "fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn fft3d stft dct dctn".split()
)
_SORTS = frozenset("sort argsort topk top_k unique median percentile quantile".split())
_REDUCTIONS = frozenset(
    "sum mean std var max min prod norm argmax argmin any all amax amin logsumexp nansum trace".split()
)
_CONVOLUTIONS = frozenset(
    "conv1d conv2d conv3d convolve convolve2d correlate correlate2d conv conv_transpose2d".split()
)
_SAME = frozenset(
    "add subtract multiply divide sub mul div pow power exp exp2 expm1 log log2 log10 log1p sqrt rsqrt sin cos tan tanh sigmoid relu gelu silu softmax"
    " log_softmax abs absolute square clip clamp maximum minimum where cumsum cumprod sign round floor ceil erf float half double"
    " astype to cuda cpu numpy clone copy contiguous detach requires_grad_ block_until_ready get eval type_as cast"
    " relu_ add_ mul_ layer_norm batch_norm dropout normalize sinh cosh arctan arctan2 hypot mod remainder fmod"
    " device_put asnumpy flip roll block pin_memory gaussian_filter".split()
)
_FREE = frozenset(
    "to cuda cpu numpy clone copy contiguous detach requires_grad_ block_until_ready get eval float half double astype type_as"
    " cast device_put pin_memory".split()
)


def _elements(shape: Sequence[int | None]) -> int:
    return min(math.prod(size or 1 for size in shape), _ELEMENTS_MAX)


def _known(shape: Sequence[int | None]) -> bool:
    return None not in shape


def _touch(*arrays: Array) -> float | None:
    if not all(_known(one.shape) for one in arrays):
        return None
    return bytes_as_flops(float(sum(_elements(one.shape) * one.item_bytes for one in arrays)))


def _item_bytes(library: str, keywords: Mapping[str, Value]) -> int:
    kind = keywords.get("dtype")
    name = getattr(kind, "path", "") or str(getattr(kind, "value", ""))
    name = name.rsplit(".", 1)[-1]
    for text, size in (
        ("complex128", 16),
        ("64", 8),
        ("double", 8),
        ("long", 8),
        ("32", 4),
        ("16", 2),
        ("half", 2),
        ("8", 1),
    ):
        if text in name:
            return size
    return 8 if library in ("numpy", "cupy", "scipy") else 4


def _sizes(value: Value) -> tuple[int | None, ...] | None:
    """A shape that is given as one number or as several."""
    if isinstance(value, Written):
        return tuple(_size(item) for item in value.items[:32])
    size = _size(value)
    return None if size is None else (size,)


def _size(value: Value) -> int | None:
    """A size; of several that it may be the largest."""
    known = [one for option in options(value) if (one := integer(option)) is not None and one >= 0]
    return max(known) if known else None


def library_call(library: str, path: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost:
    """A function of an array library."""
    name = path.rsplit(".", 1)[-1]
    made = _creation(library, path, name, args, keywords)
    if made is not None:
        return made, _touch(made)
    if name == "einsum":
        return _einsum(args)
    if args and isinstance(args[0], Array):
        return method_call(args[0], name, args[1:], keywords)
    for other in args[1:]:
        if isinstance(other, Array) and name in _SAME:
            return other, _touch(other, other)
    return None, None


def _creation(
    library: str, path: str, name: str, args: Sequence[Value], keywords: Mapping[str, Value]
) -> Array | None:
    item = _item_bytes(library, keywords)
    shape: tuple[int | None, ...] | None = None
    given = keywords.get("shape") or keywords.get("size")
    if name in _LIKE and args:
        return args[0] if isinstance(args[0], Array) else None
    if name in _FROM_DATA and args:
        shape = shape_of(args[0])
        if isinstance(args[0], Array):
            return Array(args[0].shape, item if "dtype" in keywords else args[0].item_bytes)
    elif name in ("eye", "identity", "tri"):
        rows = _size(args[0]) if args else None
        columns = _size(args[1]) if len(args) > 1 else rows
        shape = (rows, columns)
    elif name in ("arange", "linspace", "logspace"):
        shape = (_count(name, args),)
    elif name in _BY_SHAPE or name in _BY_SIZES or name in _BY_SIZE_ARGUMENT:
        shape = _shape_argument(library, path, name, args, given)
    return None if shape is None else Array(shape, item)


def _count(name: str, args: Sequence[Value]) -> int | None:
    numbers = [_size(one) for one in args[:3]]
    if name != "arange":
        return numbers[2] if len(numbers) > 2 else 50
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) < 2 or numbers[0] is None or numbers[1] is None:
        return None
    return max(0, numbers[1] - numbers[0]) // max((numbers[2] or 1) if len(numbers) > 2 else 1, 1)


def _shape_argument(
    library: str, path: str, name: str, args: Sequence[Value], given: Value
) -> tuple[int | None, ...] | None:
    if given is not None:
        return _sizes(given)
    written = [one for one in args if isinstance(one, Written)]
    if name in _BY_SIZE_ARGUMENT:
        if written:
            return _sizes(written[0])
        # size comes last, after the distribution's parameters
        is_first = name in ("random", "random_sample", "standard_normal")
        place = 0 if is_first else 2
        return _sizes(args[place]) if place < len(args) else ((1,) if not args else None)
    if written:
        return _sizes(written[0])
    takes_many = name in _BY_SIZES or (library == "torch" and name in ("zeros", "ones", "empty"))
    if takes_many and args:
        return tuple(_size(one) for one in args)
    return _sizes(args[0]) if args else None


def method_call(owner: Array, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost:
    """A method of an array, or a function whose first argument is one."""
    name = name.removesuffix("_") if name != "_" else name
    first = args[0] if args else None
    if name in _PRODUCTS or name in ("linear", "addmm", "baddbmm", "tensordot"):
        return _product_call(owner, name, args)
    if name in _CUBIC:
        return _cubic(owner, name)
    count = _elements(owner.shape)
    whole = _known(owner.shape)
    if name in _TRANSFORMS:
        return Array(owner.shape, 8), 5.0 * count * math.log2(max(count, 2)) if whole else None
    if name in _SORTS:
        return owner, 10.0 * count * math.log2(max(count, 2)) if whole else None
    if name in _CONVOLUTIONS:
        return _convolution(owner, first)
    if name in ("reshape", "view", "resize", "broadcast_to", "expand"):
        return _reshape(owner, args), 0.0
    if name in ("transpose", "permute", "swapaxes", "t", "T", "mT", "adjoint"):
        return _transpose(owner, name, args), 0.0
    if name in ("ravel", "flatten"):
        return Array((count if whole else None,), owner.item_bytes), 0.0
    if name in ("item", "tolist", "size", "dim", "numel", "backward", "tobytes", "nbytes", "ndim"):
        return None, 0.0
    if name in _REDUCTIONS:
        return _reduce(owner, args, keywords), _touch(owner)
    if name in _FREE or name in _SAME:
        other = first if isinstance(first, Array) else None
        cost = 0.0 if name in _FREE else _touch(owner, owner)
        return (combine(owner, other)[0] if other is not None else owner), cost
    return None, None


def _reduce(owner: Array, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    axis = keywords.get("axis", keywords.get("dim", args[0] if args else None))
    place = integer(axis) if axis is not None else None
    if place is None:
        return Array((), owner.item_bytes) if axis is None else None
    if not -len(owner.shape) <= place < len(owner.shape):
        return None
    place %= len(owner.shape)
    return Array(owner.shape[:place] + owner.shape[place + 1 :], owner.item_bytes)


def _transpose(owner: Array, name: str, args: Sequence[Value]) -> Value:
    if name in ("swapaxes", "mT") or (name == "transpose" and len(args) == 2):
        places = [integer(one) for one in args] if args else [-1, -2]
        rank = len(owner.shape)
        if len(places) == 2 and all(one is not None and -rank <= one < rank for one in places):
            sizes = list(owner.shape)
            a, b = (one or 0 for one in places)
            sizes[a], sizes[b] = sizes[b], sizes[a]
            return Array(tuple(sizes), owner.item_bytes)
        return None
    if args:
        order = _sizes(args[0]) if len(args) == 1 else tuple(integer(one) for one in args)
        if order is None or sorted(one or 0 for one in order) != list(range(len(owner.shape))):
            return None
        return Array(tuple(owner.shape[one or 0] for one in order), owner.item_bytes)
    return Array(owner.shape[::-1], owner.item_bytes)


def _reshape(owner: Array, args: Sequence[Value]) -> Value:
    written = args[0] if len(args) == 1 and isinstance(args[0], Written) else None
    items = written.items if written is not None else tuple(args)
    sizes = [integer(one) for one in items]
    if sizes.count(-1) == 1 and _known(owner.shape) and None not in sizes:
        rest = math.prod(size or 1 for size in sizes if size != -1)
        sizes[sizes.index(-1)] = _elements(owner.shape) // max(rest, 1)
    return Array(tuple(None if size == -1 else size for size in sizes), owner.item_bytes)


def _product_call(owner: Array, name: str, args: Sequence[Value]) -> Cost:
    second = args[0] if args else None
    if name in ("addmm", "baddbmm"):
        if len(args) < 2 or not isinstance(args[0], Array) or not isinstance(args[1], Array):
            return None, None
        return product(args[0], args[1])
    if not isinstance(second, Array):
        return None, None
    if name == "linear":
        second = Array(second.shape[::-1], second.item_bytes)
    if name == "tensordot":
        return None, 2.0 * math.sqrt(
            _elements(owner.shape) * float(_elements(second.shape)) * max(_elements(owner.shape[-1:]), 1)
        )
    return product(owner, second)


def product(a: Array, b: Array) -> Cost:
    """``a @ b``."""
    if not a.shape or not b.shape:
        return combine(a, b)
    inner = a.shape[-1] if a.shape[-1] is not None else (b.shape[-2] if len(b.shape) > 1 else b.shape[0])
    batch = a.shape[:-2] if len(a.shape) >= len(b.shape) else b.shape[:-2]
    out = Array(
        (*batch, *a.shape[-2:-1], *(b.shape[-1:] if len(b.shape) > 1 else ())),
        max(a.item_bytes, b.item_bytes),
    )
    if inner is None or not _known(out.shape):
        return out, None
    return out, 2.0 * _elements(out.shape) * inner + (_touch(a, b, out) or 0.0)


def combine(a: Array, b: Array | None) -> Cost:
    """An operation element by element, with broadcasting."""
    if b is None:
        return a, _touch(a, a)
    rank = max(len(a.shape), len(b.shape))
    left = (1,) * (rank - len(a.shape)) + a.shape
    right = (1,) * (rank - len(b.shape)) + b.shape
    sizes = tuple(
        y if x == 1 else x if y == 1 or x is not None else y for x, y in zip(left, right, strict=True)
    )
    out = Array(sizes, max(a.item_bytes, b.item_bytes))
    return out, _touch(a, b, out)


def _cubic(owner: Array, name: str) -> Cost:
    if len(owner.shape) < 2 or not _known(owner.shape):
        return owner, None
    n, m = owner.shape[-1] or 1, owner.shape[-2] or 1
    batch = _elements(owner.shape[:-2])
    work = _CUBIC[name] * batch * float(max(n, m)) * min(n, m) ** 2
    out = Array(owner.shape[:-2], owner.item_bytes) if name in ("det", "slogdet") else owner
    return out, work


def _convolution(owner: Array, weights: Value) -> Cost:
    if not isinstance(weights, Array) or not _known(owner.shape) or not _known(weights.shape):
        return None, None
    if len(owner.shape) == len(weights.shape) and len(owner.shape) >= 3:
        spatial = _elements(owner.shape[2:])
        out = Array((owner.shape[0], weights.shape[0], *owner.shape[2:]), owner.item_bytes)
        return out, 2.0 * (owner.shape[0] or 1) * spatial * _elements(weights.shape)
    return owner, 2.0 * _elements(owner.shape) * _elements(weights.shape)


def _einsum(args: Sequence[Value]) -> Cost:
    """Every index counts once: what a plain evaluation multiplies."""
    rule = args[0] if args else None
    if not isinstance(rule, Const) or not isinstance(rule.value, str):
        return None, None
    left, _, right = rule.value.replace(" ", "").partition("->")
    sizes: dict[str, int | None] = {}
    for letters, value in zip(left.split(","), args[1:], strict=False):
        if not isinstance(value, Array) or len(letters) != len(value.shape):
            return None, None
        sizes.update(zip(letters, value.shape, strict=True))
    if any(letter not in sizes for letter in right) or not sizes:
        return None, None
    out = Array(tuple(sizes[letter] for letter in right), 4)
    return out, 2.0 * _elements(tuple(sizes.values())) if _known(tuple(sizes.values())) else None


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
    sizes = [_size(args[i] if i < len(args) else keywords.get(key)) for i, key in enumerate(names)]
    if None in sizes:
        return None
    rank = int(name[4]) if name.startswith("Conv") else 1
    return Layer("linear" if name == "Linear" else "conv", (*(size or 0 for size in sizes), rank))


def apply_layer(layer: Layer, value: Value) -> Cost:
    """A layer called with an input: of an unknown one, a row or a pixel is the least."""
    known = value if isinstance(value, Array) and _known(value.shape) else None
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
        return Array(shape), 2.0 * _elements(known.shape[:-1]) * layer.sizes[0] * layer.sizes[1]
    if layer.kind == "conv":
        if known is None or len(known.shape) < 3:
            return None, None
        each = layer.sizes[0] * layer.sizes[1] * layer.sizes[2] ** layer.sizes[3]
        shape = (known.shape[0], layer.sizes[1], *known.shape[2:])
        return Array(shape), 2.0 * (known.shape[0] or 1) * _elements(known.shape[2:]) * each
    return value, (_touch(known, known) if known is not None else None)
