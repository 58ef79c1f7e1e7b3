"""What a kernel is: an array function written once, and what can be said of a call before it runs. Pure.

``plan`` sees types, shapes and parameters only. It refuses what the kernel does not take and says how much work the
rest is, for the node's bounds and for the choice between CPU and GPU. ``run`` then gets arrays of one namespace ``xp``
(numpy, or whatever has its functions: CuPy) and writes every element of the outputs in place; it allocates no more
than the plan's scratch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from edgeagent.accel.descriptors import Description, Operand
from edgeagent.accel.dtypes import Dtype
from edgeagent.accel.kernel_errors import BadDescriptor, BadParameter, WrongDtype, WrongShape

__all__ = [
    "PRODUCT_S",
    "Call",
    "Kernel",
    "Param",
    "Work",
    "bind",
    "same_shape",
    "takes_dtype",
    "takes_rank",
    "work_of",
]


_BYTES_PER_S = 4e9  # through a CPU that does nothing else with them
PRODUCT_S = 2e-7  # of matrices, beside its operations: what counts where there are many small ones


class Param(NamedTuple):
    """A number of a call, by its place. ``default`` None: it must be given. Bounds are inclusive."""

    name: str
    default: float | None
    low: float
    high: float
    is_integer: bool = True


class Work(NamedTuple):
    """Estimates. ``flops`` counts a multiply and an add as two; ``scratch_bytes`` is memory of the host's; ``cpu_s`` is
    what a slow board's CPU would take: a bound and a prior, not a prediction.
    """

    flops: int
    read_bytes: int
    written_bytes: int
    scratch_bytes: int = 0
    cpu_s: float = 0.0

    @property
    def size_class(self) -> int:
        """Calls of one class differ by less than a factor of two in what they work on or through."""
        return max(self.flops, self.read_bytes + self.written_bytes, 1).bit_length()


class Call(NamedTuple):
    """A description whose parameters have names."""

    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    values: Mapping[str, float]
    text: str = ""

    def whole(self, name: str) -> int:
        return int(self.values[name])


class Kernel(NamedTuple):
    """``inputs`` and ``outputs``: the least and the most. ``tolerance``: factor on the one of its output's type, for
    another backend's answer; 0: the same bits.
    """

    name: str
    plan: Callable[[Call], Work]
    run: Callable[[Any, Sequence[Any], Sequence[Any], Call], None]
    inputs: tuple[int, int] = (1, 1)
    outputs: tuple[int, int] = (1, 1)
    params: tuple[Param, ...] = ()
    has_text: bool = False
    in_place: bool = False
    tolerance: float = 1.0


def bind(kernel: Kernel, described: Description) -> Call:
    """Raises BadDescriptor, BadParameter."""
    for kind, given, (least, most) in (
        ("inputs", described.inputs, kernel.inputs),
        ("outputs", described.outputs, kernel.outputs),
    ):
        if not least <= len(given) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise BadDescriptor(f"{kernel.name} was given {len(given)} {kind}", hint=f"it takes {wanted}")
    if len(described.numbers) > len(kernel.params):
        raise BadParameter(
            f"{kernel.name} was given {len(described.numbers)} numbers", hint=f"it takes {len(kernel.params)}"
        )
    if described.text and not kernel.has_text:
        raise BadParameter(f"{kernel.name} takes no text")
    values = {}
    for i, param in enumerate(kernel.params):
        value = described.numbers[i] if i < len(described.numbers) else param.default
        if value is None:
            raise BadParameter(f"{kernel.name} needs {param.name}")
        if not param.low <= value <= param.high or (param.is_integer and value != int(value)):
            kind = "a whole number" if param.is_integer else "a number"
            raise BadParameter(
                f"{param.name} of {kernel.name} is {value:g}",
                hint=f"{kind} from {param.low:g} to {param.high:g}",
            )
        values[param.name] = float(value)
    return Call(described.inputs, described.outputs, values, described.text)


def work_of(call: Call, flops: int, scratch_bytes: int = 0, flops_per_s: float = 1e9) -> Work:
    """``flops_per_s``: what a CPU does of such work."""
    read = sum(one.bytes for one in call.inputs)
    written = sum(one.bytes for one in call.outputs)
    return Work(flops, read, written, scratch_bytes, flops / flops_per_s + (read + written) / _BYTES_PER_S)


def takes_dtype(what: str, one: Operand, allowed: frozenset[Dtype] | set[Dtype]) -> None:
    if one.dtype not in allowed:
        names = ", ".join(dtype.name for dtype in sorted(allowed))
        raise WrongDtype(f"{what} has the type {one.dtype.name}", hint=f"it takes {names}")


def takes_rank(what: str, one: Operand, least: int, most: int = 8) -> None:
    if not least <= one.rank <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        raise WrongShape(f"{what} has the rank {one.rank}", hint=f"it takes {wanted}")


def same_shape(what: str, one: Operand, shape: Sequence[int]) -> None:
    if one.shape != tuple(shape):
        raise WrongShape(f"{what} has the shape {list(one.shape)}", hint=f"it should be {list(shape)}")
