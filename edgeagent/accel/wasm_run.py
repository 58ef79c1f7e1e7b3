"""What a module calls when it runs, as far as that is known beforehand: its code, followed with unknown numbers.

Entries are run with arguments that nobody knows. What is computed of constants, of data segments and of what was stored
at known addresses is known; so descriptions of calls that the source writes out come out as bytes, also where loops and
functions put them together. Where a condition is not known both ways are followed, one after the other: locals and
values on the stack that differ are not known after they meet, and work is that of the dearer way. Of memory and globals
there is one state: what was stored last counts, on whichever way. A loop whose length is not known is followed once. It
guides a prior and no more; all steps count, and the count is bounded.

``Runner`` goes from function to function, ``_Way`` through the instructions of one; a block that is open is a
``_Frame``, which keeps what is to be gone on with: the other branch of an ``if``, and what came by a branch to its end.
wasm_values.py has the stack and the locals, wasm_numbers.py the arithmetic, wasm_memory.py the bytes and the bound.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from edgeagent.accel.wasm_body import leb, skip_immediates
from edgeagent.accel.wasm_memory import EffortSpent, Memory
from edgeagent.accel.wasm_module import Signature, Skeleton
from edgeagent.accel.wasm_numbers import LOADS, STORES
from edgeagent.accel.wasm_rounds import Rounds
from edgeagent.accel.wasm_values import Number, Values
from edgeagent.model.errors import WasmRefused

__all__ = ["Made", "Runner"]

_DEPTH_MAX = 24  # calls within calls that are followed
_LOCALS_MAX = 4096
_ROUNDS_MAX = 1000  # of a loop in which something is not known
_BLOCK, _LOOP, _IF = 0x02, 0x03, 0x04
_OPENS = (_BLOCK, _LOOP, _IF, 0x06, 0x1F)


class Made(msgspec.Struct, frozen=True):
    """A call of an imported function: where, which, and its arguments as far as they are known."""

    offset: int
    callee: int
    values: tuple[Number, ...]


class _Trap(Exception):
    """No way through a function comes to its end."""


class _State(msgspec.Struct):
    """Where ways may meet: locals, the values that a block leaves, the work until here."""

    locals: list[Number]
    values: list[Number]
    work: float


class _Frame(msgspec.Struct):
    """A block, a loop or an ``if`` that is open; the first one is the function itself."""

    kind: int
    start: int  # of what is inside
    end: int  # of the ``end`` instruction
    height: int  # of the stack below it
    arity: int  # how many values a branch to it takes along
    met: _State | None = None  # of all ways that have come to its end until now
    otherwise: _State | None = None  # with which an ``if`` whose condition is not known goes its other way
    other: int = 0  # where that goes on
    # Of a loop: conditions that were not known when its round began, locals then, whether one that was known let it go
    # on, its rounds, and whether it only looks for its end.
    doubts: int = 0
    before: list[Number] = msgspec.field(default_factory=list)
    decided: bool = False
    rounds: Rounds = msgspec.field(default_factory=Rounds)
    leaving: bool = False


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
        count, at = _locals_of(self._wasm, body.start)
        if count > _LOCALS_MAX:
            return [None] * results
        if at not in self._blocks:
            self.memory.effort.spend((body.end - at) // 2)
            self._blocks[at] = _blocks_of(self._wasm, at, body.end)
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

    def expect(self, rounds: Rounds) -> None:
        """Of a loop that is not followed to its end, what is left counts as what was seen."""
        total = rounds.total_flops(self._work)
        self.is_reckoned |= total > self._work
        self._work = total
        self.most_flops = max(self.most_flops, self._work)

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
        self._frames = [_Frame(_BLOCK, start, end - 1, 0, results)]

    def follow(self) -> list[Number]:
        """What it returns. Raises _Trap."""
        try:
            return self._follow()
        except EffortSpent:
            for frame in reversed(self._frames):
                if frame.kind == _LOOP and not frame.leaving:
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
        if opcode in _OPENS:
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
        kind = opcode if opcode in (_LOOP, _IF) else _BLOCK
        condition = self.pop() if kind == _IF else 1
        results, params = self._block_type(start + 1)
        self._spend_on(results + params)
        frame = _Frame(kind, self._at, end, max(len(self.stack) - params, 0), results)
        self._frames.append(frame)
        if kind == _LOOP:
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

    def _round(self, frame: _Frame) -> None:
        self._spend_on(len(self.locals) + frame.arity)
        frame.doubts, frame.before = self._runner._doubts, list(self.locals)
        frame.decided = False
        frame.rounds.begin(self._runner._work)

    def _state(self, arity: int) -> _State:
        self._spend_on(len(self.locals) + arity)
        values = self.stack[-arity:] if arity else []
        return _State(list(self.locals), values, self._runner._work)

    def _take(self, state: _State, height: int) -> None:
        self.locals = list(state.locals)
        self.stack[height:] = state.values
        self._runner._work = state.work

    def _end(self, *, alive: bool) -> None:
        frame = self._frames[-1]
        if alive and frame.otherwise is not None and frame.other == frame.end:  # an if without an else
            _meet(frame, frame.otherwise)
            frame.otherwise = None
        if alive and frame.otherwise is not None:
            _meet(frame, self._state(frame.arity))
            self._other(frame)
            return
        self._frames.pop()
        self._at = skip_immediates(self._code, frame.end + 1, self._code[frame.end])
        if frame.met is not None:
            if alive and frame.kind != _LOOP:
                _meet(frame, self._state(frame.arity))
            self._take(frame.met, frame.height)
        elif frame.kind != _LOOP:
            kept = self.stack[-frame.arity :] if frame.arity else []
            self.stack[frame.height :] = kept
            self.stack += [None] * (frame.height + frame.arity - len(self.stack))

    def _other(self, frame: _Frame) -> None:
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
                    _meet(frame, frame.otherwise)
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
        if frame.kind != _LOOP:
            _meet(frame, self._state(frame.arity))
            self._resume()
            return
        is_counted = (known or frame.decided) and frame.rounds.count < _ROUNDS_MAX
        if self._runner._doubts > frame.doubts and not is_counted:
            if frame.leaving:
                self._resume()
                return
            frame.leaving = True
            if known or frame.decided:
                self._runner.expect(frame.rounds)
            self._forget(frame)
        while self._frames[-1] is not frame:
            self._frames.pop()
        kept = self.stack[-frame.arity :] if frame.arity else []
        self.stack[frame.height :] = kept
        self._at = frame.start
        self._round(frame)

    def _target(self, label: int) -> _Frame:
        if label >= len(self._frames):
            raise WasmRefused(f"a branch to label {label} at offset {self._at} leads nowhere")
        return self._frames[-1 - label]

    def _forget(self, frame: _Frame) -> None:
        """What a loop of unknown length changes is not known after it."""
        self._runner.is_open |= self._runner._work > frame.rounds.first_flops
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
        if frame.kind == _LOOP and frame.decided and not frame.leaving and frame.rounds.count < _ROUNDS_MAX:
            # It counts, and may end before: by a failure, or because it is done.
            self._branch(label, known=True)
        elif frame.kind == _LOOP:
            self._forget(frame)
        elif any(inner.leaving for inner in self._frames[len(self._frames) - label :]):
            self._branch(label)
        else:
            _meet(frame, self._state(frame.arity))

    def _compare(self, condition: int, label: int) -> None:
        """A condition that is known decides on the innermost of the loops that it goes on with or leaves."""
        compared = (condition, 0) if condition > 1 else self.compared
        if compared is not None:
            for inner in reversed(self._frames[len(self._frames) - 1 - label :]):
                if inner.kind == _LOOP:
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
            if frame.kind != _LOOP:
                _meet(frame, self._state(frame.arity))
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


def _meet(frame: _Frame, state: _State) -> None:
    """Another way comes to the end of a block."""
    known = frame.met
    if known is None:
        frame.met = state
        return
    known.locals = [a if a == b else None for a, b in zip(known.locals, state.locals, strict=True)]
    short = min(len(known.values), len(state.values))
    pairs = zip(known.values[:short], state.values[:short], strict=True)
    known.values = [a if a == b else None for a, b in pairs]
    known.work = max(known.work, state.work)


def _locals_of(code: bytes, at: int) -> tuple[int, int]:
    """How many there are beside the parameters, and where the instructions begin."""
    groups, at = leb(code, at)
    total = 0
    for _ in range(min(groups, _LOCALS_MAX)):
        count, at = leb(code, at)
        at = leb(code, at + 1)[1] if code[at] in (0x63, 0x64) else at + 1
        total += count
    return total, at


def _blocks_of(code: bytes, at: int, end: int) -> dict[int, tuple[int, int]]:
    """For where each block begins: where its other branch does (0: none), and its ``end``."""
    found: dict[int, tuple[int, int]] = {}
    waiting: list[int] = []
    others: dict[int, int] = {}
    while at < end:
        opcode, start = code[at], at
        at = skip_immediates(code, at + 1, opcode)
        if opcode in _OPENS:
            waiting.append(start)
        elif opcode == 0x05 and waiting:
            others[waiting[-1]] = at
        elif opcode in (0x0B, 0x18) and waiting:
            opened = waiting.pop()
            found[opened] = (others.get(opened, 0), start)
    return found
