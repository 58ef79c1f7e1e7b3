"""What a loop of a Python program runs through, as far as it is known."""

from __future__ import annotations

import msgspec

from edgeagent.accel.python_values import (
    Array,
    Const,
    Layer,
    Lists,
    Maybe,
    Sequence,
    Table,
    Value,
    join,
    options,
)

__all__ = ["ITEMS_MAX", "STEPS_SHARE", "WRITTEN_MAX", "Loop", "numbered", "paired", "rounds_of"]

# Loops over that many known items are followed item by item, where the steps allow.
WRITTEN_MAX = 64
# What is followed item by item may take that part of the steps that are left.
STEPS_SHARE = 4
# Lists that are kept have at most so many items.
ITEMS_MAX = 4096
_JOINED_MAX = 8


class Loop(msgspec.Struct, frozen=True):
    """``times`` None: it is not known; ``item`` stands for each; ``items`` are all of them, where they are few."""

    times: int | None = None
    item: Value = None
    items: tuple[Value, ...] = ()


def rounds_of(value: Value) -> Loop:
    """A loop over a value."""
    if isinstance(value, Maybe):
        known = [one for one in map(rounds_of, options(value)) if one.times is not None]
        return max(known, key=lambda one: one.times or 0) if known else Loop()
    if isinstance(value, Lists) and value.shape:
        return Loop(value.shape[0], Lists(value.shape[1:]) if len(value.shape) > 1 else None)
    if isinstance(value, Array) and value.shape:
        return Loop(value.shape[0], Array(value.shape[1:], value.item_bytes))
    items: tuple[Value, ...] | None = None
    if isinstance(value, Sequence):
        items = value.items
    elif isinstance(value, Layer) and value.kind == "chain":
        items = value.parts
    elif isinstance(value, Table):
        items = tuple(Const(key) if isinstance(key, str | int) else None for key in value.items)
    if items is None:
        return Loop()
    if all(one is items[0] for one in items[1:]):  # layers that are all alike
        return Loop(len(items), items[0] if items else None, items if len(items) <= _JOINED_MAX else ())
    return Loop(len(items), join(*items[:_JOINED_MAX]), items if len(items) <= WRITTEN_MAX else ())


def paired(loops: list[Loop]) -> Loop:
    """``zip``: as far as the shortest goes."""
    known = [one.times for one in loops if one.times is not None]
    times = min(known) if known else None
    if loops and all(one.items for one in loops):
        items = tuple(Sequence(tuple(row)) for row in zip(*(one.items for one in loops), strict=False))
        return Loop(times, items[0] if items else None, items)
    return Loop(times, Sequence(tuple(one.item for one in loops)))


def numbered(loop: Loop) -> Loop:
    """``enumerate``."""
    items = tuple(Sequence((Const(place), one)) for place, one in enumerate(loop.items))
    return Loop(loop.times, Sequence((None, loop.item)), items)
