"""One function's code, read once: what it calls and where, and how much arithmetic stands in its loops.

Of the control flow only this is followed: what can never run (after a branch, behind a constant condition), what runs
on some paths only, and how deep in loops each instruction stands.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import msgspec

from edgeagent.accel.wasm_module import Body, after_gc
from edgeagent.model.errors import WasmRefused

__all__ = ["DEPTH_MAX", "BodyFacts", "CallSite", "leb", "read_body", "skip_immediates"]

DEPTH_MAX = 4  # loops nested deeper weigh no more
_FRAMES_MAX = 10_000
_TARGETS_MAX = 131_072  # of one branch table
_LOCALS_MAX = 100_000  # groups of locals
_BLOCK, _LOOP, _IF = 0x02, 0x03, 0x04


class CallSite(msgspec.Struct, frozen=True):
    """``callee`` is a function, or a type where ``is_indirect`` (through a table or a reference); ``is_conditional``:
    not on every path.
    """

    offset: int
    callee: int
    depth: int
    is_conditional: bool
    is_indirect: bool = False


class BodyFacts(msgspec.Struct):
    """Counts by loop depth ``(DEPTH_MAX + 1,)`` of live instructions; ``mentioned``: functions whose address is
    taken.
    """

    calls: list[CallSite] = msgspec.field(default_factory=list)
    mentioned: set[int] = msgspec.field(default_factory=set)
    instructions: list[int] = msgspec.field(default_factory=lambda: [0] * (DEPTH_MAX + 1))
    floats: list[int] = msgspec.field(default_factory=lambda: [0] * (DEPTH_MAX + 1))
    simd: list[int] = msgspec.field(default_factory=lambda: [0] * (DEPTH_MAX + 1))
    deepest_loop: int = 0
    steps: int = 0


class _Frame(msgspec.Struct):
    kind: int
    was_dead: bool
    # What runs in it depends on a condition: an ``if``, or a branch past the rest of it.
    conditional: bool = False
    is_target: bool = False
    then_alive: bool = False
    has_else: bool = False
    # The constant condition of an ``if``; None: not constant.
    known: int | None = None


def leb(code: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 of at most 64 bits; signed ones have the same length."""
    value = code[at]
    at += 1
    if value < 0x80:
        return value, at
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = code[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WasmRefused(f"bad number at offset {at}")


def _memarg(code: bytes, at: int) -> int:
    flags, at = leb(code, at)
    if flags & 0x40:
        _, at = leb(code, at)
    return leb(code, at)[1]


# How many LEB numbers follow an opcode; what is not here is in the functions below, or has nothing.
_NUMBERS = {
    **dict.fromkeys((0x02, 0x03, 0x04, 0x06, 0x07, 0x08, 0x09, 0x0C, 0x0D, 0x10, 0x12, 0x14, 0x15, 0x18), 1),
    **dict.fromkeys((0x11, 0x13), 2),
    **dict.fromkeys(range(0x20, 0x27), 1),
    **dict.fromkeys((0x3F, 0x40, 0x41, 0x42, 0xD0, 0xD2, 0xD5, 0xD6), 1),
}
_BARE = frozenset(
    (0x00, 0x01, 0x05, 0x0A, 0x0B, 0x0F, 0x19, 0x1A, 0x1B, 0xD1, 0xD3, 0xD4, *range(0x45, 0xC5))
)
_MISC_NUMBERS = (0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 0, 0, 0, 0)


def skip_immediates(code: bytes, at: int, opcode: int) -> int:
    """Where the next instruction begins, ``at`` being after ``opcode``. Raises WasmRefused for an unknown one."""
    if opcode in _BARE:
        return at
    if opcode in _NUMBERS:
        for _ in range(_NUMBERS[opcode]):
            _, at = leb(code, at)
        return at
    if 0x28 <= opcode <= 0x3E:
        return _memarg(code, at)
    if opcode in (0x43, 0x44):
        return at + (4 if opcode == 0x43 else 8)
    if opcode in (0x0E, 0x1C):  # branch targets and the default; types
        count, at = leb(code, at)
        if count > _TARGETS_MAX:
            raise WasmRefused(f"{count} targets at offset {at}; at most {_TARGETS_MAX} are taken")
        for _ in range(count + (opcode == 0x0E)):
            _, at = leb(code, at)
        return at
    if opcode == 0x1F:
        return _skip_catches(code, at)
    if opcode == 0xFB:
        return after_gc(code, at)
    if opcode in (0xFC, 0xFD, 0xFE):
        return _skip_prefixed(code, at, opcode)
    raise WasmRefused(f"unknown opcode 0x{opcode:02x} at offset {at - 1}")


def _skip_catches(code: bytes, at: int) -> int:
    return [end for _, end in _catches(code, at)][-1]


def _catches(code: bytes, at: int) -> Iterator[tuple[int | None, int]]:
    """The label of each catch of a try_table, and where it ends; first None, where the catches begin."""
    _, at = leb(code, at)
    count, at = leb(code, at)
    if count > _TARGETS_MAX:
        raise WasmRefused(f"{count} catches at offset {at}; at most {_TARGETS_MAX} are taken")
    yield None, at
    for _ in range(count):
        has_tag = code[at] < 2
        at += 1
        if has_tag:
            _, at = leb(code, at)
        label, at = leb(code, at)
        yield label, at


def _skip_prefixed(code: bytes, at: int, prefix: int) -> int:
    start = at - 1
    number, at = leb(code, at)
    if prefix == 0xFC and number < len(_MISC_NUMBERS):
        for _ in range(_MISC_NUMBERS[number]):
            _, at = leb(code, at)
        return at
    if prefix == 0xFD and number < 0x200:
        if number <= 11 or number in (92, 93):
            return _memarg(code, at)
        if number in (12, 13):
            return at + 16
        if 84 <= number <= 91:
            return _memarg(code, at) + 1
        return at + 1 if 21 <= number <= 34 else at
    if prefix == 0xFE and number < 0x100:
        return at + 1 if number == 3 else _memarg(code, at)
    raise WasmRefused(f"unknown opcode 0x{prefix:02x} {number} at offset {start}")


def _is_float(opcode: int) -> bool:
    return 0x5B <= opcode <= 0x66 or 0x8B <= opcode <= 0xA6 or 0xB2 <= opcode <= 0xBB


_FLOAT = bytes(_is_float(opcode) for opcode in range(256))


def read_body(code: bytes, body: Body, steps_max: int) -> BodyFacts | None:
    """None where it has more than ``steps_max`` instructions. Raises WasmRefused."""
    try:
        return _Reader(code, body).read(steps_max)
    except IndexError:
        raise WasmRefused(f"truncated: the function at offset {body.start}") from None


class _Reader:
    def __init__(self, code: bytes, body: Body) -> None:
        self._code = code
        self._end = body.end
        self._at = _after_locals(code, body.start)
        self._facts = BodyFacts()
        self._frames = [_Frame(_BLOCK, was_dead=False)]
        self._dead = False
        self._loops = 0
        self._conditional: list[int] = []  # the places of frames that are, in order
        self._constant: int | None = None  # the i32.const just before

    def read(self, steps_max: int) -> BodyFacts | None:
        code, facts = self._code, self._facts
        while self._frames:
            if facts.steps >= steps_max:
                return None
            facts.steps += 1
            start = self._at
            if start >= self._end:
                raise WasmRefused(f"truncated: a function ends at offset {start} inside a block")
            opcode = code[start]
            self._at = start + 1
            if not self._dead:
                depth = min(self._loops, DEPTH_MAX)
                facts.instructions[depth] += 1
                if _FLOAT[opcode]:
                    facts.floats[depth] += 1
                elif opcode == 0xFD:
                    facts.simd[depth] += 1
            if opcode < 0x20 or opcode == 0xD2 or opcode in (0xD5, 0xD6):
                self._flow(opcode, start)
                self._constant = None
            elif opcode == 0x41:
                self._constant, self._at = leb(code, self._at)
            elif opcode == 0xFB:
                self._object(self._at)
                self._constant = None
            else:
                self._at = skip_immediates(code, self._at, opcode)
                self._constant = None
        if self._at != self._end:
            raise WasmRefused(f"code after the end of a function at offset {self._at}")
        return facts

    def _flow(self, opcode: int, start: int) -> None:
        code, at = self._code, self._at
        self._at = skip_immediates(code, at, opcode)
        if opcode in (_BLOCK, _LOOP, _IF, 0x06):
            self._open(opcode)
        elif opcode == 0x1F:
            self._try_table(at)
        elif opcode in (0x05, 0x07, 0x19):
            self._otherwise(opcode)
        elif opcode in (0x0B, 0x18):
            self._close()
        elif opcode in (0x0C, 0x0D, 0xD5, 0xD6, 0x0F):
            label = len(self._frames) - 1 if opcode == 0x0F else leb(code, at)[0]
            self._branch(label, always=opcode in (0x0C, 0x0F))
        elif opcode == 0x0E:
            self._branch_table(at)
        elif opcode in (0x00, 0x08, 0x09, 0x0A):
            self._dead = True  # a trap or an exception: no other way to a result
        elif 0x10 <= opcode <= 0x15:
            self._call(opcode, leb(code, at)[0], start)
        elif opcode == 0xD2 and not self._dead:
            self._facts.mentioned.add(leb(code, at)[0])

    def _try_table(self, at: int) -> None:
        for label, _ in _catches(self._code, at):
            if label is not None and label < len(self._frames):
                self._frames[-1 - label].is_target = True
        self._open(0x1F)

    def _open(self, opcode: int) -> None:
        if len(self._frames) == _FRAMES_MAX:
            raise WasmRefused(f"more than {_FRAMES_MAX} blocks nested at offset {self._at}")
        kind = opcode if opcode in (_LOOP, _IF) else _BLOCK
        frame = _Frame(kind, self._dead)
        if kind == _IF:
            frame.known = self._constant
            if frame.known is None:
                frame.conditional = True
                self._conditional.append(len(self._frames))
            self._dead = self._dead or frame.known == 0
        elif kind == _LOOP:
            self._loops += 1
            if not self._dead:
                self._facts.deepest_loop = max(self._facts.deepest_loop, self._loops)
        self._frames.append(frame)

    def _condition(self, place: int) -> None:
        frame = self._frames[place]
        if not frame.conditional:
            frame.conditional = True
            bisect.insort(self._conditional, place)

    def _otherwise(self, opcode: int) -> None:
        frame = self._frames[-1]
        frame.then_alive = frame.then_alive or not self._dead
        frame.has_else = True
        if opcode != 0x05:
            self._condition(len(self._frames) - 1)  # an exception's handler
        self._dead = frame.was_dead or (opcode == 0x05 and frame.known not in (None, 0))

    def _close(self) -> None:
        frame = self._frames.pop()
        alive = not self._dead or frame.then_alive
        if frame.kind == _LOOP:
            self._loops -= 1
        else:
            alive = alive or frame.is_target
        if frame.kind == _IF and not frame.has_else:
            alive = alive or frame.known in (None, 0)
        if frame.conditional:
            self._conditional.pop()
        self._dead = frame.was_dead or not alive

    def _branch(self, label: int, *, always: bool) -> None:
        known = None if always else self._constant
        if label >= len(self._frames):
            raise WasmRefused(f"a branch to label {label} at offset {self._at} leads nowhere")
        if self._dead or known == 0:
            return
        place = len(self._frames) - 1 - label
        frame = self._frames[place]
        frame.is_target = True
        always = always or known is not None
        # What follows up to the label's end runs only where this branch was not taken.
        inside_if = bool(self._conditional) and self._conditional[-1] > place
        if frame.kind != _LOOP and (not always or inside_if):
            self._condition(place)
        self._dead = always

    def _object(self, at: int) -> None:
        """An instruction on objects; ``br_on_cast`` and its like (24, 25) branch."""
        code = self._code
        self._at = after_gc(code, at)
        self._constant = None
        number, at = leb(code, at)
        if number in (24, 25):
            self._branch(leb(code, at + 1)[0], always=False)

    def _branch_table(self, at: int) -> None:
        count, at = leb(self._code, at)
        self._facts.steps += count
        self._constant = None
        for _ in range(count + 1):
            label, at = leb(self._code, at)
            self._branch(label, always=False)
        self._dead = True

    def _call(self, opcode: int, callee: int, start: int) -> None:
        if not self._dead:
            self._facts.calls.append(
                CallSite(
                    start,
                    callee,
                    min(self._loops, DEPTH_MAX),
                    bool(self._conditional),
                    opcode not in (0x10, 0x12),
                )
            )
        if opcode in (0x12, 0x13, 0x15):  # a tail call returns
            self._branch(len(self._frames) - 1, always=True)


def _after_locals(code: bytes, at: int) -> int:
    groups, at = leb(code, at)
    if groups > _LOCALS_MAX:
        raise WasmRefused(f"{groups} groups of locals at offset {at}; at most {_LOCALS_MAX} are taken")
    for _ in range(groups):
        _, at = leb(code, at)
        at = leb(code, at + 1)[1] if code[at] in (0x63, 0x64) else at + 1
    return at
