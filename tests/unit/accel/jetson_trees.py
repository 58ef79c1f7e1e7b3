"""What the kernel of Jetsons shows, as far as it is read; sources are named in accel/health_sysfs.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["NANO", "ORIN", "THOR", "plant"]

_MEMORY = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:   12000000 kB\n"
_DIE = "sys/class/thermal"

# AGX Orin, JetPack 6: all by files; NVML says NotSupported, or is not there.
ORIN: Mapping[str, str] = {
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.7\n",
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/meminfo": _MEMORY,
    "sys/devices/platform/gpu.0/load": "345\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "918000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1300500000\n",
    f"{_DIE}/thermal_zone0/type": "cpu-thermal\n",
    f"{_DIE}/thermal_zone0/temp": "50000\n",
    f"{_DIE}/thermal_zone1/type": "gpu-thermal\n",
    f"{_DIE}/thermal_zone1/temp": "47437\n",
    f"{_DIE}/thermal_zone1/trip_point_0_type": "critical\n",
    f"{_DIE}/thermal_zone1/trip_point_0_temp": "104500\n",
    f"{_DIE}/thermal_zone1/trip_point_1_type": "hot\n",
    f"{_DIE}/thermal_zone1/trip_point_1_temp": "103000\n",
    f"{_DIE}/thermal_zone1/trip_point_2_type": "passive\n",
    f"{_DIE}/thermal_zone1/trip_point_2_temp": "99000\n",
    f"{_DIE}/thermal_zone8/type": "tj-thermal\n",
    f"{_DIE}/thermal_zone8/temp": "51000\n",
    "sys/class/hwmon/hwmon3/name": "ina3221\n",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_GPU_SOC\n",
    "sys/class/hwmon/hwmon3/in1_input": "19000\n",
    "sys/class/hwmon/hwmon3/curr1_input": "400\n",
    "sys/class/hwmon/hwmon3/in2_label": "VDD_CPU_CV\n",
    "sys/class/hwmon/hwmon3/in2_input": "19000\n",
    "sys/class/hwmon/hwmon3/curr2_input": "100\n",
    "sys/class/hwmon/hwmon3/in3_label": "VIN_SYS_5V0\n",
    "sys/class/hwmon/hwmon3/in3_input": "5000\n",
    "sys/class/hwmon/hwmon3/curr3_input": "800\n",
    "sys/class/hwmon/hwmon3/in7_label": "sum of shunt voltages\n",
    "sys/class/hwmon/hwmon3/in7_input": "17\n",
}

# AGX Thor, JetPack 7: clocks by devfreq, no load file; NVML has the utilisation.
THOR: Mapping[str, str] = {
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.0\n",
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/meminfo": _MEMORY,
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "1575000000\n",
    "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000\n",
    "sys/class/devfreq/gpu-nvd-0/cur_freq": "1692000000\n",
    f"{_DIE}/thermal_zone2/type": "gpu-thermal\n",
    f"{_DIE}/thermal_zone2/temp": "44000\n",
    "sys/class/hwmon/hwmon1/name": "ina3221\n",
    "sys/class/hwmon/hwmon1/in1_label": "VDD_GPU\n",
    "sys/class/hwmon/hwmon1/in1_input": "12000\n",
    "sys/class/hwmon/hwmon1/curr1_input": "500\n",
    "sys/class/hwmon/hwmon4/name": "ina238\n",
    "sys/class/hwmon/hwmon4/power1_input": "38250000\n",
}

# Nano: the total holds the others.
NANO: Mapping[str, str] = {
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.1\n",
    "proc/meminfo": _MEMORY,
    "sys/devices/gpu.0/load": "0\n",
    "sys/class/devfreq/57000000.gpu/cur_freq": "76800000\n",
    f"{_DIE}/thermal_zone2/type": "GPU-therm\n",
    f"{_DIE}/thermal_zone2/temp": "31500\n",
    "sys/class/hwmon/hwmon0/name": "ina3221\n",
    "sys/class/hwmon/hwmon0/in1_label": "POM_5V_IN\n",
    "sys/class/hwmon/hwmon0/in1_input": "5000\n",
    "sys/class/hwmon/hwmon0/curr1_input": "600\n",
    "sys/class/hwmon/hwmon0/in2_label": "POM_5V_GPU\n",
    "sys/class/hwmon/hwmon0/in2_input": "5000\n",
    "sys/class/hwmon/hwmon0/curr2_input": "40\n",
}


def plant(root: Path, tree: Mapping[str, str]) -> Path:
    """The tree under ``root``, which is given back."""
    for name, text in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
