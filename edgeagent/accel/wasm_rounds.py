"""How many rounds of a loop there are left, where not all of them are followed.

A loop that counts compares a number with another in each round. Two rounds show by how much the number changes, and so
how often it will; the rounds that were followed show what one is.
"""

from __future__ import annotations

import msgspec

__all__ = ["Rounds"]

_ROUNDS_MAX = 1e12


class Rounds(msgspec.Struct):
    """Of one loop: what it compared, newest last, and the work at the begin of its first and its newest round."""

    count: int = 0
    first_flops: float = 0.0
    newest_flops: float = 0.0
    older: tuple[int, int] | None = None
    newest: tuple[int, int] | None = None

    def begin(self, work_flops: float) -> None:
        """Another round."""
        if self.count == 0:
            self.first_flops = work_flops
        self.newest_flops = work_flops
        self.count += 1

    def compare(self, left: int, right: int) -> None:
        """What decides whether there is another round."""
        if (left, right) != self.newest:
            self.older, self.newest = self.newest, (left, right)

    def total_flops(self, now_flops: float) -> float:
        """The work at its end, from what it is ``now``; just that where nothing more can be told."""
        left = self._left()
        if left is None:
            return now_flops
        each = now_flops - self.first_flops
        if self.count > 1:
            each = (self.newest_flops - self.first_flops) / (self.count - 1)
        return max(now_flops, self.newest_flops + each * min(left, _ROUNDS_MAX))

    def _left(self) -> int | None:
        """Rounds from the newest comparison on. In the first round it is taken for a count by 1."""
        if self.newest is None:
            return None
        if self.older is None:
            return abs(_signed(self.newest[1] - self.newest[0])) if self.count == 1 else None
        steps = [_signed(now - then) for now, then in zip(self.newest, self.older, strict=True)]
        gap = _signed(self.newest[1] - self.newest[0])
        closing = steps[0] - steps[1]
        if closing == 0 and steps[0] != 0 and gap != 0:
            return _to_the_end(self.newest[1], steps[0])
        if 0 not in steps or closing == 0 or gap * closing < 0:
            return None
        return abs(gap) // abs(closing)


def _to_the_end(number: int, step: int) -> int:
    """Rounds until a number that is compared with itself and a little more begins anew at the other end."""
    bits = 32 if number < 1 << 32 else 64
    return ((1 << bits) - number if step > 0 else number) // abs(step)


def _signed(number: int) -> int:
    """A difference of numbers of 32 or 64 bits without sign."""
    bits = 32 if abs(number) < 1 << 32 else 64
    return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
