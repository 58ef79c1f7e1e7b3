"""What callers do with state in the virtual world: groups, deletions, owners that change, pushes, evictions."""

from __future__ import annotations

from edgeagent.simulator.state_world import StateWorld
from edgeagent.state.calls import Op
from edgeagent.state.entry import Durability, Mode

__all__ = ["Workload"]

_LEVELS = (Durability.LOCAL, Durability.PEER, Durability.GROUND)
_GAP_S = (0.05, 0.8)


class Workload:
    """Each run of a workflow has one holder, which writes its ``once`` keys in the run's epoch; when it is taken over,
    another one does in the next epoch. Owners change only with the latest epoch in hand, as an operator does it.
    """

    def __init__(self, world: StateWorld) -> None:
        self._world = world
        self._chance = world.chance
        self._until_s = 0.0
        names = list(world.nodes)
        self._runs = {f"r{at}": (world.chance.choice(names), 1) for at in range(3)}
        self._owners: dict[str, tuple[int, str]] = {}  # which epoch was given out last, and to whom
        self._kinds = (self._lww, self._lww, self._once, self._owner, self._cas, self._push, self._read)

    def run(self, for_s: float) -> None:
        world = self._world
        self._until_s = world.clock.now_s + for_s
        world.clock.after(self._chance.uniform(*_GAP_S), self._step, self._until_s)
        world.run(for_s)

    def _step(self, until_s: float) -> None:
        if until_s != self._until_s or self._world.clock.now_s >= until_s:
            return
        names = [node.name for node in self._world.running]
        if names:
            self._chance.choice(self._kinds)(self._chance.choice(names))
        self._world.clock.after(self._chance.uniform(*_GAP_S), self._step, until_s)

    def _value(self) -> bytes:
        sizes = (0, 20, 200, 3000) if self._chance.random() < 0.95 else (60_000, 300_000, 600_000)
        return self._chance.randbytes(self._chance.choice(sizes))

    def _level(self) -> Durability:
        return self._chance.choice(_LEVELS)

    def _lww(self, name: str) -> None:
        chance = self._chance
        keys = chance.sample(
            [f"a/{at}" for at in range(6)] + [f"b/{at}" for at in range(3)], chance.choice((1, 2, 4))
        )
        ops = [
            Op(op="delete", key=key) if chance.random() < 0.2 else Op(op="put", key=key, value=self._value())
            for key in keys
        ]
        self._world.write(name, ops, mode=Mode.LWW, level=self._level())

    def _once(self, _name: str) -> None:
        chance = self._chance
        run = chance.choice(list(self._runs))
        if chance.random() < 0.1:
            self._take_over(run)
        holder, epoch = self._runs[run]
        steps = chance.sample(range(5), chance.choice((1, 2)))
        ops = [Op(op="put", key=f"runs/{run}/step{at}", value=self._value()) for at in steps]
        self._world.write(holder, ops, mode=Mode.ONCE, level=self._level(), epoch=epoch)

    def _take_over(self, run: str) -> None:
        names = [node.name for node in self._world.running]
        self._runs[run] = (self._chance.choice(names), self._runs[run][1] + 1)

    def _owner(self, name: str) -> None:
        world, at = self._world, self._chance.randrange(3)
        key, names = f"o/{at}", list(self._world.nodes)
        held = world.nodes[name].disk.rows.get(key)
        epoch, owner = self._owners.setdefault(key, (1, names[at % len(names)]))
        known = held.epoch if held is not None else 0
        takeover = known == epoch and owner != name
        if takeover and self._chance.random() < 0.2:
            self._owners[key] = (
                epoch + 1,
                name,
            )  # nobody else gets that epoch, whatever becomes of this write
        elif owner != name or known < epoch - 1:
            return
        takeover = takeover or known == epoch - 1 > 0
        ops = [Op(op="put", key=key, value=self._value(), takeover=takeover)]
        world.write(name, ops, mode=Mode.OWNER, level=self._level())

    def _cas(self, name: str) -> None:
        key = f"a/{self._chance.randrange(6)}"
        held = self._world.nodes[name].disk.rows.get(key)
        expect = "" if held is None or held.deleted else held.version.text()
        if self._chance.random() < 0.2:
            expect = "1.0.nobody"
        ops = [Op(op="put", key=key, value=self._value(), expect=expect)]
        self._world.write(name, ops, mode=Mode.LWW, level=self._level())

    def _push(self, name: str) -> None:
        node = self._world.nodes[name]
        groups = sorted({key.split("/")[1] for key in node.disk.rows if key.startswith("runs/")})
        if not groups:
            return
        run = self._chance.choice(groups)
        names = {k: entry.version for k, entry in node.disk.rows.items() if k.startswith(f"runs/{run}/")}
        to = self._chance.choice([one for one in self._world.nodes if one != name])
        node.tell(lambda core: core.push(names, to, by_utc_ms=node.utc_ms() + 20_000))

    def _read(self, name: str) -> None:
        rows = self._world.nodes[name].disk.rows
        if rows:
            self._world.read(name, self._chance.choice(list(rows)))

    def evict(self, name: str) -> None:
        """A node is short of room. What its runs have written once stays."""
        node = self._world.nodes[name]
        names = {
            k: e.version for k, e in node.disk.rows.items() if k.startswith(("a/", "b/")) and not e.deleted
        }
        if names:
            self._world.say(f"evict {len(names)} at {name}")
            node.tell(lambda core: core.evict(names))

    def hand_off(self) -> None:
        """Some node will set."""
        names = [node.name for node in self._world.running]
        node = self._world.nodes[self._chance.choice(names)]
        held = {key: entry.version for key, entry in node.disk.rows.items()}
        size_bytes = sum(entry.size_bytes for entry in node.disk.rows.values())
        if held:
            at_ms = node.utc_ms() + 15_000
            node.tell(lambda core: core.hand_off(held, size_bytes=size_bytes, set_utc_ms=at_ms))

    def lost_disk(self, name: str) -> None:
        """Its runs begin a new epoch: what they wrote before is not known there any more."""
        for run, (holder, epoch) in self._runs.items():
            if holder == name:
                self._runs[run] = (holder, epoch + 1)
