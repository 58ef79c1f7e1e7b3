"""What a module calls when it runs, as far as that is known beforehand: its code, followed with unknown numbers.

Entries are run with arguments that nobody knows. What is computed of constants, of data segments and of what was stored
at known addresses is known; so descriptions of calls that the source writes out come out as bytes, also where loops and
functions put them together. Where a condition is not known both ways are followed, one after the other: locals and
values on the stack that differ are not known after they meet, and work is that of the dearer way. Of memory and globals
there is one state: what was stored last counts, on whichever way. A loop whose length is not known is followed once. It
guides a prior and no more; all steps count, and the count is bounded.

``Runner`` goes from function to function, ``_Way`` through the instructions of one; a block that is open is a
``Frame``, which keeps what is to be gone on with: the other branch of an ``if``, and what came by a branch to its end.
wasm_frames.py has those, wasm_values.py the stack and the locals, wasm_numbers.py the arithmetic, wasm_memory.py the
bytes and the bound.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgeagent.accel.wasm_body import leb, skip_immediates
from edgeagent.accel.wasm_frames import (
    BLOCK,
    IF,
    LOCALS_MAX,
    LOOP,
    OPENS,
    Frame,
    State,
    blocks_of,
    locals_of,
)
from edgeagent.accel.wasm_memory import EffortSpent, Memory
from edgeagent.accel.wasm_module import Signature, Skeleton
from edgeagent.accel.wasm_numbers import LOADS, STORES
from edgeagent.accel.wasm_rounds import Rounds
from edgeagent.accel.wasm_values import Number, Values
from edgeagent.model.errors import WasmRefused

__all__ = ["Made", "Runner"]

_DEPTH_MAX = 24  # calls within calls that are followed
_ROUNDS_MAX = 1000  # of a loop in which something is not known


class Made(msgspec.Struct, frozen=True):
    """A call of an imported function: where, which, and its arguments as far as they are known."""

    offset: int
    callee: int
    values: tuple[Number, ...]


class _Trap(Exception):
    """No way through a function comes to its end."""


class Runner:
    """``called`` is told each call of a function in ``wanted``, and says its work, None: not known."""

    def __init__(
        self,
        wasm: bytes,
        module: Skeleton,
        wanted: set[int],
        memory: Memory,
        called: Callable[[Made], float | None],
    ) -> None:
        self.memory = memory
        self.ran: set[int] = set()
        # The work of the dearest way so far through the entry that is followed.
        self.most_flops = 0.0
        # Whether there is work in a loop that runs nobody knows how often.
        self.is_open = False
        # Whether there are loops of which the rounds were counted and not followed.
        self.is_reckoned = False
        # Above 0 where what is called was called before, on the way to the end of a loop.
        self.muted = 0
        self._wasm = wasm
        self._module = module
        self._wanted = wanted
        self._called = called
        self._globals: dict[int, Number] = dict(module.constants)
        self._blocks: dict[int, dict[int, tuple[int, int]]] = {}
        self._depth = 0
        self._doubts = 0
        self._work = 0.0

    def entry(self, function: int) -> float:
        """The work of the dearest way through it. Raises WasmRefused, EffortSpent."""
        self._work = self.most_flops = 0.0
        try:
            self.call(function, [None] * len(self._signature(function)[0]))
        except _Trap:
            pass  # all ways end in a trap, or in a call of the host that does not return
        except IndexError:
            raise WasmRefused(f"truncated: function {function}") from None
        return self.most_flops

    def call(self, function: int, arguments: list[Number]) -> list[Number]:
        results = self._signature(function)[1]
        body = self._module.body_of(function)
        if body is None or self._depth == _DEPTH_MAX:
            return [None] * results
        self.ran.add(function)
        count, at = locals_of(self._wasm, body.start)
        if count > LOCALS_MAX:
            return [None] * results
        if at not in self._blocks:
            self.memory.effort.spend((body.end - at) // 2)
            self._blocks[at] = blocks_of(self._wasm, at, body.end)
        self.memory.effort.spend((len(arguments) + count + results) // 16 + 1)
        self._depth += 1
        try:
            way = _Way(self, arguments + [0] * count, at, body.end, results, self._blocks[at])
            return way.follow()
        finally:
            self._depth -= 1

    def made(self, offset: int, callee: int, values: list[Number]) -> list[Number]:
        """A call of any function, from an instruction at ``offset``."""
        if callee in self._wanted and not self.muted:
            self._work += self._called(Made(offset, callee, tuple(values))) or 0.0
            self.most_flops = max(self.most_flops, self._work)
        if callee >= len(self._module.imports):
            return self.call(callee, values)
        return [None] * self._signature(callee)[1]

    def expect(self, rounds: Rounds) -> bool:
        """Of a loop that is not followed to its end, what is left counts as what was seen; whether that is more."""
        total = rounds.total_flops(self._work)
        is_more = total > self._work
        self.is_reckoned |= is_more
        self._work = total
        self.most_flops = max(self.most_flops, self._work)
        return is_more

    def behind(self, slot: Number, wanted: Signature | None) -> int | None:
        """The function in a slot of the first table, as it is at the start; None too where a call would trap."""
        found = None if slot is None else self._module.table.get(slot)
        return (
            None if found is None or self._module.signature(self._module.type_of(found)) != wanted else found
        )

    def _signature(self, function: int) -> Signature:
        return self._module.signature(self._module.type_of(function)) or ((), 0)


class _Way(Values):
    """Through one function."""

    def __init__(
        self,
        runner: Runner,
        locals_: list[Number],
        start: int,
        end: int,
        results: int,
        blocks: dict[int, tuple[int, int]],
    ) -> None:
        super().__init__(runner._wasm, start, locals_, runner._globals, runner.memory)
        self._runner = runner
        self._blocks = blocks
        self._effort = runner.memory.effort
        self._frames = [Frame(BLOCK, start, end - 1, 0, results)]

    def follow(self) -> list[Number]:
        """What it returns. Raises _Trap."""
        try:
            return self._follow()
        except EffortSpent:
            for frame in reversed(self._frames):
                if frame.kind == LOOP and not frame.leaving:
                    self._runner.expect(frame.rounds)
            raise

    def _follow(self) -> list[Number]:
        code, spend = self._code, self._effort.spend
        while self._frames:
            spend(1)
            start = self._at
            opcode = code[start]
            self._at = skip_immediates(code, start + 1, opcode)
            if opcode < 0x20:
                self._flow(opcode, start)
            elif opcode <= 0x24:
                self.variable(opcode, leb(code, start + 1)[0])
            elif opcode in LOADS or opcode in STORES:
                self.access(opcode, leb(code, leb(code, start + 1)[1])[0])
            else:
                self.compute(opcode, start)
        return self.stack

    # -- ways that part and meet ---------------------------------------------------------------------------------------

    def _flow(self, opcode: int, start: int) -> None:
        if opcode in OPENS:
            self._open(opcode, start)
        elif opcode in (0x05, 0x07, 0x19):  # the end of a branch; handlers of exceptions are passed over
            self._at = self._frames[-1].end
        elif opcode in (0x0B, 0x18):
            self._end(alive=True)
        elif opcode == 0x0C:
            self._branch(leb(self._code, start + 1)[0])
        elif opcode == 0x0D:
            self._branch_if(leb(self._code, start + 1)[0])
        elif opcode == 0x0E:
            self._branch_table(start)
        elif opcode == 0x0F:
            self._branch(len(self._frames) - 1)
        elif 0x10 <= opcode <= 0x15:
            self._call(opcode, start)
        elif opcode in (0x00, 0x08, 0x09, 0x0A):
            self._resume()
        elif opcode == 0x1A:
            self.pop()
        elif opcode in (0x1B, 0x1C):
            which, second, first = self.pop(), self.pop(), self.pop()
            same = first if first == second else None
            self.stack.append(same if which is None else first if which else second)

    def _open(self, opcode: int, start: int) -> None:
        if start not in self._blocks:
            raise WasmRefused(f"truncated: a block at offset {start} has no end")
        other, end = self._blocks[start]
        kind = opcode if opcode in (LOOP, IF) else BLOCK
        condition = self.pop() if kind == IF else 1
        results, params = self._block_type(start + 1)
        self._spend_on(results + params)
        frame = Frame(kind, self._at, end, max(len(self.stack) - params, 0), results)
        self._frames.append(frame)
        if kind == LOOP:
            frame.arity = params
            self._round(frame)
        elif condition is None:
            self._runner._doubts += 1
            frame.otherwise, frame.other = self._state(params), other or end
            frame.otherwise.values = self.stack[frame.height :]
        elif condition == 0:
            self._at = other or end

    def _block_type(self, at: int) -> tuple[int, int]:
        """(results, parameters)."""
        if self._code[at] == 0x40:
            return 0, 0
        if self._code[at] & 0xC0 == 0x40:
            return 1, 0
        found = self._runner._module.signature(leb(self._code, at)[0])
        return (found[1], len(found[0])) if found is not None else (0, 0)

    def _spend_on(self, numbers: int) -> None:
        """That are copied or compared all at once, which takes far less than an instruction each."""
        self._effort.spend(numbers // 16)

    def _round(self, frame: Frame) -> None:
        self._spend_on(len(self.locals) + frame.arity)
        frame.doubts, frame.before = self._runner._doubts, list(self.locals)
        frame.decided = False
        frame.rounds.begin(self._runner._work)

    def _state(self, arity: int) -> State:
        self._spend_on(len(self.locals) + arity)
        values = self.stack[-arity:] if arity else []
        return State(list(self.locals), values, self._runner._work)

    def _take(self, state: State, height: int) -> None:
        self.locals = list(state.locals)
        self.stack[height:] = state.values
        self._runner._work = state.work

    def _end(self, *, alive: bool) -> None:
        frame = self._frames[-1]
        if alive and frame.otherwise is not None and frame.other == frame.end:  # an if without an else
            frame.meet(frame.otherwise)
            frame.otherwise = None
        if alive and frame.otherwise is not None:
            frame.meet(self._state(frame.arity))
            self._other(frame)
            return
        self._frames.pop()
        self._at = skip_immediates(self._code, frame.end + 1, self._code[frame.end])
        if frame.met is not None:
            if alive and frame.kind != LOOP:
                frame.meet(self._state(frame.arity))
            self._take(frame.met, frame.height)
        elif frame.kind != LOOP:
            kept = self.stack[-frame.arity :] if frame.arity else []
            self.stack[frame.height :] = kept
            self.stack += [None] * (frame.height + frame.arity - len(self.stack))

    def _other(self, frame: Frame) -> None:
        state, frame.otherwise = frame.otherwise, None
        if state is not None:
            self._take(state, frame.height)
            self._at = frame.other

    def _resume(self) -> None:
        """A way ends here: go on where another one does. Raises _Trap."""
        while self._frames:
            frame = self._frames[-1]
            if frame.otherwise is not None:
                if frame.other == frame.end:
                    frame.meet(frame.otherwise)
                    frame.otherwise = None
                else:
                    self._other(frame)
                    return
            if frame.met is not None:
                self._end(alive=False)
                return
            self._frames.pop()
        raise _Trap

    def _branch(self, label: int, *, known: bool = False) -> None:
        """Taken; ``known``: by a condition that is."""
        frame = self._target(label)
        if frame.kind != LOOP:
            frame.meet(self._state(frame.arity))
            self._resume()
            return
        is_counted = (known or frame.decided) and frame.rounds.count < _ROUNDS_MAX
        if self._runner._doubts > frame.doubts and not is_counted:
            if frame.leaving:
                self._resume()
                return
            frame.leaving = True
            self._forget(frame, is_counted=known or frame.decided)
        while self._frames[-1] is not frame:
            self._frames.pop()
        kept = self.stack[-frame.arity :] if frame.arity else []
        self.stack[frame.height :] = kept
        self._at = frame.start
        self._round(frame)

    def _target(self, label: int) -> Frame:
        if label >= len(self._frames):
            raise WasmRefused(f"a branch to label {label} at offset {self._at} leads nowhere")
        return self._frames[-1 - label]

    def _forget(self, frame: Frame, *, is_counted: bool) -> None:
        """What a loop changes that is not followed to its end is not known after it."""
        has_work = self._runner._work > frame.rounds.first_flops
        if not (is_counted and self._runner.expect(frame.rounds)):
            self._runner.is_open |= has_work
        self._spend_on(len(self.locals))
        self.locals = [
            now if now == then else None for now, then in zip(self.locals, frame.before, strict=True)
        ]

    def _branch_if(self, label: int) -> None:
        condition, frame = self.pop(), self._target(label)
        self._effort.spend(label // 8)
        if condition is not None:
            self._compare(condition, label)
            if condition:
                self._branch(label, known=True)
            else:
                for inner in self._frames[len(self._frames) - label :]:
                    inner.decided = True
            return
        self._runner._doubts += 1
        is_counted = frame.decided and not frame.leaving
        if frame.kind == LOOP and is_counted and frame.rounds.count < _ROUNDS_MAX:
            # It counts, and may end before: by a failure, or because it is done.
            self._branch(label, known=True)
        elif frame.kind == LOOP:
            self._forget(frame, is_counted=is_counted)
        elif any(inner.leaving for inner in self._frames[len(self._frames) - label :]):
            self._branch(label)
        else:
            frame.meet(self._state(frame.arity))

    def _compare(self, condition: int, label: int) -> None:
        """A condition that is known decides on the innermost of the loops that it goes on with or leaves."""
        compared = (condition, 0) if condition > 1 else self.compared
        if compared is not None:
            for inner in reversed(self._frames[len(self._frames) - 1 - label :]):
                if inner.kind == LOOP:
                    inner.rounds.compare(*compared)
                    return

    def _branch_table(self, start: int) -> None:
        place = self.pop()
        count, at = leb(self._code, start + 1)
        self._effort.spend(count)
        labels = []
        for _ in range(count + 1):
            label, at = leb(self._code, at)
            labels.append(label)
        if place is not None:
            self._branch(labels[min(place, count)])
            return
        self._runner._doubts += 1
        for label in dict.fromkeys(labels):
            frame = self._target(label)
            if frame.kind != LOOP:
                frame.meet(self._state(frame.arity))
        self._resume()

    def _call(self, opcode: int, start: int) -> None:
        callee: int | None
        callee, after = leb(self._code, start + 1)
        module = self._runner._module
        if opcode not in (0x10, 0x12):
            signature = module.signature(callee)
            slot = self.pop()
            is_first = opcode in (0x11, 0x13) and leb(self._code, after)[0] == 0
            callee = self._runner.behind(slot, signature) if is_first else None
        else:
            signature = module.signature(module.type_of(callee))
        if signature is None:
            self.stack.clear()
            return
        self._spend_on(len(signature[0]) + signature[1])
        values = [self.pop() for _ in signature[0]][::-1]
        # What a loop did once it does not do again on the way to its end.
        self._effort.spend(len(self._frames) // 8)
        leaving = any(frame.leaving for frame in self._frames)
        self._runner.muted += leaving
        try:
            results = [None] * signature[1] if callee is None else self._runner.made(start, callee, values)
        except _Trap:
            self._resume()
            return
        finally:
            self._runner.muted -= leaving
        self.stack += results
        if opcode in (0x12, 0x13, 0x15):
            self._branch(len(self._frames) - 1)
