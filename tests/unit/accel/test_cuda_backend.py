"""The CUDA backend on doubles of CuPy and of the native context: what errors mean, and what is kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeagent.accel import cuda_backend
from edgeagent.accel.cuda_backend import CudaBackend
from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.errors import DeviceAbsent, DeviceFull, DeviceGone, DevicePoisoned
from edgeagent.accel.execute import CallLimits, Prepared, prepare
from edgeagent.accel.gpu_errors import (
    GpuAbsent,
    GpuFault,
    GpuMisuse,
    GpuOutOfMemory,
    GpuPoisoned,
    GpuQuota,
    GpuTimeout,
    GpuUnsupported,
)
from edgeagent.accel.registry import shipped
from edgeagent.accel.self_test import SELF_TEST_BYTES, self_test
from edgeagent.accel.views import view, whole
from tests.guest_frames import pack_call
from tests.unit.accel.every_kernel import assert_agrees
from tests.unit.accel.every_type import typed_cases

# What kernels may use of CuPy: each was seen there (14.2) and run in all types that come to it.
_SEEN_IN_CUPY = """
    abs add any arange arccos arcsin arctan arctan2 argmax argmin argsort ascontiguousarray broadcast_to
    ceil clip concatenate cos cumsum divide equal exp expm1 flip floor greater greater_equal hypot iinfo
    isnan less less_equal lib log log1p log2 matmul max maximum mean min minimum moveaxis multiply
    nan_to_num negative not_equal pad power prod remainder rint sign sin sqrt subtract sum take
    take_along_axis tan tanh var where zeros zeros_like
"""


class Array(np.ndarray[Any, Any]):
    """numpy's, with CuPy's ways in and out, which are as strict."""

    def get(self, out: Any = None) -> Any:
        if out is None:
            return np.array(self)
        assert (out.shape, out.dtype) == (self.shape, self.dtype)
        assert out.flags.forc
        out[...] = self
        return out

    def set(self, array: Any) -> None:
        assert (array.shape, array.dtype) == (self.shape, self.dtype)
        assert self.flags.forc
        self[...] = array


class Cupy:
    """numpy's functions, in arrays that can be had back."""

    __name__ = "cupy"

    def __init__(self) -> None:
        self.plans = 16
        self.device = -1
        self.cuda = SimpleNamespace(Device=self._on)
        cache = SimpleNamespace(set_size=self._set_size)
        self.fft = SimpleNamespace(
            fft2=np.fft.fft2,
            ifft2=np.fft.ifft2,
            config=SimpleNamespace(get_plan_cache=lambda: cache),
        )

    @contextlib.contextmanager
    def _on(self, device: int) -> Iterator[None]:
        self.device = device
        yield
        self.device = -1

    def _set_size(self, size: int) -> None:
        assert self.device == 3  # each device has its own
        self.plans = size

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        return np.array(array, dtype=dtype).view(Array)

    def empty(self, shape: tuple[int, ...], dtype: Any, order: Any = "C") -> Any:
        return np.empty(shape, dtype, order).view(Array)

    def __getattr__(self, name: str) -> Any:
        assert name in _SEEN_IN_CUPY.split(), f"nobody has looked whether CuPy has {name}"
        return getattr(np, name)


class Tenant:
    def __init__(self, name: str) -> None:
        self.name, self.trims, self.closed = name, 0, False
        self.is_slow = False
        self.fault: GpuFault | None = None

    def synchronize(self, timeout_s: float) -> None:
        assert timeout_s > 0.0
        if self.is_slow:
            raise GpuTimeout("not done")

    def trim(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.trims += 1

    def close(self) -> None:
        self.closed = True


class Registration:
    def __init__(self, memory: memoryview, *, read_only: bool, zero_copy: bool) -> None:
        self.read_only, self.zero_copy, self.closed = read_only, zero_copy, False
        self.size_bytes = memory.nbytes
        self.host_ptr = np.frombuffer(memory, "u1").__array_interface__["data"][0]
        self.device_ptr = self.host_ptr  # the driver's own on a real one

    def close(self) -> None:
        self.closed = True


class Context:
    def __init__(self, device: int, *, pinned_bytes_max: int) -> None:
        self.pinned_bytes_max = pinned_bytes_max
        self.facts = SimpleNamespace(
            name=f"double {device}", total_bytes=1 << 30, ordinal=device, read_only_register=True
        )
        self.registered: list[Registration] = []
        self.zero_copy = False
        self.tenants: list[Tenant] = []
        self.refusal: GpuFault | None = None

    def register(self, memory: memoryview, *, read_only: bool) -> Registration:
        assert memory.nbytes < self.pinned_bytes_max
        if self.refusal is not None:
            raise self.refusal
        self.registered.append(Registration(memory, read_only=read_only, zero_copy=self.zero_copy))
        return self.registered[-1]

    def tenant(self, name: str, *, quota_bytes: int, keep_bytes: int) -> Tenant:
        assert 0 < keep_bytes <= quota_bytes < 1 << 30
        self.tenants.append(Tenant(name))
        return self.tenants[-1]

    def stats(self) -> Any:
        return SimpleNamespace(used_bytes=77)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """What the next uses of a tenant raise."""
    coming: list[Exception] = []

    @contextlib.contextmanager
    def using(context: Context, tenant: Tenant, cupy: Cupy) -> Iterator[Cupy]:
        if coming:
            raise coming.pop(0)
        with np.errstate(all="ignore"):  # a device warns of nothing
            yield cupy

    monkeypatch.setattr(cuda_backend, "load_cupy", Cupy)
    monkeypatch.setattr(cuda_backend, "GpuContext", Context)
    monkeypatch.setattr(cuda_backend, "using_tenant", using)
    return coming


def started() -> tuple[CudaBackend, Context]:
    backend = CudaBackend(3)
    described = backend.start(memoryview(bytearray(8)))
    assert described == ("double 3", 1 << 30)
    context: Any = backend._context
    assert backend._cupy.plans == 0
    return backend, context


def twice() -> tuple[Prepared, memoryview]:
    """Rows of an image, doubled into a column layout."""
    image = contiguous(0, Dtype.F32, (2, 3))
    out = contiguous(32, Dtype.F32, (2, 3))._replace(strides=(4, 8))
    slot = memoryview(bytearray(np.arange(6, dtype="float32").tobytes().ljust(64, b"\0")))
    described = pack_call(Description((image,), (out,), (), "2 * a"))
    return prepare(shipped(), "elementwise", described, 64, CallLimits()), slot


def test_kernels_run_and_the_self_test_passes(faults: list[Exception]) -> None:
    backend, context = started()
    self_test(backend, shipped(), memoryview(bytearray(SELF_TEST_BYTES)))
    prepared, slot = twice()
    backend.run("f", prepared, slot)
    assert np.frombuffer(slot[32:56], "float32").tolist() == [0, 6, 2, 8, 4, 10]
    backend.run("f", prepared, slot)
    assert [one.name for one in context.tenants] == ["-", "f"]
    assert backend.used_bytes() == 77
    backend.forget("f")
    backend.forget("g")
    assert context.tenants[1].closed
    backend.close()


def test_operands_of_every_type_come_and_go(faults: list[Exception]) -> None:
    """Of every rank and type: CuPy takes and gives only arrays of the very shape and type, in one of two orders."""
    backend, _ = started()
    for case in typed_cases():
        memory = bytearray(case.memory)
        backend.run("f", case.prepared, memoryview(memory))
        assert_agrees(case, bytes(memory))


_PLAIN = contiguous(0, Dtype.F32, (2, 3))


@pytest.mark.parametrize(
    ("one", "wanted"),
    [
        (_PLAIN._replace(offset=40, strides=(16, -4)), [[10, 9, 8], [14, 13, 12]]),
        (_PLAIN._replace(strides=(0, 4)), [[0, 1, 2], [0, 1, 2]]),
        (_PLAIN._replace(strides=(4, 8)), [[0, 2, 4], [1, 3, 5]]),
        (_PLAIN._replace(offset=20, strides=(-12, -4)), [[5, 4, 3], [2, 1, 0]]),
    ],
    ids=["gaps", "repeated", "turned", "backwards"],
)
def test_strides_of_all_kinds(faults: list[Exception], one: Operand, wanted: list[list[int]]) -> None:
    backend, _ = started()
    for strides in ((12, 4), (4, 8), (24, 8)):
        slot = memoryview(bytearray(np.arange(48, dtype="float32").tobytes()))
        out = _PLAIN._replace(offset=128, strides=strides)
        described = pack_call(Description((one,), (out,), (), "a"))
        backend.run("f", prepare(shipped(), "elementwise", described, len(slot), CallLimits()), slot)
        assert view(whole(slot), out, writable=False).tolist() == wanted


def test_short_memory_is_freed_and_asked_for_once_more(faults: list[Exception]) -> None:
    backend, context = started()
    prepared, slot = twice()
    faults[:] = [GpuOutOfMemory("full")]
    backend.run("f", prepared, slot)
    assert context.tenants[0].trims == 1
    context.tenants[0].is_slow = True
    faults[:] = [GpuOutOfMemory("full"), GpuQuota("over")]
    with pytest.raises(DeviceFull, match="over"):
        backend.run("f", prepared, slot)
    assert context.tenants[0].trims == 2
    context.tenants[0].fault = GpuPoisoned("lost meanwhile")
    faults[:] = [GpuOutOfMemory("full")]
    with pytest.raises(DevicePoisoned, match="lost meanwhile"):
        backend.run("f", prepared, slot)


def test_an_error_keeps_no_frame_of_where_it_was_raised(faults: list[Exception]) -> None:
    """In them are the arrays, and in these the slot."""
    backend, _ = started()
    raised = RuntimeError("a kernel's")
    raised.__cause__, raised.__context__ = ValueError("its cause"), ValueError("its context")
    faults[:] = [raised]
    with pytest.raises(RuntimeError) as caught:
        backend.run("f", *twice())
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (GpuPoisoned("illegal address"), DevicePoisoned),
        (GpuAbsent("lost"), DeviceGone),
        (RuntimeError("a kernel's"), RuntimeError),
    ],
)
def test_errors_are_told_apart(faults: list[Exception], raised: Exception, kind: type[Exception]) -> None:
    backend, _ = started()
    faults[:] = [raised]
    prepared, slot = twice()
    with pytest.raises(kind):
        backend.run("f", prepared, slot)


@pytest.mark.parametrize(
    "refusal", [GpuUnsupported("no"), GpuQuota("no"), GpuOutOfMemory("no"), GpuMisuse("an invalid value")]
)
def test_an_arena_that_cannot_be_pinned_is_used_all_the_same(
    faults: list[Exception], monkeypatch: pytest.MonkeyPatch, refusal: GpuFault
) -> None:
    def refusing(device: int, *, pinned_bytes_max: int) -> Context:
        context = Context(device, pinned_bytes_max=pinned_bytes_max)
        context.refusal = refusal
        return context

    monkeypatch.setattr(cuda_backend, "GpuContext", refusing)
    backend, _ = started()
    backend.run("f", *twice())


def test_no_library_is_an_absent_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise GpuAbsent("CuPy cannot be imported", hint="pip install")

    monkeypatch.setattr(cuda_backend, "load_cupy", missing)
    backend = CudaBackend(0)
    with pytest.raises(DeviceAbsent, match="CuPy"):
        backend.start(memoryview(bytearray(8)))
    assert backend.used_bytes() == 0


def test_no_driver_is_an_absent_device_before_cupy_is_asked_anything(
    faults: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> Any:
        raise GpuAbsent("no CUDA driver")

    def asked(*_: object) -> Any:
        raise AssertionError("CuPy says only that something failed")

    monkeypatch.setattr(cuda_backend, "GpuContext", missing)
    monkeypatch.setattr(Cupy, "_on", asked)
    with pytest.raises(DeviceAbsent, match="no CUDA driver"):
        CudaBackend(3).start(memoryview(bytearray(8)))


def test_the_function_that_was_not_used_for_longest_gives_way(faults: list[Exception]) -> None:
    backend, context = started()
    prepared, slot = twice()
    for number in range(66):
        backend.run(f"f{number}", prepared, slot)
    assert [one.name for one in context.tenants if one.closed] == ["f0", "f1"]


def over(*, zero_copy: bool) -> tuple[CudaBackend, Context, memoryview]:
    backend, context = started()
    context.zero_copy = zero_copy
    return backend, context, memoryview(np.arange(4096, dtype="float32").tobytes())


def mapped_sum(backend: CudaBackend, memory: memoryview, count: int) -> float:
    """Of the first so many numbers of a mapping, which lie behind the slot."""
    slot = memoryview(bytearray(16))
    a, out = contiguous(4096, Dtype.F32, (count,)), contiguous(0, Dtype.F32, (1,))
    described = pack_call(Description((a,), (out,), (0.0,)))
    prepared = prepare(shipped(), "sum", described, 4096 + len(memory), CallLimits())
    backend.run("f", prepared, slot, [memory])
    return float(np.frombuffer(slot[:4], "float32")[0])


def test_mapped_memory_is_pinned_for_reading_and_let_go(faults: list[Exception]) -> None:
    backend, context, memory = over(zero_copy=False)
    attached: Any = backend.attach(memory)
    assert attached is context.registered[-1]
    assert attached.read_only
    assert mapped_sum(backend, memory, 1000) == 499500.0
    backend.detach(attached)
    assert attached.closed
    assert mapped_sum(backend, memory, 10) == 45.0


def test_memory_that_the_device_shares_is_taken_where_it_lies(
    faults: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []

    def array_over(_cupy: Any, ptr: int, size_bytes: int, owner: Any, **made: Any) -> Any:
        taken.append((ptr - owner.host_ptr, size_bytes))
        assert made["device_id"] == 3
        return np.zeros(made["shape"], made["dtype"]).view(Array)

    monkeypatch.setattr(cuda_backend, "array_over", array_over)
    backend, _, memory = over(zero_copy=True)
    backend.attach(memory)
    assert mapped_sum(backend, memory, 100) == 0.0
    assert taken == [(0, 400)]
    assert mapped_sum(backend, memoryview(bytes(memory)), 10) == 45.0  # other memory is copied
    prepared, slot = twice()
    backend.run("f", prepared, slot)
    assert len(taken) == 1


def test_a_device_that_cannot_be_held_to_reading_is_given_nothing(faults: list[Exception]) -> None:
    backend, context, memory = over(zero_copy=False)
    context.facts.read_only_register = False
    assert backend.attach(memory) is None
    assert len(context.registered) == 1  # the arena


def test_a_context_that_is_lost_while_memory_is_pinned(faults: list[Exception]) -> None:
    backend, context, memory = over(zero_copy=False)
    context.refusal = GpuPoisoned("illegal address")
    with pytest.raises(DevicePoisoned, match="illegal"):
        backend.attach(memory)
    context.refusal = GpuQuota("too much")
    assert backend.attach(memory) is None
