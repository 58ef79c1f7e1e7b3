"""Hybrid logical clock: versions that order writes by cause everywhere and by UTC nearly everywhere.

Source: Kulkarni et al., Logical Physical Clocks (OPODIS 2014): 48 bits of milliseconds since 1970 UTC, 16 bits of
counter; the writer's node id breaks ties.

1. A node's versions only grow, over restarts too: ``high`` is kept on disk and given back.
2. A version from a clock more than ``skew_ms_max`` ahead is refused, so that one node whose clock is wrong cannot drag
   all others into the future; nor can it step by step: what this node has seen allows as much again, and no more. While
   our own clock is plainly unset (before 2024), others' time is better than ours and is taken.
"""

from __future__ import annotations

import re
from typing import Annotated, NamedTuple

import msgspec

from edgeagent.state.errors import BadKey, ClockAhead

__all__ = [
    "NONE",
    "SKEW_MS_MAX",
    "UNSET_BEFORE_MS",
    "Clock",
    "Counter",
    "Node",
    "Version",
    "Wall",
    "read_version",
]

SKEW_MS_MAX = 60_000
UNSET_BEFORE_MS = 1_704_067_200_000  # 2024-01-01: no node of ours was made before
_COUNTER_MAX = (1 << 16) - 1
_WALL_MAX = (1 << 48) - 1
_TEXT = re.compile(r"([0-9a-f]{1,12})\.([0-9a-f]{1,4})\.([0-9A-Za-z_.:-]{1,64})")

# The parts of a version that comes from elsewhere.
Wall = Annotated[int, msgspec.Meta(ge=0, le=_WALL_MAX)]
Counter = Annotated[int, msgspec.Meta(ge=0, le=_COUNTER_MAX)]
Node = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_.:-]{0,64}\Z")]


class Version(NamedTuple):
    """Ordered; ``wall_ms`` since 1970 UTC."""

    wall_ms: int
    counter: int
    node: str

    @property
    def moment(self) -> tuple[int, str]:
        """What the versions of one transaction have in common."""
        return self.wall_ms, self.node

    def text(self) -> str:
        """As headers and JSON have it."""
        return f"{self.wall_ms:x}.{self.counter:x}.{self.node}"


NONE = Version(0, 0, "")  # before every version


def read_version(text: str) -> Version:
    """Raises BadKey for what ``text`` would not write."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise BadKey(f"{text[:80]!r} is no version", hint="as Edgeagent-Version said it")
    return Version(int(found[1], 16), int(found[2], 16), found[3])


class Clock:
    """Of one node. ``high`` is the highest version that was ever made or seen here."""

    def __init__(self, node: str, *, high: Version = NONE, skew_ms_max: int = SKEW_MS_MAX) -> None:
        self.high = high
        self._node = node
        self._skew_ms_max = skew_ms_max

    def next(self, utc_ms: int) -> Version:
        """A version above all that was made or seen."""
        if utc_ms > self.high.wall_ms:
            made = Version(utc_ms, 0, self._node)
        elif self.high.counter < _COUNTER_MAX:
            made = Version(self.high.wall_ms, self.high.counter + 1, self._node)
        else:
            made = Version(self.high.wall_ms + 1, 0, self._node)
        self.high = made
        return made

    def check(self, version: Version, utc_ms: int) -> None:
        """Raises ClockAhead; see rule 2."""
        if version.wall_ms > _WALL_MAX or (
            utc_ms >= UNSET_BEFORE_MS and version.wall_ms > max(utc_ms + self._skew_ms_max, self.high.wall_ms)
        ):
            ahead_s = (version.wall_ms - utc_ms) / 1000
            raise ClockAhead(
                f"the version {version.text()} is {ahead_s:.0f} s ahead of this node's clock",
                hint=f"set the clock of node {version.node}; {self._skew_ms_max / 1000:g} s are tolerated",
            )

    def saw(self, version: Version, utc_ms: int) -> None:
        """Another node's version; our next ones are above it. Raises ClockAhead."""
        self.check(version, utc_ms)
        self.high = max(self.high, version)
