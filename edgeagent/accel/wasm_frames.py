"""Blocks of a function of wasm that is followed: where each begins and ends, and what is kept of one that is open."""

from __future__ import annotations

import msgspec

from edgeagent.accel.wasm_body import leb, skip_immediates
from edgeagent.accel.wasm_rounds import Rounds
from edgeagent.accel.wasm_values import Number

__all__ = ["BLOCK", "IF", "LOCALS_MAX", "LOOP", "OPENS", "Frame", "State", "blocks_of", "locals_of"]

LOCALS_MAX = 4096
BLOCK, LOOP, IF = 0x02, 0x03, 0x04
OPENS = (BLOCK, LOOP, IF, 0x06, 0x1F)


class State(msgspec.Struct):
    """Where ways may meet: locals, the values that a block leaves, the work until here."""

    locals: list[Number]
    values: list[Number]
    work: float


class Frame(msgspec.Struct):
    """A block, a loop or an ``if`` that is open; the first one is the function itself."""

    kind: int
    start: int  # of what is inside
    end: int  # of the ``end`` instruction
    height: int  # of the stack below it
    arity: int  # how many values a branch to it takes along
    met: State | None = None  # of all ways that have come to its end until now
    otherwise: State | None = None  # with which an ``if`` whose condition is not known goes its other way
    other: int = 0  # where that goes on
    # Of a loop: conditions that were not known when its round began, locals then, whether one that was known let it go
    # on, its rounds, and whether it only looks for its end.
    doubts: int = 0
    before: list[Number] = msgspec.field(default_factory=list)
    decided: bool = False
    rounds: Rounds = msgspec.field(default_factory=Rounds)
    leaving: bool = False

    def meet(self, state: State) -> None:
        """Another way comes to its end."""
        known = self.met
        if known is None:
            self.met = state
            return
        known.locals = [a if a == b else None for a, b in zip(known.locals, state.locals, strict=True)]
        short = min(len(known.values), len(state.values))
        pairs = zip(known.values[:short], state.values[:short], strict=True)
        known.values = [a if a == b else None for a, b in pairs]
        known.work = max(known.work, state.work)


def locals_of(code: bytes, at: int) -> tuple[int, int]:
    """How many there are beside the parameters, and where the instructions begin."""
    groups, at = leb(code, at)
    total = 0
    for _ in range(min(groups, LOCALS_MAX)):
        count, at = leb(code, at)
        at = leb(code, at + 1)[1] if code[at] in (0x63, 0x64) else at + 1
        total += count
    return total, at


def blocks_of(code: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """For where each block begins: where its other branch does (0: none), and its ``end``."""
    found: dict[int, tuple[int, int]] = {}
    waiting: list[int] = []
    others: dict[int, int] = {}
    while at < end:
        opcode, start = code[at], at
        at = skip_immediates(code, at + 1, opcode)
        if opcode in OPENS:
            waiting.append(start)
        elif opcode == 0x05 and waiting:
            others[waiting[-1]] = at
        elif opcode in (0x0B, 0x18) and waiting:
            opened = waiting.pop()
            found[opened] = (others.get(opened, 0), start)
    return found
