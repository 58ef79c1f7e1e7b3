"""Every kernel against a reference that is slow and plain, over types, shapes and strides."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from edgeagent.accel.descriptors import Description, Operand, contiguous
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.execute import CallLimits, prepare, run_on_cpu
from tests.guest_frames import pack_call
from tests.unit.accel.kernel_rig import MEMORY_BYTES, REGISTRY, assert_close, call

_seeds = st.integers(0, 1 << 30)
_sides = st.integers(1, 6)
_floats = st.sampled_from(["float16", "float32", "float64"])
_reals = st.sampled_from(
    [
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
    ]
)
_products = st.sampled_from(["float16", "float32", "float64", "complex64", "complex128", "int32", "int64"])
_waves = st.sampled_from(["uint8", "int32", "float16", "float32", "float64", "complex64", "complex128"])
_sums = st.sampled_from(["uint8", "int16", "int64", "float16", "float32", "float64", "complex64"])
_few = settings(max_examples=40, deadline=None)


def array(seed: int, dtype: str, shape: tuple[int, ...], low: int = -4, high: int = 5) -> Any:
    """Small whole numbers and, of floats, quarters of such: exact in every type."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("uint"):
        low = 0
    values = rng.integers(low, high, shape)
    if dtype.startswith("complex"):
        return (values + 1j * rng.integers(low, high, shape)).astype(dtype)
    return (values / 4 if dtype.startswith("float") else values).astype(dtype)


@_few
@given(_seeds, _sides, _sides, _sides, _products)
def test_matmul(seed: int, m: int, k: int, n: int, dtype: str) -> None:
    a, b = array(seed, dtype, (m, k)), array(seed + 1, dtype, (k, n))
    (got,) = call("matmul", [a, b], [(dtype, (m, n))], seed=seed)
    wanted = [[sum(a[i, x].item() * b[x, j].item() for x in range(k)) for j in range(n)] for i in range(m)]
    assert_close("matmul", got, wanted, k, scale=8.0 * k)


def test_integers_wrap_in_a_product() -> None:
    a = np.full((1, 2), 1 << 30, "int32")
    (got,) = call("matmul", [a, a.T * 2], [("int32", (1, 1))])
    assert got[0, 0] == 0


@_few
@given(
    _seeds, st.lists(st.tuples(_sides, st.booleans(), st.booleans()), min_size=1, max_size=2), _sides, _sides
)
def test_batched_matmul(seed: int, batch: list[tuple[int, bool, bool]], m: int, k: int) -> None:
    fronts = [tuple(1 if one[which] else one[0] for one in batch) for which in (1, 2)]
    a, b = array(seed, "float32", (*fronts[0], m, k)), array(seed + 1, "float32", (*fronts[1], k, 3))
    front = tuple(map(max, *fronts)) if len(batch) else ()
    (got,) = call("batched_matmul", [a, b], [("float32", (*front, m, 3))], seed=seed)
    for at in itertools.product(*map(range, front)):
        pair = [
            whole[tuple(min(i, n - 1) for i, n in zip(at, whole.shape[:-2], strict=True))] for whole in (a, b)
        ]
        wanted = [[sum(pair[0][i, x] * pair[1][x, j] for x in range(k)) for j in range(3)] for i in range(m)]
        assert_close("batched_matmul", got[at], wanted, k, scale=8.0 * k)


@settings(max_examples=30, deadline=None)
@given(
    _seeds,
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(3, 7), st.integers(3, 7)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(*[st.integers(1, 2)] * 2, *[st.integers(0, 2)] * 2, *[st.integers(1, 2)] * 2),
    _floats,
    st.booleans(),
)
def test_conv2d(
    seed: int,
    counts: tuple[int, int, int, int],
    side: tuple[int, int],
    kernel: tuple[int, int],
    steps: tuple[int, ...],
    dtype: str,
    biased: bool,
) -> None:
    images, groups, channels, filters = counts
    sy, sx, py, px, dy, dx = steps
    out = [
        (n + 2 * p - (k - 1) * d - 1) // s + 1
        for n, p, k, d, s in zip(side, (py, px), kernel, (dy, dx), (sy, sx), strict=True)
    ]
    if min(out) < 1:
        return
    image = array(seed, dtype, (images, groups * channels, *side))
    weights = array(seed + 1, dtype, (groups * filters, channels, *kernel))
    bias = [array(seed + 2, dtype, (groups * filters,))] if biased else []
    (got,) = call(
        "conv2d",
        [image, weights, *bias],
        [(dtype, (images, groups * filters, *out))],
        (*steps, groups),
        seed=seed,
    )
    wanted = np.zeros(got.shape)
    for n, f, y, x in np.ndindex(*got.shape):
        total = float(bias[0][f]) if biased else 0.0
        for c, i, j in np.ndindex(channels, *kernel):
            row, column = y * sy + i * dy - py, x * sx + j * dx - px
            if 0 <= row < side[0] and 0 <= column < side[1]:
                total += float(image[n, f // filters * channels + c, row, column]) * float(
                    weights[f, c, i, j]
                )
        wanted[n, f, y, x] = total
    assert_close("conv2d", got, wanted, channels * 9, scale=20.0)


@_few
@given(_seeds, _sides, _sides, st.booleans(), _waves)
def test_fft2(seed: int, h: int, w: int, inverse: bool, dtype: str) -> None:
    image = array(seed, dtype, (2, h, w))
    out = "complex64" if dtype in {"uint8", "float16", "float32", "complex64"} else "complex128"
    (got,) = call("fft2", [image], [(out, image.shape)], [inverse], seed=seed)
    sign = 2j if inverse else -2j
    wanted = np.zeros(image.shape, "complex128")
    for n, u, v in np.ndindex(*image.shape):
        turns = [
            complex(image[n, y, x]) * np.exp(sign * math.pi * (u * y / h + v * x / w))
            for y, x in np.ndindex(h, w)
        ]
        wanted[n, u, v] = sum(turns) / (h * w if inverse else 1)
    assert_close("fft2", got, wanted, h * w, scale=8.0 * h * w)


@_few
@given(_seeds, _reals, _reals, st.lists(_sides, max_size=3).map(tuple))
def test_elementwise(seed: int, dtype: str, out: str, shape: tuple[int, ...]) -> None:
    a, b = array(seed, dtype, shape), array(seed + 1, dtype, shape[1:] and (1, *shape[2:]))
    (got,) = call("elementwise", [a, b], [(out, shape)], text="where(a > b, a * 2.5 + b, -3 * a)", seed=seed)
    wide = np.broadcast_to(b, shape).astype("float64")
    wanted = np.zeros(shape)
    for at in np.ndindex(*shape):
        x, y = float(a[at]), float(wide[at])
        wanted[at] = x * 2.5 + y if x > y else -3 * x
    if "int" in out:
        info = np.iinfo(out)
        wanted = np.clip(np.rint(wanted), info.min, info.max)
    assert_close("elementwise", got, wanted, scale=16.0)


@pytest.mark.parametrize(
    ("value", "dtype", "wanted"),
    [
        (300.0, "uint8", 255), (-7.0, "uint8", 0), (2.5, "uint8", 2), (3.5, "int16", 4), (-2.5, "int8", -2),
        (1e30, "int64", 2**63 - 1), (-1e30, "int64", -(2**63)), (1e30, "uint64", 2**64 - 1),
        (2.0**31, "int32", 2**31 - 1),
        (float("nan"), "int32", 0), (float("inf"), "uint16", 65535), (float("-inf"), "int16", -32768),
    ],
)  # fmt: skip
@pytest.mark.parametrize("width", ["float32", "float64"])
def test_floats_become_integers_without_surprise(value: float, dtype: str, wanted: int, width: str) -> None:
    (got,) = call("elementwise", [np.asarray([value], width)], [(dtype, (1,))], text="a")
    assert int(got[0]) == wanted


def test_an_expression_of_no_input_fills() -> None:
    (got,) = call("elementwise", [np.zeros((), "uint8")], [("float64", (2, 3))], text="pi / 2")
    assert_close("elementwise", got, np.full((2, 3), math.pi / 2))


def test_a_division_by_zero_is_an_answer() -> None:
    (got,) = call("elementwise", [np.asarray([0.0, 1.0])], [("float64", (2,))], text="log(a) / (a - 1)")
    assert np.isposinf(got[0])
    assert np.isnan(got[1])


@_few
@given(_seeds, _reals, _floats, _sides)
def test_normalized_difference(seed: int, dtype: str, out: str, side: int) -> None:
    a, b = array(seed, dtype, (side, 3)), array(seed + 1, dtype, (side, 3))
    (got,) = call("normalized_difference", [a, b], [(out, a.shape)], [-9.5], seed=seed)
    wanted = np.zeros(a.shape)
    for at in np.ndindex(*a.shape):
        x, y = float(a[at]), float(b[at])
        wanted[at] = (x - y) / (x + y) if x + y else -9.5
    assert_close("normalized_difference", got, wanted)


@_few
@given(_seeds, _reals, st.integers(-4, 4), st.integers(0, 3))
def test_threshold(seed: int, dtype: str, value: int, comparison: int) -> None:
    image = array(seed, dtype, (5, 4))
    (got,) = call("threshold", [image], [("uint8", (5, 4))], [value / 4, comparison, 200, 3], seed=seed)
    for at in np.ndindex(5, 4):
        x, limit = float(image[at]), value / 4
        holds = [x >= limit, x > limit, x <= limit, x < limit][comparison]
        assert got[at] == (200 if holds else 3)


_shapes = st.lists(_sides, min_size=1, max_size=3).map(tuple)


def reduced(image: Any, axes: set[int], function: Any) -> Any:
    kept = [n for i, n in enumerate(image.shape) if i not in axes]
    out = np.zeros(kept, "complex128" if "complex" in str(image.dtype) else "object")
    for at in np.ndindex(*kept):
        whole: list[Any] = list(at)
        for axis in sorted(axes):
            whole.insert(axis, slice(None))
        out[at] = function([x.item() for x in image[tuple(whole)].reshape(-1)])
    return out


@_few
@given(_seeds, _shapes, st.integers(0, 7), _sums, st.booleans())
def test_sums(seed: int, shape: tuple[int, ...], bits: int, dtype: str, keep: bool) -> None:
    bits &= (1 << len(shape)) - 1
    axes = {i for i in range(len(shape)) if not bits or bits >> i & 1}
    image = array(seed, dtype, shape, 1, 3)
    out = {"u": "uint64", "i": "int64"}.get(dtype[0], dtype)
    kept = [1 if i in axes else n for i, n in enumerate(shape) if keep or i not in axes]
    terms = math.prod(shape[i] for i in axes)
    for name, function in (("sum", sum), ("prod", math.prod)):
        if name == "prod" and dtype.startswith("float16"):
            continue
        wanted = reduced(image, axes, function)
        if out.endswith("int64"):
            wanted = np.vectorize(lambda x: int(x) & (2**64 - 1), otypes=["object"])(wanted).astype("uint64")
        (got,) = call(name, [image], [(out, kept)], [bits], seed=seed)
        assert_close(name, got, wanted, terms)
    mean = dtype if dtype[0] in "fc" else "float64"
    (got,) = call("mean", [image], [(mean, kept)], [bits], seed=seed)
    assert_close("mean", got, reduced(image, axes, lambda x: sum(x) / len(x)), terms)


@_few
@given(_seeds, _shapes, st.integers(0, 7), _reals)
def test_extremes_and_variance(seed: int, shape: tuple[int, ...], bits: int, dtype: str) -> None:
    bits &= (1 << len(shape)) - 1
    axes = {i for i in range(len(shape)) if not bits or bits >> i & 1}
    image = array(seed, dtype, shape)
    kept = [n for i, n in enumerate(shape) if i not in axes]
    for name, function in (("min", min), ("max", max)):
        (got,) = call(name, [image], [(dtype, kept)], [bits], seed=seed)
        assert_close(name, got, reduced(image, axes, function))
    variance = reduced(image, axes, lambda x: sum((y - sum(x) / len(x)) ** 2 for y in x) / len(x))
    out = dtype if dtype in {"float16", "float32"} else "float64"
    (got,) = call("var", [image], [(out, kept)], [bits], seed=seed)
    assert_close("var", got, variance, image.size, scale=16.0)
    if len(axes) in {1, len(shape)}:
        for name, function in (("argmin", min), ("argmax", max)):
            (got,) = call(name, [image], [("int64", kept)], [bits], seed=seed)
            assert_close(name, got, reduced(image, axes, lambda x, f=function: x.index(f(x))))


@_few
@given(_seeds, _shapes, st.integers(-3, 2), _floats)
def test_softmax(seed: int, shape: tuple[int, ...], axis: int, dtype: str) -> None:
    axis %= len(shape)
    image = array(seed, dtype, shape) * 8
    (got,) = call("softmax", [image], [(dtype, shape)], [axis], seed=seed)
    powers = np.vectorize(lambda x: math.exp(float(x)), otypes=["float64"])(image)
    assert_close("softmax", got, powers / powers.sum(axis=axis, keepdims=True), shape[axis], scale=1.0)


def test_softmax_of_large_numbers_is_finite() -> None:
    (got,) = call("softmax", [np.asarray([1e30, 0.0], "float32")], [("float32", (2,))])
    assert got.tolist() == [1.0, 0.0]


@_few
@given(_seeds, _shapes, st.integers(-3, 2), _reals, st.booleans(), st.data())
def test_topk(
    seed: int, shape: tuple[int, ...], axis: int, dtype: str, largest: bool, data: st.DataObject
) -> None:
    axis %= len(shape)
    k = data.draw(st.integers(1, shape[axis]))
    image = array(seed, dtype, shape)
    out = tuple(k if i == axis else n for i, n in enumerate(shape))
    values, places = call("topk", [image], [(dtype, out), ("int32", out)], [k, axis, largest], seed=seed)
    for at in np.ndindex(*(n for i, n in enumerate(shape) if i != axis)):
        whole: list[Any] = list(at)
        whole.insert(axis, slice(None))
        line = [x.item() for x in image[tuple(whole)]]
        order = sorted(range(len(line)), key=lambda i: (-line[i] if largest else line[i], i))[:k]
        assert places[tuple(whole)].tolist() == order
        assert values[tuple(whole)].tolist() == [line[i] for i in order]


@_few
@given(_seeds, _reals, _sides, _sides, _sides, _sides, st.booleans())
def test_resize(seed: int, dtype: str, h: int, w: int, out_h: int, out_w: int, linear: bool) -> None:
    image = array(seed, dtype, (2, h, w), 0, 100)
    (got,) = call("resize", [image], [(dtype, (2, out_h, out_w))], [linear], seed=seed)
    wanted = np.zeros(got.shape)
    for n, i, j in np.ndindex(*got.shape):
        y, x = (i + 0.5) * (h / out_h), (j + 0.5) * (w / out_w)
        if not linear:
            wanted[n, i, j] = image[n, min(int(y), h - 1), min(int(x), w - 1)]
            continue
        y, x = min(max(y - 0.5, 0), h - 1), min(max(x - 0.5, 0), w - 1)
        top, left = int(y), int(x)
        for dy, dx in np.ndindex(2, 2):
            part = (1 - abs(y - top - dy)) * (1 - abs(x - left - dx))
            wanted[n, i, j] += part * float(image[n, min(top + dy, h - 1), min(left + dx, w - 1)])
    if "int" in dtype:
        wanted = np.rint(wanted)
    assert_close("resize", got, wanted, scale=100.0)


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("turned", [False, True])
def test_resize_takes_no_copy_of_an_image(mode: int, turned: bool) -> None:
    """However many pixels are described, the work and the memory are the output's."""
    shape, strides = ((1 << 31, 64), (0, 1)) if turned else ((64, 1 << 31), (1, 0))
    image, out = Operand(0, Dtype.U8, shape, strides), contiguous(4096, Dtype.U8, (32, 32))
    prepared = prepare(
        REGISTRY,
        "resize",
        pack_call(Description((image,), (out,), (float(mode),))),
        MEMORY_BYTES,
        CallLimits(),
    )
    memory = bytearray(range(64)) + bytearray(MEMORY_BYTES - 64)
    run_on_cpu(prepared, memoryview(memory))
    got = np.frombuffer(memory, "uint8", 1024, 4096).reshape(32, 32)
    line = np.arange(64).reshape(32, 2)
    wanted = line[:, 1] if mode == 0 else np.round(line.mean(axis=1) - 1e-9)
    assert (got == (wanted if turned else wanted[:, None])).all()


@settings(max_examples=60, deadline=None)
@given(_seeds, st.integers(1, 24), st.integers(1, 24), st.floats(0.1, 0.9), st.sampled_from([4, 8]))
def test_connected_components(seed: int, h: int, w: int, density: float, touching: int) -> None:
    mask = (np.random.default_rng(seed).random((h, w)) < density).astype("uint8") * 7
    got, count = call(
        "connected_components", [mask], [("int32", (h, w)), ("int32", ())], [touching], seed=seed
    )
    wanted, number = ndimage.label(mask, np.ones((3, 3)) if touching == 8 else None)
    assert count == number
    first: dict[int, int] = {}
    for label in wanted.reshape(-1).tolist():
        if label:
            first.setdefault(label, len(first) + 1)
    assert got.tolist() == [[first.get(label, 0) for label in row] for row in wanted.tolist()]


@pytest.mark.parametrize("side", [1, 2, 63, 64])
def test_a_long_winding_path_is_one_component(side: int) -> None:
    mask = np.zeros((side, side), "int16")
    mask[::2] = -1
    mask[1::4, -1] = mask[3::4, 0] = 300
    for image in (mask, mask.T, mask[::-1], mask.T[:, ::-1]):
        got, count = call("connected_components", [image], [("int32", mask.shape), ("int64", (1,))])
        assert count[0] == 1
        assert (got == (image != 0)).all()


def test_a_mask_without_a_pixel_has_no_component() -> None:
    got, count = call("connected_components", [np.zeros((3, 4), "uint8")], [("int32", (3, 4)), ("int64", ())])
    assert count == 0
    assert not got.any()
