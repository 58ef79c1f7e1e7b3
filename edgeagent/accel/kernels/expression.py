"""A small expression language for ``elementwise``: text to a bounded program, never evaluated as Python. Pure.

    expression   comparison and arithmetic with the usual precedence, all of it on real numbers:
                 | & (0 is false, the result 0 or 1)   < <= > >= == !=   + -   * / %   unary - + !   **   ( )
    names        a to p: the inputs in their order; pi
    functions    abs sqrt exp log log2 log1p expm1 sin cos tan tanh asin acos atan floor ceil round sign isnan
                 min(x, y) max(x, y) pow(x, y) atan2(y, x) hypot(x, y) where(c, x, y) clip(x, low, high)

A program is a list of steps for a stack machine, so that its size and depth are known before anything runs.
"""

from __future__ import annotations

import math
import re
from typing import Any, NamedTuple

from edgeagent.accel.kernel_errors import BadExpression

__all__ = ["DEPTH_MAX", "FUNCTIONS", "STEPS_MAX", "Program", "Step", "evaluate", "parse"]

STEPS_MAX = 256
DEPTH_MAX = 32  # of the stack, and of parentheses

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\*\*|<=|>=|==|!=|[-+*/%<>!&|(),]))",
    re.ASCII,
)
_CONSTANTS = {"pi": math.pi}
# name -> (how many arguments, rough FLOPs an element)
FUNCTIONS = {
    "abs": (1, 1), "sqrt": (1, 4), "exp": (1, 16), "log": (1, 16), "log2": (1, 16), "log1p": (1, 16), "expm1": (1, 16),
    "sin": (1, 16), "cos": (1, 16), "tan": (1, 24), "tanh": (1, 24), "asin": (1, 24), "acos": (1, 24), "atan": (1, 24),
    "floor": (1, 1), "ceil": (1, 1), "round": (1, 1), "sign": (1, 1), "isnan": (1, 1), "min": (2, 1), "max": (2, 1),
    "pow": (2, 32), "atan2": (2, 32), "hypot": (2, 8), "where": (3, 1), "clip": (3, 2),
}  # fmt: skip
# binding power, left of right-associative ** one less on its right
_BINARY = {
    "|": 1, "&": 2, "<": 3, "<=": 3, ">": 3, ">=": 3, "==": 3, "!=": 3, "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "**": 7,
}  # fmt: skip
_UNARY_POWER = 6
_FLOPS = {"/": 4, "%": 8, "**": 32}


class Step(NamedTuple):
    """``op``: ``number``, ``input``, an operator, ``neg``, ``not`` or a function; ``value`` of the first two."""

    op: str
    value: float = 0.0
    arguments: int = 0


class Program(NamedTuple):
    steps: tuple[Step, ...]
    depth: int  # of the stack at its deepest
    inputs: int  # the highest input that is named, plus one
    flops: int  # of one element
    remainders: int  # of one element: what a CPU needs for one grows with the distance of the two numbers


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Program:
    """Raises BadExpression."""
    parser = _Parser(_tokens(text))
    parser.expression(0, 0)
    if parser.now.kind != "end":
        raise _wrong(parser.now, "was not expected here")
    return _measured(tuple(parser.steps))


def _tokens(text: str) -> list[_Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadExpression(f"the expression has an unknown character at {at}", at=at)
        kind = str(match.lastgroup)
        tokens.append(_Token(kind, match[kind], match.start(kind)))
        at = match.end()
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _wrong(token: _Token, what: str) -> BadExpression:
    return BadExpression(f"{token.text or 'the end'} at {token.at} of the expression {what}", at=token.at)


class _Parser:
    """By precedence; emits steps as it goes."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self.steps: list[Step] = []

    @property
    def now(self) -> _Token:
        return self._tokens[self._at]

    def expression(self, power: int, depth: int) -> None:
        """Whatever binds tighter than ``power``."""
        if depth > DEPTH_MAX:
            raise _wrong(self.now, "is nested too deeply")
        self._operand(depth)
        while (binds := _BINARY.get(self.now.text, 0)) > power:
            sign = self._take()
            self.expression(binds - 1 if sign.text == "**" else binds, depth + 1)
            self._emit(Step(sign.text, arguments=2), sign)

    def _operand(self, depth: int) -> None:
        token = self._take()
        if token.kind == "number":
            value = float(token.text)
            if not math.isfinite(value):
                raise _wrong(token, "is too large")
            self._emit(Step("number", value), token)
        elif token.kind == "name":
            self._name(token, depth)
        elif token.text == "(":
            self.expression(0, depth + 1)
            self._expect(")")
        elif token.text in {"-", "+", "!"}:
            self.expression(_UNARY_POWER, depth + 1)
            if token.text != "+":
                self._emit(Step("neg" if token.text == "-" else "not", arguments=1), token)
        else:
            raise _wrong(token, "was not expected here")

    def _name(self, token: _Token, depth: int) -> None:
        if self.now.text == "(":
            self._function(token, depth)
        elif token.text in _CONSTANTS:
            self._emit(Step("number", _CONSTANTS[token.text]), token)
        elif len(token.text) == 1 and "a" <= token.text <= "p":
            self._emit(Step("input", ord(token.text) - ord("a")), token)
        else:
            raise _wrong(token, "is no input, constant or function")

    def _function(self, token: _Token, depth: int) -> None:
        if token.text not in FUNCTIONS:
            raise _wrong(token, "is no function")
        wanted = FUNCTIONS[token.text][0]
        self._take()
        for i in range(wanted):
            if i:
                self._expect(",")
            self.expression(0, depth + 1)
        self._expect(")")
        self._emit(Step(token.text, arguments=wanted), token)

    def _take(self) -> _Token:
        token = self.now
        if token.kind != "end":
            self._at += 1
        return token

    def _expect(self, text: str) -> None:
        token = self._take()
        if token.text != text:
            raise _wrong(token, f"was not expected here, but {text}")

    def _emit(self, step: Step, token: _Token) -> None:
        if len(self.steps) >= STEPS_MAX:
            raise _wrong(token, f"is one step more than {STEPS_MAX}")
        self.steps.append(step)


def _measured(steps: tuple[Step, ...]) -> Program:
    depth = deepest = inputs = flops = 0
    for step in steps:
        depth += 1 - step.arguments
        deepest = max(deepest, depth)
        if step.op == "input":
            inputs = max(inputs, int(step.value) + 1)
        if step.arguments:
            flops += FUNCTIONS[step.op][1] if step.op in FUNCTIONS else _FLOPS.get(step.op, 1)
    if deepest > DEPTH_MAX:
        raise BadExpression(f"the expression keeps {deepest} values at once", hint=f"up to {DEPTH_MAX}", at=0)
    return Program(steps, deepest, inputs, flops, sum(step.op == "%" for step in steps))


def evaluate(xp: Any, program: Program, inputs: list[Any]) -> Any:
    """``inputs`` of one float type, which the result has too, unless the expression names none of them."""
    dtype = inputs[0].dtype
    stack: list[Any] = []
    for step in program.steps:
        if step.op == "number":
            stack.append(xp.asarray(step.value, dtype=dtype))
        elif step.op == "input":
            stack.append(inputs[int(step.value)])
        else:
            arguments = stack[-step.arguments :]
            del stack[-step.arguments :]
            stack.append(_apply(xp, step.op, arguments, dtype))
    return stack[0]


# operator or function -> the name of a function of the namespace
_SAME = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder", "**": "power", "neg": "negative",
    "pow": "power", "abs": "abs", "sqrt": "sqrt", "exp": "exp", "log": "log", "log2": "log2", "log1p": "log1p",
    "expm1": "expm1", "sin": "sin", "cos": "cos", "tan": "tan", "tanh": "tanh", "asin": "arcsin", "acos": "arccos",
    "atan": "arctan", "floor": "floor", "ceil": "ceil", "round": "rint", "sign": "sign", "min": "minimum",
    "max": "maximum", "atan2": "arctan2", "hypot": "hypot",
}  # fmt: skip
_TRUTHS = {
    "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal", "==": "equal", "!=": "not_equal",
    "isnan": "isnan",
}  # fmt: skip


def _apply(xp: Any, op: str, arguments: list[Any], dtype: Any) -> Any:
    if op in _SAME:
        return getattr(xp, _SAME[op])(*arguments)
    if op in _TRUTHS:
        return getattr(xp, _TRUTHS[op])(*arguments).astype(dtype)
    first = arguments[0]
    if op == "not":
        return (first == 0).astype(dtype)
    if op == "&":
        return ((first != 0) & (arguments[1] != 0)).astype(dtype)
    if op == "|":
        return ((first != 0) | (arguments[1] != 0)).astype(dtype)
    if op == "where":
        return xp.where(first != 0, arguments[1], arguments[2])
    assert op == "clip"
    return xp.minimum(xp.maximum(first, arguments[1]), arguments[2])
