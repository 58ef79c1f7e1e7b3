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


def _noise(chance: random.Random, kind: str, sigma: float) -> float:
    if kind == "pareto":
        return 0.6 * chance.paretovariate(2.5)
    return math.exp(chance.gauss(-sigma * sigma / 2.0, sigma))


def _ratio(chance: random.Random) -> float:
    """GPU over CPU: faster and slower alike, from a tenth of a percent to fifty times."""
    return math.exp(chance.uniform(-1.0, 1.0) ** 3 * math.log(50.0))


def family(kind: str, seed: int, count: int | None = None) -> Traces:
    """One pair of traces. Deterministic by kind and seed."""
    chance = random.Random(f"{kind}/{seed}")
    count = count or chance.choice((300, 500, 800, 1500))
    base = math.exp(chance.uniform(math.log(5.0), math.log(5000.0)))
    ratio = _ratio(chance)
    sigma = {"cpu": chance.uniform(0.02, 0.35), "gpu": chance.uniform(0.02, 0.35)}
    shapes = {"cpu": "log", "gpu": "log"}
    if kind == "near":
        ratio = math.exp(chance.uniform(-0.2, 0.2))
    elif kind == "heavy-tail":
        shapes = {one: chance.choice(("pareto", "log")) for one in ("cpu", "gpu")}
        sigma = {one: chance.uniform(0.5, 0.9) for one in ("cpu", "gpu")}
    elif kind == "useless":
        ratio = chance.choice((1.0, chance.uniform(1.0, 1.3), chance.uniform(1.3, 20.0)))
        sigma = dict.fromkeys(("cpu", "gpu"), chance.uniform(0.01, 0.15))
    at = sorted(chance.sample(range(60, count - 60), 3))
    steps = {
        "cpu": [_ratio(chance) for _ in range(3)],
        "gpu": [_ratio(chance) for _ in range(3)],
    }
    exponents = (chance.uniform(0.5, 1.6), chance.uniform(0.2, 1.0))
    fails = chance.uniform(0.02, 0.4)
    slow_rows = chance.randrange(3, 28)
    cpu, gpu, sizes = [], [], []
    for number in range(count):
        hidden, size = 1.0, 0.0
        cpu_scale, gpu_scale = base, base * ratio
        passed = sum(number >= one for one in at)
        if kind == "hidden-sizes":
            hidden = math.exp(chance.gauss(0.0, 0.9))
        elif kind in ("step-both", "step-cpu", "step-gpu"):
            both = steps["cpu"][0] if number >= at[1] else 1.0
            cpu_scale *= both if kind != "step-gpu" else 1.0
            gpu_scale *= both if kind != "step-cpu" else 1.0
            if kind == "step-gpu" and number >= at[1]:
                gpu_scale *= 1.0
        elif kind == "ramp":
            cpu_scale *= math.exp(math.log(steps["cpu"][0]) * number / count)
            gpu_scale *= math.exp(math.log(steps["gpu"][0]) * number / count)
        elif kind == "regimes" and passed:
            cpu_scale *= steps["cpu"][passed - 1]
            gpu_scale *= steps["gpu"][passed - 1]
        elif kind in ("sizes", "sizes-grow"):
            top = math.log(4.0**9)
            spot = chance.uniform(0.0, top) if kind == "sizes" else top * (number + 1) / count
            size = math.floor(math.exp(spot))
            middle = math.exp(top / 2.0)
            cpu_scale *= (size / middle) ** exponents[0] if size else 1e-3
            gpu_scale *= 0.1 + (size / middle) ** exponents[1]
        elif kind == "gpu-slow-start" and number < slow_rows:
            gpu_scale = 10_000.0
        one = cpu_scale * hidden * _noise(chance, shapes["cpu"], sigma["cpu"])
        two = gpu_scale * hidden * _noise(chance, shapes["gpu"], sigma["gpu"])
        if kind == "bimodal":
            one *= 8.0 if chance.random() < 0.1 else 1.0
            two *= 8.0 if chance.random() < fails / 4.0 else 1.0
        dead = kind == "gpu-dies" and at[1] <= number
        burst = kind == "bursts" and any(one <= number < one + 15 for one in at) and chance.random() < 0.7
        if dead or burst:
            two = -1.0
        if kind == "cpu-fails" and chance.random() < fails:
            one = -1.0
        cpu.append(one)
        gpu.append(two)
        sizes.append(size)
    return Traces(tuple(cpu), tuple(gpu), tuple(sizes))
