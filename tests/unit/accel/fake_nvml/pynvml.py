"""A double of nvidia-ml-py that does as a JSON file says, read anew at every call.

``EDGE_FAKE_NVML`` names the file: ``devices`` (a list of dictionaries of values), ``errors`` (call: code), ``hang`` and
``crash`` (names of calls), ``events`` (a list of [device, type, data]), ``noise``: lines to print at init.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if os.environ.get("EDGE_FAKE_NVML") == "broken":
    raise RuntimeError("this package is broken")
if os.environ.get("EDGE_FAKE_NVML") == "missing":
    raise ImportError("no such package")

# What has come of the events, and the calls that were made.
seen = 0
calls: list[str] = []


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


def _script() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["EDGE_FAKE_NVML"]).read_text())
    return found


def _enter(call: str) -> dict[str, Any]:
    script = _script()
    calls.append(call)
    if call in script.get("hang", []):
        threading.Event().wait()
    if call in script.get("crash", []):
        os.abort()
    if call in script.get("odd", []):
        raise ValueError("what ctypes says")
    if (code := script.get("errors", {}).get(call)) is not None:
        raise NVMLError(code)
    return script


def _value(call: str, device: int, default: Any) -> Any:
    script = _enter(call)
    errors = script["devices"][device].get("errors", {})
    if call in errors:
        raise NVMLError(errors[call])
    return script["devices"][device].get(call, default)


def nvmlInit() -> None:  # noqa: N802
    script = _enter("nvmlInit")
    if script.get("noise"):
        print("NVIDIA says hello")  # noqa: T201
        sys.stdout.flush()


def nvmlShutdown() -> None:  # noqa: N802
    _enter("nvmlShutdown")


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(_enter("nvmlDeviceGetCount")["devices"])


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    _value("nvmlDeviceGetHandleByIndex", index, None)
    return index


def nvmlDeviceGetIndex(handle: int) -> int:  # noqa: N802
    return handle


def nvmlDeviceGetName(handle: int) -> str:  # noqa: N802
    return str(_value("nvmlDeviceGetName", handle, "NVIDIA Test"))


def nvmlDeviceGetUUID(handle: int) -> bytes:  # noqa: N802
    return str(_value("nvmlDeviceGetUUID", handle, f"GPU-{handle}")).encode()


def nvmlDeviceGetUtilizationRates(handle: int) -> SimpleNamespace:  # noqa: N802
    return SimpleNamespace(gpu=_value("nvmlDeviceGetUtilizationRates", handle, 25), memory=1)


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:  # noqa: N802
    used, total = _value("nvmlDeviceGetMemoryInfo", handle, [1 << 30, 8 << 30])
    return SimpleNamespace(used=used, total=total)


def nvmlDeviceGetTemperature(handle: int, sensor: int) -> int:  # noqa: N802
    assert sensor == 0
    return int(_value("nvmlDeviceGetTemperature", handle, 55))


def nvmlDeviceGetTemperatureThreshold(handle: int, threshold: int) -> int:  # noqa: N802
    assert threshold == 1
    return int(_value("nvmlDeviceGetTemperatureThreshold", handle, 87))


def nvmlDeviceGetPowerUsage(handle: int) -> int:  # noqa: N802
    return int(_value("nvmlDeviceGetPowerUsage", handle, 120_000))


def nvmlDeviceGetEnforcedPowerLimit(handle: int) -> int:  # noqa: N802
    return int(_value("nvmlDeviceGetEnforcedPowerLimit", handle, 300_000))


def nvmlDeviceGetClockInfo(handle: int, kind: int) -> int:  # noqa: N802
    assert kind == 0
    return int(_value("nvmlDeviceGetClockInfo", handle, 1200))


def nvmlDeviceGetMaxClockInfo(handle: int, kind: int) -> int:  # noqa: N802
    assert kind == 0
    return int(_value("nvmlDeviceGetMaxClockInfo", handle, 1980))


def nvmlDeviceGetCurrentClocksEventReasons(handle: int) -> int:  # noqa: N802
    return int(_value("nvmlDeviceGetCurrentClocksEventReasons", handle, 0))


def nvmlDeviceGetTotalEccErrors(handle: int, kind: int, counter: int) -> int:  # noqa: N802
    assert (kind, counter) == (1, 0)
    return int(_value("nvmlDeviceGetTotalEccErrors", handle, 0))


def nvmlDeviceGetRemappedRows(handle: int) -> tuple[int, int, int, int]:  # noqa: N802
    a, b, c, d = _value("nvmlDeviceGetRemappedRows", handle, [0, 0, 0, 0])
    return a, b, c, d


def nvmlEventSetCreate() -> object:  # noqa: N802
    _enter("nvmlEventSetCreate")
    return object()


def nvmlDeviceRegisterEvents(handle: int, kinds: int, events: object) -> None:  # noqa: N802
    _enter("nvmlDeviceRegisterEvents")


def nvmlEventSetWait_v2(events: object, wait_ms: int) -> SimpleNamespace:  # noqa: N802
    global seen  # noqa: PLW0603
    assert wait_ms == 0
    told = _enter("nvmlEventSetWait_v2").get("events", [])
    if seen >= len(told):
        raise NVMLError(10)
    device, kind, data = told[seen]
    seen += 1
    return SimpleNamespace(device=device, eventType=kind, eventData=data)
