"""Reads GPUs through NVML (nvidia-ml-py's ``pynvml``, given by the caller), each value by itself.

Called in the probe's process alone: NVML can hang on a wedged driver and end its caller when a GPU falls off the bus.
Numbers of NVML's C API (nvml.h) where pynvml's names differ between its versions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeagent.accel.health import METRICS, GpuReading, Metric, absent, measured

__all__ = ["NvmlReader"]

_NOT_SUPPORTED, _DRIVER_NOT_LOADED, _TIMEOUT, _MISMATCH = 3, 9, 10, 18
_LOST = {15: "it fell off the bus", 16: "it needs a reset", 28: "it is not found any more"}
# After these the library knows nothing more of the driver: begun again at the next look.
_STALE = {1, _DRIVER_NOT_LOADED, 15, _MISMATCH, 28, 999}
_XID_EVENT, _ECC_EVENT = 0x8, 0x2
_EVENTS = _XID_EVENT | _ECC_EVENT
_DOUBLE_BIT_XID = 48  # what a double-bit event without a number of its own is told as
_EVENTS_MAX = 64  # of one look
_GPUS_MAX = 64
_TEGRA_NAMES = ("nvgpu", "orin", "thor", "xavier", "tegra")


class NvmlReader:
    """``look`` never raises; ``why`` is empty while NVML answers. ``stale``: only another process can go on."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._is_begun = False
        self._events: Any = None
        self._watched: set[int] = set()
        self._last_xid: dict[int, int] = {}
        self.why = ""
        self.stale = False

    def look(self) -> list[GpuReading]:
        """All GPUs that NVML has; none while it does not answer."""
        self.why = ""
        try:
            if not self._is_begun:
                self._nvml.nvmlInit()
                self._is_begun = True
            count = min(int(self._nvml.nvmlDeviceGetCount()), _GPUS_MAX)
        except Exception as error:  # noqa: BLE001 - whatever it is, there is no NVML now
            self.why = self._said(error)
            self._forget(self._code(error))
            return []
        xids = self._xids()
        found = [self._gpu(index, xids.get(index, ())) for index in range(count)]
        if any(one.lost for one in found):
            self._forget(15)
        return found

    def close(self) -> None:
        """Give the driver back: who holds it open stands in the way of a reset."""
        begun, self._is_begun = self._is_begun, False
        self._events, self._watched = None, set()
        if begun:
            try:
                self._nvml.nvmlShutdown()
            except Exception as error:  # noqa: BLE001 - it is gone, which is what was wanted
                self.why = self.why or self._said(error)

    def _forget(self, code: int) -> None:
        if code in _STALE:
            self.close()
        # The library of a driver that is not loaded any more stays that one's for the life of the process.
        self.stale = self.stale or code == _MISMATCH

    @staticmethod
    def _code(error: BaseException) -> int:
        value = getattr(error, "value", 0)
        return value if isinstance(value, int) else 0

    def _said(self, error: BaseException) -> str:
        code = self._code(error)
        if code == _NOT_SUPPORTED:
            return "nvml: not supported"
        return f"nvml: {str(error) or type(error).__name__}"[:160] + (f" ({code})" if code else "")

    # -- one GPU -------------------------------------------------------------------------------------------------------

    def _gpu(self, index: int, xids: tuple[int, ...]) -> GpuReading:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except Exception as error:  # noqa: BLE001 - one GPU that is not well does not hide the others
            why = self._said(error)
            metrics = {name: absent(why) for name in METRICS}
            return GpuReading(
                index=index, metrics=metrics, xids=xids, lost=self._code(error) in _LOST, lost_why=why
            )
        self._watch(index, handle)
        lost: list[str] = []
        metrics = {}
        for name, (call, read) in self._table(handle).items():
            metrics[name] = absent(f"nvml: {lost[0]}") if lost else self._metric(name, call, read, lost)
        if xids:
            self._last_xid[index] = xids[-1]
        last = self._last_xid.get(index)
        metrics["xid"] = absent("none was seen") if last is None else Metric(float(last), "nvml", "events")
        metrics["board_power_w"] = absent("nvml: it has the GPU's only")
        name = self._text("nvmlDeviceGetName", handle)
        return GpuReading(
            index=index,
            name=name,
            uuid=self._text("nvmlDeviceGetUUID", handle),
            integrated=any(word in name.lower() for word in _TEGRA_NAMES),
            metrics=metrics,
            xids=xids,
            lost=bool(lost),
            lost_why=lost[0] if lost else "",
        )

    def _metric(self, name: str, call: str, read: Callable[[Any], float], lost: list[str]) -> Metric:
        try:
            return measured(name, float(read(getattr(self._nvml, call))), "nvml", call)
        except Exception as error:  # noqa: BLE001 - one value that is not there does not hide the others
            if self._code(error) in _LOST:
                lost.append(_LOST[self._code(error)])
            return absent(self._said(error))

    def _table(self, handle: Any) -> dict[str, tuple[str, Callable[[Any], float]]]:
        """For each metric the call and what to make of it."""
        return {
            "utilisation": ("nvmlDeviceGetUtilizationRates", lambda call: call(handle).gpu / 100.0),
            "memory_used_bytes": ("nvmlDeviceGetMemoryInfo", lambda call: call(handle).used),
            "memory_total_bytes": ("nvmlDeviceGetMemoryInfo", lambda call: call(handle).total),
            "temperature_c": ("nvmlDeviceGetTemperature", lambda call: call(handle, 0)),
            "temperature_limit_c": ("nvmlDeviceGetTemperatureThreshold", lambda call: call(handle, 1)),
            "power_w": ("nvmlDeviceGetPowerUsage", lambda call: call(handle) / 1000.0),
            "power_limit_w": ("nvmlDeviceGetEnforcedPowerLimit", lambda call: call(handle) / 1000.0),
            "clock_mhz": ("nvmlDeviceGetClockInfo", lambda call: call(handle, 0)),
            "clock_max_mhz": ("nvmlDeviceGetMaxClockInfo", lambda call: call(handle, 0)),
            "throttle_reasons": (self._reasons_call(), lambda call: call(handle)),
            "ecc_uncorrected": ("nvmlDeviceGetTotalEccErrors", lambda call: call(handle, 1, 0)),
            "reset_needed": ("nvmlDeviceGetRemappedRows", lambda call: float(any(call(handle)[2:4]))),
        }

    def _reasons_call(self) -> str:
        """Its name until driver 535, and after it."""
        new = "nvmlDeviceGetCurrentClocksEventReasons"
        return new if hasattr(self._nvml, new) else "nvmlDeviceGetCurrentClocksThrottleReasons"

    def _text(self, call: str, handle: Any) -> str:
        try:
            said = getattr(self._nvml, call)(handle)
        except Exception:  # noqa: BLE001 - a GPU without a name is one too
            return ""
        return (said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said))[:64]

    # -- critical errors -----------------------------------------------------------------------------------------------

    def _watch(self, index: int, handle: Any) -> None:
        if index in self._watched:
            return
        self._watched.add(index)
        try:
            if self._events is None:
                self._events = self._nvml.nvmlEventSetCreate()
            self._nvml.nvmlDeviceRegisterEvents(handle, _EVENTS, self._events)
        except Exception as error:  # noqa: BLE001 - no events, as on Jetson: what is left is the counters
            self.why = self.why or f"no events of GPU {index}: {self._said(error)}"

    def _xids(self) -> dict[int, tuple[int, ...]]:
        """By index of the GPU, since the look before."""
        found: dict[int, tuple[int, ...]] = {}
        if self._events is None:
            return found
        for _ in range(_EVENTS_MAX):
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                index = int(self._nvml.nvmlDeviceGetIndex(event.device))
            except Exception as error:  # noqa: BLE001 - nothing came, or nothing can
                if self._code(error) != _TIMEOUT:
                    self._events, self._watched = None, set()
                break
            xid = int(event.eventData) if int(event.eventType) & _XID_EVENT else _DOUBLE_BIT_XID
            found[index] = (*found.get(index, ()), xid)
        return found
