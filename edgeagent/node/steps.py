"""The steps of a chain as users write them: ``b``, ``b@ground``, ``b+c@ground+d``. Pure.

``@`` names the peer that runs the function, ``+`` joins functions that all get the same input; what they return goes on
as framed items (:mod:`edgeagent.node.items`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from edgeagent.model.errors import BadRequest

__all__ = ["FUNCTIONS_MAX", "Leg", "Step", "Target", "legs_of", "parse_step"]

FUNCTIONS_MAX = 32  # of a chain
_TARGET = re.compile(r"([a-z0-9-]{1,63})(?:@([a-z0-9-]{1,63}))?")


class Target(msgspec.Struct, frozen=True):
    """A function, and the peer that runs it; "" is this node."""

    function: str
    peer: str = ""

    def __str__(self) -> str:
        return f"{self.function}@{self.peer}" if self.peer else self.function


Step = tuple[Target, ...]


class Leg(msgspec.Struct, frozen=True):
    """What is done at one place: one step, or consecutive steps of one peer, which it is given together."""

    steps: tuple[Step, ...]

    @property
    def peer(self) -> str:
        """The one peer of all of it, or ""."""
        return self.steps[0][0].peer if len(self.steps[0]) == 1 else ""


def parse_step(text: str) -> Step:
    """Raises BadRequest naming what is wrong."""
    found = [_TARGET.fullmatch(word.strip()) for word in text.split("+")]
    targets = tuple(Target(match[1], match[2] or "") for match in found if match is not None)
    if len(targets) < len(found):
        raise BadRequest(
            f"{text[:200]!r} is no step of a chain",
            hint="NAME, NAME@PEER, or several of them joined by +; names are 1 to 63 of a-z, 0-9 and -",
        )
    return targets


def legs_of(steps: Sequence[Step]) -> list[Leg]:
    """The chain with consecutive single steps of one peer put together. Raises BadRequest for too many functions."""
    if sum(map(len, steps)) > FUNCTIONS_MAX:
        raise BadRequest(f"a chain has at most {FUNCTIONS_MAX} functions")
    legs: list[Leg] = []
    for step in steps:
        leg = Leg((step,))
        if legs and leg.peer and legs[-1].peer == leg.peer:
            legs[-1] = Leg((*legs[-1].steps, step))
        else:
            legs.append(leg)
    return legs
