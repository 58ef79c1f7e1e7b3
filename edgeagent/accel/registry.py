"""The kernels that a node has: the shipped ones, and others by entry point (group ``edgeagent.kernels``). Pure.

A package offers a kernel by an entry point that leads to a ``Kernel``, or to a list of them:

    [project.entry-points."edgeagent.kernels"]
    ndwi = "my_package.water:NDWI"
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from edgeagent.accel.descriptors import NAME_BYTES_MAX
from edgeagent.accel.kernel_errors import KernelExists, UnknownKernel
from edgeagent.accel.kernels import convolution, fourier, images, linear, pointwise, reductions
from edgeagent.accel.kernels.kernel import Kernel

__all__ = ["GROUP", "KERNELS_MAX", "Failed", "Registry", "load_others", "shipped"]

GROUP = "edgeagent.kernels"
KERNELS_MAX = 1024
_NAME = re.compile(rf"[a-z][a-z0-9_.]{{0,{NAME_BYTES_MAX - 1}}}")


class Failed(NamedTuple):
    """An entry point that brought no kernel, and why."""

    name: str
    why: str


class Registry:
    """By name. A name that is there stays what it is: nobody replaces another's kernel."""

    def __init__(self, kernels: Iterable[Kernel] = ()) -> None:
        self._kernels: dict[str, Kernel] = {}
        for kernel in kernels:
            self.add(kernel)

    def __iter__(self) -> Iterator[Kernel]:
        return iter(self._kernels.values())

    def __len__(self) -> int:
        return len(self._kernels)

    def add(self, kernel: Kernel) -> None:
        """Raises KernelExists, and ValueError for a name that is none or one too many."""
        if not _NAME.fullmatch(kernel.name):
            raise ValueError(f"{kernel.name!r} is no name for a kernel: {_NAME.pattern}")
        if kernel.name in self._kernels:
            raise KernelExists(f"there is a kernel {kernel.name} already")
        if len(self._kernels) >= KERNELS_MAX:
            raise ValueError(f"there are {KERNELS_MAX} kernels already")
        self._kernels[kernel.name] = kernel

    def get(self, name: str) -> Kernel:
        """Raises UnknownKernel."""
        kernel = self._kernels.get(name)
        if kernel is None:
            raise UnknownKernel(f"there is no kernel {name!r}", hint="edge_accel.query lists what there is")
        return kernel


def shipped() -> Registry:
    rooms = (linear, convolution, fourier, pointwise, reductions, images)
    return Registry(kernel for room in rooms for kernel in room.KERNELS)


def load_others(registry: Registry, found: Iterable[EntryPoint] | None = None) -> list[Failed]:
    """Add what installed packages offer; what cannot be had is told and left out, whatever its code raises."""
    failed = []
    for point in entry_points(group=GROUP) if found is None else found:
        try:
            offered = point.load()
            for kernel in [offered] if isinstance(offered, Kernel) else offered:
                if not isinstance(kernel, Kernel):
                    raise TypeError(f"{kernel!r} is no Kernel")
                registry.add(kernel)
        except Exception as error:  # noqa: BLE001 - others' code, of whatever quality
            failed.append(Failed(point.name, f"{type(error).__name__}: {error}"))
    return failed
