"""What can go wrong with choosing CPU or GPU; nothing has moved in any case.

EdgeError
└── AccelFault 422               base
    ├── SettingsRefused 400      a knob of the controller that cannot be
    ├── KeptDamaged              what was kept of earlier runs cannot be read: begin anew
    ├── TraceRefused 400         recorded latencies that cannot be replayed; names the file and the line
    └── GpuFailed 503            a call was not answered by a GPU: the CPU must do it
        ├── GpuFull              no room in the queue or in the arena; the GPU is not to blame
        │   └── GpuTooSmall      nor will there be: the arena is smaller than the call's operands
        ├── OperandRefused       operands cannot be read where they lie: copy them
        ├── DeviceFull           the GPU has no memory for it
        ├── DeviceLate           it runs, but not so fast that the CPU could still do it instead
        ├── KernelRaised         the kernel failed there
        └── BrokerLost           the broker died, hangs, or makes no sense; so are all calls that it had
            ├── LostBeside       of a call that did not run yet: another one, or nobody, is to blame
            ├── DevicePoisoned   raised in the broker: the context answers nothing more
            ├── DeviceGone       raised in the broker: the device has vanished
            └── DeviceAbsent     raised in the broker: there is no GPU to be used, now or later
"""

from __future__ import annotations

from edgeagent.model.errors import EdgeError

__all__ = [
    "AccelFault",
    "BrokerLost",
    "DeviceAbsent",
    "DeviceFull",
    "DeviceGone",
    "DeviceLate",
    "DevicePoisoned",
    "GpuFailed",
    "GpuFull",
    "GpuTooSmall",
    "KeptDamaged",
    "KernelRaised",
    "LostBeside",
    "OperandRefused",
    "SettingsRefused",
    "TraceRefused",
]


class AccelFault(EdgeError):
    """Base of this room's errors."""

    slug, status = "accel-failed", 422


class SettingsRefused(AccelFault):
    slug, status = "accel-settings-refused", 400


class KeptDamaged(AccelFault):
    slug = "accel-kept-damaged"


class TraceRefused(AccelFault):
    slug, status = "trace-refused", 400


class GpuFailed(AccelFault):
    slug, status = "gpu-call-failed", 503


class GpuFull(GpuFailed):
    slug = "gpu-call-refused"


class GpuTooSmall(GpuFull):
    slug = "gpu-call-too-large"


class OperandRefused(GpuFailed):
    slug = "gpu-operand-refused"


class DeviceFull(GpuFailed):
    slug = "gpu-call-memory"


class DeviceLate(GpuFailed):
    slug = "gpu-call-late"


class KernelRaised(GpuFailed):
    slug = "gpu-kernel-raised"


class BrokerLost(GpuFailed):
    slug = "gpu-broker-lost"


class LostBeside(BrokerLost):
    slug = "gpu-broker-lost-beside"


class DevicePoisoned(BrokerLost):
    slug = "gpu-context-poisoned"


class DeviceGone(BrokerLost):
    slug = "gpu-device-gone"


class DeviceAbsent(BrokerLost):
    slug = "gpu-device-absent"
