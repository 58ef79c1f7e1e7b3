"""Which backend a function's kernel calls go to, and what is remembered of it."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from edgeagent.accel.conditions import Conditions
from edgeagent.model.function import Accel, Deployed, FunctionSection, Manifest, ModuleInfo, Slo
from edgeagent.node.accel_routing import Routing, goal_of
from edgeagent.node.call_marks import CallMarks, carry_marks, marks_of


class NoChance:
    def random(self) -> float:
        return 0.5


def deployed(mode: str = "gpu_preferred", name: str = "step", **slo: float) -> Deployed:
    return Deployed(
        name=name,
        sha256="",
        abi="bytes",
        manifest=Manifest(
            function=FunctionSection(name=name),
            accel=Accel(mode=cast("Any", mode)),
            slo=Slo(**cast("Any", slo)),
        ),
        info=ModuleInfo(sha256="", size_bytes=0, abi="bytes"),
        deployed_at="",
    )


def test_goals_come_from_the_manifest() -> None:
    goal = goal_of(deployed(latency_ms_p95=250.0, cost_usd_per_million=3.0), (1e-6, 2e-6))
    assert (goal.slo_ms, goal.cheapest, goal.usd_max) == (250.0, True, 3e-6)
    assert (goal.cpu_usd_s, goal.gpu_usd_s) == (1e-6, 2e-6)
    assert not goal_of(deployed(), (0.0, 0.0)).cheapest


def test_a_function_is_promoted_and_conditions_bring_it_back() -> None:
    changes = []
    routing = Routing(NoChance(), changed=lambda name, change: changes.append((name, change.backend)))
    one = deployed("cpu_preferred")
    routes = routing.of(one)
    assert routes.last == "cpu"
    now_s = 0.0
    for _ in range(60):
        route = routes.route(now_s, "matmul", 1e9, ready=True)
        ms = {"cpu": 100.0, "gpu": 10.0}
        routes.served(now_s, "matmul", 1e9, route.backend, ms[route.backend])
        if route.probe is not None:
            plan = route.probe
            routes.probed(now_s, "matmul", 1e9, plan, ms[route.backend], ms[plan.backend])
        now_s += 1.0
    assert changes == [("step", "gpu")]
    assert (routes.last, routes.switches) == ("gpu", 1)
    assert routes.why.startswith("to the GPU: ")
    assert routes.changed_at.endswith("Z")
    routing.conditions = lambda: Conditions(gpu_c=99.0)
    assert routes.route(now_s, "matmul", 1e9, ready=True).why == "heat"
    assert not routes.wants_gpu
    assert routes.route(now_s, "fft2", 1e9, ready=True).why == "heat"  # learned of later
    assert routing.of(deployed("cpu_preferred", "other")).route(now_s, "fft2", 1.0, ready=True).why == "heat"


def test_a_new_deploy_is_learned_anew_and_what_is_gone_is_forgotten() -> None:
    gone: list[str] = []
    routing = Routing(NoChance())
    routing.forgotten = gone.append
    first = deployed()
    routes = routing.of(first)
    assert routing.of(first) is routes
    assert routing.of(deployed()) is not routes
    assert routing.find(first) is not None
    routing.forget("step")
    routing.forget("step")
    assert gone == ["step"]
    assert routing.all() == []


def test_the_limit_is_of_the_whole_call_and_kernels_get_what_it_leaves() -> None:
    """100 ms in all: 40 are the guest's own, so that two kernel calls of 45 ms are too slow."""
    routing = Routing(NoChance())
    one = deployed("cpu_preferred", latency_ms_p95=100.0)
    routes = routing.of(one)
    ms = {"cpu": 45.0, "gpu": 44.0}
    for number in range(80):
        whole_ms = 40.0
        for _ in range(2):
            route = routes.route(float(number), "matmul", 1e9, ready=True)
            routes.served(float(number), "matmul", 1e9, route.backend, ms[route.backend])
            whole_ms += ms[route.backend]
            if route.probe is not None:
                plan = route.probe
                routes.probed(float(number), "matmul", 1e9, plan, ms[route.backend], ms[plan.backend])
        routes.ended({"matmul": (2, whole_ms - 40.0), "gone": (1, 1.0)}, whole_ms)
    assert routes._controllers["matmul"]._goal.slo_ms == pytest.approx(30.0)
    assert routing.of(deployed("cpu_preferred", "other"))._shares == {}
    routing.of(deployed("cpu_preferred", "other")).ended({"matmul": (1, 1.0)}, 2.0)  # it has no limit
    routes._controllers.clear()
    routes.ended({}, 1.0)
    assert routes._shares == {}


def test_a_call_that_outlives_its_deploy_brings_nothing_back() -> None:
    routing = Routing(NoChance())
    first, second = (deployed("cpu_preferred", latency_ms_p95=100.0) for _ in range(2))
    routing.of(first).route(0.0, "matmul", 1e9, ready=True)
    routing.ended(first, {"matmul": (1, 1.0)}, 2.0)
    assert list(routing.of(first)._shares) == ["matmul"]
    routes = routing.of(second)
    routes.route(0.0, "matmul", 1e9, ready=True)
    routing.ended(first, {"matmul": (1, 1.0)}, 2.0)
    assert routing.of(second) is routes
    assert routes._shares == {}
    routing.forget("step")
    routing.ended(second, {"matmul": (1, 1.0)}, 2.0)
    assert routing.all() == []


def test_functions_and_kernels_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.accel_routing._FUNCTIONS_MAX", 3)
    monkeypatch.setattr("edgeagent.node.accel_routing._CONTROLLERS_MAX", 2)
    routing = Routing(NoChance())
    for number in range(5):
        routes = routing.of(deployed(name=f"f{number}"))
        for kernel in "abc":
            routes.served(0.0, kernel, 1.0, "cpu", 1.0)
        assert list(routes._controllers) == ["b", "c"]
    assert [one.deployed.name for one in routing.all()] == ["f2", "f3", "f4"]


def test_marks_are_found_in_sessions_too() -> None:
    class Session:
        pass

    session, marks = Session(), CallMarks()
    carry_marks(session, marks)
    assert marks_of(session) is marks_of(marks) is marks
    assert marks_of(None) is marks_of(object()) is None


def test_marks_know_when_their_call_ends_at_the_latest() -> None:
    assert CallMarks().until_s(500.0) - time.monotonic() == pytest.approx(0.5, abs=0.2)
    assert CallMarks(deadline_s=1.0).until_s(500.0) == 1.0
    assert CallMarks(deadline_s=time.monotonic() + 1000).until_s(500.0) < time.monotonic() + 1
