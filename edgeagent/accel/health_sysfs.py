"""Reads the GPU of a Jetson from the kernel's files: what NVML does not say there, or not without its library.

Where things are (every one may be absent, and on some boards is):

- devfreq: ``17000000.gpu`` (Orin), ``17000000.gv11b`` (Xavier), ``57000000.gpu`` (Nano), ``gpu-gpc-0`` (Thor;
  jetson_stats #885, #867); ``cur_freq`` and ``max_freq`` in hertz (Linux, ABI/testing/sysfs-class-devfreq).
- load, per mille: ``platform/gpu.0/load`` (Orin; glances #3580, autoware_universe #11326), ``gpu.0/load`` (Nano,
  Xavier; jetson_stats #360), ``platform/[bus@0/]17000000.gpu/load`` (nv-monitor #17). Thor has none.
- temperature, thousandths of a degree: the thermal zone of type ``gpu-thermal`` or ``GPU-therm``, else ``tj-thermal``
  (the hottest of the die); its passive and hot trip points are the limit (Documentation/driver-api/thermal/sysfs-api).
- power: INA3221 over hwmon, ``inN_label`` names a rail, millivolts times milliamperes (Documentation/hwmon/ina3221);
  INA238 on Thor, ``power1_input`` in microwatts (Documentation/hwmon/ina238). ``VDD_IN`` and ``POM_5V_IN`` hold all
  other rails; without one the board takes the sum (jetson_stats #51, #900).
- memory: the GPU shares the machine's, so ``/proc/meminfo``.
"""

from __future__ import annotations

from pathlib import Path

from edgeagent.accel.health import METRICS, GpuReading, Metric, absent, measured

__all__ = ["is_jetson", "read_jetson"]

_LOADS = (
    "sys/devices/platform/gpu.0/load",
    "sys/devices/gpu.0/load",
    "sys/devices/platform/17000000.gpu/load",
    "sys/devices/platform/bus@0/17000000.gpu/load",
)
_ENDINGS = (".gpu", ".gv11b", ".gp10b", ".ga10b")
_GPU_ZONES, _DIE_ZONES = ("gpu-thermal", "gpu-therm"), ("tj-thermal",)
_WHOLE_RAILS = ("VDD_IN", "POM_5V_IN")
_FILE_BYTES_MAX = 4096


def is_jetson(root: Path = Path("/")) -> bool:
    """Whether a Tegra's GPU is here."""
    return (root / "etc/nv_tegra_release").exists() or _devfreq(root) is not None


def read_jetson(root: Path = Path("/")) -> GpuReading | None:
    """The integrated GPU, None where there is none. Never raises: a file that is not there is a reason."""
    if not is_jetson(root):
        return None
    metrics = {name: absent("sysfs: no such file on a Jetson") for name in METRICS}
    metrics["utilisation"] = _utilisation(root)
    metrics |= _clocks(root) | _heat(root) | _memory(root) | _power(root)
    return GpuReading(index=0, name=_model(root), integrated=True, metrics=metrics)


def _text(path: Path) -> str:
    """Raises OSError: a sensor that is absent, asleep (EAGAIN) or not ours to read."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(_FILE_BYTES_MAX).strip("\0\n ")


def _number(path: Path) -> float:
    """Raises OSError, ValueError."""
    return float(_text(path).split(" ", 1)[0])


def _sorted(root: Path, pattern: str) -> list[Path]:
    return sorted(root.glob(pattern))


def _metric(metric: str, path: Path, factor: float) -> Metric:
    try:
        value = _number(path) * factor
    except OSError as error:
        return absent(f"sysfs: {path.name}: {error.strerror or 'cannot be read'}")
    except ValueError:
        return absent(f"sysfs: {path.name} is no number")
    return measured(metric, value, "sysfs", str(path))


def _model(root: Path) -> str:
    try:
        return _text(root / "proc/device-tree/model")[:64] or "Tegra"
    except OSError:
        return "Tegra"


def _devfreq(root: Path) -> Path | None:
    for path in _sorted(root, "sys/class/devfreq/*"):
        if path.name.endswith(_ENDINGS) or path.name.startswith("gpu-gpc"):
            return path
    return None


def _utilisation(root: Path) -> Metric:
    devfreq = _devfreq(root)
    paths = [root / name for name in _LOADS] + ([devfreq / "device/load"] if devfreq else [])
    for path in paths:
        if path.exists():
            return _metric("utilisation", path, 0.001)
    return absent("sysfs: no load file, as on Thor")


def _clocks(root: Path) -> dict[str, Metric]:
    devfreq = _devfreq(root)
    if devfreq is None:
        none = absent("sysfs: no devfreq node of a GPU")
        return {"clock_mhz": none, "clock_max_mhz": none}
    return {
        "clock_mhz": _metric("clock_mhz", devfreq / "cur_freq", 1e-6),
        "clock_max_mhz": _metric("clock_max_mhz", devfreq / "max_freq", 1e-6),
    }


def _zones(root: Path) -> list[tuple[str, Path]]:
    found = []
    for path in _sorted(root, "sys/class/thermal/thermal_zone*"):
        try:
            found.append((_text(path / "type").lower(), path))
        except OSError:  # a zone that is going away
            continue
    return found


def _heat(root: Path) -> dict[str, Metric]:
    zones = _zones(root)
    for names in (_GPU_ZONES, _DIE_ZONES):
        for kind, path in zones:
            if kind in names:
                found = _metric("temperature_c", path / "temp", 0.001)
                # The GPU's own zone does not answer while the GPU is switched off; the die's does.
                if found.value is not None or names is _DIE_ZONES:
                    return {"temperature_c": found, "temperature_limit_c": _limit(path)}
    none = absent("sysfs: no thermal zone of the GPU answers")
    return {"temperature_c": none, "temperature_limit_c": none}


def _limit(zone: Path) -> Metric:
    limits = []
    for path in _sorted(zone, "trip_point_*_type"):
        try:
            if _text(path) in {"passive", "hot"}:
                limits.append(path.with_name(path.name.replace("_type", "_temp")))
        except OSError:  # a trip point that is going away
            continue
    found = [_metric("temperature_limit_c", path, 0.001) for path in limits]
    known = [one for one in found if one.value is not None]
    return min(known, key=lambda one: one.value or 0.0) if known else absent("sysfs: no trip point")


def _memory(root: Path) -> dict[str, Metric]:
    found: dict[str, float] = {}
    try:
        for line in _text(root / "proc/meminfo").splitlines():
            words = line.split()
            if len(words) > 1 and words[0] in {"MemTotal:", "MemAvailable:"}:
                found[words[0]] = float(words[1]) * 1024.0
        total, free = found["MemTotal:"], found["MemAvailable:"]
    except (OSError, ValueError, KeyError):
        none = absent("/proc/meminfo does not say")
        return {"memory_total_bytes": none, "memory_used_bytes": none}
    where = "/proc/meminfo: shared with the CPU"
    return {
        "memory_total_bytes": measured("memory_total_bytes", total, "meminfo", where),
        "memory_used_bytes": measured("memory_used_bytes", max(0.0, total - free), "meminfo", where),
    }


def _rails(root: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Watts by rail of the INA3221s, and of what measures the whole board."""
    rails, whole = {}, {}
    for hwmon in _sorted(root, "sys/class/hwmon/hwmon*"):
        try:
            chip = _text(hwmon / "name")
            if chip == "ina238":
                whole[f"ina238 {hwmon.name}"] = _number(hwmon / "power1_input") * 1e-6
        except (OSError, ValueError):  # a chip without a name, or one that does not answer
            continue
        if chip == "ina3221":
            for label in _sorted(hwmon, "in[0-9]_label"):
                number = label.name[2]
                try:
                    name = _text(label)
                    watts = (
                        _number(hwmon / f"in{number}_input") * _number(hwmon / f"curr{number}_input") * 1e-6
                    )
                except (OSError, ValueError):  # a channel without a shunt, or the chip's sum of channels
                    continue
                if not name.startswith("NC") and not name.lower().startswith("sum of"):
                    rails[name] = watts
    return rails, whole


def _power(root: Path) -> dict[str, Metric]:
    rails, whole = _rails(root)
    own = next((name for name in sorted(rails, key=lambda name: (len(name), name)) if "GPU" in name), "")
    if own:
        gpu = measured("power_w", rails[own], "sysfs", f"rail {own}")
    else:
        gpu = absent(f"sysfs: no rail of the GPU among {', '.join(sorted(rails)) or 'none'}")
    total = next((name for name in _WHOLE_RAILS if name in rails), "")
    if total:
        board = measured("board_power_w", rails[total], "sysfs", f"rail {total}")
    elif whole:
        name = min(whole)
        board = measured("board_power_w", whole[name], "sysfs", name)
    elif rails:
        board = measured("board_power_w", sum(rails.values()), "sysfs", f"sum of {', '.join(sorted(rails))}")
    else:
        board = absent("sysfs: no power meter")
    return {"power_w": gpu, "board_power_w": board}
