"""The arguments of a call, and the bytes that they point at, as far as they are constants.

A function is followed from top to bottom as if it had no branches: constants, sums of them, what stands in data
segments, and what was stored at addresses that are known, also relative to a global such as the stack pointer. That is
what compilers make of a description that the source writes out. Where a value is not known the answer is None; what
it is told here guides a prior and no more. All that is read and stored counts, and the count is bounded.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping

import msgspec

from edgeagent.accel.wasm_body import leb, skip_immediates
from edgeagent.accel.wasm_module import Body, Segment, Skeleton
from edgeagent.model.errors import WasmRefused

__all__ = ["Address", "Arguments", "Effort", "EffortSpent", "Memory", "call_arguments"]

_COPY_MAX = 65536
_KNOWN_BYTES_MAX = 1 << 20
_SEGMENTS_MAX = 4096
# Instructions followed, bytes read and stored: about a second of them.
_EFFORT = 2_000_000

# A constant: the base is None; else an offset from the global of that number.
Address = tuple[int | None, int]

_UNARY = frozenset(
    (
        0x45,
        0x50,
        *range(0x67, 0x6A),
        *range(0x79, 0x7C),
        *range(0x8B, 0x92),
        *range(0x99, 0xA0),
        *range(0xA7, 0xC5),
    )
)
_LOADS = {
    0x28: 4,
    0x29: 8,
    0x2A: 4,
    0x2B: 8,
    0x2C: 1,
    0x2D: 1,
    0x2E: 2,
    0x2F: 2,
    0x30: 1,
    0x31: 1,
    0x32: 2,
    0x33: 2,
    0x34: 4,
    0x35: 4,
}
_STORES = {0x36: 4, 0x37: 8, 0x38: 4, 0x39: 8, 0x3A: 1, 0x3B: 2, 0x3C: 1, 0x3D: 2, 0x3E: 4}
_SIGNED_LOADS = frozenset((0x2C, 0x2E, 0x30, 0x32, 0x34))


class EffortSpent(Exception):
    """The module has more in it than is followed."""


class Effort:
    """How much more is followed of a module."""

    def __init__(self, most: int = _EFFORT) -> None:
        self._left = most

    def spend(self, count: int) -> None:
        """Raises EffortSpent."""
        self._left -= count
        if self._left < 0:
            raise EffortSpent


class Memory:
    """The bytes that are known: data segments, and what was stored over them. All of it raises EffortSpent."""

    def __init__(self, wasm: bytes, module: Skeleton, effort: Effort) -> None:
        self.effort = effort
        self._wasm = wasm
        segments = module.data[:_SEGMENTS_MAX]
        ordered = sorted(segments, key=lambda one: one.address)
        # Apart from each other, as linkers lay them, they need no look at each one.
        self._apart = all(
            left.address + left.size <= right.address for left, right in itertools.pairwise(ordered)
        )
        self._segments = ordered if self._apart else segments
        self._starts = [one.address for one in ordered] if self._apart else []
        self._stored: dict[Address, int | None] = {}

    def store(self, at: Address, value: int | None, size: int) -> None:
        self.effort.spend(size)
        for i in range(size):
            if len(self._stored) < _KNOWN_BYTES_MAX:
                byte = None if value is None else (value >> (8 * i)) & 0xFF
                self._stored[at[0], at[1] + i] = byte

    def store_bytes(self, at: Address, data: list[int | None]) -> None:
        self.effort.spend(len(data))
        for i, byte in enumerate(data):
            if len(self._stored) < _KNOWN_BYTES_MAX:
                self._stored[at[0], at[1] + i] = byte

    def read(self, at: Address, size: int) -> list[int | None]:
        """The bytes from ``at``, None for those that are not known."""
        base, start = at
        self.effort.spend(size)
        found: list[int | None] = [None] * size
        for segment in self._near(start, size) if base is None else ():
            low = max(start, segment.address)
            high = min(start + size, segment.address + segment.size)
            if low < high:
                first = segment.offset + low - segment.address
                found[low - start : high - start] = self._wasm[first : first + high - low]
        if self._stored:
            for i in range(size):
                if (base, start + i) in self._stored:
                    found[i] = self._stored[base, start + i]
        return found

    def _near(self, start: int, size: int) -> list[Segment]:
        if not self._apart:
            self.effort.spend(len(self._segments))
            return self._segments
        first = max(0, bisect.bisect_right(self._starts, start) - 1)
        end = bisect.bisect_left(self._starts, start + size)
        self.effort.spend(max(0, end - first))
        return self._segments[first:end]


class Arguments(msgspec.Struct, frozen=True):
    """Of the call at ``offset``; ``memory`` is as it was then."""

    offset: int
    callee: int
    values: tuple[Address | None, ...]


def call_arguments(
    wasm: bytes, module: Skeleton, body: Body, wanted: Mapping[int, Mapping[int, int]], memory: Memory
) -> list[tuple[Arguments, dict[int, list[int | None]]]]:
    """The arguments of each direct call of a function in ``wanted``, and what is behind those of which ``wanted``
    says how many bytes are to be read.

    Raises WasmRefused, EffortSpent.
    """
    try:
        return _Follower(wasm, module, body, wanted, memory).follow()
    except IndexError:
        raise WasmRefused(f"truncated: the function at offset {body.start}") from None


class _Follower:
    CALLS_MAX = 256

    def __init__(
        self,
        wasm: bytes,
        module: Skeleton,
        body: Body,
        wanted: Mapping[int, Mapping[int, int]],
        memory: Memory,
    ) -> None:
        self._wasm = wasm
        self._module = module
        self._body = body
        self._wanted = wanted
        self._memory = memory
        self._stack: list[Address | None] = []
        self._locals: dict[int, Address | None] = {}
        self._frames: dict[int, Address | None] = {}  # globals
        self._found: list[tuple[Arguments, dict[int, list[int | None]]]] = []

    def follow(self) -> list[tuple[Arguments, dict[int, list[int | None]]]]:
        wasm = self._wasm
        self._memory.effort.spend(self._body.end - self._body.start)
        at, self._often = _locals_set(wasm, self._body)
        while at < self._body.end and len(self._found) < self.CALLS_MAX:
            opcode = wasm[at]
            start, at = at, at + 1
            after = skip_immediates(wasm, at, opcode)
            if opcode in (0x41, 0x42):
                self._stack.append((None, _signed(wasm, at)))
            elif 0x20 <= opcode <= 0x24:
                self._variable(opcode, leb(wasm, at)[0])
            elif opcode in _LOADS or opcode in _STORES:
                _, offset_at = leb(wasm, at)
                self._access(opcode, leb(wasm, offset_at)[0])
            elif opcode in (0x10, 0x12):
                self._call(leb(wasm, at)[0], start)
            elif opcode == 0xFC:
                number, operand_at = leb(wasm, at)
                self._bulk(number, leb(wasm, operand_at)[0] if number == 8 else 0)
            else:
                self._compute(opcode)
            at = after
        return self._found

    def _pop(self) -> Address | None:
        return self._stack.pop() if self._stack else None

    def _variable(self, opcode: int, index: int) -> None:
        if opcode == 0x20:
            self._stack.append(self._locals.get(index))
        elif opcode in (0x21, 0x22):
            value = self._pop()
            self._locals[index] = value
            if opcode == 0x22:
                self._stack.append(value)
        elif opcode == 0x23:
            fixed = self._module.constants.get(index)
            known = (index, 0) if fixed is None else (None, fixed)
            self._stack.append(self._frames.get(index, known))
        else:
            self._frames[index] = self._pop()

    def _access(self, opcode: int, offset: int) -> None:
        if opcode in _STORES:
            value, at = self._pop(), self._pop()
            if at is not None:
                known = value[1] if value is not None and value[0] is None else None
                self._memory.store((at[0], at[1] + offset), known, _STORES[opcode])
            return
        at = self._pop()
        size = _LOADS[opcode]
        data = [None] if at is None else self._memory.read((at[0], at[1] + offset), size)
        if any(byte is None for byte in data):
            self._stack.append(None)
        else:
            number = int.from_bytes(
                bytes(byte or 0 for byte in data), "little", signed=opcode in _SIGNED_LOADS
            )
            self._stack.append((None, number))

    def _call(self, callee: int, start: int) -> None:
        signature = self._module.signature(self._module.type_of(callee))
        if signature is None:
            self._stack.clear()
            return
        params, results = signature
        values = [self._pop() for _ in params][::-1]
        if callee in self._wanted:
            seen = {
                i: self._memory.read(value, size)
                for i, size in self._wanted[callee].items()
                if i < len(values) and (value := values[i]) is not None
            }
            self._found.append((Arguments(start, callee, tuple(values)), seen))
        self._stack.extend([None] * results)

    def _bulk(self, number: int, segment: int) -> None:
        if number < 8:  # saturating conversions
            self._pop()
            self._stack.append(None)
            return
        if number in (10, 11):
            size, source, at = self._pop(), self._pop(), self._pop()
            if at is not None and size is not None and size[0] is None and 0 < size[1] <= _COPY_MAX:
                data: list[int | None] = [None] * size[1]
                if source is not None and number == 10:
                    data = self._memory.read(source, size[1])
                elif source is not None and source[0] is None:
                    data = [source[1] & 0xFF] * size[1]
                self._memory.store_bytes(at, data)
            return
        if number == 8:
            size, source, at = self._pop(), self._pop(), self._pop()
            if at is not None and size is not None and source is not None and not (size[0] or source[0]):
                self._memory.store_bytes(at, self._passive(segment, source[1], size[1]))
            return
        self._stack.clear()

    def _passive(self, segment: int, start: int, size: int) -> list[int | None]:
        one = self._module.passive.get(segment)
        if one is None or start < 0 or size < 0 or size > _COPY_MAX or start + size > one.size:
            return []
        return list(self._wasm[one.offset + start : one.offset + start + size])

    def _compute(self, opcode: int) -> None:
        if opcode in _UNARY:
            value = self._pop()
            # wrap and extend keep a small constant
            self._stack.append(value if opcode in (0xA7, 0xAC, 0xAD) else None)
        elif 0x46 <= opcode <= 0xA6:
            right, left = self._pop(), self._pop()
            self._stack.append(_arithmetic(opcode, left, right))
        elif opcode in (0x43, 0x44, 0x3F):
            self._stack.append(None)
        elif opcode == 0x1A:
            self._pop()
        elif opcode != 0x01:
            self._stack.clear()  # another block, or what is not followed
            # A local that is set again elsewhere may hold something else on another path.
            for index in self._often & self._locals.keys():
                del self._locals[index]


def _arithmetic(opcode: int, left: Address | None, right: Address | None) -> Address | None:
    if left is None or right is None:
        return None
    if opcode in (0x6A, 0x7C) and None in (left[0], right[0]):
        return (left[0] if right[0] is None else right[0], left[1] + right[1])
    if right[0] is not None:
        return None
    if opcode in (0x6B, 0x7D):
        return (left[0], left[1] - right[1])
    if left[0] is not None:
        return None
    if opcode in (0x6C, 0x7E):
        return (None, left[1] * right[1])
    if opcode in (0x74, 0x86) and 0 <= right[1] < 64:
        return (None, left[1] << right[1])
    if opcode in (0x72, 0x84):
        return (None, left[1] | right[1])
    return None


def _signed(wasm: bytes, at: int) -> int:
    value, after = leb(wasm, at)
    bits = 7 * (after - at)
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _locals_set(wasm: bytes, body: Body) -> tuple[int, set[int]]:
    """Where the instructions begin, and which locals are set more than once."""
    groups, at = leb(wasm, body.start)
    for _ in range(groups):
        _, at = leb(wasm, at)
        at = leb(wasm, at + 1)[1] if wasm[at] in (0x63, 0x64) else at + 1
    begin = at
    once: set[int] = set()
    often: set[int] = set()
    while at < body.end:
        opcode = wasm[at]
        if opcode in (0x21, 0x22):
            index, _ = leb(wasm, at + 1)
            (often if index in once else once).add(index)
        at = skip_immediates(wasm, at + 1, opcode)
    return begin, often
