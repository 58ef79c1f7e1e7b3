"""Contacts that come and go, and the earliest arrival over them: store and forward, from node to node.

A contact is one direction of a link, from ``start_s`` to ``end_s`` at ``rate``. It carries a value of V bytes that is
at its sender at t where, with b the first moment from t and start_s on that is free of what was promised before::

    MARGIN * V <= what is left of its volume          (its own left_bytes, and rate * (end_s - b))
    arrival = b + 8 V / rate + latency

Nothing is gained by being at a node later, so nodes settle in the order of arrival (Dijkstra), then hops, then energy.
Earlier but longer ways do not hide later and shorter ones that catch up while they wait for a contact: a node keeps as
many labels as are not beaten in all three, up to LABELS_MAX, the earliest always among them. Of the contacts of one
pair the one that arrives first is taken.

Nodes on the way take the value into custody, so that what bounds hosts bounds them too. Where the network routes by
itself, a route between two nodes is one contact between them, with its latency and its narrowest rate. Pure.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS, checked_rate, sending_s

__all__ = [
    "MARGIN",
    "Contact",
    "Contacts",
    "Hop",
    "Host",
    "Promised",
    "Search",
    "Start",
    "Trail",
    "refused_by",
]

MARGIN = 1.3  # of contact volume: losses, headers, and rates below what was predicted
LABELS_MAX = 8
_ALWAYS = UtcS(math.inf)


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """One direction. ``left_bytes`` is what may still be sent in it, None: what its time allows. ``nj_per_bit`` is the
    energy of sending and receiving. Raises ElectionRefused for values that cannot be.
    """

    sender: str
    receiver: str
    start_s: UtcS
    end_s: UtcS
    rate: BitPerS
    latency: Ms = Ms(0.0)
    left_bytes: Bytes | None = None
    nj_per_bit: float = 0.0

    def __post_init__(self) -> None:
        if not -math.inf < self.start_s < self.end_s:
            raise ElectionRefused(
                f"a contact of {self.sender!r:.80} from {self.start_s} to {self.end_s}", hint="it ends later"
            )
        checked_rate(self.rate)
        if not 0.0 <= self.latency < math.inf or not 0.0 <= self.nj_per_bit < math.inf:
            raise ElectionRefused(
                f"a contact of {self.latency} ms and {self.nj_per_bit} nJ a bit", hint="they are at least 0"
            )

    @property
    def latency_s(self) -> float:
        return self.latency / 1000.0


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a node can take in. ``powered`` and ``cool``: battery and heat allow it. ``until_s``: it leaves then."""

    room_bytes: Bytes
    powered: bool = True
    cool: bool = True
    until_s: UtcS = _ALWAYS

    def refuses(self, size: int) -> str:
        """Why it takes no value of this size now; "" where it does."""
        if not self.powered:
            return "power"
        if not self.cool:
            return "heat"
        return "no-room" if size > self.room_bytes else ""


class Hop(NamedTuple):
    """One contact of a trail: ``number`` is its place in ``Contacts``."""

    sender: str
    receiver: str
    begin_s: float
    arrive_s: float
    volume: int
    number: int


class Trail(NamedTuple):
    """From where a value is to where it arrives. ``hops`` may be empty: it is there already, since ``arrive_s``."""

    origin: str
    node: str
    arrive_s: float
    energy_j: float
    hops: tuple[Hop, ...]

    @property
    def via(self) -> tuple[str, ...]:
        """The nodes, both ends included."""
        return (self.origin, *(hop.receiver for hop in self.hops))


class Promised:
    """What moves that are planned already take of contacts and of hosts' room. Mutable."""

    def __init__(self) -> None:
        self.busy_s: dict[int, list[tuple[float, float]]] = {}
        self.sent_bytes: dict[int, int] = {}
        self.room_bytes: dict[str, int] = {}

    def free_s(self, number: int, at_s: float, lasts_s: float) -> float:
        """The first moment from ``at_s`` on at which the contact has nothing else to send for so long."""
        for begin_s, end_s in self.busy_s.get(number, ()):
            if at_s + lasts_s <= begin_s:
                break
            at_s = max(at_s, end_s)
        return at_s

    def take(self, trail: Trail, size: int) -> None:
        """The trail's contacts are busy until it arrives, and its end holds ``size`` bytes more."""
        for hop in trail.hops:
            insort(self.busy_s.setdefault(hop.number, []), (hop.begin_s, hop.arrive_s))
            self.sent_bytes[hop.number] = self.sent_bytes.get(hop.number, 0) + hop.volume
        if trail.hops:
            self.room_bytes[trail.node] = self.room_bytes.get(trail.node, 0) + size


class Start(NamedTuple):
    """Where a search begins: the value is at the node from ``at_s`` on."""

    node: str
    at_s: float
    hops: int = 0
    energy_j: float = 0.0


class _Label(NamedTuple):
    """Ordered as nodes settle."""

    arrive_s: float
    hops: int
    energy_j: float
    serial: int
    node: str
    hop: Hop | None
    before: _Label | None


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """One question. ``volume`` says how many bytes a node still lacks of the value; ``relays``: who passes it on;
    ``wanted``: the nodes to which trails are told. ``until_s``: what would arrive later is not looked at. ``asks``:
    each hop is asked for first, so that its way counts twice.
    """

    starts: tuple[Start, ...]
    volume: Callable[[str], int]
    relays: Callable[[str], bool]
    wanted: Callable[[str], bool]
    until_s: float = math.inf
    asks: bool = False


class Contacts:
    """A contact plan as lists to search. ``all`` keeps the given order; hops name contacts by their place in it."""

    def __init__(self, contacts: Iterable[Contact]) -> None:
        self.all = tuple(contacts)
        self._from: dict[str, dict[str, list[int]]] = {}
        for number in sorted(range(len(self.all)), key=lambda one: (self.all[one].end_s, one)):
            contact = self.all[number]
            self._from.setdefault(contact.sender, {}).setdefault(contact.receiver, []).append(number)
        self._ends = {
            (sender, receiver): [self.all[number].end_s for number in numbers]
            for sender, others in self._from.items()
            for receiver, numbers in others.items()
        }

    def cross(
        self, sender: str, receiver: str, at_s: float, volume: int, promised: Promised, *, asks: bool = False
    ) -> Hop | None:
        """The earliest hop between two nodes for what is at the first at ``at_s``; None where no contact carries it."""
        numbers = self._from.get(sender, {}).get(receiver)
        if not numbers:
            return None
        best: Hop | None = None
        for at in range(bisect_right(self._ends[sender, receiver], at_s), len(numbers)):
            number = numbers[at]
            contact = self.all[number]
            lasts_s = sending_s(Bytes(volume), contact.rate)
            begin_s = promised.free_s(number, max(at_s, contact.start_s), lasts_s)
            arrive_s = begin_s + lasts_s + contact.latency_s * (2 if asks else 1)
            if best is not None and arrive_s >= best.arrive_s:
                continue
            left = contact.left_bytes
            if left is not None and MARGIN * volume > left - promised.sent_bytes.get(number, 0):
                continue
            if begin_s < contact.end_s and begin_s + MARGIN * lasts_s <= contact.end_s:
                best = Hop(sender, receiver, begin_s, arrive_s, volume, number)
        return best

    def settle(self, search: Search, promised: Promised | None = None) -> Iterator[Trail]:
        """Trails to those wanted, in the order of (arrival, hops, energy), the best to each node first; a node may come
        again, later by fewer hops or less energy.
        """
        taken = promised or Promised()
        heap = [
            _Label(start.at_s, start.hops, start.energy_j, serial, start.node, None, None)
            for serial, start in enumerate(search.starts)
            if start.at_s <= search.until_s
        ]
        heapq.heapify(heap)
        serial = len(heap)
        settled: dict[str, list[tuple[int, float]]] = {}
        while heap:
            label = heapq.heappop(heap)
            known = settled.setdefault(label.node, [])
            if _is_beaten(known, label.hops, label.energy_j):
                continue
            known.append((label.hops, label.energy_j))
            if search.wanted(label.node):
                yield _trail(label)
            if label.before is not None and not search.relays(label.node):
                continue
            for receiver in self._from.get(label.node, ()):
                hop = self.cross(
                    label.node, receiver, label.arrive_s, search.volume(receiver), taken, asks=search.asks
                )
                if hop is None or hop.arrive_s > search.until_s:
                    continue
                joules = label.energy_j + hop.volume * 8e-9 * self.all[hop.number].nj_per_bit
                if not _is_beaten(settled.get(receiver, ()), label.hops + 1, joules):
                    heapq.heappush(
                        heap, _Label(hop.arrive_s, label.hops + 1, joules, serial, receiver, hop, label)
                    )
                    serial += 1


def _is_beaten(known: Sequence[tuple[int, float]], hops: int, energy_j: float) -> bool:
    """Whether labels that settled before, so no later, are as good; or there are too many of them already."""
    if len(known) >= LABELS_MAX:
        return True
    return any(other <= hops and joules <= energy_j for other, joules in known)


def _trail(label: _Label) -> Trail:
    hops: list[Hop] = []
    at = label
    while at.before is not None and at.hop is not None:
        hops.append(at.hop)
        at = at.before
    return Trail(at.node, label.node, label.arrive_s, label.energy_j, tuple(hops[::-1]))


def refused_by(hosts: Mapping[str, Host], node: str, size: int, promised: Promised) -> str:
    """Why a node takes no value of this size: unknown, power, heat, no-room; "" where it does."""
    host = hosts.get(node)
    return "unknown" if host is None else host.refuses(size + promised.room_bytes.get(node, 0))
