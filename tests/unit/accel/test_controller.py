"""The controller's promises, one test each."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagent.accel.conditions import Conditions
from edgeagent.accel.controller import Controller
from edgeagent.accel.goal import Energy, Frugal, Goal
from edgeagent.accel.settings import Backend, ControllerSettings, Mode, Probe
from edgeagent.accel.size_classes import size_class


def _controller(
    mode: Mode = "cpu_preferred", goal: Goal | None = None, probe: Probe = "shadow", ready: bool = True
) -> Controller:
    made = Controller(ControllerSettings(probe=probe), random.Random(1), mode=mode, goal=goal)
    made.gpu_is(ready=ready)
    return made


def _drive(
    controller: Controller, rows: Sequence[tuple[float, float]], *, gap_s: float = 0.0, size: float = 0.0
) -> list[Backend]:
    """Requests with (CPU ms, GPU ms); below 0: failed. Returns who served each."""
    now_s, served = 0.0, []
    for cpu, gpu in rows:
        route = controller.route(now_s, size)
        ms = cpu if route.backend == "cpu" else gpu
        answered = ms if ms >= 0.0 else cpu
        now_s += answered / 1000.0 + gap_s
        controller.served(now_s, size, route.backend, max(ms, 0.0), failed=ms < 0.0)
        if route.probe is not None:
            other = gpu if route.probe.backend == "gpu" else cpu
            limit = route.probe.limit_ms(answered)
            controller.probed(
                now_s, size, route.probe, answered, min(max(other, 0.0), limit), failed=other < 0.0
            )
        served.append(route.backend)
    return served


def test_a_faster_gpu_is_found_within_a_few_requests() -> None:
    served = _drive(_controller(), [(1570.0, 164.0)] * 40)
    assert served[0] == "cpu"
    assert served[6:] == ["gpu"] * 34


def test_promotion_at_one_request_every_15_seconds() -> None:
    controller = _controller()
    assert _drive(controller, [(1600.0, 170.0)] * 20, gap_s=13.4)[-1] == "gpu"
    assert [change.backend for change in controller.changes] == ["gpu"]


def test_a_useless_gpu_is_left_alone() -> None:
    controller = _controller()
    assert set(_drive(controller, [(100.0, 101.0)] * 300)) == {"cpu"}
    assert controller.changes == []


@pytest.mark.parametrize("mode", ["cpu", "gpu"])
def test_pinned_modes_are_obeyed(mode: Mode) -> None:
    controller = _controller(mode)
    assert set(_drive(controller, [(10.0, 1.0), (1.0, 10.0)] * 30)) == {mode}
    assert controller.wants_gpu == (mode == "gpu")
    assert controller.route(0.0).why == f"pinned to {mode}"


def test_nothing_goes_to_a_gpu_that_is_not_ready_and_nothing_is_held_against_it() -> None:
    controller = _controller("gpu_preferred", ready=False)
    assert controller.wants_gpu
    route = controller.route(0.0)
    assert (route.backend, route.probe, route.why) == ("cpu", None, "the GPU is not ready")
    assert set(_drive(controller, [(1000.0, 50.0)] * 30, gap_s=2.0)) == {"cpu"}
    assert controller.changes == []
    controller.gpu_is(ready=True)
    assert controller.route(100.0).backend == "gpu"


def test_a_preferred_gpu_is_left_when_it_is_slower() -> None:
    controller = _controller("gpu_preferred")
    assert _drive(controller, [(100.0, 400.0)] * 60)[-1] == "cpu"
    assert controller.changes[-1].reason in {"faster", "much faster"}


def test_a_gpu_that_slows_down_is_left() -> None:
    rows = [(500.0, 50.0)] * 60 + [(500.0, 5000.0)] * 20
    served = _drive(_controller(), rows)
    assert served[59] == "gpu"
    assert served[70:] == ["cpu"] * 10


def test_a_cpu_that_slows_down_a_lot_is_left_after_two_requests() -> None:
    chance = random.Random(3)
    rows = [(chance.uniform(95.0, 105.0), 300.0) for _ in range(50)] + [(9000.0, 300.0)] * 20
    served = _drive(_controller(), rows)
    assert set(served[:50]) == {"cpu"}
    assert served[53:] == ["gpu"] * 17


def test_a_gpu_that_dies_is_left_after_two_requests_and_taken_back_when_it_answers() -> None:
    controller = _controller()
    rows = [(500.0, 50.0)] * 40 + [(500.0, -1.0)] * 30 + [(500.0, 50.0)] * 60
    served = _drive(controller, rows)
    assert served[39] == "gpu"
    assert served[42:70] == ["cpu"] * 28
    assert served[-1] == "gpu"
    assert [change.reason for change in controller.changes] == [
        "faster",
        "the GPU failed",
        "the GPU answers again",
    ]


def test_failures_of_the_cpu_lead_to_the_gpu() -> None:
    chance = random.Random(5)
    rows = [(-1.0 if chance.random() < 0.33 else 100.0, 150.0) for _ in range(120)]
    assert _drive(_controller(), [(abs(cpu), gpu) for cpu, gpu in rows[:5]] + rows)[-1] == "gpu"


def _settled(controller: Controller, size: float) -> str:
    """Where this size is served, apart from probes."""
    return str(controller._classes[size_class(size)].backend)


def test_each_size_goes_where_it_is_faster() -> None:
    controller = _controller()
    now_s = 0.0
    for number in range(200):
        small = number % 2 == 0
        size, row = (100.0, (10.0, 80.0)) if small else (1e6, (4000.0, 200.0))
        _drive(controller, [row], size=size)
        now_s += 1.0
    assert _settled(controller, 100.0) == "cpu"
    assert _settled(controller, 1e6) == "gpu"


def test_a_size_that_was_never_seen_follows_its_neighbours() -> None:
    controller = _controller()
    for power in range(3, 9):
        _drive(controller, [(2.0 * 4.0**power, 3000.0)] * 20, size=4.0**power)
    assert _settled(controller, 4.0**8) == "gpu"
    assert controller.route(0.0, 4.0**10).backend == "gpu"
    assert controller.route(0.0, 4.0**2).backend == "cpu"


def test_a_class_that_is_new_follows_a_line_that_drifted_lately() -> None:
    controller, chance = _controller(), random.Random(4)
    for power in range(4, 9):
        for _ in range(12):
            cpu = 2.0 * 4.0**power * chance.uniform(0.95, 1.05)
            _drive(controller, [(cpu, 3000.0)], size=4.0**power)
    for _ in range(12):
        _drive(controller, [(2.0 * 4.0**8 * 3.0, 3000.0)], size=4.0**8)
    assert controller.route(0.0, 4.0**9).backend == "gpu"


def test_failures_are_no_news_of_times() -> None:
    chance = random.Random(6)
    rows = [(-1.0 if chance.random() < 0.3 else 500.0, 650.0) for _ in range(600)]
    controller = _controller()
    served = _drive(controller, [(500.0, 650.0)] * 4 + rows)
    assert served[-1] == "gpu"
    assert len(controller.changes) <= 3


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (Conditions(gpu_c=90.0), "heat"),
        (Conditions(throttled=True), "throttled"),
        (Conditions(battery_share=0.1), "battery"),
        (Conditions(battery_share=0.4, eclipse_in_s=60.0), "eclipse"),
    ],
)
def test_heat_battery_and_eclipse_take_the_gpu_away_for_as_long_as_they_last(
    now: Conditions, reason: str
) -> None:
    controller = _controller()
    _drive(controller, [(500.0, 50.0)] * 30)
    assert controller.conditions(now) == reason
    route = controller.route(100.0)
    assert (route.backend, route.probe, route.why) == ("cpu", None, reason)
    assert not controller.wants_gpu
    assert controller.conditions(Conditions(gpu_c=50.0, battery_share=0.9, eclipse_in_s=9000.0)) == ""
    assert controller.route(101.0).backend == "gpu"


def test_a_veto_is_lifted_later_than_it_is_laid() -> None:
    controller = _controller()
    assert controller.conditions(Conditions(gpu_c=85.0)) == "heat"
    assert controller.conditions(Conditions(gpu_c=80.0)) == "heat"
    assert controller.conditions(Conditions(gpu_c=77.0)) == ""
    assert controller.conditions(Conditions(battery_share=0.2)) == "battery"
    assert controller.conditions(Conditions(battery_share=0.3)) == "battery"
    assert controller.conditions(Conditions()) == ""


def test_where_both_keep_the_limit_the_cheaper_serves() -> None:
    goal = Goal(slo_ms=1000.0, cheapest=True, cpu_usd_s=1e-5, gpu_usd_s=1e-3)
    controller = _controller("gpu_preferred", goal)
    assert _drive(controller, [(200.0, 100.0)] * 300)[-1] == "cpu"
    assert controller.changes[-1].reason == "cost"


def test_a_request_that_would_cost_too_much_stays_on_the_cpu() -> None:
    goal = Goal(cpu_usd_s=1e-5, gpu_usd_s=1e-2, usd_max=1e-4)
    assert set(_drive(_controller(goal=goal), [(200.0, 100.0)] * 120)) == {"cpu"}
    dear = Goal(cpu_usd_s=1e-2, gpu_usd_s=1e-3, usd_max=1e-4)
    assert _drive(_controller(goal=dear), [(100.0, 90.0)] * 120)[-1] == "gpu"


_DRAWS = Energy(core_w=10.0, gpu_w=200.0, usd_per_kwh=0.12)


def test_a_second_costs_its_energy_too() -> None:
    goal = Goal(cpu_usd_s=1e-6, gpu_usd_s=2e-6, energy=_DRAWS)
    assert goal.usd_s("cpu") == pytest.approx(1e-6 + 10.0 * 0.12 / 3.6e6)
    assert goal.usd_s("gpu") == pytest.approx(2e-6 + 200.0 * 0.12 / 3.6e6)
    assert Goal(cpu_usd_s=1e-6).usd_s("cpu") == 1e-6
    four = Goal(cpu_usd_s=1e-6, gpu_usd_s=2e-6, energy=_DRAWS._replace(cores=4.0))
    assert four.usd_s("cpu") == pytest.approx(4.0 * goal.usd_s("cpu"))
    assert four.usd_s("gpu") == goal.usd_s("gpu")


def test_what_energy_costs_decides_between_backends_that_keep_the_limit() -> None:
    """The GPU is 3 times as fast and its second 1.5 times as dear; but for its energy, it is cheaper."""
    goal = Goal(slo_ms=1000.0, cheapest=True, cpu_usd_s=1e-5, gpu_usd_s=1.5e-5)
    assert _drive(_controller(goal=goal), [(90.0, 30.0)] * 200)[-1] == "gpu"
    controller = _controller(goal=goal)
    controller.energy_is(_DRAWS._replace(usd_per_kwh=20.0))
    served = _drive(controller, [(90.0, 30.0)] * 400)
    assert served[-1] == "cpu"
    controller.energy_is(_DRAWS._replace(usd_per_kwh=0.0))  # out of the eclipse
    assert _drive(controller, [(90.0, 30.0)] * 400)[-1] == "gpu"


@pytest.mark.parametrize("slo_ms", [0.0, 1000.0])
@pytest.mark.parametrize(
    ("frugal", "gpu_w", "serves"),
    [("energy", 200.0, "cpu"), ("energy", 20.0, "gpu"), ("cost", 200.0, "gpu"), ("", 200.0, "gpu")],
)
def test_who_saves_joules_gets_the_backend_that_takes_fewer(
    frugal: Frugal, gpu_w: float, serves: Backend, slo_ms: float
) -> None:
    goal = Goal(slo_ms=slo_ms, frugal=frugal, cpu_usd_s=1e-5, gpu_usd_s=1.5e-5)
    for mode in ("cpu_preferred", "gpu_preferred"):
        controller = _controller(mode, goal)
        controller.energy_is(_DRAWS._replace(gpu_w=gpu_w))
        served = _drive(controller, [(90.0, 30.0)] * 400)
        assert served[-1] == serves
        assert len(controller.changes) <= 2
        if controller.changes and serves == "cpu":
            assert controller.changes[-1].reason == "energy"


def test_a_limit_comes_before_joules() -> None:
    controller = _controller("cpu_preferred", Goal(slo_ms=60.0, frugal="energy"))
    controller.energy_is(_DRAWS)
    assert _drive(controller, [(90.0, 30.0)] * 200)[-1] == "gpu"


def test_probes_that_answer_find_the_gpu_too() -> None:
    assert _drive(_controller(probe="serve"), [(1570.0, 164.0)] * 40)[-1] == "gpu"
    slow = _drive(_controller(probe="serve"), [(100.0, 9000.0)] * 400)
    assert slow.count("gpu") <= 4


def test_after_a_long_pause_the_other_is_looked_at_again() -> None:
    controller = _controller()
    _drive(controller, [(100.0, 400.0)] * 60)
    assert controller.route(1e6).probe is not None


_ROW = st.tuples(
    st.floats(0.001, 1e6) | st.just(-1.0),
    st.floats(0.001, 1e6) | st.just(-1.0),
    st.sampled_from([0.0, 7.0, 1e6]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_ROW, max_size=120), st.sampled_from(["cpu_preferred", "gpu_preferred"]), st.booleans())
def test_any_history_is_taken(rows: list[tuple[float, float, float]], mode: Mode, serve: bool) -> None:
    controller = _controller(mode, probe="serve" if serve else "shadow")
    for number, (cpu, gpu, size) in enumerate(rows):
        ready = number % 7 != 3
        controller.gpu_is(ready=ready)
        if ready:
            _drive(controller, [(cpu, gpu)], size=size)
        else:
            route = controller.route(float(number), size)
            assert (route.backend, route.probe) == ("cpu", None)
    assert len(controller.changes) <= 64
