"""The conditions of workflow steps: ``bytes > 0 and items <= 10 or exit == 3``. Pure.

Comparisons of a name with a number, joined by ``and`` and ``or``; ``and`` binds tighter, there are no brackets, and
nothing of it is ever evaluated as code. The names are what the step would be given: ``bytes`` in all, ``items`` of
them, and the ``exit`` code of the last predecessor.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Literal, cast, get_args

import msgspec

from edgeagent.model.errors import WorkflowRefused

__all__ = ["ALWAYS", "Comparison", "Condition", "parse_when"]

Name = Literal["exit", "bytes", "items"]

_HOLDS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_TEXT_CHARACTERS_MAX = 256
_TOKEN = re.compile(r"\s*(?:([a-z]+)|([=!<>]+)|(-?[0-9]{1,18}(?:\.[0-9]{1,9})?)(?![0-9a-z.]))")
_HINT = "NAME OP NUMBER, joined by and/or; NAME is exit, bytes or items, OP one of == != < <= > >="


class Comparison(msgspec.Struct, frozen=True):
    name: Name
    op: str
    number: float


class Condition(msgspec.Struct, frozen=True):
    """``any_of`` holds where all comparisons of one of its members do; an empty one always holds."""

    any_of: tuple[tuple[Comparison, ...], ...] = ()

    def holds(self, *, exit: int = 0, bytes: int = 0, items: int = 0) -> bool:  # noqa: A002 - the language's names
        """Whether a step with this condition runs, given that much."""
        given = {"exit": exit, "bytes": bytes, "items": items}
        return not self.any_of or any(
            all(_HOLDS[one.op](given[one.name], one.number) for one in together) for together in self.any_of
        )


ALWAYS = Condition()


def parse_when(text: str) -> Condition:
    """Read a condition; "" always holds. Raises WorkflowRefused naming what is wrong."""
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise WorkflowRefused(f"a condition has at most {_TEXT_CHARACTERS_MAX} characters", hint=_HINT)
    if not text.strip():
        return ALWAYS
    tokens = _tokens(text)
    any_of: list[list[Comparison]] = [[]]
    for at in range(0, len(tokens), 4):
        any_of[-1].append(_comparison(text, tokens[at : at + 3]))
        joint = tokens[at + 3 : at + 4]
        if joint == ["or"]:
            any_of.append([])
        elif joint not in ([], ["and"]):
            raise _malformed(text, f"{joint[0]!r} stands where 'and' or 'or' would")
    if len(tokens) % 4 == 0:
        raise _malformed(text, f"nothing follows {tokens[-1]!r}")
    return Condition(tuple(map(tuple, any_of)))


def _comparison(text: str, words: list[str]) -> Comparison:
    name, op, number = [*words, "", "", ""][:3]
    if name not in get_args(Name):
        raise _malformed(text, f"{name!r} is no name")
    if op not in _HOLDS:
        raise _malformed(text, f"{op!r} is no comparison")
    if not number.lstrip("-")[:1].isdigit():
        raise _malformed(text, f"{number!r} is no number")
    return Comparison(cast("Name", name), op, float(number))


def _tokens(text: str) -> list[str]:
    tokens, at, end = [], 0, len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise _malformed(text, f"{text[at:].strip()[:20]!r} is not understood")
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


def _malformed(text: str, why: str) -> WorkflowRefused:
    return WorkflowRefused(f"condition {text!r}: {why}", hint=_HINT)
