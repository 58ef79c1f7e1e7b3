"""What can go wrong on a GPU, as the caller must take it; which code of the driver means which is said once, in
``native/gpu/faults.cpp``.

AccelFault
└── GpuFault 503                 base: ``code`` (CUresult, 0 where the driver was not asked), ``function``
    ├── GpuAbsent                no driver, no device, or none that this process can use
    ├── GpuRetryable             the same call may succeed later, in this process
    ├── GpuOutOfMemory           of the device, of pinned memory, or of the budget of all functions
    ├── GpuPoisoned              nothing works on this context any more: end the process, run on the CPU
    ├── GpuUnsupported           this device or driver does not do it: take the other way
    ├── GpuQuota                 a function's memory, or pinned memory, at its bound
    ├── GpuBusy                  a bounded thing of ours is full, or in use, now
    ├── GpuTimeout 504           not done in time
    └── GpuMisuse 500            a fault of ours
        └── GpuClosed            used after its end, or in a forked child
"""

from __future__ import annotations

from typing import ClassVar

from edgeagent.accel.errors import AccelFault

__all__ = [
    "GpuAbsent",
    "GpuBusy",
    "GpuClosed",
    "GpuFault",
    "GpuMisuse",
    "GpuOutOfMemory",
    "GpuPoisoned",
    "GpuQuota",
    "GpuRetryable",
    "GpuTimeout",
    "GpuUnsupported",
    "fault_class",
    "fault_of",
]


class GpuFault(AccelFault):
    """Base of all; ``hint`` says what to do where there is something to do."""

    slug, status = "gpu-failed", 503
    advice: ClassVar[str] = ""

    def __init__(self, message: str, *, code: int = 0, function: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint or self.advice)
        self.code = code
        self.function = function


class GpuAbsent(GpuFault):
    slug = "gpu-absent"
    advice = "functions run on the CPU; `nvidia-smi` shows whether the system itself sees a GPU"


class GpuRetryable(GpuFault):
    slug = "gpu-not-now"


class GpuOutOfMemory(GpuFault):
    slug = "gpu-out-of-memory"


class GpuPoisoned(GpuFault):
    slug = "gpu-poisoned"
    advice = "only the end of the process clears it"


class GpuUnsupported(GpuFault):
    slug = "gpu-unsupported"


class GpuQuota(GpuFault):
    slug = "gpu-quota"


class GpuBusy(GpuFault):
    slug = "gpu-busy"


class GpuTimeout(GpuFault):
    slug, status = "gpu-timeout", 504


class GpuMisuse(GpuFault):
    slug, status = "gpu-misuse", 500


class GpuClosed(GpuMisuse):
    slug = "gpu-closed"


# The numbers of FaultKind in native/gpu/faults.hpp; 0 and 1 are no errors, and whoever meets them there erred.
_KINDS: dict[int, type[GpuFault]] = {
    0: GpuMisuse,
    1: GpuMisuse,
    2: GpuRetryable,
    3: GpuOutOfMemory,
    4: GpuPoisoned,
    5: GpuAbsent,
    6: GpuUnsupported,
    7: GpuMisuse,
    8: GpuQuota,
    9: GpuBusy,
    10: GpuTimeout,
    11: GpuClosed,
}


def fault_class(kind: int) -> type[GpuFault]:
    """The class of a FaultKind; KeyError for a number that is none."""
    return _KINDS[kind]


def fault_of(kind: int, code: int, function: str, message: str) -> GpuFault:
    """The error that the extension raises."""
    return fault_class(kind)(message, code=code, function=function)
