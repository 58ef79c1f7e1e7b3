"""What kernels refuse, how much work they say they are, and how they fail."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, Prepared, prepare, run_on_cpu
from edgeagent.accel.kernel_errors import (
    BadDescriptor,
    BadExpression,
    BadParameter,
    KernelExists,
    KernelFailed,
    KernelTooLarge,
    OperandsOverlap,
    UnknownKernel,
    WrongDtype,
    WrongShape,
)
from edgeagent.accel.kernels.arrays import blocks
from edgeagent.accel.kernels.kernel import Call, Kernel, Work, work_of
from edgeagent.accel.registry import GROUP, KERNELS_MAX, Registry, load_others, shipped
from edgeagent.accel.tolerances import Tolerance, agree, tolerance
from tests.guest_frames import pack_call

MEMORY = 1 << 24
F, U8, I32, I64 = Dtype.F32, Dtype.U8, Dtype.I32, Dtype.I64
REGISTRY = shipped()


def prepared(
    name: str,
    inputs: Sequence[tuple[Dtype, Sequence[int]]],
    outputs: Sequence[tuple[Dtype, Sequence[int]]],
    numbers: Sequence[float] = (),
    text: str = "",
    limits: CallLimits | None = None,
) -> Prepared:
    at, operands = 0, []
    for dtype, shape in (*inputs, *outputs):
        operands.append(contiguous(at, dtype, shape))
        at = -(-operands[-1].range[1] // 16) * 16
    described = Description(
        tuple(operands[: len(inputs)]), tuple(operands[len(inputs) :]), tuple(numbers), text
    )
    return prepare(REGISTRY, name, pack_call(described), MEMORY, limits or CallLimits())


IMAGE = (F, (2, 4, 8, 8))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "numbers", "error"),
    [
        ("matmul", [(F, (2, 3))], [(F, (2, 2))], [], BadDescriptor),
        ("matmul", [(F, (2, 3)), (F, (2, 3))], [(F, (2, 3))], [], WrongShape),
        ("matmul", [(F, (2, 3)), (F, (3, 2))], [(F, (2, 3))], [], WrongShape),
        ("matmul", [(F, (2, 3)), (F, (3, 2))], [(Dtype.F64, (2, 2))], [], WrongDtype),
        ("matmul", [(U8, (2, 3)), (U8, (3, 2))], [(U8, (2, 2))], [], WrongDtype),
        ("matmul", [(F, (1, 2, 3)), (F, (1, 3, 2))], [(F, (1, 2, 2))], [], WrongShape),
        ("matmul", [(F, (2, 3)), (F, (3, 2))], [(F, (2, 2))], [1], BadParameter),
        ("batched_matmul", [(F, (2, 3)), (F, (3, 2))], [(F, (2, 2))], [], WrongShape),
        ("batched_matmul", [(F, (2, 2, 3)), (F, (3, 3, 2))], [(F, (3, 2, 2))], [], WrongShape),
        ("batched_matmul", [(F, (2, 2, 3)), (F, (3, 2))], [(F, (2, 2, 2))], [], WrongShape),
        ("conv2d", [(F, (4, 8, 8)), (F, (2, 4, 3, 3))], [(F, (2, 2, 6, 6))], [], WrongShape),
        ("conv2d", [IMAGE, (F, (2, 3, 3, 3))], [(F, (2, 2, 6, 6))], [], WrongShape),
        ("conv2d", [IMAGE, (F, (2, 4, 3, 3))], [(F, (2, 2, 8, 8))], [], WrongShape),
        ("conv2d", [IMAGE, (F, (2, 4, 9, 3))], [(F, (2, 2, 1, 6))], [], WrongShape),
        ("conv2d", [IMAGE, (F, (2, 4, 3, 3)), (F, (3,))], [(F, (2, 2, 6, 6))], [], WrongShape),
        ("conv2d", [IMAGE, (F, (2, 4, 3, 3))], [(F, (2, 2, 6, 6))], [0], BadParameter),
        ("conv2d", [IMAGE, (F, (2, 4, 3, 3))], [(F, (2, 2, 6, 6))], [1, 1, 0, 0, 1, 1, 3], WrongShape),
        ("conv2d", [(U8, (2, 4, 8, 8)), (U8, (2, 4, 3, 3))], [(U8, (2, 2, 6, 6))], [], WrongDtype),
        ("fft2", [(F, (8,))], [(Dtype.C64, (8,))], [], WrongShape),
        ("fft2", [(F, (8, 8))], [(Dtype.C128, (8, 8))], [], WrongDtype),
        ("fft2", [(F, (8, 8))], [(Dtype.C64, (8, 5))], [], WrongShape),
        ("fft2", [(F, (8, 8))], [(Dtype.C64, (8, 8))], [2], BadParameter),
        ("normalized_difference", [(F, (4,)), (F, (4,))], [(U8, (4,))], [], WrongDtype),
        ("normalized_difference", [(F, (4,)), (U8, (4,))], [(F, (4,))], [], WrongDtype),
        ("normalized_difference", [(F, (4,)), (F, (3,))], [(F, (4,))], [], WrongShape),
        ("threshold", [(F, (4,))], [(U8, (4,))], [], BadParameter),
        ("threshold", [(F, (4,))], [(F, (4,))], [1], WrongDtype),
        ("threshold", [(F, (4,))], [(U8, (3,))], [1], WrongShape),
        ("threshold", [(F, (4,))], [(U8, (4,))], [1, 0.5], BadParameter),
        ("sum", [(F, (4, 3))], [(F, (3,))], [4], BadParameter),
        ("sum", [(F, (4, 3))], [(F, (4,))], [1], WrongShape),
        ("sum", [(I32, (4, 3))], [(I32, ())], [], WrongDtype),
        ("mean", [(I32, (4, 3))], [(I32, ())], [], WrongDtype),
        ("argmax", [(F, (4, 3, 2))], [(I64, (2,))], [3], BadParameter),
        ("argmax", [(F, (4, 3))], [(I32, ())], [], WrongDtype),
        ("softmax", [(F, ())], [(F, ())], [], WrongShape),
        ("softmax", [(F, (3,))], [(F, (3,))], [1], BadParameter),
        ("softmax", [(I32, (3,))], [(I32, (3,))], [], WrongDtype),
        ("topk", [(F, (3,))], [(F, (4,))], [4], WrongShape),
        ("topk", [(F, (3,))], [(F, (2,))], [1], WrongShape),
        ("topk", [(F, (3,))], [(F, (1,)), (F, (1,))], [1], WrongDtype),
        ("resize", [(F, (3,))], [(F, (3,))], [], WrongShape),
        ("resize", [(F, (3, 3))], [(U8, (3, 3))], [], WrongDtype),
        ("resize", [(F, (2, 3, 3))], [(F, (3, 3, 3))], [], WrongShape),
        ("resize", [(F, (3, 3))], [(F, (3, 3))], [2], BadParameter),
        ("connected_components", [(F, (3, 3))], [(I32, (3, 3))], [], WrongDtype),
        ("connected_components", [(U8, (3, 3))], [(I32, (3, 4))], [], WrongShape),
        ("connected_components", [(U8, (3, 3))], [(I32, (3, 3))], [5], BadParameter),
        ("connected_components", [(U8, (3, 3))], [(I32, (3, 3)), (I32, (2,))], [], WrongShape),
        ("nothing", [(F, (3, 3))], [(F, (3, 3))], [], UnknownKernel),
    ],
)
def test_kernels_refuse_what_they_do_not_take(
    name: str, inputs: Any, outputs: Any, numbers: list[float], error: type[Exception]
) -> None:
    with pytest.raises(error):
        prepared(name, inputs, outputs, numbers)


@pytest.mark.parametrize(
    ("text", "error"), [("", BadExpression), ("a +", BadExpression), ("a + c", BadExpression)]
)
def test_elementwise_refuses_what_is_no_expression(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        prepared("elementwise", [(F, (3,)), (F, (3,))], [(F, (3,))], text=text)


def test_elementwise_refuses_shapes_that_do_not_go_together() -> None:
    for shape in ((2,), (1, 2, 3), (3, 1)):
        with pytest.raises(WrongShape):
            prepared("elementwise", [(F, shape)], [(F, (2, 3))], text="a")
    with pytest.raises(BadParameter):
        prepared("matmul", [(F, (2, 3)), (F, (3, 2))], [(F, (2, 2))], text="a")


def test_work_is_told_before_it_is_done() -> None:
    work = prepared("matmul", [(F, (64, 32)), (F, (32, 16))], [(F, (64, 16))]).work
    assert work.flops == 2 * 64 * 32 * 16
    assert (work.read_bytes, work.written_bytes) == (4 * (64 * 32 + 32 * 16), 4 * 64 * 16)
    twice = prepared("matmul", [(F, (128, 32)), (F, (32, 16))], [(F, (128, 16))]).work
    assert twice.size_class == work.size_class + 1
    whole = prepared("matmul", [(I32, (64, 32)), (I32, (32, 16))], [(I32, (64, 16))]).work
    assert whole.flops == work.flops
    assert whole.cpu_s > work.cpu_s > 0
    conv = prepared("conv2d", [IMAGE, (F, (2, 4, 3, 3))], [(F, (2, 2, 6, 6))]).work
    assert conv.flops == 2 * (2 * 2 * 6 * 6) * 4 * 9


@pytest.mark.parametrize("limits", [CallLimits(cpu_s=1e-6), CallLimits(scratch_bytes=1000)])
def test_too_much_work_is_refused(limits: CallLimits) -> None:
    with pytest.raises(KernelTooLarge):
        prepared("matmul", [(F, (64, 32)), (F, (32, 16))], [(F, (64, 16))], limits=limits)


def test_a_small_operand_that_is_seen_often_is_much_work() -> None:
    wide = Operand(0, F, (1 << 20, 1 << 20), (0, 0))
    out = contiguous(64, F, ())
    with pytest.raises(KernelTooLarge):
        prepare(REGISTRY, "sum", pack_call(Description((wide,), (out,))), MEMORY, CallLimits())


def test_in_place_where_a_kernel_says_so() -> None:
    one = contiguous(0, F, (4,))
    memory = bytearray(np.arange(4, dtype="float32").tobytes())
    described = pack_call(Description((one,), (one,), (), "a * a + 1"))
    run_on_cpu(prepare(REGISTRY, "elementwise", described, 16, CallLimits()), memoryview(memory))
    assert np.frombuffer(memory, "float32").tolist() == [1, 2, 5, 10]
    with pytest.raises(OperandsOverlap):
        prepare(REGISTRY, "resize", pack_call(Description((one,), (one,))), 16, CallLimits())


def _plan(call: Call) -> Work:
    return work_of(call, 1)


def _kernel(name: str, run: Any) -> Kernel:
    return Kernel(name, _plan, run)


def _runs(kernel: Kernel) -> None:
    described = pack_call(Description((contiguous(0, F, (4,)),), (contiguous(16, F, (4,)),)))
    data = memoryview(bytearray(32))
    run_on_cpu(prepare(Registry([kernel]), kernel.name, described, 32, CallLimits()), data)


def test_a_kernel_that_raises_is_a_typed_error() -> None:
    def raises(_xp: Any, inputs: Any, _outputs: Any, _call: Call) -> None:
        raise RuntimeError(f"{inputs[0].shape}")

    with pytest.raises(KernelFailed, match=r"RuntimeError: \(4,\)"):
        _runs(_kernel("bad", raises))


def test_a_kernel_for_which_there_is_no_memory_is_too_large() -> None:
    def starves(_xp: Any, _inputs: Any, _outputs: Any, _call: Call) -> None:
        raise MemoryError

    with pytest.raises(KernelTooLarge):
        _runs(_kernel("bad", starves))


def test_a_kernel_cannot_write_into_its_inputs() -> None:
    def writes(_xp: Any, inputs: Any, _outputs: Any, _call: Call) -> None:
        inputs[0][...] = 1

    with pytest.raises(KernelFailed, match="read-only"):
        _runs(_kernel("bad", writes))


def test_a_kernel_that_keeps_an_array_has_failed() -> None:
    kept: list[Any] = []

    def keeps(_xp: Any, inputs: Any, _outputs: Any, _call: Call) -> None:
        kept.append(inputs[0][1:3].reshape(2, 1))

    with pytest.raises(KernelFailed, match="bad keeps an array"):
        _runs(_kernel("bad", keeps))


def test_arrays_in_a_cycle_are_not_kept() -> None:
    def cycles(_xp: Any, inputs: Any, _outputs: Any, _call: Call) -> None:
        kept: list[Any] = [inputs[0]]
        kept.append(kept)

    gc.disable()
    try:
        _runs(_kernel("good", cycles))
    finally:
        gc.enable()


class _Point:
    """As importlib.metadata.EntryPoint."""

    group = GROUP

    def __init__(self, name: str, value: Any) -> None:
        self.name, self._value = name, value

    def load(self) -> Any:
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


def test_others_bring_kernels() -> None:
    registry = shipped()
    count = len(registry)
    ours = [_kernel("water.ndwi", None), _kernel("water.mask", None)]
    points: Any = [
        _Point("one", _kernel("other", None)),
        _Point("two", ours),
        _Point("taken", _kernel("matmul", None)),
        _Point("gone", ImportError("no module named water")),
        _Point("no kernel", [3]),
        _Point("no list", 3),
        _Point("no name", _kernel("Has Spaces", None)),
    ]
    failed = load_others(registry, points)
    assert [one.name for one in failed] == ["taken", "gone", "no kernel", "no list", "no name"]
    assert "no module named water" in failed[1].why
    assert len(registry) == count + 3
    assert registry.get("water.ndwi") is ours[0]
    assert registry.get("matmul").run is not None


def test_the_number_of_kernels_is_bounded() -> None:
    registry = Registry(_kernel(f"k{i}", None) for i in range(KERNELS_MAX))
    with pytest.raises(ValueError, match="already"):
        registry.add(_kernel("one_more", None))
    with pytest.raises(KernelExists):
        registry.add(_kernel("k1", None))


def test_installed_packages_are_asked() -> None:
    assert load_others(Registry()) == []


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (4, 1, 6), (2, 3, 4, 5)])
@pytest.mark.parametrize("most", [1, 2, 7, 20, 1000])
def test_blocks_cover_a_shape_once(shape: tuple[int, ...], most: int) -> None:
    seen = np.zeros(shape, int)
    for block in blocks(shape, most):
        part = seen[block]
        assert part.size <= most
        part += 1
    assert (seen == 1).all()


def test_tolerances() -> None:
    matmul, topk, resize = REGISTRY.get("matmul"), REGISTRY.get("topk"), REGISTRY.get("resize")
    assert tolerance(topk, F) == Tolerance(0.0)
    assert tolerance(resize, U8) == Tolerance(0.0, 1)
    assert tolerance(matmul, F, 400).relative == pytest.approx(20 * tolerance(matmul, F).relative)
    assert tolerance(matmul, Dtype.F16) > tolerance(matmul, F) > tolerance(matmul, Dtype.F64)


def test_agreement() -> None:
    some = np.asarray([1.0, np.nan, np.inf, -np.inf, 0.0])
    near = Tolerance(1e-3)
    assert agree(np, some, some.copy(), near)
    assert agree(np, some, some.copy(), Tolerance(0.0))
    assert not agree(np, some, some[:4], near)
    assert not agree(np, some, some.astype("float32"), near)
    assert not agree(np, some, np.asarray([1.0, 2.0, np.inf, -np.inf, 0.0]), near)
    assert not agree(np, some, np.asarray([1.0, np.nan, -np.inf, -np.inf, 0.0]), near)
    assert agree(np, np.asarray([1.0, 1e-4]), np.asarray([1.0, 0.0]), near)
    assert not agree(np, np.asarray([1.0, 2e-3]), np.asarray([1.0, 0.0]), near)
    assert agree(np, np.asarray([2e-3]), np.asarray([0.0]), near, scale=10.0)
    bytes_ = np.asarray([0, 255], "uint8"), np.asarray([1, 254], "uint8")
    assert agree(np, *bytes_, Tolerance(0.0, 1))
    assert not agree(np, bytes_[0], bytes_[0][::-1], Tolerance(0.0, 1))
    assert agree(np, np.asarray([1 + 1j]), np.asarray([1 + 1.0001j]), near)


class _Device:
    """numpy under another name: what kernels do differently on a device."""

    __name__ = "device"

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "numbers", "text"),
    [
        ("elementwise", [(F, (300, 400))], [(F, (300, 400))], [], "a * a - 1"),
        ("normalized_difference", [(F, (300, 400))] * 2, [(F, (300, 400))], [], ""),
        ("threshold", [(F, (300, 400))], [(U8, (300, 400))], [0.5], ""),
        ("softmax", [(F, (300, 400))], [(F, (300, 400))], [0], ""),
        ("topk", [(F, (300, 400))], [(F, (300, 7)), (I64, (300, 7))], [7], ""),
        ("resize", [(F, (300, 400))], [(F, (500, 250))], [], ""),
        ("fft2", [(F, (5, 128, 256))], [(Dtype.C64, (5, 128, 256))], [], ""),
        ("conv2d", [(F, (2, 8, 64, 64)), (F, (16, 8, 3, 3))], [(F, (2, 16, 64, 64))], [1, 1, 1, 1], ""),
    ],
)
def test_blocks_of_any_size_give_the_same(
    name: str, inputs: Any, outputs: Any, numbers: list[float], text: str
) -> None:
    ready = prepared(name, inputs, outputs, numbers, text)
    rng = np.random.default_rng(1)
    made = []
    arrays = [rng.random(shape).astype("float32") for _, shape in inputs]
    for xp in (np, _Device()):
        outs = [np.zeros(shape, dtype.array_name) for dtype, shape in outputs]
        ready.kernel.run(xp, arrays, outs, ready.call)
        made.append(outs)
    for one, two in zip(*made, strict=True):
        assert agree(np, one, two, tolerance(ready.kernel, ready.call.outputs[0].dtype, 72))
        assert one.any()
