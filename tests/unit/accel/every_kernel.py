"""One call of every shipped kernel, and its answers by the CPU: for whatever runs them elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from edgeagent.accel.broker import Broker
from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, Prepared, prepare, run_on_cpu
from edgeagent.accel.packing import pack_operands, read_outputs, write_inputs
from edgeagent.accel.registry import shipped
from edgeagent.accel.tolerances import agree, tolerance
from edgeagent.accel.views import view, whole
from tests.guest_frames import pack_call

__all__ = ["CASES", "KernelCase", "assert_agrees", "by_broker", "kernel_case"]

_REDUCTIONS = ("sum", "prod", "mean", "var", "min", "max", "argmin", "argmax")


class KernelCase(NamedTuple):
    """A prepared call, and a guest's memory before it; ``terms``: how many each element is made of."""

    name: str
    prepared: Prepared
    memory: bytes
    terms: int


def kernel_case(
    name: str,
    inputs: Sequence[Any],
    outputs: Sequence[tuple[Dtype, tuple[int, ...]]],
    numbers: tuple[float, ...] = (),
    text: str = "",
    terms: int = 1,
) -> KernelCase:
    """Inputs are laid out with their last two indices exchanged, as a transpose would be."""
    at, given, memory = 0, [], b""
    for array in inputs:
        dtype = next(one for one in Dtype if one.array_name == str(array.dtype))
        turned = np.ascontiguousarray(np.swapaxes(array, -1, -2) if array.ndim > 1 else array)
        operand = contiguous(at, dtype, turned.shape)
        if array.ndim > 1:
            shape, strides = list(operand.shape), list(operand.strides)
            shape[-2:], strides[-2:] = reversed(shape[-2:]), reversed(strides[-2:])
            operand = Operand(at, dtype, tuple(shape), tuple(strides))
        given.append(operand)
        memory += turned.tobytes()
        memory += bytes(-len(memory) % 16)
        at = len(memory)
    made = []
    for dtype, shape_ in outputs:
        made.append(contiguous(at, dtype, shape_))
        at = made[-1].range[1] + -made[-1].range[1] % 16
    memory = memory.ljust(at, b"\xa5")
    described = pack_call(Description(tuple(given), tuple(made), numbers, text))
    return KernelCase(name, prepare(shipped(), name, described, len(memory), CallLimits()), memory, terms)


def _cases() -> list[KernelCase]:
    rng = np.random.default_rng(11)
    f32, f64, u8, i32, i64 = Dtype.F32, Dtype.F64, Dtype.U8, Dtype.I32, Dtype.I64
    wide = rng.standard_normal((48, 64)).astype("float32")
    tall = rng.standard_normal((64, 40)).astype("float32")
    batch = rng.standard_normal((3, 20, 24))
    image = rng.standard_normal((2, 4, 15, 17)).astype("float32")
    weights = rng.standard_normal((6, 4, 3, 3)).astype("float32")
    bytes_ = rng.integers(0, 200, (30, 42)).astype("uint8")
    mask = (rng.random((40, 44)) < 0.5).astype("uint8")
    wave = (rng.standard_normal((16, 12)) + 1j * rng.standard_normal((16, 12))).astype("complex64")
    near = (1.0 + 0.1 * rng.standard_normal((30, 42))).astype("float32")
    cases = [
        kernel_case("matmul", [wide, tall], [(f32, (48, 40))], terms=64),
        kernel_case(
            "matmul", [np.arange(600).reshape(20, 30), np.arange(600).reshape(30, 20)], [(i64, (20, 20))]
        ),
        kernel_case("batched_matmul", [batch, np.swapaxes(batch, 1, 2)], [(f64, (3, 20, 20))], terms=24),
        kernel_case("conv2d", [image, weights], [(f32, (2, 6, 8, 9))], (2, 2, 1, 1), terms=36),
        kernel_case("fft2", [wave], [(Dtype.C64, (16, 12))], (0,), terms=192),
        kernel_case("elementwise", [wide, wide], [(f32, (48, 64))], (), "where(a > 0, exp(a) - b, a * b)"),
        kernel_case("elementwise", [bytes_], [(Dtype.I16, (30, 42))], (), "a / 3 - 20"),
        kernel_case("normalized_difference", [bytes_, bytes_[::-1].copy()], [(f32, (30, 42))], (-1,)),
        kernel_case("threshold", [bytes_], [(u8, (30, 42))], (100, 0, 255, 1)),
        kernel_case("softmax", [wide], [(f32, (48, 64))], (-1,), terms=64),
        kernel_case("topk", [wide], [(f32, (48, 5)), (i32, (48, 5))], (5, -1, 1)),
        kernel_case("resize", [wide[None]], [(f32, (1, 31, 90))], (1,), terms=4),
        kernel_case("connected_components", [mask], [(i32, (40, 44)), (i32, ())], (8,)),
    ]
    for name in _REDUCTIONS:
        dtype = i64 if name.startswith("arg") else f32
        cases.append(kernel_case(name, [near], [(dtype, (30,))], (2,), terms=42))
    return cases


CASES = _cases()
assert {one.name for one in CASES} == {kernel.name for kernel in shipped()}


async def by_broker(broker: Broker, case: KernelCase) -> bytes:
    """The guest's memory after the call was done by a broker that is ready."""
    packing, memory = pack_operands(case.prepared), bytearray(case.memory)
    slot = broker.reserve(packing.slot_bytes)
    try:
        write_inputs(packing, memoryview(memory), slot.memory)
        await broker.run("test", case.name, packing.described, slot)
        read_outputs(packing, slot.memory, memoryview(memory))
    finally:
        slot.drop()
    return bytes(memory)


def assert_agrees(case: KernelCase, memory: bytes) -> None:
    """Within what the kernel states; nothing beside the outputs differs."""
    wanted = bytearray(case.memory)
    run_on_cpu(case.prepared, memoryview(wanted))
    got = bytearray(memory)
    for one in case.prepared.call.outputs:
        ours, theirs = (view(whole(memoryview(held)), one, writable=True) for held in (wanted, got))
        largest = float(np.max(np.abs(ours[np.isfinite(ours)]), initial=0.0))
        allowed = tolerance(case.prepared.kernel, one.dtype, case.terms)
        assert agree(np, theirs, ours, allowed, largest), (case.name, theirs, ours)
        theirs[...] = ours
    assert got == wanted
