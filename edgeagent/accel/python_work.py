"""How much work a call of an array library is, by its name and the shapes that go in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeagent.accel.python_arrays import creation, elements, is_known, touch
from edgeagent.accel.python_names import words
from edgeagent.accel.python_shapes import MOVES, joined, moved, reduced, reshaped
from edgeagent.accel.python_values import Array, Const, Value
from edgeagent.accel.python_windows import Cost, convolved

__all__ = ["Cost", "combine", "library_call", "method_call", "product"]

_PRODUCTS = words("matmul dot mm bmm mv inner vdot")
# Operations an element of n x n, times n. Source: LAPACK working note 41 and Golub and Van Loan, rounded.
_CUBIC = {
    "inv": 2.0, "solve": 0.67, "det": 0.67, "slogdet": 0.67, "lu": 0.67, "lu_factor": 0.67, "cholesky": 0.33,
    "qr": 1.33, "svd": 20.0, "svdvals": 4.0, "pinv": 20.0, "lstsq": 2.0, "eig": 25.0, "eigvals": 10.0, "eigh": 9.0,
    "eigvalsh": 1.33, "expm": 20.0, "matrix_power": 2.0, "matrix_rank": 20.0,
}  # fmt: skip
_TRANSFORMS = words("fft ifft fft2 ifft2 fftn ifftn rfft irfft rfft2 irfft2 rfftn irfftn fft3d stft dct dctn")
_SORTS = words("sort argsort argpartition partition lexsort topk top_k unique median percentile quantile")
_REDUCTIONS = words(
    "sum mean std var max min prod norm argmax argmin any all amax amin logsumexp nansum trace"
)
_SAME = words(
    "add subtract multiply divide sub mul div pow power exp exp2 expm1 log log2 log10 log1p sqrt"
    " rsqrt sin cos tan tanh sigmoid relu gelu silu softmax log_softmax abs absolute square clip clamp"
    " maximum minimum where cumsum cumprod sign round floor ceil erf float half double astype to cuda"
    " cpu numpy clone copy contiguous detach requires_grad_ block_until_ready get eval type_as cast"
    " relu_ add_ mul_ layer_norm batch_norm dropout normalize sinh cosh arctan arctan2 hypot mod"
    " tril triu masked_fill nan_to_num isnan isfinite logical_and logical_or logical_not logical_xor diff gradient"
    " interp bincount histogram digitize searchsorted one_hot sobel laplace prewitt median_filter uniform_filter"
    " softplus maximum_filter minimum_filter elu selu leaky_relu hardswish log_sigmoid instance_norm group_norm"
    " rms_norm remainder fmod device_put asnumpy flip roll block pin_memory gaussian_filter"
)
_FREE = words(
    "to cuda cpu numpy clone copy contiguous detach requires_grad_ block_until_ready get eval float"
    " half double astype type_as cast device_put pin_memory"
)


def library_call(library: str, path: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost:
    """A function of an array library."""
    name = path.rsplit(".", 1)[-1]
    made = creation(library, path, name, args, keywords)
    if made is not None:
        return made, touch(made)
    if name == "einsum":
        return _einsum(args)
    if (together := joined(name, args, keywords)) is not None:
        return together, touch(together, together)
    if name in ("cat", "concat", "concatenate", "stack", "vstack", "hstack", "multi_dot", "chain_matmul"):
        return None, None
    if name in ("reshape", "broadcast_to") and args and not isinstance(args[0], Array):
        return reshaped(None, args[1:2]), 0.0
    if args and isinstance(args[0], Array):
        return method_call(args[0], name, args[1:], keywords)
    for other in args[1:]:
        if isinstance(other, Array) and name in _SAME:
            return other, touch(other, other)
    return None, None


def method_call(owner: Array, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Cost:
    """A method of an array, or a function whose first argument is one."""
    if name.endswith("_") and len(name) > 1:
        return owner, touch(owner)  # in place
    first = args[0] if args else None
    if name in _PRODUCTS or name in ("linear", "addmm", "baddbmm", "tensordot"):
        return _product_call(owner, name, args)
    if name in _CUBIC:
        return _cubic(owner, name)
    if name in MOVES:
        return moved(owner, name, args, keywords), 0.0
    count = elements(owner.shape)
    whole = is_known(owner.shape)
    if name in _TRANSFORMS:
        return Array(owner.shape, 8), 5.0 * count * math.log2(max(count, 2)) if whole else None
    if name in _SORTS:
        return owner, 10.0 * count * math.log2(max(count, 2)) if whole else None
    if (slid := convolved(owner, name, args, keywords)) is not None:
        return slid
    if name in _REDUCTIONS:
        return reduced(owner, args, keywords), touch(owner)
    if name in _FREE or name in _SAME:
        other = first if isinstance(first, Array) else None
        cost = 0.0 if name in _FREE else touch(owner, owner)
        return (combine(owner, other)[0] if other is not None else owner), cost
    return _paired(owner, name, args)


def _paired(owner: Array, name: str, args: Sequence[Value]) -> Cost:
    """Every row or element of one array with every one of another."""
    other = args[0] if args and isinstance(args[0], Array) else owner
    rows, width = owner.shape[:1], owner.shape[-1:]
    if name in ("outer", "kron"):
        out = Array((elements(owner.shape), elements(other.shape)), max(owner.item_bytes, other.item_bytes))
        return out, touch(out) if is_known(owner.shape) and is_known(other.shape) else None
    if name in ("cdist", "pairwise_distances", "cosine_similarity") and len(other.shape) > 1:
        out = Array((*rows, *other.shape[:1]), owner.item_bytes)
        return out, 3.0 * elements((*out.shape, *width)) if is_known((*out.shape, *width)) else None
    if name in ("cov", "corrcoef") and len(owner.shape) == 2:
        out = Array((*rows, *rows), owner.item_bytes)
        return out, 2.0 * elements((*out.shape, *width)) if is_known(owner.shape) else None
    if name == "scaled_dot_product_attention" and len(owner.shape) > 1:
        length = other.shape[-2] if len(other.shape) > 1 else None
        work = 4.0 * elements(owner.shape) * (length or 1)
        return owner, work if is_known(owner.shape) and length is not None else None
    return None, None


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
            elements(owner.shape) * float(elements(second.shape)) * max(elements(owner.shape[-1:]), 1)
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
    if inner is None or not is_known(out.shape):
        return out, None
    return out, 2.0 * elements(out.shape) * inner + (touch(a, b, out) or 0.0)


def combine(a: Array, b: Array | None) -> Cost:
    """An operation element by element, with broadcasting."""
    if b is None:
        return a, touch(a, a)
    rank = max(len(a.shape), len(b.shape))
    left = (1,) * (rank - len(a.shape)) + a.shape
    right = (1,) * (rank - len(b.shape)) + b.shape
    sizes = tuple(
        y if x == 1 else x if y == 1 or x is not None else y for x, y in zip(left, right, strict=True)
    )
    out = Array(sizes, max(a.item_bytes, b.item_bytes))
    return out, touch(a, b, out)


def _cubic(owner: Array, name: str) -> Cost:
    if len(owner.shape) < 2 or not is_known(owner.shape):
        return owner, None
    n, m = owner.shape[-1] or 1, owner.shape[-2] or 1
    batch = elements(owner.shape[:-2])
    work = _CUBIC[name] * batch * float(max(n, m)) * min(n, m) ** 2
    out = Array(owner.shape[:-2], owner.item_bytes) if name in ("det", "slogdet") else owner
    return out, work


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
    return out, 2.0 * elements(tuple(sizes.values())) if is_known(tuple(sizes.values())) else None
