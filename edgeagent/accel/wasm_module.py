"""The parts of a wasm module that say what its code can reach: imports, exports, tables, data (core spec 2.0, 5.5)."""

from __future__ import annotations

import operator

import msgspec

from edgeagent.model.errors import WasmRefused
from edgeagent.model.wasm_sections import read_s32, read_u32, scan, section_bounds

__all__ = [
    "Body",
    "ImportedFunction",
    "Segment",
    "Signature",
    "Skeleton",
    "after_gc",
    "read_skeleton",
    "signed_leb",
]

_TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _EXPORT, _START, _ELEMENT = 1, 2, 3, 4, 5, 6, 7, 8, 9
_CODE, _DATA = 10, 11
_PAGE_BYTES = 65536
_ENTRIES_MAX = 200_000  # of one section; compilers stay far below
_VALUES_MAX = (
    1000  # parameters or results of a function; engines take no more (WebAssembly JavaScript interface, 9)
)

Signature = tuple[tuple[int, ...], int]


class ImportedFunction(msgspec.Struct, frozen=True):
    module: str
    name: str
    type_index: int
    offset: int  # where the import stands


class Body(msgspec.Struct, frozen=True):
    """A function's code: ``start`` is where its locals are declared."""

    start: int
    end: int


class Segment(msgspec.Struct, frozen=True):
    """An active data segment: ``size`` bytes from ``offset`` of the file go to ``address``."""

    address: int
    offset: int
    size: int


class Skeleton(msgspec.Struct, kw_only=True):
    """Function indices count the imported ones first. ``signatures``: parameters' types and the number of results.

    ``types`` is shorter than the module's where it has types beyond functions'. ``in_tables``: functions that a table
    or a global holds from the start, ``table``: by its slot what the first one does. ``constants``: the numbers that
    globals begin with, where they are written out. ``passive``: data segments by their index that ``memory.init``
    copies, their address 0.
    """

    types: list[Signature] = msgspec.field(default_factory=list)
    imports: list[ImportedFunction] = msgspec.field(default_factory=list)
    functions: list[int] = msgspec.field(default_factory=list)
    exports: dict[str, int] = msgspec.field(default_factory=dict)
    start: int | None = None
    in_tables: set[int] = msgspec.field(default_factory=set)
    table: dict[int, int] = msgspec.field(default_factory=dict)
    bodies: list[Body] = msgspec.field(default_factory=list)
    data: list[Segment] = msgspec.field(default_factory=list)
    passive: dict[int, Segment] = msgspec.field(default_factory=dict)
    constants: dict[int, int] = msgspec.field(default_factory=dict)
    imported_globals: int = 0
    memory_min_bytes: int = 0
    memory_max_bytes: int | None = None

    def type_of(self, function: int) -> int | None:
        if function < len(self.imports):
            return self.imports[function].type_index
        at = function - len(self.imports)
        return self.functions[at] if at < len(self.functions) else None

    def signature(self, type_index: int | None) -> Signature | None:
        return self.types[type_index] if type_index is not None and type_index < len(self.types) else None

    def body_of(self, function: int) -> Body | None:
        at = function - len(self.imports)
        return self.bodies[at] if 0 <= at < len(self.bodies) else None


def read_skeleton(wasm: bytes) -> Skeleton:
    """Raises WasmRefused for anything that is no core module."""
    scan(wasm)
    found = Skeleton()
    readers = {
        _TYPE: _types,
        _IMPORT: _imports,
        _FUNCTION: _functions,
        _TABLE: _tables,
        _MEMORY: _memories,
        _GLOBAL: _globals,
        _EXPORT: _exports,
        _START: _start,
        _ELEMENT: _elements,
        _CODE: _bodies,
        _DATA: _segments,
    }
    for section, start, end in section_bounds(wasm):
        if section in readers:
            try:
                readers[section](wasm, start, end, found)
            except IndexError:
                raise WasmRefused(f"truncated: section {section} at offset {start}") from None
    return found


def _count(wasm: bytes, at: int) -> tuple[int, int]:
    count, after = read_u32(wasm, at)
    if count > _ENTRIES_MAX:
        raise WasmRefused(f"{count} entries in the section at offset {at}; at most {_ENTRIES_MAX} are taken")
    return count, after


def _types(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    for _ in range(count):
        if wasm[at] != 0x60:
            return  # a type of another proposal: indices from here on are unknown, not wrong
        params, at = _value_types(wasm, at + 1)
        results, at = _value_types(wasm, at)
        found.types.append((params, len(results)))


def _value_types(wasm: bytes, at: int) -> tuple[tuple[int, ...], int]:
    count, at = read_u32(wasm, at)
    if count > _VALUES_MAX:
        raise WasmRefused(f"a function of {count} values at offset {at}; at most {_VALUES_MAX} are taken")
    kinds = []
    for _ in range(count):
        kinds.append(wasm[at])
        at = _after_value_type(wasm, at)
    return tuple(kinds), at


def _after_value_type(wasm: bytes, at: int) -> int:
    """A reference with its heap type takes more than one byte."""
    return read_s32(wasm, at + 1)[1] if wasm[at] in (0x63, 0x64) else at + 1


def _name(wasm: bytes, at: int) -> tuple[str, int]:
    size, at = read_u32(wasm, at)
    if size > len(wasm) - at:
        raise WasmRefused(f"truncated: a name at offset {at}")
    return wasm[at : at + size].decode("utf-8", "replace"), at + size


def _limits(wasm: bytes, at: int) -> tuple[int, int | None, int]:
    flags = wasm[at]
    low, at = _u64(wasm, at + 1)
    high = None
    if flags & 1:
        high, at = _u64(wasm, at)
    return low, high, at


def _u64(wasm: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = wasm[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WasmRefused(f"bad number at offset {at}")


def _imports(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    for _ in range(count):
        offset = at
        module, at = _name(wasm, at)
        name, at = _name(wasm, at)
        kind = wasm[at]
        at += 1
        if kind == 0:
            index, at = read_u32(wasm, at)
            found.imports.append(ImportedFunction(module, name, index, offset))
        elif kind == 1:
            *_, at = _limits(wasm, _after_value_type(wasm, at))
        elif kind == 2:
            low, high, at = _limits(wasm, at)
            _remember_memory(found, low, high)
        elif kind == 3:
            at = _after_value_type(wasm, at) + 1
            found.imported_globals += 1
        elif kind == 4:
            _, at = read_u32(wasm, at + 1)
        else:
            raise WasmRefused(f"unknown kind of import {kind} at offset {at - 1}")


def _remember_memory(found: Skeleton, low: int, high: int | None) -> None:
    found.memory_min_bytes = low * _PAGE_BYTES
    found.memory_max_bytes = None if high is None else high * _PAGE_BYTES


def _functions(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    for _ in range(count):
        index, at = read_u32(wasm, at)
        found.functions.append(index)


def _memories(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    if count:
        low, high, _ = _limits(wasm, at)
        _remember_memory(found, low, high)


def _tables(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    """Each with what fills it at the start, if that is said (0x40 0x00)."""
    count, at = _count(wasm, at)
    for _ in range(count):
        is_filled = wasm[at] == 0x40
        *_, at = _limits(wasm, _after_value_type(wasm, at + 2 if is_filled else at))
        if is_filled:
            at = _constant(wasm, at, found.in_tables)[1]


def _globals(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    for index in range(found.imported_globals, found.imported_globals + count):
        bits = {0x7F: 32, 0x7E: 64}.get(wasm[at])
        value, at = _constant(wasm, _after_value_type(wasm, at) + 1, found.in_tables)
        if bits and value is not None:
            found.constants[index] = value & (1 << bits) - 1


def _exports(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    for _ in range(count):
        name, at = _name(wasm, at)
        kind = wasm[at]
        index, at = read_u32(wasm, at + 1)
        if kind == 0:
            found.exports[name] = index


def _start(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    found.start, _ = read_u32(wasm, at)


def _elements(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    """Functions that a table may come to hold; what is only declared (flags 3 and 7) is not called through one."""
    count, at = _count(wasm, at)
    for _ in range(count):
        flags, at = read_u32(wasm, at)
        if flags > 7:
            raise WasmRefused(f"unknown element segment {flags} at offset {at}")
        table, slot = 0, None
        if flags in (2, 6):
            table, at = read_u32(wasm, at)
        if not flags & 1:
            slot, at = _constant(wasm, at)
        if flags & 3:
            at = at + 1 if flags < 4 else _after_value_type(wasm, at)
        size, at = _count(wasm, at)
        for place in range(size):
            index, at = read_u32(wasm, at) if flags < 4 else _constant(wasm, at)
            if flags not in (3, 7) and index is not None:
                found.in_tables.add(index)
                if table == 0 and slot is not None:
                    found.table[slot + place] = index


_SUMS = {
    0x6A: operator.add, 0x6B: operator.sub, 0x6C: operator.mul,
    0x7C: operator.add, 0x7D: operator.sub, 0x7E: operator.mul,
}  # fmt: skip


def _constant(wasm: bytes, at: int, mentioned: set[int] | None = None) -> tuple[int | None, int]:
    """The value of a constant expression, None where it is no number that is written out: an integer, or a function's
    index, which ``mentioned`` is told.
    """
    stack: list[int | None] = []
    while (opcode := wasm[at]) != 0x0B:
        here: int | None = None
        at += 1
        if opcode in (0x41, 0x42):
            here, at = signed_leb(wasm, at)
        elif opcode == 0xD2:
            here, at = read_u32(wasm, at)
            if mentioned is not None:
                mentioned.add(here)
        elif opcode in (0x23, 0xD0):
            _, at = _u64(wasm, at)
        elif opcode in (0x43, 0x44):
            at += 4 if opcode == 0x43 else 8
        elif opcode == 0xFD:
            at += 17
        elif opcode == 0xFB:  # of the garbage collector: new objects, conversions
            at = after_gc(wasm, at)
            stack.clear()
        elif opcode in _SUMS:
            if len(stack) < 2:
                raise WasmRefused(f"a sum of nothing in a constant at offset {at - 1}")
            right, left = stack.pop(), stack.pop()
            here = None if left is None or right is None else _SUMS[opcode](left, right) & 0xFFFFFFFFFFFFFFFF
        else:
            raise WasmRefused(f"unknown opcode 0x{opcode:02x} in a constant at offset {at - 1}")
        stack.append(here)
    return stack[0] if len(stack) == 1 else None, at + 1


def signed_leb(wasm: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value, after = _u64(wasm, at)
    bits = 7 * (after - at)
    return value - (1 << bits) if value >> (bits - 1) & 1 else value, after


# Of the instructions after 0xFB how many numbers follow them (garbage collection proposal, binary format).
_GC_NUMBERS = (1, 1, 2, 2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 1, 1, 0, 1, 2, 2, 2, 1, 1, 1, 1)


def after_gc(code: bytes, at: int) -> int:
    """Where the instruction ends whose prefix 0xFB is before ``at``. Raises WasmRefused for an unknown one."""
    start = at - 1
    number, at = _u64(code, at)
    if number in (24, 25):  # br_on_cast: flags, label, two types
        at += 1
        numbers = 3
    elif number < len(_GC_NUMBERS):
        numbers = _GC_NUMBERS[number]
    elif 26 <= number <= 30:
        numbers = 0
    else:
        raise WasmRefused(f"unknown opcode 0xfb {number} at offset {start}")
    for _ in range(numbers):
        _, at = _u64(code, at)
    return at


def _bodies(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    count, at = _count(wasm, at)
    for _ in range(count):
        size, at = read_u32(wasm, at)
        if size > end - at:
            raise WasmRefused(f"truncated: a function at offset {at} needs {size} bytes, {end - at} are left")
        found.bodies.append(Body(at, at + size))
        at += size


def _segments(wasm: bytes, at: int, end: int, found: Skeleton) -> None:
    """Those of the first memory."""
    count, at = _count(wasm, at)
    for index in range(count):
        flags, at = read_u32(wasm, at)
        memory = 0
        if flags == 2:
            memory, at = read_u32(wasm, at)
        address = None
        if flags != 1:
            address, at = _constant(wasm, at)
        size, at = read_u32(wasm, at)
        if size > end - at:
            raise WasmRefused(f"truncated: data at offset {at} needs {size} bytes, {end - at} are left")
        if flags == 1:
            found.passive[index] = Segment(0, at, size)
        elif address is not None and memory == 0:
            found.data.append(Segment(address & 0xFFFFFFFF, at, size))
        at += size
