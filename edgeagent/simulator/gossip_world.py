"""A group of simulated nodes with a judge that knows the truth.

Everything is drawn from the seed: two runs of one seed make the same notices at the same times (``digest``). The judge
listens to all notices and keeps what the properties are about: deaths of the living, and incarnations that went back.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable
from typing import Any

from edgeagent.gossip.codec import Items
from edgeagent.gossip.commands import Join
from edgeagent.gossip.effects import MemberChanged, NameFree, NameTaken, Notice, RecordChanged, RoundTrip
from edgeagent.gossip.knobs import Knobs
from edgeagent.gossip.occlusion import AlwaysInContact, Contacts
from edgeagent.gossip.presets import preset
from edgeagent.gossip.records import SECTIONS_TO_ALL
from edgeagent.gossip.states import State
from edgeagent.simulator.clock import VirtualClock
from edgeagent.simulator.contacts import PeriodicContacts
from edgeagent.simulator.gossip_node import SimNode, Surroundings
from edgeagent.simulator.wire import Faults, Wire

__all__ = ["UTC_AT_ZERO_S", "FalseDeath", "GossipWorld"]

UTC_AT_ZERO_S = 1_790_000_000.0
FalseDeath = tuple[float, str, str]  # when, who said so, of whom


class GossipWorld:
    """See the module."""

    def __init__(
        self,
        seed: int | str,
        names: Iterable[str],
        *,
        knobs: Knobs | None = None,
    ) -> None:
        self.chance = random.Random(f"gossip/{seed}")
        self.clock = VirtualClock()
        self.wire = Wire(self.clock, random.Random(self.chance.random()))
        self.knobs = knobs or preset("lan")
        self.false_deaths: list[FalseDeath] = []
        self.false_lives: set[tuple[str, int]] = set()  # who was buried alive, and in which incarnation
        self.deaths_seen: dict[str, dict[str, float]] = {}  # of whom: who, when
        self.went_back: list[tuple[float, str, str, int, int]] = []
        self.names_taken = 0
        self.contacts_period_s = 0.0
        self.excused: set[str] = set()  # the starved: their deaths are no mistake of others
        self._say: Callable[[str], None] | None = None
        self._sum = hashlib.blake2b(digest_size=16)
        self._highest: dict[tuple[str, int, str], int] = {}
        self._listener: Callable[[SimNode, Notice], None] | None = None
        self._around = Surroundings(
            clock=self.clock,
            wire=self.wire,
            knobs=self.knobs,
            chance=self.chance,
            hear=self._hear,
            contacts=AlwaysInContact(),
            items=Items(65536),  # one for all: what a thousand nodes read is read once
            utc_at_zero_s=UTC_AT_ZERO_S,
        )
        self.nodes = {name: SimNode(name, self._around) for name in names}

    @property
    def now_s(self) -> float:
        return self.clock.now_s

    @property
    def utc_s(self) -> float:
        return self.clock.now_s + UTC_AT_ZERO_S

    @property
    def running(self) -> list[SimNode]:
        return [node for node in self.nodes.values() if node.is_running]

    def set_contacts(self, contacts: Contacts) -> None:
        """The plan that everybody has from the start on."""
        if isinstance(contacts, PeriodicContacts):
            self.contacts_period_s = contacts.period_s
        self._surround(contacts=contacts)

    def listen(self, hear: Callable[[SimNode, Notice], None]) -> None:
        """Let somebody else hear all notices too."""
        self._listener = hear

    def tell_story(self, say: Callable[[str], None] | None) -> None:
        """Let somebody read what happens, line by line."""
        self._say = say

    @property
    def digest(self) -> str:
        """Stands for all that has happened."""
        return self._sum.hexdigest()

    def say(self, text: str) -> None:
        """A line of the story: what the scenario does."""
        self._sum.update(f"{self.now_s:.6f} {text}\n".encode())
        if self._say is not None:
            self._say(f"{self.now_s:10.3f} {text}")

    def start_all(self, *, within_s: float = 1.0) -> None:
        """Start everybody; each joins through one that started before it."""
        names = list(self.nodes)
        for place, name in enumerate(names):
            seed = names[int(self.chance.random() * place)] if place else ""
            self.clock.after(within_s * place / len(names), self._start, name, seed)

    def start(self, name: str, *, address: str = "") -> None:
        """Start one (again); it joins through some others."""
        self.say(f"start {name}")
        node = self.nodes[name]
        node.start(address=address)
        others = [one.address for one in self.running if one is not node]
        node.command(Join(tuple(self.chance.sample(others, min(2, len(others))))))

    def run(self, for_s: float) -> None:
        self.clock.run_until(self.clock.now_s + for_s)

    def run_until(self, holds: Callable[[], bool], within_s: float, step_s: float = 1.0) -> bool:
        """Run until something holds; whether it did in time."""
        end_s = self.now_s + within_s
        while not holds():
            if self.now_s >= end_s:
                return False
            self.run(step_s)
        return True

    def calm(self) -> None:
        """The wire is good again, and everybody goes on."""
        self.say("calm")
        self.wire.faults = Faults()
        self.wire.groups = {}
        self.wire.cut = set()
        self.wire.clogged = set()
        for node in self.nodes.values():
            node.resume()
            if node.is_running and node.utc_skew_s:
                node.set_clock(0.0)

    def unconverged(self) -> str:
        """What is not yet as it should be when all is calm; "" when the views agree with the truth."""
        living = {node.name: node for node in self.running}
        for observer in living.values():
            mesh = observer.mesh
            assert mesh is not None
            states = mesh.states()
            for name, node in living.items():
                if node is observer:
                    continue
                assert node.mesh is not None
                if states.get(name) not in {State.ALIVE, State.OCCLUDED}:
                    return f"{observer.name} holds {name} {states.get(name)}, which is alive"
                held, own = mesh.member(name), node.mesh.member(name)
                assert held is not None
                assert own is not None
                for section in SECTIONS_TO_ALL:  # a new life need not have written all of them again
                    if held.version_of(section) < own.version_of(section):
                        return f"{observer.name} holds an old record {section} of {name}"
            for name, state in states.items():
                if name not in living and state not in {State.DEAD, State.LEFT}:
                    return f"{observer.name} holds {name} {state}, which is gone"
        return ""

    def _surround(self, **changed: Any) -> None:
        assert not self.running
        self._around = self._around._replace(**changed)
        self.nodes = {name: SimNode(name, self._around) for name in self.nodes}

    def _start(self, name: str, seed: str) -> None:
        node = self.nodes[name]
        if node.is_running:
            return
        node.start()
        if seed:
            node.command(Join((self.nodes[seed].address,)))

    def _hear(self, node: SimNode, notice: Notice) -> None:
        if isinstance(notice, RoundTrip):
            return
        if isinstance(notice, RecordChanged):
            record = notice.record
            text = f"{record.name}/{record.section}={record.version}"
            if not record.section:
                self._check_order(node, record.name, record.version)
        elif isinstance(notice, MemberChanged):
            before = notice.before.value if notice.before else "-"
            after = notice.after.value if notice.after else "-"
            text = f"{notice.name} {before}->{after} {notice.incarnation}"
            self._judge(node, notice)
            if self._say is not None:
                self._say(f"{self.now_s:10.3f}   {node.name}: {text}")
        elif isinstance(notice, NameFree):
            text = "name free"
        else:
            assert isinstance(notice, NameTaken)
            self.names_taken += 1
            text = "name taken"
        self._sum.update(f"{self.now_s:.6f} {node.name} {text}\n".encode())
        if self._listener is not None:
            self._listener(node, notice)

    def _judge(self, node: SimNode, notice: MemberChanged) -> None:
        if notice.after is State.DEAD:
            self.deaths_seen.setdefault(notice.name, {})[node.name] = self.now_s
            about = self.nodes.get(notice.name)
            if about is not None and about.is_running and notice.name not in self.excused:
                self.false_deaths.append((self.now_s, node.name, notice.name))
                self.false_lives.add((notice.name, notice.incarnation))
        if notice.after is None:
            self._highest.pop((node.name, node.lives, notice.name), None)

    def _check_order(self, node: SimNode, name: str, incarnation: int) -> None:
        key = (node.name, node.lives, name)
        highest = self._highest.get(key, -1)
        if incarnation <= highest:
            self.went_back.append((self.now_s, node.name, name, highest, incarnation))
        self._highest[key] = max(highest, incarnation)
