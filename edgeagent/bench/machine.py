"""What machine a figure was measured on, without anything that identifies the machine or its owner."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeagent import native

__all__ = ["available_memory_bytes", "busy_share", "describe_machine", "meminfo_kib"]

_PACKAGES = ("wasmtime", "aiohttp", "uvloop", "msgspec", "numpy")
# Above this share of the CPU time in use by others, figures are not worth publishing.
BUSY = 0.10


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _cpuinfo(key: str) -> str:
    for line in _text("/proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() == key:
            return value.strip()
    return ""


def meminfo_kib(key: str) -> int:
    """A line of /proc/meminfo in KiB; 0 when it is not there."""
    for line in _text("/proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0])
    return 0


def available_memory_bytes() -> int:
    """Memory that can be used without swapping (MemAvailable)."""
    return meminfo_kib("MemAvailable") << 10


def _cpu_ticks() -> tuple[int, int]:
    """(busy, all) ticks of all CPUs since boot."""
    first = _text("/proc/stat").splitlines()[:1]
    fields = [int(value) for value in first[0].split()[1:9]] if first else [0] * 8
    idle = fields[3] + fields[4]
    return sum(fields) - idle, sum(fields)


def busy_share(over_s: float = 0.5) -> float:
    """The share of all CPUs' time that is in use, watched for ``over_s`` seconds."""
    busy_then, all_then = _cpu_ticks()
    time.sleep(over_s)
    busy_now, all_now = _cpu_ticks()
    return (busy_now - busy_then) / max(1, all_now - all_then)


def _virtualization() -> str:
    product = _text("/sys/class/dmi/id/product_name")
    if "hypervisor" in _cpuinfo("flags").split():
        return product or "virtual machine"
    return "container" if Path("/.dockerenv").exists() else "none seen"


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = ""
    return found


def describe_machine(busy: float) -> dict[str, Any]:
    """The ``machine`` member of a report; ``busy`` is :func:`busy_share` before the run."""
    governor = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    model = _cpuinfo("model name") or _text("/proc/device-tree/model") or platform.processor()
    return {
        "cpu": model,
        "arch": platform.machine(),
        "cores": os.cpu_count() or 0,
        "cores_usable": len(os.sched_getaffinity(0)),
        "governor": governor or "unknown",
        "virtualization": _virtualization(),
        "kernel": platform.release(),
        "memory_mib": meminfo_kib("MemTotal") >> 10,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": _versions(),
        "accelerated": native.accelerated,
        "load_1min": round(os.getloadavg()[0], 2),
        "busy_share_before": round(busy, 3),
        "busy": busy > BUSY,
    }
