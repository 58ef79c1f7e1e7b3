"""Whatever a guest describes is done, or refused by name; nothing but its outputs changes."""

from __future__ import annotations

import random

import numpy as np

from edgeagent.accel.descriptors import Description, Operand
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, prepare, run_on_cpu
from edgeagent.accel.kernel_errors import KernelFailed
from edgeagent.accel.registry import shipped
from edgeagent.accel.views import view, whole
from edgeagent.model.errors import EdgeError
from tests.guest_frames import pack_call

MEMORY = 5120
LIMITS = CallLimits(cpu_s=0.1, scratch_bytes=1 << 28)
REGISTRY = shipped()
KERNELS = list(REGISTRY)
TEXTS = ["", "a", "a+b*2", "where(a<b,a,sqrt(b))", "a**b%c", "clip(a,0,1)/0", "1"]

ROUNDS = 10_000


def _call(rng: random.Random) -> tuple[str, Description]:
    """Mostly what a kernel takes: how many operands, each in a part of the memory, types and shapes that fit."""
    kernel = rng.choice(KERNELS)
    dtype = rng.choice([*Dtype, Dtype.F32, Dtype.F32, Dtype.F64, Dtype.U8, Dtype.U8])
    rows, inner = rng.randint(1, 5), rng.randint(1, 5)
    square = kernel.name == "matmul" and rng.random() < 0.8
    shapes = [(rows, rows if square else inner)] * 8 + [
        (inner, rows),
        (inner,),
        (),
        (2, 1, rows, inner),
        (1, 1, 2, 2),
    ]
    inputs = rng.randint(kernel.inputs[0], min(3, kernel.inputs[1]))
    operands = []
    for place in range(inputs + rng.randint(*kernel.outputs)):
        kinds = [dtype] * 9 + [rng.choice(list(Dtype))]
        if place >= inputs:
            kinds = [
                dtype,
                dtype,
                Dtype.U8,
                Dtype.I64,
                Dtype.I32,
                Dtype.U64,
                Dtype.F32,
                Dtype.C64,
                Dtype.C128,
            ]
        operands.append(_operand(rng, rng.choice(kinds), rng.choice(shapes), place * 1024 + 512))
    numbers = [
        rng.choice([0.0, 1.0, 1.0, 2.0, 4.0, -1.0, 0.5, 1e300])
        for _ in range(rng.randint(0, len(kernel.params)))
    ]
    text = rng.choice(TEXTS) if kernel.has_text else ""
    return kernel.name, Description(tuple(operands[:inputs]), tuple(operands[inputs:]), tuple(numbers), text)


def _operand(rng: random.Random, dtype: Dtype, shape: tuple[int, ...], at: int) -> Operand:
    strides, step = [0] * len(shape), dtype.item_bytes
    for index in rng.sample(range(len(shape)), len(shape)):
        strides[index] = step * rng.choice([1] * 12 + [-1, -1, 2, 0])
        step = max(step, abs(strides[index]) * shape[index])
    return Operand(at + rng.choice([0] * 20 + [8, -512, 512]), dtype, shape, tuple(strides))


def refusal(name: str, described: bytes, data: bytearray) -> EdgeError | None:
    try:
        run_on_cpu(prepare(REGISTRY, name, described, MEMORY, LIMITS), memoryview(data))
    except EdgeError as refused:
        return refused
    return None


def test_only_outputs_change() -> None:
    rng, done = random.Random(7), set()
    for _ in range(ROUNDS):
        name, call = _call(rng)
        data = bytearray(rng.randbytes(MEMORY))
        before = bytes(data)
        refused = refusal(name, pack_call(call), data)
        assert not isinstance(refused, KernelFailed), (name, call, refused.message)
        if refused is None:
            done.add(name)
            old, new = np.frombuffer(before, "uint8"), whole(memoryview(data))
            for output in call.outputs:
                saved = np.ndarray(output.shape, output.dtype.array_name, old, output.offset, output.strides)
                view(new, output, writable=True)[...] = saved
        assert bytes(data) == before, (name, call)
    assert done >= {kernel.name for kernel in KERNELS} - {"batched_matmul", "conv2d"}


def test_a_description_that_was_damaged_harms_nobody() -> None:
    rng = random.Random(8)
    for _ in range(ROUNDS):
        name, call = _call(rng)
        described = bytearray(pack_call(call))
        at = rng.randrange(len(described))
        described[at : at + rng.randint(1, 8)] = rng.randbytes(1)
        refused = refusal(name, bytes(described), bytearray(MEMORY))
        assert not isinstance(refused, KernelFailed), (name, described, refused.message)
