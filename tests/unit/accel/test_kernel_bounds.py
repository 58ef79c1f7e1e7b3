"""What a plan says of a call is what it takes, also where a guest looks for the call of which it is not."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, Prepared, prepare, run_on_cpu
from edgeagent.accel.kernel_errors import KernelTooLarge
from edgeagent.accel.tolerances import tolerance
from edgeagent.accel.views import view, whole
from tests.guest_frames import pack_call
from tests.unit.accel.kernel_rig import REGISTRY, assert_close, call

MEMORY = 32 << 20
_SMALL = 2 << 20  # beside the large arrays: what numpy and the interpreter take


def planned(
    name: str,
    inputs: Sequence[Operand],
    outputs: Sequence[Operand],
    numbers: Sequence[float] = (),
    text: str = "",
    memory_bytes: int = MEMORY,
) -> Prepared:
    described = pack_call(Description(tuple(inputs), tuple(outputs), tuple(numbers), text))
    return prepare(REGISTRY, name, described, memory_bytes, CallLimits())


def checkerboard(side: int) -> Any:
    rows, columns = np.indices((side, side))
    return ((rows + columns) % 2).astype("uint8")


def noise(side: int) -> Any:
    return (np.random.default_rng(3).random((side, side)) < 0.6).astype("uint8")


def touching(mask: Any, connectivity: int) -> tuple[Prepared, bytearray]:
    memory = bytearray(MEMORY)
    memory[: mask.size] = mask.tobytes()
    side = len(mask)
    labels = contiguous(mask.size, Dtype.I32, (side, side))
    image = contiguous(0, Dtype.U8, (side, side))
    return planned("connected_components", [image], [labels], [connectivity]), memory


def at(offset: int, dtype: Dtype, *shape: int) -> Operand:
    return contiguous(offset, dtype, shape)


_OUT = 16 << 20
SCRATCH: dict[str, Callable[[], Any]] = {
    "all-set": lambda: touching(np.ones((1600, 1600), "uint8"), 8),
    "checkerboard": lambda: touching(checkerboard(1600), 8),
    "noise": lambda: touching(noise(1600), 8),
    "tall": lambda: planned("resize", [at(0, Dtype.U8, 1, 1)], [at(_OUT, Dtype.U8, 1 << 20, 1)]),
    "wide": lambda: planned("resize", [at(0, Dtype.U8, 1, 1)], [at(_OUT, Dtype.U8, 1, 1 << 20)]),
    "padded": lambda: planned(
        "conv2d",
        [Operand(0, Dtype.F32, (3, 1, 1, 1), (0, 4, 4, 4)), at(64, Dtype.F32, 1, 1, 1, 1)],
        [at(_OUT, Dtype.F32, 3, 1, 1, 1)],
        [65536, 65536, 1000, 1000],
    ),
    "filters": lambda: planned(
        "conv2d",
        [at(0, Dtype.F16, 1, 1, 512, 1), at(2048, Dtype.F16, 8192, 1, 1, 1)],
        [at(_OUT, Dtype.F16, 1, 8192, 512, 1)],
    ),
    "variance": lambda: planned(
        "var", [Operand(0, Dtype.U8, (1 << 21, 2), (0, 0))], [at(_OUT, Dtype.F64, 2)], [1]
    ),
    "sum-of-two": lambda: planned(
        "sum", [at(0, Dtype.C64, 1 << 20, 2)], [at(_OUT, Dtype.C64, 1 << 20)], [2]
    ),
    "mean-of-all": lambda: planned(
        "mean", [Operand(0, Dtype.C128, (1 << 20, 2, 2), (0, 0, 0))], [at(_OUT, Dtype.C128)]
    ),
    "whole-product": lambda: planned(
        "matmul", [at(0, Dtype.I32, 1 << 19, 1), at(4 << 20, Dtype.I32, 1, 1)], [at(_OUT, Dtype.I32, 1 << 19, 1)]
    ),
    "topk": lambda: planned(
        "topk", [Operand(0, Dtype.U8, (1 << 20,), (0,))], [at(_OUT, Dtype.U8, 1)], [1]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SCRATCH)
def test_no_call_takes_more_memory_than_its_plan_says(case: str) -> None:
    made = SCRATCH[case]()
    prepared, memory = made if isinstance(made[0], Prepared) else (made, bytearray(MEMORY))
    tracemalloc.start()
    try:
        run_on_cpu(prepared, memoryview(memory))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most <= prepared.work.scratch_bytes + _SMALL


class _Counting:
    """numpy, which counts what is asked of it."""

    __name__ = "numpy"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(np, name)


@pytest.mark.parametrize(("images", "channels"), [(20000, 1), (1, 20000), (500, 40)])
def test_many_small_convolutions_are_few_products(images: int, channels: int) -> None:
    """A loop over each image and group would take hours for what the plan calls a second."""
    image = at(0, Dtype.F16, images, channels, 1, 1)
    weights, out = at(1 << 20, Dtype.F16, channels, 1, 1, 1), image._replace(offset=_OUT)
    prepared = planned("conv2d", [image, weights], [out], [1, 1, 0, 0, 1, 1, channels])
    rng = np.random.default_rng(1)
    held = whole(memoryview(bytearray(MEMORY)))
    given = [view(held, one, writable=True) for one in (image, weights)]
    for one in given:
        one[...] = rng.integers(-3, 4, one.shape)
    made, counting = view(held, out, writable=True), _Counting()
    prepared.kernel.run(counting, given, [made], prepared.call)
    assert counting.calls["matmul"] <= 2
    assert (made == given[0] * given[1].reshape(1, channels, 1, 1)).all()


def test_padding_that_is_large_is_work() -> None:
    """Of each image, though hardly anything of it is looked at."""
    image = Operand(0, Dtype.F32, (4000, 1, 1, 1), (0, 4, 4, 4))
    with pytest.raises(KernelTooLarge, match="seconds"):
        planned(
            "conv2d",
            [image, at(64, Dtype.F32, 1, 1, 1, 1)],
            [at(_OUT, Dtype.F32, 4000, 1, 1, 1)],
            [65536, 65536, 4000, 4000],
        )


def test_remainders_are_dear() -> None:
    """A CPU divides 1e308 by 1e-308 a bit at a time."""
    numbers = Operand(0, Dtype.F64, (1 << 21,), (0,))
    out = at(_OUT, Dtype.F64, 1 << 21)
    cheap, dear = (planned("elementwise", [numbers], [out], (), text) for text in ("a/3", "a%3"))
    assert dear.work.cpu_s > 20 * cheap.work.cpu_s
    with pytest.raises(KernelTooLarge, match="seconds"):
        planned("elementwise", [numbers], [out], (), "+".join(["a%3"] * 60))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64"])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_a_sum_along_any_index_is_as_exact_as_is_stated(name: str, dtype: str) -> None:
    """numpy adds rows one after the other: of many, a float takes nothing more."""
    rows = 40000
    image = np.full((rows, 2), 0.1, dtype)
    one = image.astype("complex128")[0] * (1 if name == "mean" else rows)
    (got,) = call(name, [image], [(dtype, (2,))], [1], seed=1)
    assert_close(name, got, one if dtype == "complex64" else one.real, terms=rows)


def test_the_variance_of_what_is_all_the_same_is_nothing() -> None:
    (got,) = call("var", [np.full((60000, 2), 0.1, "float32")], [("float32", (2,))], [1], seed=1)
    assert np.abs(got).max() < 0.01 * tolerance(REGISTRY.get("var"), Dtype.F32).relative


def test_softmax_along_the_first_of_two_indices_adds_up_to_one() -> None:
    (got,) = call("softmax", [np.full((50000, 2), 7.7, "float32")], [("float32", (50000, 2))], [0], seed=1)
    np.testing.assert_allclose(got, 1 / 50000, rtol=1e-6)
