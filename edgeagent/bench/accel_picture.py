"""A small picture classifier as an ONNX model: three convolutions of 3 x 3, a mean, a dense layer of ten classes.

Its weights come from a seed and it has learnt nothing: what a run of it costs does not depend on them.
"""

from __future__ import annotations

import math
import random
from itertools import pairwise

from edgeagent.bench.accel_corpus import onnx_model

__all__ = ["picture_model"]

_CHANNELS = (3, 16, 32, 64)
_CLASSES = 10
_SEED = 2211


def _weights(chance: random.Random, name: str, shape: tuple[int, ...]) -> list[str]:
    """Lines of a constant of that shape, scaled so that a layer keeps the size of its numbers."""
    deviation = (2.0 / math.prod(shape[1:])) ** 0.5
    numbers = ",".join(f"{chance.gauss(0.0, deviation):.6f}" for _ in range(math.prod(shape)))
    return [
        f"floats flat_{name} {numbers}",
        f"ints shape_{name} {','.join(map(str, shape))}",
        f"node Reshape flat_{name} shape_{name} -> {name}",
    ]


def picture_model() -> bytes:
    """Any number of pictures of 3 x 96 x 96 F32 in, ten scores each out."""
    chance = random.Random(_SEED)
    lines, last = ["input pictures ?x3x96x96"], "pictures"
    for layer, (before, after) in enumerate(pairwise(_CHANNELS)):
        lines += _weights(chance, f"kernel{layer}", (after, before, 3, 3))
        lines.append(f"node Conv {last} kernel{layer} -> conv{layer} pads=1,1,1,1")
        lines.append(f"node Relu conv{layer} -> relu{layer}")
        lines.append(f"node MaxPool relu{layer} -> pool{layer} kernel_shape=2,2 strides=2,2")
        last = f"pool{layer}"
    lines += _weights(chance, "dense", (_CLASSES, _CHANNELS[-1]))
    lines += [f"node GlobalAveragePool {last} -> mean", "node Flatten mean -> features"]
    lines += ["node Gemm features dense -> scores transB=1", "output scores"]
    return onnx_model("\n".join(lines))
