"""Framed items: several byte strings as one. Pure.

For each item its length as an unsigned 32-bit little-endian number, then its bytes; nothing before, between or behind.
``sdk/edge_items.h`` reads them in a guest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from edgeagent.model.errors import BadRequest, TooLarge

__all__ = ["CONTENT_TYPE", "framed", "items_bytes", "read_items", "write_items"]

CONTENT_TYPE = "application/vnd.edgeagent.items"
_LENGTH = struct.Struct("<I")


def items_bytes(sizes: Sequence[int]) -> int:
    """Bytes of the items of these sizes together. Raises TooLarge where a length does not fit its 32 bits."""
    for size in sizes:
        if size > 0xFFFFFFFF:
            raise TooLarge(f"an item of {size} bytes does not fit a frame")
    return sum(sizes) + _LENGTH.size * len(sizes)


def write_items(into: memoryview, items: Sequence[bytes | memoryview]) -> None:
    """Fill ``into``, which is ``items_bytes`` long."""
    at = 0
    for item in items:
        _LENGTH.pack_into(into, at, len(item))
        at += _LENGTH.size
        into[at : at + len(item)] = item
        at += len(item)


def framed(items: Sequence[bytes | memoryview]) -> bytes:
    """The items together. Raises TooLarge."""
    joined = bytearray(items_bytes([len(one) for one in items]))
    write_items(memoryview(joined), items)
    return bytes(joined)


def read_items(data: bytes | memoryview) -> list[memoryview]:
    """The items, as views. Raises BadRequest where the lengths do not add up."""
    view, items, at = memoryview(data), [], 0
    while at < len(view):
        end = at + _LENGTH.size
        if end <= len(view):
            end += _LENGTH.unpack_from(view, at)[0]
        if end > len(view):
            raise BadRequest(f"the items are cut at byte {len(view)}: one would end at {end}")
        items.append(view[at + _LENGTH.size : end])
        at = end
    return items
