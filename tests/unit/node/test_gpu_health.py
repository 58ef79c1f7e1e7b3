"""The probe's process under every trouble of NVML, and what the node makes of what it says."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edgeagent.accel.health import METRICS, GpuReading, Look, Metric
from edgeagent.accel.health_judge import HealthLimits
from edgeagent.cli.gpu_check import gpu_finding
from edgeagent.model.gpu import GpuState
from edgeagent.node.gpu_health import GpuHealth, GpuTold
from edgeagent.node.gpu_probe import GpuProbe, gpu_is_here, probe_environment
from tests.unit.accel.fake_nvml import pynvml
from tests.unit.accel.jetson_trees import ORIN, plant

Told = Callable[..., None]
P = ParamSpec("P")


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """The test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Writes what the double of NVML, which the probe's process finds, does from now on."""
    path = tmp_path / "nvml.json"
    monkeypatch.setenv("EDGE_FAKE_NVML", str(path))
    monkeypatch.setenv("PYTHONPATH", str(Path(pynvml.__file__).parent))

    def write(**script: Any) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({"devices": [{}], **script}))
        fresh.replace(path)

    write()
    return write


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@on_loop
async def test_the_probe_answers_and_what_libraries_print_does_not_disturb(
    told: Told, tmp_path: Path
) -> None:
    told(noise=True, devices=[{}, {}])
    probe = GpuProbe(root=tmp_path / "none")
    try:
        for _ in range(2):
            look = await probe.look()
            assert [one.value("power_w") for one in look.gpus] == [120.0, 120.0]
            assert look.nvml == ""
        assert probe.failures == 0
    finally:
        await probe.close()
    await probe.close()


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ({"hang": ["nvmlDeviceGetPowerUsage"]}, "did not answer in time"),
        ({"crash": ["nvmlDeviceGetPowerUsage"]}, "the probe ended (-6)"),
        ({"hang": ["nvmlInit"]}, "did not answer in time"),
    ],
)
@on_loop
async def test_a_hang_or_a_crash_costs_nvml_and_nothing_else(
    told: Told, tmp_path: Path, trouble: dict[str, Any], why: str
) -> None:
    clock = Clock()
    told(**trouble)
    probe = GpuProbe(root=plant(tmp_path / "root", ORIN), deadline_s=1.0, start_s=1.0, clock=clock)
    try:
        look = await probe.look()
        assert why in look.nvml
        assert look.gpus[0].value("utilisation") == pytest.approx(0.345)  # what the files say stays
        assert probe.failures == 1
        told()
        assert why in (await probe.look()).nvml  # left alone for 5 s
        clock.now_s += 5.1
        look = await probe.look()
        assert look.nvml == ""
        assert look.gpus[0].metrics["utilisation"].source == "nvml"  # the card's, and the Jetson's beside it
        assert look.gpus[1].metrics["utilisation"].source == "sysfs"
    finally:
        await probe.close()


@on_loop
async def test_pauses_grow_and_end_with_success(told: Told, tmp_path: Path) -> None:
    clock = Clock()
    told(crash=["nvmlInit"])
    probe = GpuProbe(root=tmp_path, clock=clock)
    try:
        pauses = []
        for _ in range(3):
            await probe.look()
            pauses.append(probe._nvml_from_s - clock.now_s)
            clock.now_s += pauses[-1]
        assert pauses == [5.0, 10.0, 20.0]
        told()
        assert (await probe.look()).nvml == ""
        assert probe._pause_s == 5.0
    finally:
        await probe.close()


@on_loop
async def test_a_driver_that_was_replaced_gets_a_new_process(told: Told, tmp_path: Path) -> None:
    clock = Clock()
    probe = GpuProbe(root=tmp_path, clock=clock)
    try:
        await probe.look()
        assert probe._process is not None
        first = probe._process.pid
        told(errors={"nvmlDeviceGetCount": 18})
        assert (await probe.look()).nvml == "nvml: error 18 (18)"
        await probe._process.wait()
        told()
        await probe.look()  # finds it ended
        clock.now_s += 5.1
        look = await probe.look()
        assert look.nvml == ""
        assert len(look.gpus) == 1
        assert probe._process.pid != first
    finally:
        await probe.close()


@on_loop
async def test_an_answer_that_is_none_and_a_program_that_is_not_there(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = GpuProbe(root=tmp_path)
    monkeypatch.setattr("sys.executable", "/bin/cat")
    look = await probe.look()
    assert look.gpus == ()
    assert "the probe ended" in look.nvml or "the probe failed" in look.nvml
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere"))
    assert "the probe failed" in (await GpuProbe(root=tmp_path).look()).nvml
    echo = tmp_path / "echo.sh"
    echo.write_text("#!/bin/sh\nread line\necho '{\"gpus\": 7}'\nread line\n")
    echo.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(echo))
    assert "the probe failed" in (await GpuProbe(root=tmp_path).look()).nvml


@on_loop
async def test_a_probe_that_cannot_be_killed_is_not_followed_by_another(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = GpuProbe(root=plant(tmp_path / "root", ORIN))
    await probe.look()
    stuck = probe._process
    assert stuck is not None
    stuck.send_signal(signal.SIGSTOP)

    async def waits_in_the_driver(_awaited: Any, _limit_s: float) -> None:
        _awaited.close()
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr(stuck, "kill", lambda: None)
        patch.setattr(asyncio, "wait_for", waits_in_the_driver)
        await probe._stop()
    look = await probe.look()
    assert [one.name for one in look.gpus] == ["NVIDIA Jetson AGX Orin Developer Kit"]  # NVML was not asked
    stuck.kill()
    await stuck.wait()
    look = await probe.look()
    assert [one.name for one in look.gpus] == ["NVIDIA Test", "NVIDIA Jetson AGX Orin Developer Kit"]
    await probe.close()


@on_loop
async def test_a_look_that_is_cancelled_leaves_no_process(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(hang=["nvmlInit"])
    probe = GpuProbe(root=tmp_path)
    started = asyncio.Event()
    begin = probe._started

    async def begun(nvml: bool) -> asyncio.subprocess.Process:
        process = await begin(nvml)
        asyncio.get_running_loop().call_soon(started.set)
        return process

    monkeypatch.setattr(probe, "_started", begun)
    task = asyncio.ensure_future(probe.look())
    await started.wait()
    process = probe._process
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process is not None
    assert process.returncode == -9


def test_a_probe_ends_when_nobody_listens(told: Told, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "edgeagent.accel.health_probe", "--root", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=probe_environment()) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"look\n")
        process.stdin.flush()
        assert process.wait(60) == 0


def test_what_makes_a_gpu_worth_a_probe(tmp_path: Path) -> None:
    assert not gpu_is_here(tmp_path)
    plant(tmp_path, {"dev/nvidiactl": ""})
    assert gpu_is_here(tmp_path)
    assert str(Path(__file__).parents[3]) in probe_environment()["PYTHONPATH"].split(os.pathsep)


# -- the node's meter -------------------------------------------------------------------------------------------------


def _reading(
    index: int = 0, *, xids: tuple[int, ...] = (), lost: bool = False, **values: float
) -> GpuReading:
    metrics = {name: Metric(why="not in this test") for name in METRICS}
    metrics |= {name: Metric(value, "nvml", "a call") for name, value in values.items()}
    return GpuReading(
        index=index, name=f"GPU {index}", metrics=metrics, xids=xids, lost=lost, lost_why="gone"
    )


class Scripted(GpuProbe):
    """Answers with what a test put there."""

    def __init__(self) -> None:
        super().__init__()
        self.answer: Look | Exception = Look()
        self.asked = asyncio.Event()

    async def look(self) -> Look:
        self.asked.set()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return plant(tmp_path, {"dev/nvidiactl": ""})


@on_loop
async def test_a_node_without_a_gpu_starts_nothing(tmp_path: Path) -> None:
    health = GpuHealth(root=tmp_path)
    assert not await health.look_once()
    assert health._probe._process is None
    assert health.told() == GpuTold()
    assert set(health.told().as_load().values()) == {None}
    assert health.view() == {"nvml": "", "probe_failures": 0, "devices": []}
    await health.close()


@on_loop
async def test_what_peers_are_told(root: Path) -> None:
    probe, clock = Scripted(), Clock()
    health = GpuHealth(probe=probe, root=root, clock=clock, limits=HealthLimits(silent_s=30.0))
    probe.answer = Look(
        gpus=(
            _reading(
                0, utilisation=0.2, temperature_c=50.0, memory_total_bytes=100.0, memory_used_bytes=30.0
            ),
            _reading(1, utilisation=0.6),
        )
    )
    assert await health.look_once()
    health.queue = lambda: 3
    assert health.told() == GpuTold(
        name="GPU 0",
        state=GpuState.HEALTHY,
        utilisation=0.4,
        temperature_c=50.0,
        memory_free_bytes=70,
        queue=3,
    )
    probe.answer = Look(gpus=(_reading(0, lost=True), _reading(1, utilisation=0.6)))
    await health.look_once()
    assert health.told().name == "GPU 1"
    assert health.state_of(0) is GpuState.LOST
    probe.answer = Look(gpus=())  # the driver says that there is none
    await health.look_once()
    assert health.told() == GpuTold(state=GpuState.LOST)
    assert health.state_of(7) is GpuState.ABSENT


@on_loop
async def test_nvml_that_is_silent_for_long_makes_nobody_healthy(root: Path) -> None:
    probe, clock = Scripted(), Clock()
    health = GpuHealth(probe=probe, root=root, clock=clock, limits=HealthLimits(silent_s=30.0))
    probe.answer = Look(gpus=(_reading(0, utilisation=0.2),))
    await health.look_once()
    probe.answer = Look(nvml="the probe did not answer in time")
    await health.look_once()
    assert health.told() == GpuTold(
        name="GPU 0", state=GpuState.HEALTHY
    )  # and its metrics are unknown, not zero
    clock.now_s += 31.0
    await health.look_once()
    assert health.told() == GpuTold(state=GpuState.PROBING)


@on_loop
async def test_critical_errors_are_heard_and_strikes_count(root: Path) -> None:
    probe, heard = Scripted(), []
    health = GpuHealth(probe=probe, root=root, clock=Clock())
    health.xid_heard = lambda index, xid: heard.append((index, xid))
    probe.answer = Look(gpus=(_reading(0, xids=(31,), utilisation=0.0),))
    await health.look_once()
    assert heard == [(0, 31)]
    health.strike(0, "a poisoned context")
    health.vouch(0, well=False)
    assert health.state_of(0) is GpuState.QUARANTINED
    assert health.told().name == ""


@on_loop
async def test_who_computes_right_is_well_without_any_meter(root: Path) -> None:
    probe = Scripted()
    health = GpuHealth(probe=probe, root=root, clock=Clock())
    probe.answer = Look(gpus=(_reading(0),))
    await health.look_once()
    assert health.state_of(0) is GpuState.PROBING
    health.vouch(0, well=True)
    await health.look_once()
    assert health.told().state is GpuState.HEALTHY


@on_loop
async def test_views_and_metrics_say_what_is_absent_and_why(root: Path) -> None:
    probe = Scripted()
    health = GpuHealth(probe=probe, root=root, clock=Clock())
    probe.answer = Look(gpus=(_reading(0, power_w=12.5, throttle_reasons=64.0),))
    await health.look_once()
    (device,) = health.view()["devices"]
    assert (device["state"], device["throttled_by"]) == ("throttled", "heat (hardware)")
    assert device["metrics"]["power_w"] == {"value": 12.5, "source": "nvml", "by": "a call"}
    assert device["metrics"]["clock_mhz"] == {"absent": "not in this test"}
    registry = CollectorRegistry(auto_describe=False)
    registry.register(health)
    text = generate_latest(registry).decode()
    assert 'edgeagent_gpu_power_w{gpu="0"} 12.5' in text
    assert 'edgeagent_gpu_state{gpu="0",state="throttled"} 1.0' in text
    assert "edgeagent_gpu_clock_mhz{" not in text


@on_loop
async def test_a_fault_of_ours_does_not_end_the_looks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.gpu_health._ABSENT_EVERY_S", 0.0)
    probe = Scripted()
    health = GpuHealth(probe=probe, root=root)
    probe.answer = RuntimeError("a fault")
    health.start()
    health.start()
    for _ in range(3):
        await asyncio.wait_for(probe.asked.wait(), 10.0)
        probe.asked.clear()
    await health.close()


# -- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_names_each_metric_and_its_source(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gpu_finding(tmp_path)[0] == "info"
    root = plant(tmp_path / "root", {"dev/nvidiactl": ""})
    level, detail, _ = gpu_finding(root)
    assert level == "ok"
    assert "power_w 120 (nvml)" in detail
    assert "board_power_w (nvml: it has the GPU's only)" in detail
    told(errors={"nvmlInit": 9})
    assert gpu_finding(root)[:2] == (
        "warn",
        "a device is here, and nothing can be read of it: nvml: error 9 (9)",
    )
    told(crash=["nvmlInit"])
    assert "ends the one who asks" in gpu_finding(root)[1]
    monkeypatch.setattr("edgeagent.cli.gpu_check._WAIT_S", 1.0)
    told(hang=["nvmlInit"])
    assert "does not answer" in gpu_finding(root)[1]
