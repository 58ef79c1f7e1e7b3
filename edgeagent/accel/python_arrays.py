"""How large the arrays are that constructors of array libraries make."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeagent.accel.modes import bytes_as_flops
from edgeagent.accel.python_names import words
from edgeagent.accel.python_values import Array, Value, integer, options, shape_of
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["ELEMENTS_MAX", "creation", "each_of", "elements", "is_known", "size_of", "sizes_of", "touch"]

ELEMENTS_MAX = 1 << 60

_BY_SHAPE = frozenset(["zeros", "ones", "empty", "full", "fill"])
_BY_SIZES = frozenset(["rand", "randn"])
_BY_SIZE_ARGUMENT = words(
    "random random_sample standard_normal normal uniform randint integers truncated_normal"
    " random_normal exponential poisson bernoulli"
)
_FROM_DATA = words(
    "array asarray tensor as_tensor from_numpy constant Tensor FloatTensor Variable convert_to_tensor"
    " asanyarray ascontiguousarray asnumpy"
)
_LIKE = words("zeros_like ones_like empty_like full_like rand_like randn_like")


def elements(shape: Sequence[int | None]) -> int:
    """How many there are at least."""
    return min(math.prod(size or 1 for size in shape), ELEMENTS_MAX)


def is_known(shape: Sequence[int | None]) -> bool:
    """Whether every size is."""
    return None not in shape


def touch(*arrays: Array) -> float | None:
    """What reading or writing them counts; None: a size is not known."""
    if not all(is_known(one.shape) for one in arrays):
        return None
    return bytes_as_flops(float(sum(elements(one.shape) * one.item_bytes for one in arrays)))


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


def sizes_of(value: Value) -> tuple[int | None, ...] | None:
    """A shape that is given as one number or as several."""
    if isinstance(value, Written):
        return tuple(size_of(item) for item in value.items[:32])
    size = size_of(value)
    return None if size is None else (size,)


def each_of(value: Value, rank: int, default: int) -> tuple[int, ...]:
    """A number for each of ``rank`` indices, given as one for all or as several; what is not known is the default."""
    sizes = sizes_of(value) or ()
    sizes = sizes * rank if len(sizes) == 1 else sizes
    return tuple(size if size is not None else default for size in (*sizes, *(default,) * rank)[:rank])


def size_of(value: Value) -> int | None:
    """A size; of several that it may be the largest."""
    known = [one for option in options(value) if (one := integer(option)) is not None and one >= 0]
    return max(known) if known else None


def creation(
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
        rows = size_of(args[0]) if args else None
        columns = size_of(args[1]) if len(args) > 1 else rows
        shape = (rows, columns)
    elif name in ("arange", "linspace", "logspace"):
        shape = (_count(name, args),)
    elif name in _BY_SHAPE or name in _BY_SIZES or name in _BY_SIZE_ARGUMENT:
        shape = _shape_argument(library, path, name, args, given)
    return None if shape is None else Array(shape, item)


def _count(name: str, args: Sequence[Value]) -> int | None:
    numbers = [size_of(one) for one in args[:3]]
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
        return sizes_of(given)
    written = [one for one in args if isinstance(one, Written)]
    if name in _BY_SIZE_ARGUMENT:
        if written:
            return sizes_of(written[0])
        # size comes last, after the distribution's parameters
        is_first = name in ("random", "random_sample", "standard_normal")
        place = 0 if is_first else 2
        return sizes_of(args[place]) if place < len(args) else ((1,) if not args else None)
    if written:
        return sizes_of(written[0])
    takes_many = name in _BY_SIZES or (library == "torch" and name in ("zeros", "ones", "empty"))
    if takes_many and args:
        return tuple(size_of(one) for one in args)
    return sizes_of(args[0]) if args else None
