"""The values of a function of wasm that is followed before it runs: its stack, locals, and what it computes of them."""

from __future__ import annotations

from collections.abc import Sequence

from edgeagent.accel.wasm_body import leb
from edgeagent.accel.wasm_memory import Memory
from edgeagent.accel.wasm_module import signed_leb
from edgeagent.accel.wasm_numbers import BINARY, LOADS, STORES, UNARY, is_binary

__all__ = ["Number", "Values"]

_COPY_MAX = 65536

# None: not known. Integers are without sign, floats and vectors are carried as their bytes.
Number = int | None


class Values:
    """``at`` is where the next instruction is. Below the bottom of the stack nothing is known."""

    def __init__(
        self, code: bytes, at: int, locals_: list[Number], globals_: dict[int, Number], memory: Memory
    ) -> None:
        self.stack: list[Number] = []
        # The numbers that were compared last.
        self.compared: tuple[int, int] | None = None
        self.locals = locals_
        self._code, self._at = code, at
        self._globals, self._memory = globals_, memory

    def pop(self) -> Number:
        return self.stack.pop() if self.stack else None

    def variable(self, opcode: int, index: int) -> None:
        if opcode == 0x23:
            self.stack.append(self._globals.get(index))
        elif opcode == 0x24:
            self._globals[index] = self.pop()
        elif opcode == 0x20:
            self.stack.append(self.locals[index])
        else:
            self.locals[index] = self.pop()
            if opcode == 0x22:
                self.stack.append(self.locals[index])

    def access(self, opcode: int, offset: int) -> None:
        memory = self._memory
        if opcode in STORES:
            value, at = self.pop(), self.pop()
            if at is not None:
                memory.store(at + offset, value, STORES[opcode])
            return
        at, (size, signed) = self.pop(), LOADS[opcode]
        number = None if at is None else memory.number(at + offset, size, signed=bool(signed))
        self.stack.append(number & (1 << signed) - 1 if number is not None and signed else number)

    def compute(self, opcode: int, start: int) -> None:
        code, stack = self._code, self.stack
        if opcode in (0x41, 0x42):
            stack.append(
                signed_leb(code, start + 1)[0] & (0xFFFFFFFF if opcode == 0x41 else 0xFFFFFFFFFFFFFFFF)
            )
        elif opcode in (0x43, 0x44):
            stack.append(int.from_bytes(code[start + 1 : self._at], "little"))
        elif 0x45 <= opcode <= 0xC4:
            self._plain(opcode)
        elif opcode in (0x3F, 0xD0, 0xD2):
            stack.append(None)
        elif opcode in (0x25, 0x40, 0xD1):
            self.pop()
            stack.append(None)
        elif opcode == 0x26:
            self.pop(), self.pop()
        elif opcode == 0xFC:
            self._bulk(*leb(code, start + 1))
        elif opcode == 0xFD:
            self._vector(start)
        else:
            stack.clear()  # what is not followed; below the bottom nothing is known

    def _plain(self, opcode: int) -> None:
        right = self.pop()
        if not is_binary(opcode):
            if opcode in (0x45, 0x50) and right is not None and right > 1:
                self.compared = (right, 0)
            compute = UNARY.get(opcode)
            self.stack.append(None if compute is None or right is None else compute(right))
            if 0xBC <= opcode <= 0xBF:  # the same bytes as another type
                self.stack[-1] = right
            return
        left = self.pop()
        if left is not None and right is not None and (0x46 <= opcode <= 0x4F or 0x51 <= opcode <= 0x5A):
            self.compared = (left, right)
        both = BINARY.get(opcode)
        self.stack.append(None if both is None or left is None or right is None else both(left, right))

    def _bulk(self, number: int, at: int) -> None:
        memory = self._memory
        if number < 8:  # saturating conversions
            self.pop()
            self.stack.append(None)
        elif number in (8, 10, 11):
            size, source, place = self.pop(), self.pop(), self.pop()
            if place is None or size is None or not 0 < size <= _COPY_MAX:
                return
            data: Sequence[Number] = [None] * size
            if source is not None:
                if number == 8:
                    data = memory.passive(leb(self._code, at)[0], source, size)
                else:
                    data = memory.read(source, size) if number == 10 else [source & 0xFF] * size
            memory.store_bytes(place, data)
        elif number in (12, 14, 17):
            self.pop(), self.pop(), self.pop()
        elif number in (15, 16):
            if number == 15:
                self.pop(), self.pop()
            self.stack.append(None)

    def _vector(self, start: int) -> None:
        """Compilers copy by vectors; what they compute with them is not followed."""
        number, at = leb(self._code, start + 1)
        if number == 12:
            self.stack.append(int.from_bytes(self._code[at : at + 16], "little"))
        elif number in (0, 11):
            value = self.pop() if number == 11 else None
            place = self.pop()
            offset = leb(self._code, leb(self._code, at)[1])[0]
            if number == 0:
                known = None if place is None else self._memory.number(place + offset, 16)
                self.stack.append(known)
            elif place is not None:
                self._memory.store(place + offset, value, 16)
        else:
            self.stack.clear()
