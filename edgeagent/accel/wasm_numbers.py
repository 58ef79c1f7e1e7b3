"""What integer instructions of wasm compute (core spec 2.0, 4.3.2); floats and vectors are not followed."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BINARY", "LOADS", "STORES", "UNARY", "is_binary"]

Binary = Callable[[int, int], int | None]


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def _extended(bits: int, to: int) -> Callable[[int], int]:
    return lambda a: _signed(a & (1 << bits) - 1, bits) & (1 << to) - 1


def _divided(a: int, b: int) -> int | None:
    """Towards zero; None: it traps."""
    if b == 0:
        return None
    return -(-a // b) if a < 0 < b else -(a // -b) if b < 0 <= a else a // b


def _arithmetic(bits: int) -> tuple[Binary, ...]:
    """In the order of their opcodes: add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr."""
    mask = (1 << bits) - 1

    def div_s(a: int, b: int) -> int | None:
        found = _divided(_signed(a, bits), _signed(b, bits))
        return None if found is None else found & mask

    def rem_s(a: int, b: int) -> int | None:
        x, y = _signed(a, bits), _signed(b, bits)
        found = _divided(x, y)
        return None if found is None else (x - y * found) & mask

    return (
        lambda a, b: a + b & mask,
        lambda a, b: a - b & mask,
        lambda a, b: a * b & mask,
        div_s,
        lambda a, b: a // b if b else None,
        rem_s,
        lambda a, b: a % b if b else None,
        lambda a, b: a & b,
        lambda a, b: a | b,
        lambda a, b: a ^ b,
        lambda a, b: a << b % bits & mask,
        lambda a, b: _signed(a, bits) >> b % bits & mask,
        lambda a, b: a >> b % bits,
        lambda a, b: (a << b % bits | a >> -b % bits) & mask,
        lambda a, b: (a >> b % bits | a << -b % bits) & mask,
    )


def _comparisons(bits: int) -> tuple[Binary, ...]:
    """In the order of their opcodes: eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u."""

    def signed(compare: Callable[[int, int], bool]) -> Binary:
        return lambda a, b: int(compare(_signed(a, bits), _signed(b, bits)))

    return (
        lambda a, b: int(a == b),
        lambda a, b: int(a != b),
        signed(lambda a, b: a < b),
        lambda a, b: int(a < b),
        signed(lambda a, b: a > b),
        lambda a, b: int(a > b),
        signed(lambda a, b: a <= b),
        lambda a, b: int(a <= b),
        signed(lambda a, b: a >= b),
        lambda a, b: int(a >= b),
    )


BINARY: dict[int, Binary] = {
    first + n: compute
    for first, some in (
        (0x46, _comparisons(32)),
        (0x51, _comparisons(64)),
        (0x6A, _arithmetic(32)),
        (0x7C, _arithmetic(64)),
    )
    for n, compute in enumerate(some)
}

UNARY: dict[int, Callable[[int], int]] = {
    0x45: lambda a: int(a == 0),
    0x50: lambda a: int(a == 0),
    0x67: lambda a: 32 - a.bit_length(),
    0x68: lambda a: (a & -a).bit_length() - 1 if a else 32,
    0x69: lambda a: a.bit_count(),
    0x79: lambda a: 64 - a.bit_length(),
    0x7A: lambda a: (a & -a).bit_length() - 1 if a else 64,
    0x7B: lambda a: a.bit_count(),
    0xA7: lambda a: a & 0xFFFFFFFF,
    0xAC: _extended(32, 64),
    0xAD: lambda a: a,
    0xC0: _extended(8, 32),
    0xC1: _extended(16, 32),
    0xC2: _extended(8, 64),
    0xC3: _extended(16, 64),
    0xC4: _extended(32, 64),
}

# Bytes that are read, and of what width the number is then; 0: not signed. Floats are carried as their bytes.
LOADS = {
    0x28: (4, 0), 0x29: (8, 0), 0x2A: (4, 0), 0x2B: (8, 0), 0x2C: (1, 32), 0x2D: (1, 0), 0x2E: (2, 32), 0x2F: (2, 0),
    0x30: (1, 64), 0x31: (1, 0), 0x32: (2, 64), 0x33: (2, 0), 0x34: (4, 64), 0x35: (4, 0),
}  # fmt: skip
STORES = {0x36: 4, 0x37: 8, 0x38: 4, 0x39: 8, 0x3A: 1, 0x3B: 2, 0x3C: 1, 0x3D: 2, 0x3E: 4}


def is_binary(opcode: int) -> bool:
    """Of the plain instructions 0x45 to 0xc4: whether it takes two operands; else one."""
    return (
        0x46 <= opcode <= 0x4F
        or 0x51 <= opcode <= 0x66
        or 0x6A <= opcode <= 0x78
        or 0x7C <= opcode <= 0x8A
        or 0x92 <= opcode <= 0x98
        or 0xA0 <= opcode <= 0xA6
    )
