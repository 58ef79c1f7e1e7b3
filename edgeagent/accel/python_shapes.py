"""What becomes of an array's sizes where nothing is computed: views, parts, and several arrays put together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgeagent.accel.python_arrays import ELEMENTS_MAX, elements, is_known, sizes_of
from edgeagent.accel.python_names import words
from edgeagent.accel.python_values import Array, Part, Value, integer, options
from edgeagent.accel.python_values import Sequence as Written

__all__ = ["MOVES", "flattened", "joined", "moved", "part_of", "reduced", "reshaped"]

MOVES = words(
    "reshape view broadcast_to expand transpose permute swapaxes t T mT adjoint ravel flatten item tolist size"
    " dim numel backward tobytes nbytes ndim squeeze unsqueeze expand_dims movedim moveaxis repeat tile"
    " atleast_2d Reshape chunk split array_split tensor_split unbind"
)
_JOINS = words("concatenate concat cat vstack hstack stack column_stack")
_RANK_MAX = 32
_PARTS_MAX = 64


def moved(owner: Array, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """What only changes the shape, or asks for it."""
    if name in ("reshape", "view", "broadcast_to", "expand", "Reshape"):
        given = keywords.get("shape", keywords.get("newshape"))
        return reshaped(owner, args if given is None else [given])
    if name in ("ravel", "flatten"):
        first = integer(args[0]) if args else integer(keywords.get("start_dim"))
        return flattened(owner, first or 0)
    if name in ("transpose", "permute", "swapaxes", "t", "T", "mT", "adjoint", "movedim", "moveaxis"):
        return _transposed(owner, name, args)
    if name in ("unsqueeze", "expand_dims"):
        place = integer(args[0] if args else keywords.get("axis", keywords.get("dim")))
        return None if place is None else _with_one(owner, place)
    if name == "squeeze":
        return _squeezed(owner, args[0] if args else keywords.get("axis", keywords.get("dim")))
    if name in ("repeat", "tile"):
        return _repeated(owner, args)
    if name in ("chunk", "split", "array_split", "tensor_split", "unbind"):
        return _divided(owner, name, args, keywords)
    return owner if name == "atleast_2d" and len(owner.shape) >= 2 else None


def flattened(owner: Array, first: int) -> Array:
    """The indices from ``first`` on become one."""
    first = min(max(first, 0), len(owner.shape))
    rest = owner.shape[first:]
    return Array((*owner.shape[:first], elements(rest) if is_known(rest) else None), owner.item_bytes)


def _with_one(owner: Array, place: int) -> Value:
    rank = len(owner.shape) + 1
    if not -rank <= place < rank:
        return None
    place %= rank
    return Array((*owner.shape[:place], 1, *owner.shape[place:]), owner.item_bytes)


def _squeezed(owner: Array, axis: Value) -> Array:
    place = integer(axis)
    rank = max(len(owner.shape), 1)
    kept = [
        size
        for i, size in enumerate(owner.shape)
        if size != 1 or (axis is not None and (place is None or i != place % rank))
    ]
    return Array(tuple(kept), owner.item_bytes)


def _repeated(owner: Array, args: Sequence[Value]) -> Value:
    times = sizes_of(args[0]) if len(args) == 1 else tuple(integer(one) for one in args)
    if times is None or len(times) > _RANK_MAX:
        return None
    if len(times) < len(owner.shape):
        times = (1,) * (len(owner.shape) - len(times)) + times
    sizes = (1,) * (len(times) - len(owner.shape)) + owner.shape
    return Array(tuple(_times(a, b) for a, b in zip(sizes, times, strict=True)), owner.item_bytes)


def _divided(owner: Array, name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    """Into so many parts, or by torch's ``split`` into parts of so many: of both what gives fewer."""
    is_whole = name == "unbind"
    axis = keywords.get(
        "axis", keywords.get("dim", args[0 if is_whole else 1] if len(args) > (not is_whole) else None)
    )
    place, rank = integer(axis) or 0, len(owner.shape)
    size = owner.shape[place] if -rank <= place < rank else None
    if size is None:
        return None
    place %= rank
    if is_whole:
        rest = Array((*owner.shape[:place], *owner.shape[place + 1 :]), owner.item_bytes)
        return Written((rest,) * size) if size <= _PARTS_MAX else None
    count = integer(args[0]) if args else None
    if count is None or count <= 0:
        return None
    if name == "split":
        count = min(count, max(1, -(-size // count)))
    if count > _PARTS_MAX:
        return None
    part = Array((*owner.shape[:place], -(-size // count), *owner.shape[place + 1 :]), owner.item_bytes)
    return Written((part,) * count)


def _times(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else min(a * b, ELEMENTS_MAX)


def reduced(owner: Array, args: Sequence[Value], keywords: Mapping[str, Value]) -> Value:
    axis = keywords.get("axis", keywords.get("dim", args[0] if args else None))
    kept = any(getattr(keywords.get(key), "value", False) for key in ("keepdims", "keepdim"))
    rank = len(owner.shape)
    if axis is None:
        return Array((1,) * rank if kept else (), owner.item_bytes)
    places = sizes_or_places(axis)
    if places is None or not all(one is not None and -rank <= one < rank for one in places):
        return None
    gone = {(one or 0) % rank for one in places}
    if kept:
        return Array(tuple(1 if i in gone else size for i, size in enumerate(owner.shape)), owner.item_bytes)
    return Array(tuple(size for i, size in enumerate(owner.shape) if i not in gone), owner.item_bytes)


def sizes_or_places(value: Value) -> tuple[int | None, ...] | None:
    """One whole number or several, which may be negative."""
    if isinstance(value, Written):
        return tuple(integer(one) for one in value.items[:_RANK_MAX])
    place = integer(value)
    return None if place is None else (place,)


def _transposed(owner: Array, name: str, args: Sequence[Value]) -> Value:
    rank = len(owner.shape)
    if name in ("swapaxes", "mT") or (name == "transpose" and len(args) == 2):
        places = [integer(one) for one in args] if args else [-1, -2]
        if len(places) == 2 and all(one is not None and -rank <= one < rank for one in places):
            sizes = list(owner.shape)
            a, b = (one or 0 for one in places)
            sizes[a], sizes[b] = sizes[b], sizes[a]
            return Array(tuple(sizes), owner.item_bytes)
        return None
    if name in ("movedim", "moveaxis"):
        places = [integer(one) for one in args[:2]]
        if len(places) != 2 or not all(one is not None and -rank <= one < rank for one in places):
            return None
        sizes = list(owner.shape)
        size = sizes.pop((places[0] or 0) % rank)
        sizes.insert((places[1] or 0) % rank, size)
        return Array(tuple(sizes), owner.item_bytes)
    if args:
        order = sizes_or_places(args[0]) if len(args) == 1 else tuple(integer(one) for one in args)
        if order is None or len(order) != rank:
            return None
        wanted = [(one or 0) % rank for one in order]
        if sorted(wanted) != list(range(rank)):
            return None
        return Array(tuple(owner.shape[one] for one in wanted), owner.item_bytes)
    return Array(owner.shape[::-1], owner.item_bytes)


def reshaped(owner: Array | None, args: Sequence[Value]) -> Value:
    """To the sizes that are given; of an array that is not known, one of -1 is not either."""
    written = args[0] if len(args) == 1 and isinstance(args[0], Written) else None
    items = written.items[:_RANK_MAX] if written is not None else tuple(args)[:_RANK_MAX]
    sizes = [integer(next(iter(options(one)))) for one in items]
    if owner is None and (not sizes or all(size is None for size in sizes)):
        return None
    if owner is not None and sizes.count(-1) == 1 and is_known(owner.shape) and None not in sizes:
        rest = math.prod(size or 1 for size in sizes if size != -1)
        sizes[sizes.index(-1)] = elements(owner.shape) // max(rest, 1)
    found = tuple(None if size is None or size < 0 else size for size in sizes)
    return Array(found, owner.item_bytes if owner is not None else 4)


def part_of(owner: Array, index: Sequence[Value | Part]) -> Value:
    """``owner[index]``: whole numbers, slices, None, an ellipsis and arrays of places."""
    taken = sum(1 for one in index if not _is_new(one) and not _is_rest(one))
    if taken > len(owner.shape) or sum(map(_is_rest, index)) > 1:
        return None
    sizes: list[int | None] = []
    place = 0
    for one in index:
        if _is_new(one):
            sizes.append(1)
        elif _is_rest(one):
            skipped = len(owner.shape) - taken
            sizes += owner.shape[place : place + skipped]
            place += skipped
        elif isinstance(one, Part):
            sizes.append(_cut(owner.shape[place], one))
            place += 1
        elif isinstance(one, Array) and len(one.shape) == 1:
            sizes.append(one.shape[0])
            place += 1
        elif integer(one) is not None:
            place += 1
        else:
            return None
    return Array((*sizes, *owner.shape[place:]), owner.item_bytes)


def _is_new(one: Value | Part) -> bool:
    return getattr(one, "value", 0) is None


def _is_rest(one: Value | Part) -> bool:
    return getattr(one, "value", 0) is Ellipsis


def _cut(size: int | None, part: Part) -> int | None:
    if part.is_open or part.step == 0:
        return None
    if size is not None:
        return len(range(*slice(part.start, part.stop, part.step).indices(size)))
    start = part.start or 0
    # Of an array of unknown size what is cut off in front has its size; not more than that is known.
    return part.stop - start if part.stop is not None and part.stop >= start >= 0 else None


def joined(name: str, args: Sequence[Value], keywords: Mapping[str, Value]) -> Array | None:
    """``concatenate``, ``stack`` and the like of arrays that are written out."""
    given = args[0] if args else None
    arrays = given.items if name in _JOINS and isinstance(given, Written) else ()
    first = arrays[0] if arrays else None
    if not isinstance(first, Array):
        return None
    axis = integer(keywords.get("axis", keywords.get("dim", args[1] if len(args) > 1 else None))) or 0
    if name == "stack":
        made = _with_one(first, axis)
        if not isinstance(made, Array):
            return None
        axis %= len(made.shape)
        return Array((*made.shape[:axis], len(arrays), *made.shape[axis + 1 :]), first.item_bytes)
    rank = len(first.shape)
    axis = 1 if name in ("hstack", "column_stack") and rank > 1 else 0 if name == "vstack" else axis
    if not -rank <= axis < rank:
        return None
    axis %= rank
    sizes = [one.shape[axis] if isinstance(one, Array) and len(one.shape) == rank else None for one in arrays]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    return Array((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.item_bytes)
