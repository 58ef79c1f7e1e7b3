"""The controller's parts: drift, windows, evidence, breaker, sizes, settings."""

from __future__ import annotations

import math
import random

import pytest

from edgeagent.accel.attempts import Attempts
from edgeagent.accel.breaker import Breaker
from edgeagent.accel.drift import shifted
from edgeagent.accel.errors import SettingsRefused
from edgeagent.accel.evidence import Estimate, Evidence
from edgeagent.accel.goal import Goal, wanted
from edgeagent.accel.probing import ProbePlan, Schedule
from edgeagent.accel.purse import Purse
from edgeagent.accel.settings import Backend, ControllerSettings, other_of
from edgeagent.accel.size_classes import neighbours_prior, size_class
from edgeagent.accel.window import Window, moments


@pytest.mark.parametrize(
    ("logs", "span"),
    [
        ([0.0] * 30, 0),
        ([0.0] * 7, 0),
        ([0.0] * 20 + [1.0] * 3, 3),
        ([0.0] * 20 + [1.0] * 2, 0),
        ([0.0] * 20 + [0.4] * 6, 6),
        ([0.0] * 20 + [0.2] * 12, 12),
        ([0.0, 2.0] * 20, 0),
        ([0.0] * 20 + [1.0, -1.0, 1.0], 0),
    ],
)
def test_shifts(logs: list[float], span: int) -> None:
    assert shifted(logs) == span


def test_noise_is_no_drift() -> None:
    chance = random.Random(1)
    seen = 0
    for _ in range(200):
        logs = [chance.gauss(0.0, 0.3) for _ in range(60)]
        seen += shifted(logs) > 0
    assert seen <= 4


def test_a_second_mode_comes_in_runs_and_is_no_drift() -> None:
    chance, seen, kept = random.Random(5), 0, 0
    logs: list[float] = []
    for number in range(4000):
        logs = [*logs[-95:], chance.gauss(0.0, 0.2) + (1.9 if chance.random() < 0.2 else 0.0)]
        if number % 4 == 0 and (kept := shifted(logs)):
            logs, seen = logs[-kept:], seen + 1
    assert seen <= 4000 / 250


def test_outliers_are_no_drift_where_they_are_usual() -> None:
    chance = random.Random(2)
    usual = [chance.gauss(0.0, 0.1) + (0.0 if number % 5 else 2.0) for number in range(80)]
    assert shifted([*usual, 2.0, 2.0]) == 0
    rare = [chance.gauss(0.0, 0.1) for _ in range(80)]
    assert shifted([*rare, 2.0, 2.0]) == 2


def test_a_tail_counts_once_there_are_enough_samples() -> None:
    window = Window()
    for number, ms in enumerate([100.0] + [1.0] * 19):
        assert number == 0 or window.moments().tail == 0.0 or number > 7
        window.add(number, ms)
    tailed = window.moments()
    plain = moments(window.logs())
    assert (tailed.mean_log, tailed.variance_log) == pytest.approx((plain.mean_log, plain.variance_log))
    geometric = 100.0 ** (1 / 20)
    assert tailed.tail == pytest.approx(math.log((19 + 100) / 20 / geometric))


def test_a_window_is_bounded() -> None:
    window = Window()
    assert window.mean_ms() == 0.0
    for number in range(500):
        window.add(number, 0.0)
    assert len(window) == 96
    assert window.mean_ms() == pytest.approx(1e-3)
    window.forget_before(490, least=20)
    assert len(window.logs()) == 20
    window.forget_before(490, least=0)
    assert len(window) == 10


def test_pairs_see_through_inputs_of_any_size() -> None:
    evidence, chance = Evidence(), random.Random(2)
    for _ in range(8):
        evidence.number += 1
        work = math.exp(chance.gauss(0.0, 2.0))
        evidence.add("cpu", 100.0 * work)
        evidence.add("gpu", 50.0 * work)
        evidence.add_pair(100.0 * work, 50.0 * work)
    found = evidence.estimate()
    assert found.gain_of("gpu") == pytest.approx(math.log(2.0), abs=0.35)
    assert found.gain_of("gpu") > 0.0


def test_a_backend_that_moves_slowly_makes_old_pairs_doubtful() -> None:
    """The inputs may grow for both, or one backend alone becomes slower: at least half of it is believed."""
    evidence, chance = Evidence(), random.Random(3)
    for number in range(400):
        evidence.number = number
        evidence.add("cpu", 100.0 * max(number / 200.0, 1.0) * chance.uniform(0.8, 1.25))
        if number in (100, 150):
            evidence.add("gpu", 150.0)
            evidence.add_pair(100.0, 150.0)
        if number == 200:
            before = evidence.estimate()
    now = evidence.estimate()
    assert before.gain_of("cpu") == pytest.approx(math.log(1.5), abs=0.05)
    assert before.gain_of("cpu") - math.log(2.0) < now.gain_of("cpu") < before.gain_of("cpu") - 0.3
    assert now.error > before.error


def test_what_tails_add_outlives_a_drift() -> None:
    """Every fifth call of the CPU is dreadful: few calls after a drift, none of them such a one, do not undo that."""
    evidence, chance = Evidence(), random.Random(4)
    for number in range(96):
        evidence.number = number
        evidence.add("cpu", (5000.0 if number % 5 == 0 else 50.0) * chance.uniform(0.9, 1.1))
        evidence.add("gpu", 130.0 * chance.uniform(0.9, 1.1))
    assert evidence.estimate().gain_of("gpu") > 1.5
    evidence.forget("gpu", 2)
    for _ in range(3):
        evidence.number += 1
        evidence.add("cpu", 50.0)
        evidence.add("gpu", 130.0)
    assert evidence.estimate().gain_of("gpu") > 0.5


def test_failures_weigh_like_ten_times() -> None:
    evidence = Evidence()
    for number in range(24):
        evidence.number = number
        evidence.add("cpu", 100.0)
        evidence.add("gpu", 50.0)
        evidence.add_pair(100.0, 50.0)
    for _ in range(6):
        evidence.add_failure("gpu")
    assert evidence.estimate().gain_of("cpu") > 0.0
    evidence.forgive("gpu")
    assert evidence.estimate().gain_of("gpu") > 0.6


def test_of_backends_alike_the_one_that_keeps_the_limit_serves() -> None:
    evidence = Evidence()
    for number in range(20):
        evidence.add("cpu", 60.0 if number % 2 else 160.0)
        evidence.add("gpu", 112.0)
    alike = Estimate(0.02, 0.05, 20)
    assert wanted(Goal(slo_ms=150.0), evidence, "gpu", alike, gain_min=0.08) == "slo"
    assert wanted(Goal(slo_ms=200.0), evidence, "gpu", alike, gain_min=0.08) == ""
    assert wanted(Goal(), evidence, "cpu", alike, gain_min=0.08) == "the GPU brings nothing"
    assert wanted(Goal(slo_ms=150.0), Evidence(), "gpu", alike, gain_min=0.08) == ""


def test_a_breaker_waits_longer_each_time() -> None:
    breaker = Breaker()
    assert not breaker.failed(0.0, 0.1)
    assert breaker.failed(0.0, 0.1)
    waits, now_s = [breaker.try_at_s], 0.0
    for _ in range(80):
        now_s = breaker.try_at_s
        assert breaker.may_try(now_s)
        assert not breaker.may_try(now_s - 0.01)
        assert not breaker.failed(now_s, 0.1)
        waits.append(breaker.try_at_s - now_s)
    assert waits[:3] == pytest.approx([0.1, 0.115, 0.13225])
    assert waits[-1] <= 600.0
    assert breaker.answered()
    assert not breaker.answered()
    assert breaker.closed


def test_a_gpu_that_fails_now_and_then_is_no_dead_one() -> None:
    breaker, chance, opened = Breaker(), random.Random(1), 0
    for _ in range(1000):
        if chance.random() < 0.2:
            opened += breaker.failed(0.0, 0.1)
        else:
            breaker.answered()
    assert opened <= 4
    dead = [breaker.failed(0.0, 0.1) for _ in range(8)]
    assert dead.count(True) == 1


def test_failures_are_forgotten_when_they_are_over_and_the_good_times_when_they_begin() -> None:
    attempts = Attempts()
    for number in range(60):
        attempts.add(number, failed=False)
    assert attempts.share(0) == (0.0, 0.0)
    for number in range(60, 64):
        attempts.add(number, failed=True)
    assert attempts.share(0)[0] == pytest.approx(0.4)
    for number in range(64, 80):
        attempts.add(number, failed=False)
    assert attempts.share(0)[0] == 0.0
    attempts.add(80, failed=True)
    assert attempts.share(81) == (0.0, 0.0)
    attempts.clear()
    assert attempts.share(0) == (0.0, 0.0)


def test_a_share_of_failures_is_kept_as_long_as_it_lasts() -> None:
    attempts, chance = Attempts(), random.Random(2)
    shares = []
    for number in range(600):
        attempts.add(number, failed=chance.random() < 0.3)
        shares.append(attempts.share(0)[0])
    assert 0.2 < sum(shares[100:]) / 500 < 0.35
    late = shares[300:]
    assert max(late) - min(late) < 0.2


@pytest.mark.parametrize(
    ("size", "which"), [(0, 0), (1, 1), (3, 1), (4, 2), (15, 2), (16, 3), (-5, 0), (1e300, 32)]
)
def test_size_classes(size: float, which: int) -> None:
    assert size_class(size) == which


def test_neighbours() -> None:
    assert neighbours_prior(3, {}) is None
    ratio, error = neighbours_prior(6, {5: (-1.0, 0.01)}) or (0.0, 0.0)
    assert -1.3 < ratio < -0.9
    assert error > 0.6  # little is known of how it grows
    line = {one: (4.0 - one, 0.01) for one in range(1, 8)}
    assert (neighbours_prior(9, line) or (0.0, 0.0))[0] < -3.5
    between = neighbours_prior(4, dict.fromkeys(range(1, 9), (0.3, 0.01))) or (0.0, 0.0)
    assert between[0] == pytest.approx(0.3, abs=0.1)
    assert between[1] < error / 2.0


def test_a_purse_earns_by_what_is_served_and_saved_and_may_owe() -> None:
    purse = Purse()
    for _ in range(100):
        purse.served(100.0, 0.01)
    assert purse.pays(100.0)
    assert not purse.pays(101.0)
    purse.take(150.0)
    assert purse.ms == pytest.approx(-50.0)
    assert not purse.pays(0.0)
    for _ in range(1000):
        purse.saved(900.0, 100.0)
    assert purse.pays(2990.0)
    assert not purse.pays(3100.0)


def test_probes_are_cancelled() -> None:
    assert ProbePlan("gpu", 10.0, scout=True).limit_ms(100.0) == 10.0
    assert ProbePlan("gpu", 10.0, scout=False).limit_ms(100.0) == 125.0
    assert other_of("cpu") == "gpu"


def _looks(
    known: Estimate, count: int, *, learning: bool = False, serving: Backend = "cpu"
) -> list[ProbePlan]:
    """The probes beside so many requests of one that takes 100 ms, each paid as planned."""
    settings, purse = ControllerSettings(probes_first=1), Purse()
    schedule, chance, plans = Schedule(settings, purse), random.Random(3), []
    for number in range(count):
        if not learning and serving == "cpu":
            purse.served(100.0, settings.gpu_share)
        plan = schedule.due(serving, 100.0, known, chance, number if learning else 31 + number)
        if plan is not None:
            times = math.exp(known.log_times if plan.backend == "gpu" else -known.log_times)
            schedule.paid(plan, min(times, plan.limit_ms(100.0) / 100.0), 100.0)
            plans.append(plan)
    return plans


@pytest.mark.parametrize("log_ratio", [0.0, 0.1, 0.5, 3.0])
def test_looks_at_a_gpu_that_brings_nothing_take_less_than_a_percent(log_ratio: float) -> None:
    known = Estimate(log_ratio, 0.02, 12, spread=0.05, log_times=log_ratio)
    for count in (120, 500, 3000):
        plans = _looks(known, count)
        taken = sum(min(math.exp(log_ratio), plan.limit_ms(100.0) / 100.0) for plan in plans)
        assert taken <= 0.01 * count + 0.1
    assert {plan.scout for plan in _looks(known, 3000)} >= {True}


def test_what_is_worth_more_may_owe_more() -> None:
    chance = random.Random(4)
    hopeful, unclear = (Estimate(one, 0.3, 4, spread=0.3, log_times=one) for one in (-0.5, 0.4))
    looked = {}
    for name, known in (("hopeful", hopeful), ("unclear", unclear)):
        purse = Purse()
        schedule = Schedule(ControllerSettings(probes_first=1), purse)
        looked[name] = 0
        for number in range(31, 40):
            looked[name] += schedule.due("cpu", 100.0, known, chance, number) is not None
        assert purse.ms == pytest.approx(-100.0 * math.exp(known.log_times) * looked[name])
    assert looked["hopeful"] > looked["unclear"] == 0


def test_pairs_that_all_seem_strange_are_how_pairs_are() -> None:
    evidence = Evidence()
    for number in range(8):
        evidence.number += 1
        evidence.add_pair(100.0, 300.0 if number % 2 else 30.0)
    assert evidence.pair_spread(but=8) == evidence.pair_spread(but=4) > 0.9


def test_a_cap_that_chance_decides_is_none() -> None:
    known = Estimate(0.05, 0.05, 12, spread=0.3, log_times=0.05)
    assert all(plan.cap_ms < 100.0 * math.exp(0.05 - 0.6) for plan in _looks(known, 3000) if plan.scout)


def test_what_is_not_known_is_looked_at_while_it_may_be_worth_it() -> None:
    unsure = Estimate(0.0, 0.4, 2, spread=0.3, log_times=0.0)
    assert len(_looks(unsure, 20, learning=True)) >= 15
    assert len([plan for plan in _looks(Estimate(2.0, 0.2, 2, log_times=2.0), 20) if not plan.scout]) == 0


def test_looks_at_the_cpu_are_many_and_short() -> None:
    plans = _looks(Estimate(-2.3, 0.05, 12, spread=0.05, log_times=-2.3), 200, serving="gpu")
    assert len(plans) >= 60
    assert sum(min(10.0, plan.limit_ms(100.0) / 100.0) for plan in plans) <= 0.36 * 200


@pytest.mark.parametrize(
    "wrong", [{"dwell": 0}, {"gpu_share": 1.0}, {"gain_min": -0.1}, {"confidence": -1.0}, {"classes_max": 0}]
)
def test_settings_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsRefused):
        ControllerSettings(**wrong)  # type: ignore[arg-type]
