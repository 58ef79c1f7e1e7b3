"""Pairs of recorded latencies of many kinds, each from a seed: what the controller is tuned on and tested with."""

from __future__ import annotations

import math
import random

from edgeagent.accel.traces import Traces

KINDS = (
    "steady",
    "near",
    "heavy-tail",
    "bimodal",
    "hidden-sizes",
    "step-both",
    "step-cpu",
    "step-gpu",
    "ramp",
    "regimes",
    "sizes",
    "sizes-grow",
    "gpu-slow-start",
    "gpu-dies",
    "cpu-fails",
    "bursts",
    "useless",
)

_SIZES_TOP = math.log(4.0**9)


def _noise(chance: random.Random, kind: str, sigma: float) -> float:
    if kind == "pareto":
        return 0.6 * chance.paretovariate(2.5)
    return math.exp(chance.gauss(-sigma * sigma / 2.0, sigma))


def _ratio(chance: random.Random) -> float:
    """GPU over CPU: faster and slower alike, up to fifty times, mostly less."""
    return math.exp(chance.uniform(-1.0, 1.0) ** 3 * math.log(50.0))


class _Made:
    """What one seed drew, and what a request of it takes before noise."""

    def __init__(self, kind: str, chance: random.Random, count: int) -> None:
        self.kind, self.chance, self.count = kind, chance, count
        self.base = math.exp(chance.uniform(math.log(5.0), math.log(5000.0)))
        self.ratio = _ratio(chance)
        self.sigma = {"cpu": chance.uniform(0.02, 0.35), "gpu": chance.uniform(0.02, 0.35)}
        self.shapes = {"cpu": "log", "gpu": "log"}
        if kind == "near":
            self.ratio = math.exp(chance.uniform(-0.2, 0.2))
        elif kind == "heavy-tail":
            self.shapes = {one: chance.choice(("pareto", "log")) for one in ("cpu", "gpu")}
            self.sigma = {one: chance.uniform(0.5, 0.9) for one in ("cpu", "gpu")}
        elif kind == "useless":
            self.ratio = chance.choice((1.0, chance.uniform(1.0, 1.3), chance.uniform(1.3, 20.0)))
            self.sigma = dict.fromkeys(("cpu", "gpu"), chance.uniform(0.01, 0.15))
        self.at = sorted(chance.sample(range(60, count - 60), 3))
        self.steps = {one: [_ratio(chance) for _ in range(3)] for one in ("cpu", "gpu")}
        self.exponents = (chance.uniform(0.5, 1.6), chance.uniform(0.2, 1.0))
        self.fails = chance.uniform(0.02, 0.4)
        self.slow_rows = chance.randrange(3, 28)

    def drift(self, number: int, backend: str) -> float:
        passed = sum(number >= one for one in self.at)
        if self.kind in ("step-both", f"step-{backend}") and number >= self.at[1]:
            return self.steps["cpu"][0] if self.kind == "step-both" else self.steps[backend][0]
        if self.kind == "ramp":
            return math.exp(math.log(self.steps[backend][0]) * number / self.count)
        if self.kind == "regimes" and passed:
            return self.steps[backend][passed - 1]
        return 1.0

    def size(self, number: int) -> float:
        if self.kind not in ("sizes", "sizes-grow"):
            return 0.0
        spot = self.chance.random() if self.kind == "sizes" else (number + 1) / self.count
        return float(math.floor(math.exp(spot * _SIZES_TOP)))

    def scales(self, number: int, size: float) -> tuple[float, float]:
        cpu, gpu = self.base, self.base * self.ratio
        if self.kind == "hidden-sizes":
            hidden = math.exp(self.chance.gauss(0.0, 0.9))
            cpu, gpu = cpu * hidden, gpu * hidden
        if self.kind == "gpu-slow-start" and number < self.slow_rows:
            gpu *= 10_000.0 / gpu
        if size:
            relative = size / math.exp(_SIZES_TOP / 2.0)
            cpu, gpu = cpu * relative ** self.exponents[0], gpu * (0.1 + relative ** self.exponents[1])
        return cpu * self.drift(number, "cpu"), gpu * self.drift(number, "gpu")

    def row(self, number: int, size: float) -> tuple[float, float]:
        chance = self.chance
        cpu, gpu = self.scales(number, size)
        cpu *= _noise(chance, self.shapes["cpu"], self.sigma["cpu"])
        gpu *= _noise(chance, self.shapes["gpu"], self.sigma["gpu"])
        if self.kind == "bimodal":
            cpu *= 8.0 if chance.random() < 0.1 else 1.0
            gpu *= 8.0 if chance.random() < self.fails / 4.0 else 1.0
        burst = self.kind == "bursts" and any(one <= number < one + 15 for one in self.at)
        if (self.kind == "gpu-dies" and number >= self.at[1]) or (burst and chance.random() < 0.7):
            gpu = -1.0
        if self.kind == "cpu-fails" and chance.random() < self.fails:
            cpu = -1.0
        return cpu, gpu


def family(kind: str, seed: int, count: int | None = None) -> Traces:
    """One pair of traces. Deterministic by kind and seed."""
    chance = random.Random(f"{kind}/{seed}")
    count = count or chance.choice((300, 500, 800, 1500))
    made = _Made(kind, chance, count)
    sizes = [made.size(number) for number in range(count)]
    rows = [made.row(number, size) for number, size in enumerate(sizes)]
    return Traces(tuple(cpu for cpu, _ in rows), tuple(gpu for _, gpu in rows), tuple(sizes))
