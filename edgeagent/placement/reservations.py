"""Room that a node keeps for calls that are on their way to it: reserve, then check.

The target alone decides, with its own truth, whatever the decider believed: it admits or refuses within one round trip.
Pure: no clock. ``now_s`` is monotonic, in seconds. Rules, each held by a test:

1. What runs, what waits and what is held never exceed ``concurrency_max`` and what may wait; memory, heat, the
   battery's reserve and draining refuse on their own.
2. The same key gives the same reservation while it is held or in use, so a request that is repeated takes no more.
3. A reservation that nobody begins within ``ttl_ms`` expires; one that has begun is held until it ends. While it is in
   use it counts in the caller's truth, not here.
4. At most ``reserved_max`` are held or in use.
"""

from __future__ import annotations

import math

import msgspec

from edgeagent.placement.battery import lowest_charge
from edgeagent.placement.body import Body
from edgeagent.placement.errors import NotAdmitted, PlanRefused
from edgeagent.placement.thermal import hottest_c

__all__ = ["Reservation", "Reservations", "Truth"]

RETRY_AFTER_S = 1.0
_SPARE_PLACES = 2  # calls that may be on their way beside those that run: they queue for a moment


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What the target knows of itself now; None is unknown, or no limit."""

    active: int
    concurrency_max: int
    waiting: int = 0
    waiting_max: int = 0
    memory_free_bytes: int | None = None
    temperature_c: float | None = None
    battery: float | None = None
    draining: bool = False


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` is the epoch of the target and a number, so that one of a former life fits nothing."""

    id: str
    key: str
    memory_bytes: int
    wall_ms: float
    expires_s: float


class Reservations:
    """What one node has promised. ``epoch`` tells its lives apart; at most ``spare_places`` may queue."""

    def __init__(
        self,
        *,
        ttl_ms: float = 5000.0,
        reserved_max: int = 256,
        epoch: int = 0,
        spare_places: int = _SPARE_PLACES,
    ) -> None:
        if not 0.0 < ttl_ms < math.inf or reserved_max < 1 or spare_places < 0:
            raise PlanRefused("a bound of the reservations is not positive", hint="give more than 0")
        self.ttl_ms, self.reserved_max, self.epoch = ttl_ms, reserved_max, epoch
        self.spare_places = spare_places
        self._next = 0
        # Both in the order of their making. All live equally long, so the first waiting one expires first.
        self._waiting: dict[str, Reservation] = {}
        self._begun: dict[str, Reservation] = {}
        self._ids: dict[str, str] = {}  # key -> id, of both

    @property
    def held(self) -> int:
        """Those that nobody has begun yet."""
        return len(self._waiting)

    @property
    def in_use(self) -> int:
        """Those that have begun and not ended."""
        return len(self._begun)

    def reserve(
        self, key: str, memory_bytes: int, wall_ms: float, truth: Truth, body: Body, now_s: float
    ) -> Reservation:
        """Keep room for one call. Raises NotAdmitted, with the constraint, where there is none."""
        self.expire(now_s)
        known = self._ids.get(key)
        if known is not None:
            return self._waiting.get(known) or self._begun[known]
        self._check_room(memory_bytes, truth)
        _check_body(wall_ms, truth, body)
        self._next += 1
        made = Reservation(
            id=f"{self.epoch:x}-{self._next:x}",
            key=key,
            memory_bytes=memory_bytes,
            wall_ms=wall_ms,
            expires_s=now_s + self.ttl_ms / 1000.0,
        )
        self._waiting[made.id] = made
        self._ids[key] = made.id
        return made

    def begin(self, reservation_id: str, now_s: float) -> Reservation | None:
        """The call has come: from now on it counts in the truth. None: it has expired, or never was.

        To begin twice is to begin once.
        """
        self.expire(now_s)
        made = self._waiting.pop(reservation_id, None)
        if made is not None:
            self._begun[reservation_id] = made
        return made or self._begun.get(reservation_id)

    def end(self, reservation_id: str) -> None:
        """The call is over, or will not come."""
        made = self._waiting.pop(reservation_id, None) or self._begun.pop(reservation_id, None)
        if made is not None:
            del self._ids[made.key]

    def expire(self, now_s: float) -> int:
        """How many waiting ones went because nobody began them in time."""
        gone = [made for made in self._waiting.values() if made.expires_s <= now_s]
        for made in gone:
            self.end(made.id)
        return len(gone)

    def _check_room(self, memory_bytes: int, truth: Truth) -> None:
        if truth.draining:
            raise _refused("draining", "the node takes no more calls")
        if len(self._ids) >= self.reserved_max:
            raise _refused("reservations", f"{len(self._ids)} reservations, at most {self.reserved_max}")
        taken = truth.active + truth.waiting + self.held
        room = truth.concurrency_max + min(truth.waiting_max, self.spare_places)
        if taken >= room:
            raise _refused("concurrency", f"{taken} calls run, wait or are expected, at most {room}")
        promised = sum(made.memory_bytes for made in self._waiting.values())
        free = truth.memory_free_bytes
        if free is not None and memory_bytes > free - promised:
            raise _refused("memory", f"{memory_bytes} bytes asked, {max(free - promised, 0)} free")


def _check_body(wall_ms: float, truth: Truth, body: Body) -> None:
    """Heat and battery if the call runs for its whole wall limit; the light is not known here, so the worst counts."""
    highest = body.temperature_c_max
    if highest is not None and truth.temperature_c is not None:
        hottest = hottest_c(body, truth.temperature_c, body.busy_w, 1.0, wall_ms / 1000.0)
        if hottest > highest:
            raise _refused("heat", f"up to {hottest:.1f} C within {wall_ms:g} ms, at most {highest:g} C")
    if body.battery_wh is not None and truth.battery is not None:
        lowest = lowest_charge(body, truth.battery, 1.0, [(wall_ms / 1000.0, 0.0)])
        if lowest < body.battery_reserve:
            raise _refused("battery", f"down to {lowest:.1%}, of which {body.battery_reserve:.0%} are kept")


def _refused(constraint: str, what: str) -> NotAdmitted:
    return NotAdmitted(
        f"no room for the call: {what}",
        hint="try the next node of the plan",
        retry_after_s=RETRY_AFTER_S,
        constraint=constraint,
    )
