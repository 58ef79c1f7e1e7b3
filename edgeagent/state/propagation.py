"""Which state moves where before it is needed: plans made when a step starts, and again when the network's plan
changes.

1. For each successor of a step that starts, each input and key that it needs is elected a node (contact_election); the
   most urgent first, then the smallest. What is planned takes its part of contacts and room before the next.
2. A value that two successors need at one node moves once. A value that is there already makes no move.
3. A move of the plan before stays as it is, way and all, where it is still right: its source, or a node on its way,
   holds the value, its contacts carry it in time, and its end is a node that would do. Better ways that have come up
   since do not change it; so a plan whose inputs do not change does not change either. One that cannot be in time any
   more is elected anew; where nothing can be, the old one stays unless the new one is earlier by LATE_GAIN of what is
   left to wait.
4. ``begin_by_s`` of a move: the latest beginning with which it is still in time, and at the latest
   ``hand_off_begin_s`` of its first contact.

Hand-off before a node sets: what only it holds is moved to a node that stays, beginning at
T_set - 2 (bytes / rate * 1.3 + 4 RTT), the bytes those of all that have to pass before and with it. What cannot make it
before is a move that is not feasible: it is kept, and goes on at the next contact. Pure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edgeagent.state.contact_election import Elected, Need, elect_over
from edgeagent.state.contacts import MARGIN, Contacts, Hop, Host, Promised, Search, Start, Trail, refused_by
from edgeagent.state.errors import ElectionRefused
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS, checked_size, sending_s

__all__ = ["Item", "Move", "Successor", "hand_off", "hand_off_begin_s", "plan_moves"]

LATE_GAIN = 0.2
_ROUND_TRIPS = 4  # offer, have, commit, custody


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An input or a key of state. ``holders``: node -> since or from when it has it (a step's output: its expected
    end). ``partly``: bytes of it that are at a node already. Raises ElectionRefused for a size that is none.
    """

    key: str
    size_bytes: Bytes
    holders: Mapping[str, UtcS]
    partly: Mapping[str, Bytes] = {}

    def __post_init__(self) -> None:
        checked_size(self.size_bytes)


class Successor(msgspec.Struct, frozen=True, kw_only=True):
    """A step that follows: the nodes that it may run on, the planned one first; when it is expected to start; how late
    after that it must have what it needs (the SLO of the edges into it).
    """

    step: str
    nodes: tuple[str, ...]
    start_s: UtcS
    slo_ms: Ms
    needs: tuple[str, ...]

    @property
    def deadline_s(self) -> UtcS:
        return UtcS(self.start_s + self.slo_ms / 1000.0)


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """``key`` goes from ``via[0]`` to ``via[-1]``, ``volume`` bytes to the last; ``begin_s`` is when its first contact
    is free for it, ``begin_by_s`` when it must have begun. ``step``: who needs it, "" for a hand-off. One that goes
    nowhere (``via`` of one node) waits for a contact that the plan does not have yet; its ``arrive_s`` is infinite.
    """

    key: str
    step: str
    via: tuple[str, ...]
    begin_s: UtcS
    begin_by_s: UtcS
    arrive_s: UtcS
    ready_s: UtcS
    volume: Bytes
    feasible: bool
    why: str

    @property
    def source(self) -> str:
        return self.via[0]

    @property
    def target(self) -> str:
        return self.via[-1]


def hand_off_begin_s(set_s: UtcS, volume: Bytes, rate: BitPerS, rtt: Ms) -> UtcS:
    """When moving ``volume`` has to begin for it to be over well before ``set_s``."""
    return UtcS(set_s - 2.0 * (sending_s(volume, rate) * MARGIN + _ROUND_TRIPS * rtt / 1000.0))


def plan_moves(
    contacts: Contacts,
    hosts: Mapping[str, Host],
    items: Iterable[Item],
    successors: Iterable[Successor],
    now_s: UtcS,
    before: Iterable[Move] = (),
) -> tuple[Move, ...]:
    """The moves in the order in which they should begin. ``before`` is the plan that holds until now. Raises
    ElectionRefused where a successor needs what is not among ``items``, or has no nodes.
    """
    known = {item.key: item for item in items}
    wanted = [(one, _named(known, name)) for one in successors for name in dict.fromkeys(one.needs)]
    wanted.sort(key=lambda one: (one[0].deadline_s, one[1].size_bytes, one[0].step, one[1].key))
    old = {(move.step, move.key): move for move in before}
    promised = Promised()
    held: dict[str, dict[str, UtcS]] = {item.key: dict(item.holders) for item in known.values()}
    moves: list[Move] = []
    for successor, item in wanted:
        move = old.get((successor.step, item.key))
        kept = None if move is None else _kept(contacts, hosts, successor, item, now_s, move, promised)
        chosen = kept
        if kept is None or not kept[0].feasible:
            chosen = _planned(contacts, hosts, successor, item, now_s, held[item.key], promised)
            if kept is not None and (chosen is None or not _is_better(chosen[0], kept[0], now_s)):
                chosen = kept
        if chosen is not None:
            found, trail = chosen
            promised.take(trail, item.size_bytes)
            if trail.hops:
                arrived_s = min(held[item.key].get(found.target, found.arrive_s), found.arrive_s)
                held[item.key][found.target] = arrived_s
            moves.append(found)
    return tuple(sorted(moves, key=_order))


def _order(move: Move) -> tuple[float, int, str, str]:
    return move.begin_by_s, move.volume, move.key, move.step


def _named(known: Mapping[str, Item], name: str) -> Item:
    item = known.get(name)
    if item is None:
        raise ElectionRefused(f"nobody holds {name!r:.80}", hint="name the holder, and since when")
    return item


def _is_better(new: Move, late: Move, now_s: float) -> bool:
    """Whether a move that is late gives way to a new one."""
    if new.feasible or not math.isfinite(late.ready_s):
        return math.isfinite(new.ready_s)
    return new.ready_s < late.ready_s - LATE_GAIN * max(0.0, late.ready_s - now_s)


def _need(successor: Successor, item: Item, now_s: UtcS, holders: Mapping[str, UtcS]) -> Need:
    return Need(
        size_bytes=item.size_bytes,
        holders=holders,
        consumers=successor.nodes,
        now_s=now_s,
        use_s=UtcS(max(successor.start_s, now_s)),
        deadline_s=successor.deadline_s,
        partly=item.partly,
    )


def _planned(
    contacts: Contacts,
    hosts: Mapping[str, Host],
    successor: Successor,
    item: Item,
    now_s: UtcS,
    holders: Mapping[str, UtcS],
    promised: Promised,
) -> tuple[Move, Trail] | None:
    """A move by election; None where none is needed."""
    elected = elect_over(contacts, hosts, _need(successor, item, now_s, holders), promised)
    if not elected.trail.hops and (elected.feasible or elected.node == elected.consumer):
        return None  # there already, or read from where it is
    return _move(contacts, successor, item, elected), elected.trail


def _move(contacts: Contacts, successor: Successor, item: Item, elected: Elected) -> Move:
    trail = elected.trail
    arrive_s = trail.arrive_s if trail.hops else math.inf
    over_s = arrive_s if elected.node == elected.consumer else elected.ready_s
    spare_s = max(0.0, successor.deadline_s - over_s)
    begin_s = trail.hops[0].begin_s if trail.hops else trail.arrive_s
    return Move(
        key=item.key,
        step=successor.step,
        via=trail.via,
        begin_s=UtcS(begin_s),
        begin_by_s=_begin_by_s(contacts, trail, begin_s + spare_s) if trail.hops else UtcS(begin_s),
        arrive_s=UtcS(arrive_s),
        ready_s=elected.ready_s,
        volume=Bytes(trail.hops[-1].volume if trail.hops else item.size_bytes),
        feasible=elected.feasible,
        why=elected.why,
    )


def _begin_by_s(contacts: Contacts, trail: Trail, latest_s: float) -> UtcS:
    """``latest_s`` is by the deadline; contacts that end bring it forward, never before the trail's own beginning."""
    begin_s = trail.hops[0].begin_s
    for hop in trail.hops:
        contact = contacts.all[hop.number]
        due_s = hand_off_begin_s(contact.end_s, Bytes(hop.volume), contact.rate, Ms(2.0 * contact.latency))
        latest_s = min(latest_s, due_s - (hop.begin_s - begin_s))
    return UtcS(max(begin_s, latest_s))


def _kept(
    contacts: Contacts,
    hosts: Mapping[str, Host],
    successor: Successor,
    item: Item,
    now_s: UtcS,
    move: Move,
    promised: Promised,
) -> tuple[Move, Trail] | None:
    """The move of the plan before as it comes out now; None where it is none any more."""
    target = move.target
    come_to = max((at for at, node in enumerate(move.via) if node in item.holders), default=None)
    if come_to is None or target in item.holders:
        return None
    via = move.via[come_to:]  # what it has behind it needs no contact any more
    if refused_by(hosts, target, item.size_bytes, promised) or hosts[target].until_s < successor.start_s:
        return None
    trail = _along(contacts, via, max(item.holders[via[0]], now_s), item, promised)
    if trail is None:
        return None
    if target in successor.nodes:
        ready_s = max(trail.arrive_s, successor.start_s)
        in_time = trail.arrive_s <= successor.deadline_s
    else:
        after = Item(key=item.key, size_bytes=item.size_bytes, holders={target: UtcS(trail.arrive_s)})
        again = elect_over(contacts, hosts, _need(successor, after, now_s, after.holders), promised)
        if again.node != target:
            return None  # a consumer can hold it now, or another node has to
        ready_s, in_time = again.ready_s, again.feasible
    elected = Elected(
        node=target,
        consumer=successor.nodes[0],
        trail=trail,
        ready_s=UtcS(ready_s),
        feasible=in_time,
        why=move.why if in_time == move.feasible else "late",
    )
    return _move(contacts, successor, item, elected), trail


def _along(
    contacts: Contacts, via: Sequence[str], at_s: float, item: Item, promised: Promised
) -> Trail | None:
    hops: list[Hop] = []
    energy_j = 0.0
    for sender, receiver in itertools.pairwise(via):
        volume = max(0, item.size_bytes - item.partly.get(receiver, 0))
        hop = contacts.cross(sender, receiver, at_s, volume, promised)
        if hop is None:
            return None
        at_s = hop.arrive_s
        energy_j += volume * 8e-9 * contacts.all[hop.number].nj_per_bit
        hops.append(hop)
    return Trail(via[0], via[-1], at_s, energy_j, tuple(hops))


def hand_off(
    contacts: Contacts,
    hosts: Mapping[str, Host],
    items: Iterable[Item],
    node: str,
    set_s: UtcS,
    now_s: UtcS,
    *,
    copies: int = 1,
    due_s: Mapping[str, UtcS] = {},
) -> tuple[Move, ...]:
    """Moves of what ``node`` holds and, without it, fewer than ``copies`` nodes that stay beyond ``set_s`` would.

    The most urgent first (``due_s``: key -> when somebody needs it), then the smallest. Targets are hosts that stay.
    """
    mine = [
        item for item in items if node in item.holders and len(_staying(hosts, item, node, set_s)) < copies
    ]
    mine.sort(key=lambda item: (due_s.get(item.key, math.inf), item.size_bytes, item.key))
    promised = Promised()
    moves = []
    passed: dict[int, int] = {}
    for item in mine:
        trail = _away(contacts, hosts, item, node, set_s, now_s, promised)
        if trail is None:
            moves.append(_waiting(item, node, now_s))
            continue
        promised.take(trail, item.size_bytes)
        first = trail.hops[0]
        contact = contacts.all[first.number]
        together = passed[first.number] = passed.get(first.number, 0) + first.volume
        end_s = UtcS(min(set_s, contact.end_s))
        due = hand_off_begin_s(end_s, Bytes(together), contact.rate, Ms(2.0 * contact.latency))
        in_time = trail.arrive_s <= set_s
        moves.append(
            Move(
                key=item.key,
                step="",
                via=trail.via,
                begin_s=UtcS(first.begin_s),
                begin_by_s=UtcS(max(now_s, due)) if in_time else UtcS(first.begin_s),
                arrive_s=UtcS(trail.arrive_s),
                ready_s=UtcS(trail.arrive_s),
                volume=Bytes(trail.hops[-1].volume),
                feasible=in_time,
                why="sets" if in_time else "late",
            )
        )
    return tuple(moves)


def _staying(hosts: Mapping[str, Host], item: Item, node: str, set_s: float) -> list[str]:
    return [one for one in item.holders if one != node and one in hosts and hosts[one].until_s > set_s]


def _away(
    contacts: Contacts,
    hosts: Mapping[str, Host],
    item: Item,
    node: str,
    set_s: float,
    now_s: float,
    promised: Promised,
) -> Trail | None:
    """The first arrival at a node that stays and does not hold the item."""

    def takes(one: str) -> bool:
        return not refused_by(hosts, one, item.size_bytes, promised)

    search = Search(
        starts=(Start(node, max(now_s, item.holders[node])),),
        volume=lambda one: max(0, item.size_bytes - item.partly.get(one, 0)),
        relays=takes,
        wanted=lambda one: one not in item.holders and takes(one),
    )
    for trail in contacts.settle(search, promised):
        if hosts[trail.node].until_s > max(set_s, trail.arrive_s):
            return trail
    return None


def _waiting(item: Item, node: str, now_s: UtcS) -> Move:
    never = UtcS(math.inf)
    return Move(
        key=item.key,
        step="",
        via=(node,),
        begin_s=now_s,
        begin_by_s=now_s,
        arrive_s=never,
        ready_s=never,
        volume=item.size_bytes,
        feasible=False,
        why="no-contact",
    )
