"""The door to the CUDA driver: the extension's part for it, the library's path, and which devices there are.

Nothing here needs CUDA to be built or imported; a machine without a driver gets :class:`GpuAbsent`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from edgeagent import native
from edgeagent.accel.gpu_errors import GpuAbsent, fault_of

__all__ = ["LIBRARY_ENV", "DeviceFacts", "classify", "devices", "gpu_core", "library_path"]

LIBRARY_ENV = "EDGEAGENT_LIBCUDA"  # another library than the system's, for tests
_SYSTEM_LIBRARY = "libcuda.so.1"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What the driver says of a device; a feature that it is too old to know is False."""

    ordinal: int
    name: str
    uuid: str  # 32 hex digits, or empty where the driver is too old to tell
    capability: tuple[int, int]
    total_bytes: int
    multiprocessors: int
    driver_version: int  # 1000 * major + 10 * minor, of the CUDA version that it supports
    integrated: bool  # shares the host's memory
    can_map_host: bool
    unified_addressing: bool
    concurrent_managed: bool
    host_pointer_is_device_pointer: bool  # of registered memory
    host_register: bool
    read_only_register: bool
    memory_pools: bool


def gpu_core() -> Any:
    """The extension's GPU part, told how to make our errors; GpuAbsent without the extension."""
    core = getattr(native.core, "gpu", None)
    if core is None:
        why = native.why_not or "it is older than this package"
        raise GpuAbsent(f"GPU contexts need the native extension: {why}", hint="`make native` builds it")
    core.set_fault_factory(fault_of)
    return core


def library_path(library: str = "") -> str:
    """``library``, else what the environment names, else the system's."""
    return library or os.environ.get(LIBRARY_ENV, "") or _SYSTEM_LIBRARY


def devices(library: str = "") -> list[DeviceFacts]:
    """All devices that the driver shows; no context is made. GpuAbsent without a driver."""
    return [DeviceFacts(**facts) for facts in gpu_core().devices(library_path(library))]


def classify(code: int) -> tuple[int, str]:
    """The FaultKind (``gpu_errors.fault_class``) and the name of a CUresult."""
    kind, name = gpu_core().classify(code)
    return int(kind), str(name)
