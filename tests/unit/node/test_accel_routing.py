"""Which backend a function's kernel calls go to, and what is remembered of it."""

from __future__ import annotations

import time
from typing import Any, cast

import msgspec
import pytest

from edgeagent.accel.conditions import Conditions
from edgeagent.accel.goal import Energy
from edgeagent.model.function import Accel, Deployed, FunctionSection, Manifest, ModuleInfo, Slo
from edgeagent.node.accel_routing import FunctionRoutes, Routing, goal_of
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


def _called(routes: FunctionRoutes, times: int, *, ready: bool = True) -> str:
    """Who served the last of so many calls; the GPU is ten times as fast."""
    ms: dict[str, float] = {"cpu": 100.0, "gpu": 10.0}
    backend = ""
    for _ in range(times):
        route = routes.route(0.0, "matmul", 1e9, ready=ready)
        backend = route.backend
        routes.served(0.0, "matmul", 1e9, route.backend, ms[route.backend])
        if (plan := route.probe) is not None:
            routes.probed(0.0, "matmul", 1e9, plan, ms[route.backend], ms[plan.backend])
    return backend


def test_the_reason_of_the_last_change_says_that_the_gpu_was_lost_and_that_it_is_back() -> None:
    routing = Routing(NoChance())
    routing.why_not, falls = lambda: "GPU 0 is broken: it was killed by signal 9", [0]
    routing.falls = lambda: falls[0]
    routes = routing.of(deployed("cpu_preferred"))
    assert _called(routes, 60) == "gpu"
    learned, switches = routes.why, routes.switches
    assert learned.startswith("to the GPU: ")
    falls[0] += 1
    assert _called(routes, 1, ready=False) == "cpu"
    assert routes.why == "to the CPU: the GPU was lost (GPU 0 is broken: it was killed by signal 9)"
    lost = routes.change
    assert lost is not None
    assert (lost.backend, lost.reason) == ("cpu", "the GPU was lost")
    assert _called(routes, 5, ready=False) == "cpu"
    assert routes.change is lost  # said once
    assert _called(routes, 1) == "gpu"
    assert (routes.why, routes.last) == ("to the GPU: the GPU may serve again", "gpu")
    routing.conditions = lambda: Conditions(battery_share=0.1)
    assert _called(routes, 2) == "cpu"
    assert routes.why == "to the CPU: battery"
    assert routes.switches == switches  # the controller has not changed its mind
    assert routes.kept().why == routes.why == routes.shown_why


def test_a_gpu_that_starts_was_not_lost() -> None:
    """It rested, or the node is new: what was learned stands, and for a while the calls are elsewhere."""
    routing = Routing(NoChance())
    routing.why_not = lambda: "GPU 0 is starting: it is wanted"
    routes = routing.of(deployed("cpu_preferred"))
    assert _called(routes, 60) == "gpu"
    learned = routes.shown_why
    assert _called(routes, 2, ready=False) == "cpu"
    assert routes.why == learned
    wanted = "on the CPU meanwhile: the GPU is not ready (GPU 0 is starting: it is wanted)"
    assert routes.shown_why == f"{wanted}; {learned}"
    assert _called(routes, 1) == "gpu"
    assert routes.shown_why == learned


def test_a_function_that_never_used_the_gpu_is_not_told_that_it_lost_it() -> None:
    routing = Routing(NoChance())
    routes = routing.of(deployed("cpu_preferred"))
    assert _called(routes, 3, ready=False) == "cpu"
    assert (routes.why, routes.changed_at, routes.change) == ("mode cpu_preferred", "", None)
    preferred = routing.of(deployed("gpu_preferred", "other"))
    routing.why_not = lambda: "GPU 0 is starting"
    assert _called(preferred, 1, ready=False) == "cpu"
    meanwhile = "on the CPU meanwhile: the GPU is not ready (GPU 0 is starting)"
    assert preferred.shown_why == f"{meanwhile}; mode gpu_preferred"
    pinned = routing.of(deployed("cpu", "pinned"))
    assert _called(pinned, 1, ready=False) == "cpu"
    assert pinned.why == "mode cpu"


def test_what_was_learned_is_shown_by_kernel_and_size() -> None:
    routes = Routing(NoChance()).of(deployed("cpu_preferred"))
    assert routes.learned() == {}
    _called(routes, 60)
    routes.route(0.0, "matmul", 0.0, ready=False)
    small, large = routes.learned()["matmul"]
    assert (small["size_from"], small["size_below"], small["cpu_ms"], small["calls"]) == (0, 1, None, 0)
    assert large["size_from"] <= 1e9 < large["size_below"] == 4 * large["size_from"]
    assert (large["backend"], large["calls"]) == ("gpu", 60)
    assert large["cpu_ms"] == pytest.approx(100.0, rel=0.2)  # a look at it was given up after 110
    assert large["gpu_ms"] == pytest.approx(10.0)


def test_what_energy_costs_now_is_asked_for_each_call_and_may_decide() -> None:
    """The GPU is ten times as fast and draws 200 W, a core 10 W: fewer joules on the CPU."""
    routing = Routing(NoChance(), prices=(1e-6, 1e-6))
    asked: list[str] = []

    def energy(kernel: str) -> Energy:
        asked.append(kernel)
        return Energy(10.0, 200.0, 0.12)

    routing.energy = energy
    saving = deployed("cpu_preferred", "saves")
    manifest = msgspec.structs.replace(saving.manifest, slo=Slo(class_="energy"))
    saving = msgspec.structs.replace(saving, manifest=manifest)
    routes = routing.of(saving)
    assert goal_of(saving, (0.0, 0.0)).frugal == "energy"
    assert _called(routes, 60) == "cpu"
    assert asked == ["matmul"] * 60
    assert _called(routing.of(deployed("cpu_preferred", "free")), 60) == "gpu"


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
