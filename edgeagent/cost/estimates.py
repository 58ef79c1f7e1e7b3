"""How long a function runs and how much it puts out, from what was seen: a moving mean that forgets.

Inputs are told apart by size class, one for each power of four, since what most functions do grows with their input. A
class that nothing was seen of borrows from the nearest one that is known, without scaling: a guess, and said to be one.
Pure: no clock; what is old is forgotten by newer observations, not by time.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from edgeagent.model.errors import BadRequest

__all__ = ["EXEC_MS_UNKNOWN", "Estimates", "size_class"]

EXEC_MS_UNKNOWN = 10.0  # of a function that never ran: the time of a small one
_NEWEST = 1 / 8  # weight of the newest observation once there are eight: about the last eight count


def size_class(bytes_in: int) -> int:
    """0 for nothing, then 1 for 1 to 3 bytes, 2 for 4 to 15 and so on by powers of four."""
    return (max(bytes_in, 0).bit_length() + 1) // 2


class _Seen:
    __slots__ = ("count", "exec_ms", "out_bytes")

    def __init__(self) -> None:
        self.count, self.exec_ms, self.out_bytes = 0, 0.0, 0.0

    def add(self, exec_ms: float, out_bytes: float) -> None:
        self.count += 1
        weight = max(1.0 / self.count, _NEWEST)
        self.exec_ms += (exec_ms - self.exec_ms) * weight
        self.out_bytes += (out_bytes - self.out_bytes) * weight


class Estimates:
    """Of at most ``functions_max`` functions; the one that was not seen for longest is forgotten first."""

    def __init__(self, functions_max: int = 1024, *, exec_ms_unknown: float = EXEC_MS_UNKNOWN) -> None:
        if functions_max < 1 or not 0.0 < exec_ms_unknown < math.inf:
            raise BadRequest("a bound of the estimates is not positive", hint="give more than 0")
        self._functions_max, self._unknown_ms = functions_max, exec_ms_unknown
        self._seen: OrderedDict[str, dict[int, _Seen]] = OrderedDict()

    def __len__(self) -> int:
        """How many functions are known."""
        return len(self._seen)

    def observe(self, sha: str, bytes_in: int, exec_ms: float, bytes_out: int) -> None:
        """One execution; a time that cannot be is left out."""
        if not 0.0 <= exec_ms < math.inf:
            return
        classes = self._seen.setdefault(sha, {})
        self._seen.move_to_end(sha)
        classes.setdefault(size_class(bytes_in), _Seen()).add(exec_ms, float(max(bytes_out, 0)))
        while len(self._seen) > self._functions_max:
            self._seen.popitem(last=False)

    def exec_ms(self, sha: str, bytes_in: int) -> tuple[float, bool]:
        """(ms, known): ``known`` if inputs of about this size were seen."""
        seen, known = self._nearest(sha, bytes_in)
        return (self._unknown_ms if seen is None else seen.exec_ms), known

    def out_bytes(self, sha: str, bytes_in: int) -> int:
        """The bytes that come out; as many as go in where nothing is known."""
        seen, _ = self._nearest(sha, bytes_in)
        return max(bytes_in, 0) if seen is None else round(seen.out_bytes)

    def _nearest(self, sha: str, bytes_in: int) -> tuple[_Seen | None, bool]:
        classes = self._seen.get(sha)
        if not classes:
            return None, False
        wanted = size_class(bytes_in)
        nearest = min(classes, key=lambda one: (abs(one - wanted), one))
        return classes[nearest], nearest == wanted
