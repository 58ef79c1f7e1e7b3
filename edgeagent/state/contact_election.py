"""Which node a value is sent to, so that the next step has it in time: over contacts that come and go.

1. A consumer that holds the value already: nothing moves.
2. Else the consumer that the value reaches first (then by fewest hops, then least energy), over contacts with room for
   it, by the deadline; it may hold the value (known, powered, cool, with room) and is still there when the step starts.
3. Where no consumer will do: of the nodes that may hold the value, the holders among them, the one from which a
   consumer, asking when the step starts or when the value is there, has it first by the deadline.
4. Where nothing is in time, 2 and 3 again without the deadline: the least late, ``feasible`` false.
5. Where no contact of the plan leads there either, the value stays, ``feasible`` false.

Only what the deadline lets arrive is looked at in 2 and 3. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import msgspec

from edgeagent.state.contacts import Contacts, Host, Promised, Search, Start, Trail, refused_by
from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import Bytes, UtcS, checked_size

__all__ = ["Elected", "Need", "elect_over"]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be where, and when. Raises ElectionRefused for values that cannot be.

    ``holders``: node -> since or from when it has the value. ``consumers``: the nodes that the next step may run on,
    the planned one first. ``now_s``: nothing is sent before. ``use_s``: when the step starts. ``deadline_s``: when it
    must have the value. ``partly``: bytes of the value that are at a node already.
    """

    size_bytes: Bytes
    holders: Mapping[str, UtcS]
    consumers: tuple[str, ...]
    now_s: UtcS
    use_s: UtcS
    deadline_s: UtcS
    partly: Mapping[str, Bytes] = {}

    def __post_init__(self) -> None:
        checked_size(self.size_bytes)
        if not self.holders or not self.consumers:
            raise ElectionRefused("a value without holders or consumers", hint="name at least one of each")
        times = (self.now_s, self.use_s, *self.holders.values())
        if not all(map(math.isfinite, times)) or math.isnan(self.deadline_s):
            raise ElectionRefused(
                "a time is not finite", hint="give UTC seconds; the deadline may be infinite"
            )

    def volume(self, node: str) -> int:
        """What the node lacks."""
        return max(0, self.size_bytes - self.partly.get(node, 0))


class Elected(msgspec.Struct, frozen=True, kw_only=True):
    """``trail`` leads to ``node``; it has no hops where the value is there already or stays. ``ready_s``: when
    ``consumer`` has it, infinite where never. ``why``: there, in-time, beside (the consumer fetches it from ``node``),
    late, or no-contact; with what kept the consumer from holding it behind a colon.
    """

    node: str
    consumer: str
    trail: Trail
    ready_s: UtcS
    feasible: bool
    why: str


def elect_over(
    contacts: Contacts, hosts: Mapping[str, Host], need: Need, promised: Promised | None = None
) -> Elected:
    """The election of the module's rule; ``promised`` is what moves planned before it take, and is not changed."""
    taken = promised or Promised()
    holding = [one for one in need.consumers if one in need.holders]
    if holding:
        node = min(holding, key=lambda one: (need.holders[one], need.consumers.index(one)))
        ready_s = UtcS(max(need.use_s, need.holders[node]))
        in_time = ready_s <= max(need.deadline_s, need.use_s)
        trail = Trail(node, node, need.holders[node], 0.0, ())
        why = "there" if in_time else "late"
        return Elected(node=node, consumer=node, trail=trail, ready_s=ready_s, feasible=in_time, why=why)
    for until_s in (need.deadline_s, math.inf):
        found = _to_consumer(contacts, hosts, need, taken, until_s) or _beside(
            contacts, hosts, need, taken, until_s
        )
        if found is not None:
            return found
    node, since_s = min(need.holders.items(), key=lambda one: (one[1], one[0]))
    return Elected(
        node=node,
        consumer=need.consumers[0],
        trail=Trail(node, node, since_s, 0.0, ()),
        ready_s=UtcS(math.inf),
        feasible=False,
        why=_why("no-contact", hosts, need, taken),
    )


def _why(what: str, hosts: Mapping[str, Host], need: Need, taken: Promised) -> str:
    refused = refused_by(hosts, need.consumers[0], need.size_bytes, taken)
    return f"{what}:{refused}" if refused else what


def _settled(
    contacts: Contacts,
    hosts: Mapping[str, Host],
    need: Need,
    taken: Promised,
    *,
    until_s: float,
    consumers: bool,
) -> Iterator[Trail]:
    """Trails from the holders: to the consumers, or to all others."""
    starts = tuple(Start(node, max(since_s, need.now_s)) for node, since_s in sorted(need.holders.items()))
    names = frozenset(need.consumers)
    search = Search(
        starts=starts,
        volume=need.volume,
        relays=lambda node: not refused_by(hosts, node, need.size_bytes, taken),
        wanted=lambda node: (node in names) is consumers,
        until_s=until_s,
    )
    return contacts.settle(search, taken)


def _holds(hosts: Mapping[str, Host], need: Need, taken: Promised, trail: Trail) -> bool:
    """Whether the trail's end may hold the value, and is there until it is used."""
    if refused_by(hosts, trail.node, need.size_bytes, taken):
        return False
    return hosts[trail.node].until_s >= max(trail.arrive_s, need.use_s)


def _to_consumer(
    contacts: Contacts, hosts: Mapping[str, Host], need: Need, taken: Promised, until_s: float
) -> Elected | None:
    if all(refused_by(hosts, one, need.size_bytes, taken) for one in need.consumers):
        return None  # and nothing is searched for it
    for trail in _settled(contacts, hosts, need, taken, until_s=until_s, consumers=True):
        if _holds(hosts, need, taken, trail):
            feasible = trail.arrive_s <= need.deadline_s
            return Elected(
                node=trail.node,
                consumer=trail.node,
                trail=trail,
                ready_s=UtcS(max(trail.arrive_s, need.use_s)),
                feasible=feasible,
                why="in-time" if feasible else "late",
            )
    return None


def _beside(
    contacts: Contacts, hosts: Mapping[str, Host], need: Need, taken: Promised, until_s: float
) -> Elected | None:
    trails: dict[str, Trail] = {}
    for trail in _settled(contacts, hosts, need, taken, until_s=until_s, consumers=False):
        if not trail.hops or _holds(hosts, need, taken, trail):
            trails.setdefault(trail.node, trail)
    search = Search(
        starts=tuple(
            Start(node, max(trail.arrive_s, need.use_s), len(trail.hops), trail.energy_j)
            for node, trail in trails.items()
        ),
        volume=need.volume,
        relays=lambda node: not refused_by(hosts, node, need.size_bytes, taken),
        wanted=lambda node: node in need.consumers,
        until_s=until_s,
        asks=True,
    )
    fetch = next(contacts.settle(search, taken), None)
    if fetch is None:
        return None
    feasible = fetch.arrive_s <= need.deadline_s
    return Elected(
        node=fetch.origin,
        consumer=fetch.node,
        trail=trails[fetch.origin],
        ready_s=UtcS(fetch.arrive_s),
        feasible=feasible,
        why=_why("beside" if feasible else "late", hosts, need, taken),
    )
