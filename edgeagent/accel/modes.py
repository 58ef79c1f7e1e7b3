"""The rule of the execution-mode identifier, and the point from which a GPU pays.

1. Nothing that a GPU could run is reachable: ``cpu``.
2. An unconditional device call: ``gpu``.
3. Predicted work below the crossover, or unknown: ``cpu_preferred``.
4. Above it: ``gpu_preferred``.

Only a manifest or rule 2 gives ``gpu``; the rest is a prior that the controller may overrule with measurements.
"""

from __future__ import annotations

import msgspec

from edgeagent.model.function import Evidence, ExecutionMode, Identified

__all__ = [
    "CROSSOVER_FLOPS",
    "FLOPS_PER_BYTE",
    "GPU_MODULES",
    "PYTHON_BYTES_MAX",
    "Findings",
    "bytes_as_flops",
    "decide",
    "si",
]

# The modules whose imports reach a GPU.
GPU_MODULES = ("edge_accel", "wasi_ephemeral_nn", "wasi_nn")
# More source than that is not read.
PYTHON_BYTES_MAX = 2 << 20


# A product of two 2200 x 2200 matrices. Source: Gaia's published matmul runs (arXiv 2511.13728, results in
# polaris-slo-cloud/gaia), in which the GPU's replies come sooner from n = 2200 on, copies included.
CROSSOVER_FLOPS = 2.0 * 2200**3
# Work that is bound by memory counts by the bytes that it touches. An assumption: the balance of a server's CPU, about
# 0.5 TFLOP/s to 16 GB/s; calibration of the node and the controller's measurements correct it.
FLOPS_PER_BYTE = 32.0

_SHOWN_MAX = 24
_TEXT_MAX = 200


class Findings(msgspec.Struct, kw_only=True):
    """What a scanner saw; ``work_flops`` None: unknown.

    ``capable`` and ``device`` are evidence that something a GPU could run is reachable, and that a device is asked for
    on every path. ``advice`` is shown and decides nothing. ``whole`` = False: a bound ended the scan early.
    """

    kind: str
    capable: list[Evidence] = msgspec.field(default_factory=list)
    device: list[Evidence] = msgspec.field(default_factory=list)
    work: list[Evidence] = msgspec.field(default_factory=list)
    advice: list[Evidence] = msgspec.field(default_factory=list)
    work_flops: float | None = None
    whole: bool = True
    doubtful: bool = False


def bytes_as_flops(size_bytes: float) -> float:
    """What touching so many bytes counts."""
    return size_bytes * FLOPS_PER_BYTE


def decide(found: Findings, crossover_flops: float = CROSSOVER_FLOPS) -> Identified:
    """The rule above, with a confidence: 1 where nothing was guessed, lower where sizes are unknown or near the
    crossover.
    """
    mode, confidence, verdict = _verdict(found, crossover_flops)
    if not found.whole:
        confidence = min(confidence, 0.5)
    if found.doubtful:
        confidence = min(confidence, 0.6)
    seen = [verdict, *_spread(found)]
    return Identified(
        mode=mode,
        confidence=round(confidence, 2),
        rationale=tuple(_short(one) for one in seen),
        work_flops=found.work_flops,
    )


def _verdict(found: Findings, crossover_flops: float) -> tuple[ExecutionMode, float, Evidence]:
    if found.device:
        text = "a device is asked for on every path"
        return "gpu", 0.95, Evidence(text, found.device[0].where)
    if not found.capable:
        text = "nothing that a GPU could run is reachable"
        if not found.whole:
            return "cpu_preferred", 0.4, Evidence(f"{text} in what was read", found.kind)
        return "cpu", 0.97, Evidence(text, found.kind)
    work = found.work_flops
    limit = si(crossover_flops)
    if work is None:
        text = "a GPU could run what is reachable; how much work it is cannot be told"
        return "cpu_preferred", 0.6, Evidence(text, found.capable[0].where)
    where = (found.work or found.capable)[0].where
    # Within a factor of 3 of the crossover the machine decides, further off the sizes do.
    distance = max(work, 1.0) / crossover_flops
    sure = 0.9 if distance < 1 / 3 or distance > 3 else 0.65
    if distance < 1:
        text = f"predicted work {si(work)}FLOP a call, below the crossover of {limit}FLOP"
        return "cpu_preferred", sure, Evidence(text, where)
    text = f"predicted work {si(work)}FLOP a call, above the crossover of {limit}FLOP"
    return "gpu_preferred", sure, Evidence(text, where)


def _spread(found: Findings) -> list[Evidence]:
    """Some of each kind, the first ones of each: a rationale is read by people and kept with the function."""
    kinds = (found.device, found.capable, found.work, found.advice)
    each = _SHOWN_MAX // len(kinds)
    seen = list(dict.fromkeys(one for kind in kinds for one in kind[:each]))
    left = sum(max(0, len(kind) - each) for kind in kinds)
    return [*seen, Evidence(f"and {left} more", found.kind)] if left else seen


def _short(one: Evidence) -> Evidence:
    return Evidence(
        *(
            text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."
            for text in (one.evidence, one.where)
        )
    )


def si(value: float) -> str:
    """``21.3 G`` for 21.3e9."""
    for factor, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "
