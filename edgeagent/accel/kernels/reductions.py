"""sum, prod, mean, var, min, max, argmin, argmax over some or all indices; softmax and topk along one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from edgeagent.accel.descriptors import RANK_MAX, Operand
from edgeagent.accel.dtypes import COMPLEX, FLOATS, INTEGERS, REALS, SIGNED, UNSIGNED, Dtype
from edgeagent.accel.kernel_errors import BadParameter, WrongShape
from edgeagent.accel.kernels.arrays import (
    DEVICE_BLOCK_ELEMENTS,
    block_elements,
    blocks,
    summed,
    working,
    working_of,
)
from edgeagent.accel.kernels.kernel import (
    Call,
    Kernel,
    Param,
    Work,
    same_shape,
    takes_dtype,
    takes_rank,
    work_of,
)

__all__ = ["KERNELS"]

_AXES = Param("axes", 0, 0, (1 << RANK_MAX) - 1)  # bit i: index i; 0: all
_AXIS = Param("axis", -1, -RANK_MAX, RANK_MAX - 1)


def _axes(call: Call) -> tuple[int, ...]:
    rank, bits = call.inputs[0].rank, call.whole("axes")
    if bits >> rank:
        raise BadParameter(f"axes {bits:#x} are not all among the {rank} indices of the input")
    return tuple(i for i in range(rank) if not bits or bits >> i & 1)


def _axis(call: Call) -> int:
    rank, axis = call.inputs[0].rank, call.whole("axis")
    if not -rank <= axis < rank:
        raise BadParameter(f"axis {axis} is not among the {rank} indices of the input")
    return axis % rank


def _check_reduced(call: Call, axes: tuple[int, ...]) -> None:
    """The output may lack what was reduced, or have 1 there."""
    shape, out = call.inputs[0].shape, call.outputs[0]
    kept = tuple(1 if i in axes else size for i, size in enumerate(shape))
    if out.shape != kept:
        same_shape("the output", out, [size for i, size in enumerate(shape) if i not in axes])


def _sum_type(dtype: Dtype) -> Dtype:
    """In which sums and products are made; of integers they wrap."""
    if dtype in SIGNED:
        return Dtype.I64
    return Dtype.U64 if dtype in UNSIGNED else working_of(dtype)


def _is_sum(dtype: Dtype) -> frozenset[Dtype]:
    return (
        frozenset({_sum_type(dtype), dtype}) if dtype in FLOATS | COMPLEX else frozenset({_sum_type(dtype)})
    )


def _is_mean(dtype: Dtype) -> frozenset[Dtype]:
    if dtype in COMPLEX:
        return frozenset({dtype})
    return frozenset({dtype, working(dtype)}) if dtype in FLOATS else frozenset({Dtype.F32, Dtype.F64})


def _plan(
    results: Callable[[Dtype], frozenset[Dtype]], takes: frozenset[Dtype], copies: int, call: Call
) -> Work:
    one = call.inputs[0]
    takes_dtype("the input", one, takes)
    takes_dtype("the output", call.outputs[0], results(one.dtype))
    axes = _axes(call)
    _check_reduced(call, axes)
    # numpy's own sums copy a buffer at a time; a variance keeps the differences from the mean.
    item = 8 if one.dtype in INTEGERS else working_of(one.dtype).item_bytes
    once = one.elements // max((one.shape[i] for i in axes), default=1)
    scratch = item * (copies * one.elements + 2 * once + one.elements // 64 + 2 * call.outputs[0].elements)
    return work_of(call, one.elements * max(1, 2 * copies), scratch)


def _run_integral(name: str, xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    """A sum of integers, or a product: the order of terms counts for nothing, or for little."""
    dtype = _sum_type(call.inputs[0].dtype).array_name
    _put(outputs[0], getattr(xp, name)(inputs[0], axis=_axes(call), dtype=dtype))


def _total(xp: Any, array: Any, axes: Sequence[int], dtype: str) -> Any:
    """The sum over these indices, which have 1 there then."""
    for axis in sorted(axes, key=lambda one: -array.shape[one]):
        array = summed(xp, array, axis, dtype)
    return array


def _run_sum(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    one = call.inputs[0].dtype
    if one in FLOATS | COMPLEX:
        _put(outputs[0], _total(xp, inputs[0], _axes(call), _sum_type(one).array_name))
    else:
        _run_integral("sum", xp, inputs, outputs, call)


def _mean_type(dtype: Dtype) -> str:
    """Sums of many integers do not fit what holds each of them."""
    return (working_of(dtype) if dtype in FLOATS | COMPLEX else Dtype.F64).array_name


def _mean(xp: Any, array: Any, axes: Sequence[int], dtype: str) -> Any:
    total = _total(xp, array, axes, dtype)
    return total / xp.asarray(array.size // total.size, dtype=dtype)


def _run_mean(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    _put(outputs[0], _mean(xp, inputs[0], _axes(call), _mean_type(call.inputs[0].dtype)))


def _run_var(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    axes, dtype = _axes(call), _mean_type(call.inputs[0].dtype)
    apart = xp.subtract(inputs[0], _mean(xp, inputs[0], axes, dtype), dtype=dtype)
    xp.multiply(apart, apart, out=apart)
    _put(outputs[0], _mean(xp, apart, axes, dtype))


def _run_extreme(name: str, xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    _put(outputs[0], getattr(xp, name)(inputs[0], axis=_axes(call)))


def _put(out: Any, value: Any) -> None:
    out[...] = value.reshape(out.shape)


def _plan_place(call: Call) -> Work:
    one = call.inputs[0]
    takes_dtype("the input", one, REALS)
    takes_dtype("the output", call.outputs[0], {Dtype.I64})
    axes = _axes(call)
    if len(axes) not in {1, one.rank}:
        raise BadParameter("the place of an extreme is along one index, or all")
    _check_reduced(call, axes)
    return work_of(call, one.elements, one.bytes)


def _run_place(name: str, xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    axes = _axes(call)
    axis = axes[0] if len(axes) == 1 else None
    place = xp.asarray(getattr(xp, name)(inputs[0], axis=axis))
    if xp.__name__ != "numpy" and call.inputs[0].dtype in FLOATS:  # of several NaN, CuPy may find any
        nans = xp.isnan(inputs[0])
        place = xp.where(xp.any(nans, axis=axis), xp.argmax(nans, axis=axis), place)
    _put(outputs[0], place)


def _plan_softmax(call: Call) -> Work:
    one, out = call.inputs[0], call.outputs[0]
    takes_dtype("the input", one, FLOATS)
    takes_dtype("the output", out, {one.dtype})
    takes_rank("the input", one, 1)
    same_shape("the output", out, one.shape)
    return work_of(call, 20 * one.elements, _lines_scratch(one, _axis(call), 3))


def _lines_scratch(one: Operand, axis: int, copies: int) -> int:
    return copies * 8 * min(one.elements, max(one.shape[axis], DEVICE_BLOCK_ELEMENTS))


def _run_softmax(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    axis, name = _axis(call), working_of(call.inputs[0].dtype).array_name
    image, out = xp.moveaxis(inputs[0], axis, -1), xp.moveaxis(outputs[0], axis, -1)
    for block in blocks(image.shape[:-1], max(1, block_elements(xp) // image.shape[-1])):
        part = image[block].astype(name, copy=False)
        powers = xp.exp(part - xp.max(part, axis=-1, keepdims=True))
        out[block] = powers / summed(xp, powers, powers.ndim - 1, name)


def _plan_topk(call: Call) -> Work:
    one, out = call.inputs[0], call.outputs[0]
    takes_dtype("the input", one, REALS)
    takes_dtype("the output of values", out, {one.dtype})
    takes_rank("the input", one, 1)
    axis, k = _axis(call), call.whole("k")
    if k > one.shape[axis]:
        raise WrongShape(f"the {k} largest of {one.shape[axis]}")
    shape = tuple(k if i == axis else size for i, size in enumerate(one.shape))
    same_shape("the output of values", out, shape)
    for places in call.outputs[1:]:
        takes_dtype("the output of places", places, {Dtype.I32, Dtype.I64})
        same_shape("the output of places", places, shape)
    flops = one.elements * one.shape[axis].bit_length()
    return work_of(call, flops, _lines_scratch(one, axis, 4), 2e8)


def _run_topk(xp: Any, inputs: Sequence[Any], outputs: Sequence[Any], call: Call) -> None:
    """Stable, so that of equals the first comes first, with every namespace."""
    axis, k, largest = _axis(call), call.whole("k"), call.whole("largest")
    image = xp.moveaxis(inputs[0], axis, -1)
    outs = [xp.moveaxis(out, axis, -1) for out in outputs]
    for block in blocks(image.shape[:-1], max(1, block_elements(xp) // image.shape[-1])):
        part = xp.ascontiguousarray(image[block])
        keys = _keys(xp, part)
        if largest:
            backwards = xp.argsort(xp.flip(keys, axis=-1), axis=-1, kind="stable")
            order = (part.shape[-1] - 1) - xp.flip(backwards, axis=-1)[..., :k]
        else:
            order = xp.argsort(keys, axis=-1, kind="stable")[..., :k]
        for out, value in zip(outs, (xp.take_along_axis(part, order, axis=-1), order), strict=False):
            out[block] = value


def _keys(xp: Any, part: Any) -> Any:
    """What to sort by: CuPy sorts by bits where there is one line, and so puts a NaN with a sign before all."""
    if xp.__name__ == "numpy" or part.dtype.kind != "f":
        return part
    return xp.where(xp.isnan(part), xp.asarray(float("nan"), dtype=part.dtype), part)


def _same(dtype: Dtype) -> frozenset[Dtype]:
    return frozenset({dtype})


KERNELS = (
    Kernel("sum", partial(_plan, _is_sum, REALS | COMPLEX, 0), _run_sum, params=(_AXES,)),
    Kernel(
        "prod", partial(_plan, _is_sum, REALS | COMPLEX, 0), partial(_run_integral, "prod"), params=(_AXES,)
    ),
    Kernel("mean", partial(_plan, _is_mean, REALS | COMPLEX, 0), _run_mean, params=(_AXES,)),
    Kernel("var", partial(_plan, _is_mean, REALS, 1), _run_var, params=(_AXES,), tolerance=4.0),
    *(
        Kernel(n, partial(_plan, _same, REALS, 0), partial(_run_extreme, n), params=(_AXES,), tolerance=0.0)
        for n in ("min", "max")
    ),
    *(
        Kernel(n, _plan_place, partial(_run_place, n), params=(_AXES,), tolerance=0.0)
        for n in ("argmin", "argmax")
    ),
    Kernel("softmax", _plan_softmax, _run_softmax, params=(_AXIS,), in_place=True, tolerance=4.0),
    Kernel(
        "topk",
        _plan_topk,
        _run_topk,
        outputs=(1, 2),
        params=(Param("k", None, 1, 1 << 48), _AXIS, Param("largest", 1, 0, 1)),
        tolerance=0.0,
    ),
)
