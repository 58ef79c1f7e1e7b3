"""GPUs in a node: made where there is one, kept for those that are pinned, shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from structlog.testing import capture_logs

from edgeagent.accel.conditions import Conditions
from edgeagent.accel.devices import NO_GPU
from edgeagent.accel.nn_layout import NN_MODULE
from edgeagent.model.errors import Unavailable
from edgeagent.model.function import Deployed, Import
from edgeagent.node.accel import Acceleration
from edgeagent.node.call_marks import CallMarks
from edgeagent.node.config_accel import AccelSection
from edgeagent.node.functions import Functions
from edgeagent.node.loaded import LoadedEntry
from edgeagent.node.meters import Meters
from edgeagent.node.power import Power
from edgeagent.runtime.port import Engine
from tests.unit.node.test_accel_guest import Desk
from tests.unit.node.test_accel_routing import deployed


def importing(mode: str, name: str, module: str) -> Deployed:
    one = deployed(mode, name)
    info = msgspec.structs.replace(one.info, imports=(Import(module, "call"),))
    return msgspec.structs.replace(one, info=info)


def calling(mode: str, name: str) -> Deployed:
    return importing(mode, name, "edge_accel")


class Node:
    def __init__(self, *functions: Deployed, enabled: Any = "auto", backend: str = "no:where") -> None:
        self.meters = Meters()
        self.functions = list(functions)
        held = SimpleNamespace(
            list=lambda: list(self.functions),
            get=lambda name: next(one for one in functions if one.name == name),
        )
        self.accel = Acceleration(
            AccelSection(enabled=enabled),
            cast("Engine", Desk()),
            cast("Functions", held),
            self.meters,
            backend=backend,
        )


def on_loop(test: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


def entry(one: Deployed) -> LoadedEntry:
    return cast("LoadedEntry", SimpleNamespace(name=one.name, deployed=one))


@pytest.mark.parametrize(("enabled", "why"), [("never", "accel.enabled = never"), ("auto", NO_GPU)])
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, enabled: str, why: str) -> None:
    monkeypatch.setattr("edgeagent.node.accel.count_gpus", lambda: 0)
    with capture_logs() as logs:
        node = Node(calling("gpu", "pinned"), deployed("gpu_preferred", "free"), enabled=enabled, backend="")
    assert [one["why"] for one in logs] == [why]
    accel = node.accel
    accel.keep_up()
    accel.forget("free")
    accel.draws(Power("edge"))
    accel.watch(lambda: Conditions(gpu_c=40.0))
    view = accel.view()
    assert (view["gpus"], view["why_no_gpu"]) == ([], why)
    assert view["gpu"] == {"state": "absent", "why": why}
    assert [(one["mode"], one["backend"], one["why"]) for one in view["functions"]] == [
        ("gpu", "cpu", why),
        ("gpu_preferred", "cpu", why),
    ]
    for pinned in (calling("gpu", "pinned"), importing("gpu", "models", NN_MODULE), deployed("gpu", "plain")):
        with pytest.raises(Unavailable, match="this node uses none") as caught:
            accel.admit(entry(pinned))
        assert caught.value.retry_after_s == 60
    accel.admit(entry(deployed("gpu_preferred", "free")))
    accel.guest.on_cpu["pinned"] += 3
    text = node.meters.render().decode()
    assert "broker" not in text
    assert 'edgeagent_accel_mode{function="pinned",mode="gpu"} 1.0' in text
    assert 'edgeagent_accel_on_gpu{function="pinned"} 0.0' in text
    assert 'edgeagent_accel_backend_calls_total{backend="cpu",function="pinned"} 3.0' in text
    assert 'function="free"' not in text  # it asks for no kernels


@on_loop
async def test_a_pinned_function_has_its_gpu_started_and_others_wait_to_be_called() -> None:
    node = Node(calling("gpu_preferred", "free"), importing("gpu", "models", NN_MODULE))
    node.accel.keep_up()
    assert node.accel.view()["gpus"][0]["state"] == "off"
    await node.accel.stop()

    node = Node(pinned := calling("gpu", "pinned"))
    assert node.accel.gpus is not None
    broker = node.accel.gpus.brokers[0]
    node.accel.keep_up()
    kept = [broker.is_kept]
    state = node.accel.view()["gpus"][0]["state"]
    try:
        with pytest.raises(Unavailable, match="GPU 0 is starting") as caught:
            node.accel.admit(entry(pinned))
        with pytest.raises(Unavailable, match="nodes run models on the CPU"):
            node.accel.admit(entry(importing("gpu", "models", NN_MODULE)))
        node.accel.admit(entry(calling("gpu_preferred", "free")))
        node.functions.clear()
        node.accel.keep_up()
        kept.append(broker.is_kept)
    finally:
        await node.accel.stop()
    assert state == "starting"
    assert kept == [True, False]
    assert caught.value.retry_after_s == 5
    assert node.accel.view()["gpus"][0]["state"] == "stopped"


@on_loop
async def test_what_is_shown_and_counted() -> None:
    one = calling("cpu_preferred", "detect")
    node = Node(one, calling("cpu_preferred", "idle"))
    accel, meter = node.accel, node.meters.function("detect")
    accel.draws(Power("cloud"))
    assert accel.routing is not None
    assert accel.routing.prices[1] > accel.routing.prices[0] > 0.0
    accel.watch(lambda: Conditions(gpu_c=51.0))
    routes = accel.routing.of(one)
    ms = {"cpu": 100.0, "gpu": 10.0}
    meter.succeeded(1000, 1, 1)
    meter.failed("guest-trap")
    for _ in range(40):
        route = routes.route(0.0, "matmul", 1e9, ready=True)
        routes.served(0.0, "matmul", 1e9, route.backend, ms[route.backend])
        if (probe := route.probe) is not None:
            routes.probed(0.0, "matmul", 1e9, probe, ms[route.backend], ms[probe.backend])
    view = accel.view()
    assert view["gpus"][0]["temperature_c"] == 51.0
    assert view["gpu"] == {"state": "off", "why": "not asked for yet"}
    shown, idle = view["functions"]
    assert (shown["calls"], shown["failed"], shown["mode"]) == (2, 1, "cpu_preferred")
    assert 0.5 <= shown["p50_ms"] <= 1.0
    assert (shown["backend"], shown["switches"]) == ("gpu", 1)
    assert (idle["why"], idle["p50_ms"], idle["calls"]) == ("no kernel was called", None, 0)
    assert node.meters.counters["accel_switches"] == 1
    text = node.meters.render().decode()
    assert 'edgeagent_accel_on_gpu{function="detect"} 1.0' in text
    assert 'edgeagent_accel_broker_state{device="0",state="off"} 1.0' in text
    accel.forget("detect")
    assert "edgeagent_accel_on_gpu{" not in node.meters.render().decode()
    await accel.stop()


@on_loop
async def test_calls_that_ended_tell_what_the_limit_leaves_for_kernels() -> None:
    one = deployed("gpu_preferred", "limited", latency_ms_p95=100.0)
    node = Node(one)
    assert node.accel.routing is not None
    routes = node.accel.routing.of(one)
    routes.route(0.0, "sum", 1.0, ready=False)
    marks = CallMarks()
    node.accel.ended(entry(one), marks, 90.0)  # it called nothing
    marks.answered("sum", "cpu", 20.0, 20.0)
    for _ in range(8):
        node.accel.ended(entry(one), marks, 90.0)
    assert routes._controllers["sum"]._goal.slo_ms == 30.0
    await node.accel.stop()
    without = Node(one, enabled="never")
    without.accel.ended(entry(one), marks, 90.0)
    await without.accel.stop()
