"""The language of elementwise: what it means, and what it is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeagent.accel.kernel_errors import BadExpression
from edgeagent.accel.kernels.expression import DEPTH_MAX, FUNCTIONS, STEPS_MAX, evaluate, parse


def value(text: str, **inputs: float) -> float:
    names = "abcdefghijklmnop"
    arrays: list[Any] = [np.asarray([inputs.get(name, 0.0)]) for name in names]
    with np.errstate(all="ignore"):
        return float(np.broadcast_to(evaluate(np, parse(text), arrays), (1,))[0])


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("-2 ** 2", -4),
        ("2 ** 3 ** 2", 512),
        ("2 ** -1", 0.5),
        ("10 - 4 - 3", 3),
        ("16 / 4 / 2", 2),
        ("7 % 4 + -7 % 4", 4),
        ("1 < 2 & 3 >= 3 | 0", 1),
        ("!(1 == 1) | 2 != 2", 0),
        ("1e3 + .5 + 2.", 1002.5),
        ("where(0, 1, 2) + where(-3, 10, 20)", 12),
        ("clip(7, 0, 5) + min(1, 2) + max(1, 2)", 8),
        ("hypot(3, 4) + atan2(0, 1) + pow(2, 5)", 37),
        ("round(2.5) + floor(-.5) + ceil(.5) + sign(-9)", 1),
        ("isnan(0/0) + isnan(1)", 1),
        ("cos(pi) + tan(0) + expm1(0) + log1p(0)", -1),
        ("a * 2 + p", 13),
        ("+3", 3),
    ],
)
def test_it_means_what_it_says(text: str, wanted: float) -> None:
    assert value(text, a=5.0, p=3.0) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "name", [name for name, (count, _) in FUNCTIONS.items() if count == 1 and name != "isnan"]
)
def test_functions_are_those_of_mathematics(name: str) -> None:
    others: dict[str, Callable[[float], float]] = {
        "sign": lambda x: math.copysign(1, x),
        "abs": abs,
        "round": lambda x: float(round(x)),
    }
    ours = others[name] if name in others else getattr(math, name)
    assert value(f"{name}(a)", a=0.375) == pytest.approx(ours(0.375))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "1 +", "* 1", "1 2", "(1", "1)", "()", "min(1)", "min(1, 2, 3)", "abs()", "foo(1)", "q", "x",
        "ab", "pi()", "__import__", "a.b", "a[0]", "a;b", "'a'", "a = 1", "lambda",
        "1e999", "1j", "0x10", "abs", "where(1,2)", "a,b",
        "a\0", "\u0661", "a<<b", "a@b", "1_000", "if a", "a and b", "not a",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadExpression) as refused:
        parse(text)
    assert 0 <= refused.value.details["at"] <= len(text)


def test_steps_depth_and_nesting_are_bounded() -> None:
    assert len(parse("+".join("a" * (STEPS_MAX // 2))).steps) == STEPS_MAX - 1
    for text in (
        "+".join("a" * STEPS_MAX),
        "(" * (DEPTH_MAX + 2) + "a" + ")" * (DEPTH_MAX + 2),
        "-" * 500 + "a",
        "a**" * 100 + "a",
        "abs(" * 100 + "a" + ")" * 100,
    ):
        with pytest.raises(BadExpression):
            parse(text)


@given(st.text(alphabet="ab1.e+-*/%<>=!&|(), minwhere", max_size=60))
@example("a" * 60)
def test_any_text_is_a_program_or_refused(text: str) -> None:
    try:
        program = parse(text)
    except BadExpression:
        return
    assert len(program.steps) <= STEPS_MAX
    assert 0 < program.depth <= DEPTH_MAX
    assert program.inputs <= 16
    assert program.flops >= 0


_numbers = st.integers(-9, 9).map(str) | st.sampled_from(["a", "b"])
_trees = st.recursive(
    _numbers.map(lambda n: f"({n})"),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=12,
)


@given(_trees, st.integers(-5, 5), st.integers(-5, 5))
def test_arithmetic_is_pythons(text: str, a: int, b: int) -> None:
    wanted = eval(text, {"a": a, "b": b})
    assert value(text, a=a, b=b) == wanted
