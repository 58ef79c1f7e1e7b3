"""Where the state of a workflow goes: ours, which moves it ahead, and those that choose a store when it is written."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Protocol

from edgeagent.simulator.state_flow_sky import DOWNLINK_BIT_S
from edgeagent.simulator.state_flow_world import Process, Run, Value, World, start
from edgeagent.state.contacts import Contact, Contacts, Host
from edgeagent.state.databelt import cloud, databelt, random_node
from edgeagent.state.election import Demand
from edgeagent.state.propagation import Item, Move, Successor, plan_moves
from edgeagent.state.units import BitPerS, Bytes, Ms, UtcS

__all__ = ["POLICY_NAMES", "Ahead", "Policy", "Stored", "policy_of"]

POLICY_NAMES = ("ours", "cloud", "random-node", "databelt", "producer")
_CONTACTS_S = 10.0  # as long as ways hold
_HORIZON_S = 600.0
_ROOM_BYTES = 4 << 30


class Policy(Protocol):
    """``store`` says where a step's outputs are written, and the step waits for that. ``begins`` and ``ended`` hear of
    a step's begin, and of its end, when all that it made is written; ``writes`` of a group whose writing begins,
    ``wrote`` of a key that is written.
    """

    def store(self, run: Run, step: int, size_bytes: int) -> str: ...

    def begins(self, run: Run, step: int) -> None: ...

    def writes(self, run: Run, step: int, group: Sequence[Value]) -> None: ...

    def wrote(self, run: Run, step: int) -> None: ...

    def ended(self, run: Run, step: int) -> None: ...


class Stored:
    """The baselines: a node is chosen when the value is written, by ``rule``, and readers ask there.

    ``producer``: the value stays where it was made. ``databelt``: the original's election towards the sink, the cloud.
    Its limit is made as its authors made theirs: the transfer as their rule counts it, and two hops there and back,
    ``hops_ms``.
    """

    def __init__(self, world: World, rule: str, hops_ms: float, chance: random.Random) -> None:
        self._world = world
        self._rule = rule
        self._hops_ms = hops_ms
        self._chance = chance

    def store(self, run: Run, step: int, size_bytes: int) -> str:
        origin, consumer = run.nodes[step], run.nodes[step + 1]
        if self._rule == "producer":
            return origin
        world, size = self._world, Bytes(size_bytes)
        ways, sink = world.sky.ways(world.utc_s), world.sky.cloud
        limit = Ms(size_bytes * 1000.0 / DOWNLINK_BIT_S + self._hops_ms)
        demand = Demand(size_bytes=size, slo_ms=limit, rate=BitPerS(DOWNLINK_BIT_S))
        if self._rule == "databelt":
            return databelt(ways, origin, sink, demand).election.node
        if self._rule == "random-node":
            return random_node(ways, origin, consumer, demand, self._chance).node
        return cloud(ways, origin, consumer, demand, sink).node

    def begins(self, run: Run, step: int) -> None:
        """Nothing is known before a value is written."""

    def writes(self, run: Run, step: int, group: Sequence[Value]) -> None:
        """It goes where it is written to, and no further."""

    def wrote(self, run: Run, step: int) -> None:
        """So it is."""

    def ended(self, run: Run, step: int) -> None:
        """All is where it was written to."""


class Ahead:
    """Ours: a step writes to its own node's store. When a step begins, and again when it writes and when it ends, the
    moves to the nodes of all later steps are planned; those of values that exist begin at once.
    """

    def __init__(self, world: World, slo_ms: float) -> None:
        self._world = world
        self._slo_ms = Ms(slo_ms)
        self._plans: dict[Run, tuple[Move, ...]] = {}
        self._contacts: dict[tuple[str, ...], tuple[int, Contacts]] = {}

    def store(self, run: Run, step: int, size_bytes: int) -> str:
        return run.nodes[step]

    def begins(self, run: Run, step: int) -> None:
        settings = self._world.settings
        writing_s = settings.size_bytes * 8.0 / settings.disk_bit_s + settings.commit_s
        self._plan(run, step, self._world.utc_s + settings.compute_s + writing_s)

    def writes(self, run: Run, step: int, group: Sequence[Value]) -> None:
        """Its values are known, and may move."""
        for value in group:
            run.held[value.name] = {run.nodes[step]: self._world.utc_s}
            run.writing[value.name] = []
        self._plan(run, step, self._world.utc_s)

    def wrote(self, run: Run, step: int) -> None:
        self._plan(run, step, self._world.utc_s)

    def ended(self, run: Run, step: int) -> None:
        self._plan(run, step, self._world.utc_s)

    def _plan(self, run: Run, step: int, end_s: float) -> None:
        now_s, nodes = self._world.utc_s, run.nodes
        if step == len(nodes) - 1:
            self._plans.pop(run, None)
            return
        made = {value.name: value for value in run.made_by(step)}
        items: dict[str, Item] = {}
        successors = []
        for later in range(step + 1, len(nodes)):
            known = [one for one in run.needed_by(later) if one.name in made or one.name in run.held]
            for value in known:
                items.setdefault(value.name, _item(run, value, nodes[step], end_s))
            told_s = self._world.latency_s(nodes[step], nodes[step + 1])
            further_s = (later - step - 1) * (self._world.settings.compute_s + self._slo_ms / 1000.0)
            successors.append(
                Successor(
                    step=str(later),
                    nodes=(nodes[later],),
                    start_s=UtcS(end_s + told_s + further_s),
                    slo_ms=self._slo_ms,
                    needs=tuple(one.name for one in known),
                )
            )
        hosts = {node: Host(room_bytes=Bytes(_ROOM_BYTES)) for node in nodes}
        plan = plan_moves(
            self._between(nodes), hosts, items.values(), successors, UtcS(now_s), self._plans.get(run, ())
        )
        self._plans[run] = plan
        for move in plan:
            is_there = run.held.get(move.key, {}).get(move.source, float("inf")) <= now_s
            if is_there and len(move.via) > 1 and (move.key, move.target) not in run.on_the_way:
                run.on_the_way[move.key, move.target] = []
                start(self._moved(run, move, items[move.key].size_bytes))

    def _moved(self, run: Run, move: Move, size_bytes: int) -> Process:
        yield from self._world.move(move.via, size_bytes)
        if move.key in run.writing:
            yield run.writing[move.key].append
            # The entries follow their chunks.
            yield self._world.told(move.source, move.target)
            yield self._world.pause(self._world.settings.commit_s)
        run.held[move.key][move.target] = self._world.utc_s
        for resume in run.on_the_way.pop((move.key, move.target)):
            resume()

    def _between(self, nodes: Sequence[str]) -> Contacts:
        """The network routes by itself, so the way between two nodes is one contact. Only those to later steps' nodes:
        ways share links, so that one by a node that is not needed would only seem to add room.
        """
        names, tick = tuple(nodes), int(self._world.utc_s // _CONTACTS_S)
        known = self._contacts.get(names)
        if known is None or known[0] != tick:
            begin_s = tick * _CONTACTS_S
            contacts = []
            for sender, receiver in itertools.combinations(names, 2):
                way = self._world.sky.way(sender, receiver, self._world.utc_s)
                contacts.append(
                    Contact(
                        sender=sender,
                        receiver=receiver,
                        start_s=UtcS(begin_s),
                        end_s=UtcS(begin_s + _HORIZON_S),
                        rate=BitPerS(way.rate_bit_s),
                        latency=Ms(way.latency_s * 1000.0),
                    )
                )
            known = self._contacts[names] = (tick, Contacts(contacts))
        return known[1]


def _item(run: Run, value: Value, node: str, end_s: float) -> Item:
    holders = {one: UtcS(since_s) for one, since_s in run.held.get(value.name, {node: end_s}).items()}
    return Item(key=value.name, size_bytes=Bytes(value.size_bytes), holders=holders)


def policy_of(name: str, world: World, slo_ms: float, hops_ms: float, chance: random.Random) -> Policy:
    """One of POLICY_NAMES."""
    return Ahead(world, slo_ms) if name == "ours" else Stored(world, name, hops_ms, chance)
