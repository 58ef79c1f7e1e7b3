"""What the workflows of the figures act on: stores at the nodes, messages between them, and books of every byte.

Processes are generators that yield what they wait for: a function that is given what to call when it is over.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple, TypeAlias

from edgeagent.simulator.clock import VirtualClock
from edgeagent.simulator.state_flow_links import Leg, Network
from edgeagent.simulator.state_flow_sky import Sky

__all__ = [
    "COMMIT_S",
    "DISK_BIT_S",
    "FlowSettings",
    "Process",
    "Resume",
    "Run",
    "Value",
    "Wait",
    "World",
    "both",
    "start",
]

Resume: TypeAlias = Callable[[], None]
Wait: TypeAlias = Callable[[Resume], None]
Process: TypeAlias = Generator[Wait, None, None]

# Measured on a 2-core VM, medians: 1 MiB written and synced in 5.6 ms, 4 KiB in 0.4 ms.
DISK_BIT_S = (1 << 20) * 8 / 5.6e-3
COMMIT_S = 0.4e-3


def start(process: Process) -> None:
    """Let a process run until its first wait, and on from each when that is over."""

    def resume() -> None:
        waiting = next(process, None)
        if waiting is not None:
            waiting(resume)

    resume()


def both(waits: Sequence[Wait]) -> Wait:
    """A wait for several things that happen at once; at least one."""

    def begin(resume: Resume) -> None:
        left = len(waits)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                resume()

        for wait in waits:
            wait(one)

    return begin


def _then(process: Process, resume: Resume) -> Process:
    yield from process
    resume()


class FlowSettings(NamedTuple):
    """The fixed set-up. ``size_bytes`` is what a step hands to the next: ``keys`` bands of equal size, and in it the
    header of the scene, which the first step writes and all later ones read. ``fused``: a step's keys are written and
    read as one group; else one key after the other.

    ``workflows`` are measured, after as many as there are clients.
    """

    size_bytes: int = 10_000_000
    keys: int = 8
    header_bytes: int = 64 << 10
    alert_bytes: int = 16 << 10
    compute_s: float = 0.1
    clients: int = 8
    workflows: int = 16
    fused: bool = True
    disk_bit_s: float = DISK_BIT_S
    commit_s: float = COMMIT_S


class Value(NamedTuple):
    """A key, or a group of ``keys`` that is one."""

    name: str
    size_bytes: int
    keys: int


class Run:
    """One workflow. ``held``: value -> node -> since when it is there (UTC). ``on_the_way``: who waits for a value that
    moves to a node. ``writing``: who waits for the end of a value's writing, while it is under way.
    """

    def __init__(self, nodes: Sequence[str], settings: FlowSettings) -> None:
        self.nodes = tuple(nodes)
        self.held: dict[str, dict[str, float]] = {}
        self.on_the_way: dict[tuple[str, str], list[Resume]] = {}
        self.writing: dict[str, list[Resume]] = {}
        self.settings = settings

    def made_by(self, step: int) -> list[Value]:
        """What a step writes for later ones; the last one writes the alert only."""
        if step == len(self.nodes) - 1:
            return []
        settings = self.settings
        bands = settings.size_bytes - settings.header_bytes
        each = bands // settings.keys
        if settings.fused:
            made = [Value(f"bands-{step}", bands, settings.keys)]
        else:
            last = bands - each * (settings.keys - 1)
            sizes = [each] * (settings.keys - 1) + [last]
            made = [Value(f"band-{step}-{number}", size, 1) for number, size in enumerate(sizes)]
        return [*made, Value("header", settings.header_bytes, 1)] if step == 0 else made

    def needed_by(self, step: int) -> list[Value]:
        """What a step reads: the bands of the one before it, and the header; the first one has its own camera."""
        if step == 0:
            return []
        bands = [one for one in self.made_by(step - 1) if one.name != "header"]
        return [*bands, Value("header", self.settings.header_bytes, 1)]


class World:
    """``books`` has the bytes that were written, fetched, moved and sent as alerts, each counted where it arrived."""

    def __init__(self, sky: Sky, utc_s: float, settings: FlowSettings) -> None:
        self.clock = VirtualClock()
        self.network = Network(self.clock)
        self.sky = sky
        self.settings = settings
        self.books: Counter[str] = Counter()
        self._utc_s = utc_s

    @property
    def utc_s(self) -> float:
        return self._utc_s + self.clock.now_s

    def latency_s(self, a: str, b: str) -> float:
        return self.sky.way(a, b, self.utc_s).latency_s

    def apart(self, process: Process) -> Wait:
        """Let a process of its own run, and wait for its end."""

        def begin(resume: Resume) -> None:
            start(_then(process, resume))

        return begin

    def _disk(self, node: str) -> Leg:
        return Leg(("disk", node), self.settings.disk_bit_s, self.settings.commit_s)

    def pause(self, duration_s: float) -> Wait:
        """Time passes."""
        return lambda resume: self.clock.after(duration_s, resume)

    def told(self, a: str, b: str) -> Wait:
        """A message is small: it takes its latency, and no room on the links."""
        return self.pause(self.latency_s(a, b))

    def _sent(self, kind: str, legs: Iterable[Leg], size_bytes: int) -> Wait:
        def begin(resume: Resume) -> None:
            self.books[kind] += size_bytes
            self.network.send(tuple(legs), size_bytes, resume)

        return begin

    def put(self, origin: str, node: str, size_bytes: int, *, kind: str = "written") -> Process:
        """Durable at ``node``, and acknowledged."""
        legs = self.sky.way(origin, node, self.utc_s).legs
        yield self._sent(kind, (*legs, self._disk(node)), size_bytes)
        if origin != node:
            yield self.told(node, origin)

    def get(self, node: str, holder: str, size_bytes: int) -> Process:
        """Asked for at ``holder``, and come."""
        yield self.told(node, holder)
        yield self._sent("fetched", self.sky.way(holder, node, self.utc_s).legs, size_bytes)

    def move(self, via: Sequence[str], size_bytes: int) -> Process:
        """From node to node, durable at each before it goes on."""
        for sender, receiver in itertools.pairwise(via):
            legs = self.sky.way(sender, receiver, self.utc_s).legs
            yield self._sent("moved", (*legs, self._disk(receiver)), size_bytes)
