"""Health of GPUs, metric by metric: NVML with every error, the files of Jetsons, and what is judged from both."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.accel.health import METRICS, GpuReading, Metric, absent, first_of, measured, merged
from edgeagent.accel.health_judge import HealthJudge, HealthLimits, is_fault, throttle_words
from edgeagent.accel.health_nvml import NvmlReader
from edgeagent.accel.health_probe import Prober
from edgeagent.accel.health_sysfs import is_jetson, read_jetson
from edgeagent.model.gpu import GpuState, gpu_state_of
from tests.unit.accel.fake_nvml import pynvml
from tests.unit.accel.jetson_trees import NANO, ORIN, THOR, plant

Told = Callable[..., None]


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Writes what the double of NVML does from now on."""
    path = tmp_path / "nvml.json"
    monkeypatch.setenv("EDGE_FAKE_NVML", str(path))
    monkeypatch.setattr(pynvml, "seen", 0)

    def write(**script: Any) -> None:
        path.write_text(json.dumps({"devices": [{}], **script}))

    write()
    return write


def _values(one: GpuReading) -> dict[str, float | None]:
    return {name: found.value for name, found in one.metrics.items()}


def test_every_metric_by_nvml(told: Told) -> None:
    reader = NvmlReader(pynvml)
    (one,) = reader.look()
    assert (one.name, one.uuid, one.integrated, reader.why) == ("NVIDIA Test", "GPU-0", False, "")
    assert set(one.metrics) == set(METRICS)
    assert _values(one) == {
        "utilisation": 0.25,
        "memory_used_bytes": float(1 << 30),
        "memory_total_bytes": float(8 << 30),
        "temperature_c": 55.0,
        "temperature_limit_c": 87.0,
        "power_w": 120.0,
        "power_limit_w": 300.0,
        "board_power_w": None,
        "clock_mhz": 1200.0,
        "clock_max_mhz": 1980.0,
        "throttle_reasons": 0.0,
        "ecc_uncorrected": 0.0,
        "reset_needed": 0.0,
        "xid": None,
    }
    assert one.metrics["power_w"] == Metric(120.0, "nvml", "nvmlDeviceGetPowerUsage")
    reader.close()
    reader.close()
    assert pynvml.calls.count("nvmlShutdown") == 1


CALLS = {
    "nvmlDeviceGetUtilizationRates": {"utilisation"},
    "nvmlDeviceGetMemoryInfo": {"memory_used_bytes", "memory_total_bytes"},
    "nvmlDeviceGetTemperature": {"temperature_c"},
    "nvmlDeviceGetTemperatureThreshold": {"temperature_limit_c"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetEnforcedPowerLimit": {"power_limit_w"},
    "nvmlDeviceGetClockInfo": {"clock_mhz"},
    "nvmlDeviceGetMaxClockInfo": {"clock_max_mhz"},
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttle_reasons"},
    "nvmlDeviceGetTotalEccErrors": {"ecc_uncorrected"},
    "nvmlDeviceGetRemappedRows": {"reset_needed"},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("code", [1, 2, 3, 4, 6, 7, 9, 10, 12, 13, 17, 18, 20, 21, 999])
def test_an_error_of_one_metric_hides_no_other(told: Told, call: str, code: int) -> None:
    told(errors={call: code})
    reader = NvmlReader(pynvml)
    (one,) = reader.look()
    assert {name for name, value in _values(one).items() if value is None} == CALLS[call] | {
        "board_power_w",
        "xid",
    }
    why = {one.metrics[name].why for name in CALLS[call]}
    assert why == {"nvml: not supported" if code == 3 else f"nvml: error {code} ({code})"}
    assert not one.lost


@pytest.mark.parametrize("code", [15, 16, 28])
def test_a_gpu_that_is_lost_is_asked_nothing_more(told: Told, code: int) -> None:
    told(devices=[{"errors": {"nvmlDeviceGetTemperature": code}}, {}])
    pynvml.calls.clear()
    reader = NvmlReader(pynvml)
    lost, other = reader.look()
    assert lost.lost
    assert not other.lost
    assert other.value("power_w") == 120.0
    assert pynvml.calls.count("nvmlDeviceGetPowerUsage") == 1  # the other's
    assert "nvml: it" in lost.metrics["power_w"].why
    # The driver is given back, and asked anew at the next look.
    told()
    assert pynvml.calls.count("nvmlShutdown") == 1
    assert [one.lost for one in reader.look()] == [False]
    assert pynvml.calls.count("nvmlInit") == 2


@pytest.mark.parametrize("code", [9, 12, 13, 18, 999])
def test_nvml_that_does_not_begin_begins_when_it_can(told: Told, code: int) -> None:
    reader = NvmlReader(pynvml)
    told(errors={"nvmlInit": code})
    assert reader.look() == []
    assert reader.why == f"nvml: error {code} ({code})"
    assert reader.stale == (code == 18)  # the library of another driver: only a new process gets the new one
    told()
    assert len(reader.look()) == 1
    assert reader.why == ""


def test_a_driver_that_goes_and_comes_back(told: Told) -> None:
    reader = NvmlReader(pynvml)
    assert len(reader.look()) == 1
    told(errors={"nvmlDeviceGetCount": 9, "nvmlShutdown": 1})
    assert reader.look() == []
    told()
    assert len(reader.look()) == 1


def test_a_handle_that_cannot_be_had_hides_no_other_gpu(told: Told) -> None:
    told(
        devices=[
            {"errors": {"nvmlDeviceGetHandleByIndex": 15}},
            {"errors": {"nvmlDeviceGetHandleByIndex": 4}},
            {},
        ]
    )
    first, second, third = NvmlReader(pynvml).look()
    assert (first.lost, second.lost, third.lost) == (True, False, False)
    assert second.metrics["power_w"].why == "nvml: error 4 (4)"


def test_what_cannot_be_is_not_believed(told: Told) -> None:
    told(
        devices=[
            {
                "nvmlDeviceGetTemperature": 0,
                "nvmlDeviceGetPowerUsage": 0,
                "nvmlDeviceGetMemoryInfo": [0, 0],
                "nvmlDeviceGetUtilizationRates": 4_294_967,
                "nvmlDeviceGetName": "Orin (nvgpu)",
            }
        ]
    )
    (one,) = NvmlReader(pynvml).look()
    assert one.integrated
    for name in ("temperature_c", "power_w", "memory_total_bytes", "utilisation"):
        assert one.value(name) is None
        assert "says" in one.metrics[name].why
    assert measured("power_w", float("nan"), "nvml", "x").value is None


def test_old_and_odd_libraries(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons")
    monkeypatch.delattr(pynvml, "nvmlDeviceGetRemappedRows")
    told(odd=["nvmlDeviceGetPowerUsage"], errors={"nvmlDeviceGetName": 3})
    (one,) = NvmlReader(pynvml).look()
    assert one.name == ""
    assert "no attribute" in one.metrics["throttle_reasons"].why
    assert "no attribute" in one.metrics["reset_needed"].why
    assert one.metrics["power_w"].why == "nvml: what ctypes says"


def test_critical_errors(told: Told) -> None:
    reader = NvmlReader(pynvml)
    reader.look()
    told(events=[[0, 8, 31], [0, 2, 0], [0, 8, 43]])
    (one,) = reader.look()
    assert one.xids == (31, 48, 43)
    assert one.value("xid") == 43.0
    (one,) = reader.look()
    assert one.xids == ()
    assert one.value("xid") == 43.0  # the last one stays


@pytest.mark.parametrize("call", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_without_events_there_are_the_counters(told: Told, call: str) -> None:
    told(errors={call: 3})
    reader = NvmlReader(pynvml)
    (one,) = reader.look()
    assert "no events of GPU 0" in reader.why
    assert one.value("ecc_uncorrected") == 0.0


def test_events_that_fail_are_begun_anew(told: Told) -> None:
    reader = NvmlReader(pynvml)
    reader.look()
    told(errors={"nvmlEventSetWait_v2": 999})
    assert reader.look()[0].xids == ()
    told(events=[[0, 8, 79]])
    assert reader.look()[0].xids == (79,)


# -- Jetsons ---------------------------------------------------------------------------------------------------------


def test_orin(tmp_path: Path) -> None:
    one = read_jetson(plant(tmp_path, ORIN))
    assert one is not None
    assert one.name == "NVIDIA Jetson AGX Orin Developer Kit"
    known = {name: value for name, value in _values(one).items() if value is not None}
    assert known == pytest.approx(
        {
            "utilisation": 0.345,
            "clock_mhz": 918.0,
            "clock_max_mhz": 1300.5,
            "temperature_c": 47.437,
            "temperature_limit_c": 99.0,
            "power_w": 7.6,
            "board_power_w": 19.0 * 0.5 + 4.0,
            "memory_total_bytes": 16000000 * 1024.0,
            "memory_used_bytes": 4000000 * 1024.0,
        }
    )
    assert one.metrics["power_w"].why == "rail VDD_GPU_SOC"
    assert one.metrics["memory_used_bytes"].source == "meminfo"
    assert one.metrics["ecc_uncorrected"].why


def test_thor_has_no_load_and_a_meter_in_microwatts(tmp_path: Path) -> None:
    one = read_jetson(plant(tmp_path, THOR))
    assert one is not None
    assert one.metrics["utilisation"].why == "sysfs: no load file, as on Thor"
    assert one.value("clock_mhz") == pytest.approx(1575.0)
    assert one.value("power_w") == pytest.approx(6.0)
    assert one.value("board_power_w") == pytest.approx(38.25)
    assert one.metrics["temperature_limit_c"].why == "sysfs: no trip point"


def test_nano_and_its_total(tmp_path: Path) -> None:
    one = read_jetson(plant(tmp_path, NANO))
    assert one is not None
    assert one.name == "Tegra"
    assert one.value("utilisation") == 0.0  # idle is not unknown
    assert one.value("temperature_c") == 31.5
    assert one.value("power_w") == pytest.approx(0.2)
    assert one.value("board_power_w") == pytest.approx(3.0)
    assert one.metrics["clock_max_mhz"].why.startswith("sysfs: max_freq: No such file")


def test_a_tree_with_holes_has_reasons(tmp_path: Path) -> None:
    assert read_jetson(tmp_path) is None
    plant(tmp_path, {"etc/nv_tegra_release": "# R36\n"})
    one = read_jetson(tmp_path)
    assert one is not None
    assert all(value is None for value in _values(one).values())
    assert all(found.why for found in one.metrics.values())
    plant(
        tmp_path,
        {
            "sys/devices/platform/bus@0/17000000.gpu/load": "much\n",
            "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",  # asleep: no temp
            "sys/class/thermal/thermal_zone1/type": "tj-thermal\n",
            "sys/class/thermal/thermal_zone1/temp": "-256000\n",
            "sys/class/thermal/thermal_zone2/temp": "1\n",  # no type
            "sys/class/hwmon/hwmon0/name": "ina3221\n",
            "sys/class/hwmon/hwmon0/in1_label": "VDD_IN\n",  # no values
            "sys/class/hwmon/hwmon1/temp1_input": "1\n",  # no name
            "proc/meminfo": "MemTotal: many kB\n",
        },
    )
    (tmp_path / "sys/class/thermal/thermal_zone1/trip_point_0_type").mkdir()
    one = read_jetson(tmp_path)
    assert one is not None
    assert one.metrics["utilisation"].why == "sysfs: load is no number"
    assert one.metrics["temperature_c"].why.endswith("says -256, which cannot be")
    assert all(value is None for value in _values(one).values())


def test_a_sleeping_gpu_is_as_warm_as_its_die(tmp_path: Path) -> None:
    tree = {name: text for name, text in ORIN.items() if not name.endswith("thermal_zone1/temp")}
    one = read_jetson(plant(tmp_path, tree))
    assert one is not None
    assert one.value("temperature_c") == 51.0


def test_devfreq_alone_tells_a_jetson(tmp_path: Path) -> None:
    assert not is_jetson(tmp_path)
    plant(tmp_path, {"sys/class/devfreq/gpu-gpc-0/cur_freq": "1000000\n"})
    assert is_jetson(tmp_path)


# -- sources together ------------------------------------------------------------------------------------------------


def test_a_jetson_has_both_sources(told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    told(devices=[{"nvmlDeviceGetName": "NVIDIA Thor", "errors": {"nvmlDeviceGetPowerUsage": 3}}, {}])
    prober = Prober(root=plant(tmp_path / "root", THOR))
    thor, card = prober.look().gpus
    assert thor.metrics["utilisation"].source == "nvml"
    assert thor.metrics["power_w"].source == "sysfs"
    assert (card.integrated, card.value("power_w")) == (False, 120.0)
    prober.close()


def test_merging() -> None:
    card = GpuReading(index=0, name="card", metrics={name: absent("a") for name in METRICS})
    jetson = GpuReading(
        index=0, name="Tegra", integrated=True, metrics={name: absent("b") for name in METRICS}
    )
    assert merged([card], None) == (card,)
    assert [one.index for one in merged([card], jetson)] == [0, 1]
    orin = GpuReading(index=0, name="Orin (nvgpu)", integrated=True, metrics={})
    (both,) = merged([orin], jetson)
    assert both.metrics["power_w"].why == "b; nvml: not asked"
    assert first_of([]).why == "no source has it"


@pytest.mark.parametrize(
    ("told_as", "why"), [("missing", "not installed"), ("broken", "cannot be imported: RuntimeError")]
)
def test_without_the_library(told_as: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(pynvml.__file__).parent))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv("EDGE_FAKE_NVML", told_as)
    prober = Prober(root=plant(tmp_path, ORIN))
    look = prober.look()
    assert why in look.nvml
    assert look.gpus[0].value("utilisation") == pytest.approx(0.345)
    assert not prober.stale
    prober.close()
    assert "left alone" in Prober(nvml=False, root=tmp_path / "none").look().nvml


# -- the judge -------------------------------------------------------------------------------------------------------


def _reading(*, xids: tuple[int, ...] = (), lost: bool = False, **values: float) -> GpuReading:
    metrics = {name: absent("x") for name in METRICS}
    metrics |= {name: Metric(value, "nvml", "x") for name, value in values.items()}
    return GpuReading(index=0, metrics=metrics, xids=xids, lost=lost, lost_why="it fell off the bus" * lost)


FINE = _reading(utilisation=0.1, temperature_c=50.0)


def test_a_gpu_that_nobody_knows_is_not_healthy() -> None:
    judge = HealthJudge()
    assert judge.state is GpuState.PROBING
    assert judge.update(_reading(), 0.0) is GpuState.PROBING
    judge.vouched = True  # the broker's self-test was right
    assert judge.update(_reading(), 1.0) is GpuState.HEALTHY
    assert HealthJudge().update(FINE, 0.0) is GpuState.HEALTHY


def test_heat_has_two_limits() -> None:
    judge = HealthJudge()
    states = [
        judge.update(_reading(temperature_c=c, temperature_limit_c=87.0), float(i))
        for i, c in enumerate((80.0, 85.0, 82.0, 80.0, 79.9, 84.0))
    ]
    hot, fine = GpuState.THROTTLED, GpuState.HEALTHY
    assert states == [fine, hot, hot, hot, fine, fine]
    assert judge.update(_reading(temperature_c=89.0), 9.0) is hot  # without a limit of its own
    assert "held back" in judge.why
    assert judge.update(_reading(utilisation=0.5), 10.0) is fine


@pytest.mark.parametrize(
    ("bits", "throttled"), [(0x4, False), (0x1, False), (0x8, True), (0x20, True), (0xC0, True)]
)
def test_clocks_that_are_held_back(bits: int, throttled: bool) -> None:
    judge = HealthJudge()
    state = judge.update(_reading(throttle_reasons=float(bits)), 0.0)
    assert (state is GpuState.THROTTLED) == throttled == bool(throttle_words(bits))


def test_lost_and_back() -> None:
    judge = HealthJudge()
    judge.update(FINE, 0.0)
    assert judge.update(_reading(lost=True), 1.0) is GpuState.LOST
    states = [judge.update(FINE, 2.0 + i) for i in range(3)]
    assert states == [GpuState.LOST, GpuState.LOST, GpuState.HEALTHY]
    assert judge.update(None, 9.0) is GpuState.LOST
    assert judge.why == "it is not there any more"


@pytest.mark.parametrize("xid", [46, 79, 119, 120])
def test_errors_that_stop_it(xid: int) -> None:
    assert HealthJudge().update(_reading(xids=(xid,), utilisation=0.0), 0.0) is GpuState.LOST


@pytest.mark.parametrize("xid", [48, 64, 95])
def test_memory_that_needs_a_reset(xid: int) -> None:
    judge = HealthJudge()
    judge.update(_reading(ecc_uncorrected=2.0), 0.0)
    assert judge.update(_reading(xids=(xid,), ecc_uncorrected=3.0), 1.0) is GpuState.DRAINING
    assert judge.update(_reading(ecc_uncorrected=3.0), 2.0) is GpuState.DRAINING
    assert judge.update(_reading(ecc_uncorrected=0.0), 3.0) is GpuState.HEALTHY  # it was reset
    assert judge.update(_reading(reset_needed=1.0), 4.0) is GpuState.DRAINING


def test_faults_are_strikes() -> None:
    limits = HealthLimits(strikes=3, strikes_s=100.0, quarantine_s=60.0)
    judge = HealthJudge(limits)
    assert judge.update(_reading(xids=(31,), utilisation=0.0), 0.0) is GpuState.HEALTHY
    assert is_fault(31)
    assert not is_fault(79)
    judge.strike(50.0, "a wrong answer")
    assert judge.update(_reading(ecc_uncorrected=0.0), 55.0) is GpuState.HEALTHY
    assert judge.update(_reading(ecc_uncorrected=1.0), 60.0) is GpuState.QUARANTINED
    assert "3 faults" in judge.why
    assert judge.update(FINE, 119.0) is GpuState.QUARANTINED
    assert judge.update(FINE, 120.0) is GpuState.HEALTHY
    for at_s in (200.0, 201.0, 202.0):
        judge.strike(at_s, "again")
    assert judge.update(FINE, 202.0 + 119.0) is GpuState.QUARANTINED  # twice as long
    assert judge.update(FINE, 202.0 + 120.0) is GpuState.HEALTHY
    for at_s in (400.0, 480.0, 560.0):  # too far apart
        judge.strike(at_s, "again")
    assert judge.update(FINE, 561.0) is GpuState.HEALTHY


def test_silence() -> None:
    judge = HealthJudge(HealthLimits(silent_s=30.0))
    assert judge.silent(0.0, "nvml is silent") is GpuState.PROBING
    judge.update(FINE, 10.0)
    assert judge.silent(40.0, "nvml is silent") is GpuState.HEALTHY
    assert judge.silent(41.0, "nvml is silent") is GpuState.PROBING
    assert judge.why == "nvml is silent"


def test_states_of_later_versions() -> None:
    assert gpu_state_of(None) is None
    assert gpu_state_of(2) is GpuState.HEALTHY
    assert gpu_state_of(99) is GpuState.PROBING
    assert gpu_state_of(-1) is GpuState.PROBING
