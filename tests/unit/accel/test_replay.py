"""Replays: what the files may hold, whose row a request takes, the oracle, and how far from it ours stays."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from edgeagent.accel.controller import Change, Controller
from edgeagent.accel.errors import TraceRefused
from edgeagent.accel.figures import LEARNING, Figures, figures
from edgeagent.accel.oracle import failure_ms, oracle_choices
from edgeagent.accel.probing import ProbePlan
from edgeagent.accel.replay import Fixed, Ours, ReplayOptions, play
from edgeagent.accel.segments import drift_segments
from edgeagent.accel.settings import Backend, ControllerSettings, Probe
from edgeagent.accel.traces import Traces, read_traces
from tests.unit.accel.family import KINDS, family

HEADER = "timestamp,response_time_ms\n"


def _traces(cpu: list[float], gpu: list[float]) -> Traces:
    return Traces(tuple(cpu), tuple(gpu), (0.0,) * len(cpu))


def _ours(traces: Traces, options: ReplayOptions, probe: Probe = "shadow") -> Figures:
    controller = Controller(ControllerSettings(probe=probe), random.Random(options.seed))
    oracle = play(traces, Fixed(oracle_choices(traces, options.slo_ms), reruns=True), ReplayOptions())
    played = play(traces, Ours(controller), options)
    return figures(played, oracle, options, failure_ms(traces, options.slo_ms))


def test_files_with_and_without_sizes_are_read() -> None:
    both = read_traces("\ufeff" + HEADER + "0,12.5\n1,-1\n", HEADER + "0,3\r\n1,4\r\n")
    assert both == Traces((12.5, -1.0), (3.0, 4.0), (0.0, 0.0))
    assert read_traces(HEADER + "\r\n0,1\r\n\r\n\r\n0,2", HEADER + "5,3\n\n9,4\n\n").cpu_ms == (1.0, 2.0)
    sized = read_traces("size, timestamp, response_time_ms\n64,0,1\n", HEADER + "0,2\n")
    assert sized.sizes == (64.0,)


def test_what_programs_add_to_their_files_is_taken() -> None:
    by_hand = 'Note,Timestamp , Response_Time_MS,,\n"a, b","0", 7 ,,\n   \n,,,,\nc,1,8,x,y\n'
    found = read_traces(by_hand, HEADER + "0,1\n1,2\n")
    assert (found.cpu_ms, found.remarks) == ((7.0, 8.0), ())


def test_rows_are_taken_in_their_order_whatever_their_timestamps() -> None:
    found = read_traces(HEADER + "0,1\n2,1\n1,5\n0,6\n", HEADER + "3,1\n" * 4)
    assert found.cpu_ms == (1.0, 1.0, 5.0, 6.0)
    (remark,) = found.remarks
    assert remark.startswith("cpu.csv, line 4: timestamp 1.0 after 2.0")


@pytest.mark.parametrize(
    ("cpu", "gpu", "said"),
    [
        (HEADER + "0,1\n1,1\n", HEADER + "0,1\n", "2 rows and gpu.csv 1"),
        ("", HEADER, "cpu.csv has no column timestamp"),
        ("timestamp,ms\n0,1\n", HEADER, "no column response_time_ms"),
        (HEADER, HEADER, "no rows"),
        (HEADER + "0,x\n", HEADER, "line 2: 'x' is not a number"),
        (HEADER + "0,nan\n", HEADER, "cpu.csv, line 2: 'nan' is not a number"),
        (HEADER + "0,inf\n", HEADER, "not a number"),
        (HEADER + "-inf,1\n", HEADER, "not a number"),
        (HEADER + "0,1\n", HEADER + "\r\n0,1e400\r\n", "gpu.csv, line 3: '1e400' is not a number"),
        (HEADER + "0,1e13\n", HEADER, "a time of"),
        (HEADER + "0\n", HEADER, "line 2: no response_time_ms"),
        ("timestamp,response_time_ms,size\n0,1\n", HEADER, "line 2: no size"),
        ("timestamp,timestamp,response_time_ms\n0,0,1\n", HEADER, "'timestamp' twice"),
        ("timestamp,response_time_ms,Size,size\n0,1,2,3\n", HEADER, "'size' twice"),
        (HEADER + "0,-2\n", HEADER, "a time of -2.0 ms"),
        (HEADER + "0,1,2\n", HEADER, "more values than columns"),
        ("timestamp,response_time_ms,size\n0,1,-3\n", HEADER, "a size of -3.0"),
        (HEADER + '0,"1\n' + "1" * 200_000, HEADER, "not CSV"),
        ("timestamp,response_time_ms,size\n0,1,3\n", "timestamp,response_time_ms,size\n0,1,4\n", "differ"),
    ],
)
def test_files_that_cannot_be_replayed(cpu: str, gpu: str, said: str) -> None:
    with pytest.raises(TraceRefused, match=said):
        read_traces(cpu, gpu)


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.accel.traces.ROWS_MAX", 2)
    with pytest.raises(TraceRefused, match="more than 2 rows"):
        read_traces(HEADER + "0,1\n" * 3, HEADER)


def test_request_k_takes_row_k_of_its_backend() -> None:
    traces = _traces([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
    backends: list[Backend] = ["cpu", "gpu", "cpu"]
    played = play(traces, Fixed(backends, reruns=False), ReplayOptions(think_s=1.0))
    assert [one.ms for one in played.served] == [1.0, 20.0, 3.0]
    assert [one.at_s for one in played.served] == pytest.approx([0.0, 1.001, 2.021])
    assert played.ends_s == pytest.approx(3.024)


def test_a_cold_gpu_makes_who_insists_on_it_wait() -> None:
    traces = _traces([1.0] * 2, [10.0] * 2)
    played = play(traces, Fixed(["gpu"] * 2, reruns=False), ReplayOptions(gpu_cold_s=5.0))
    assert [one.ms for one in played.served] == pytest.approx([5010.0, 10.0])
    assert [one.gpu_s for one in played.served] == [0.01, 0.01]


def test_a_failure_is_asked_again_where_that_is_allowed() -> None:
    traces = _traces([5.0, -1.0], [-1.0, -1.0])
    alone = play(traces, Fixed(["gpu", "cpu"], reruns=False), ReplayOptions())
    assert [one.ms for one in alone.served] == [-1.0, -1.0]
    again = play(traces, Fixed(["gpu", "cpu"], reruns=True), ReplayOptions())
    assert [one.ms for one in again.served] == [5.0, -1.0]


def test_an_oracle_that_does_not_wait_has_the_cpu_until_the_gpu_is_ready() -> None:
    traces = _traces([1000.0] * 60, [100.0] * 60)
    options = ReplayOptions(gpu_cold_s=45.0)
    ready = play(traces, Fixed(["gpu"] * 60, reruns=True, waits=False), options)
    assert [one.backend for one in ready.served] == ["cpu"] * 45 + ["gpu"] * 15
    at_once = play(traces, Fixed(["gpu"] * 60, reruns=True), ReplayOptions())
    found = figures(ready, at_once, options, 1000.0, ready)
    assert found.regret_pct == pytest.approx(450.0)
    assert found.regret_ready_pct == 0.0
    assert figures(ready, at_once, options, 1000.0).regret_ready_pct == pytest.approx(450.0)


class _Beside:
    """Serves on the GPU, with a probe of the CPU beside each request; what it is told is kept."""

    reruns = True

    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []

    def wants_gpu(self, now_s: float) -> bool:
        return now_s >= 0.0

    def choose(self, now_s: float, size: float, *, gpu_ready: bool) -> tuple[Backend, ProbePlan | None]:
        return "gpu", ProbePlan("cpu", 1000.0, scout=False)

    def seen(self, now_s: float, size: float, backend: Backend, ms: float) -> Sequence[Change]:
        return ()

    def probed(
        self, now_s: float, size: float, plan: ProbePlan, served_ms: float, ms: float
    ) -> Sequence[Change]:
        self.told.append((served_ms, ms))
        return ()


def test_beside_a_request_that_failed_there_is_no_probe() -> None:
    chooser = _Beside()
    played = play(_traces([5.0, 6.0], [2.0, -1.0]), chooser, ReplayOptions())
    assert chooser.told == [(2.0, 5.0)]
    assert [(one.ms, one.cpu_s, one.gpu_s) for one in played.served] == [
        (2.0, 0.005, 0.002),
        (6.0, 0.006, 0.0),
    ]


def test_figures_keep_the_learning_phase_apart() -> None:
    traces = _traces([100.0] * 50, [50.0] * 30 + [200.0] * 20)
    backends: list[Backend] = ["gpu"] * 50
    options = ReplayOptions(slo_ms=150.0, cpu_usd_s=1.0, gpu_usd_s=2.0)
    oracle = play(traces, Fixed(oracle_choices(traces, 150.0), reruns=True), options)
    found = figures(play(traces, Fixed(backends, reruns=False), options), oracle, options, 200.0)
    assert (found.requests, found.learning.requests, found.whole.requests) == (20, LEARNING, 50)
    assert (found.mean_ms, found.p50_ms, found.p95_ms) == (200.0, 200.0, 200.0)
    assert (found.slo_violations, found.learning.slo_violations) == (20, 0)
    assert found.gpu_seconds == pytest.approx(4.0)
    assert found.cost_usd == pytest.approx(8.0)
    assert (found.oracle_mean_ms, found.regret_pct) == (100.0, 100.0)


def test_figures_of_nothing_but_learning_and_of_nothing_but_failures() -> None:
    traces = _traces([-1.0] * 5, [-1.0] * 5)
    options = ReplayOptions()
    played = play(traces, Fixed(["cpu"] * 5, reruns=True), options)
    found = figures(played, played, options, failure_ms(traces, options.slo_ms))
    assert (found.requests, found.failures, found.slo_violations) == (5, 5, 5)
    assert (found.mean_ms, found.p95_ms, found.oracle_mean_ms, found.regret_pct) == (None, None, None, 0.0)


def test_the_oracle_does_not_learn_from_the_learning_phase() -> None:
    traces = _traces([5000.0] * 5 + [100.0] * 75, [110.0] * 80)
    assert oracle_choices(traces, 1000.0) == ["gpu"] * 80
    assert oracle_choices(traces, 1000.0, LEARNING) == ["cpu"] * 80
    assert oracle_choices(_traces([2.0] * 9, [1.0] * 9), 1000.0, LEARNING) == ["gpu"] * 9


def test_segments_are_where_the_times_change() -> None:
    chance = random.Random(4)
    cpu = [chance.uniform(90.0, 110.0) * (1 if number < 120 else 3) for number in range(300)]
    gpu = [chance.uniform(190.0, 210.0) for _ in range(300)]
    segments = drift_segments(_traces(cpu, gpu))
    assert len(segments) == 2
    assert abs(segments[0][1] - 120) <= 2
    assert oracle_choices(_traces(cpu, gpu), 0.0)[119:122].count("gpu") in {1, 2}
    assert drift_segments(_traces([1.0], [2.0])) == [(0, 1)]
    steady = [chance.gauss(100.0, 10.0) for _ in range(300)]
    assert len(drift_segments(_traces(steady, gpu))) == 1


@pytest.mark.parametrize("probe", ["shadow", "serve"])
def test_a_slow_start_of_the_gpu_is_no_reason_to_demote(probe: Probe) -> None:
    chance = random.Random(6)
    traces = _traces(
        [chance.uniform(900.0, 1100.0) for _ in range(200)], [chance.uniform(90.0, 110.0) for _ in range(200)]
    )
    options = ReplayOptions(think_s=2.0, gpu_cold_s=180.0)
    played = play(traces, Ours(Controller(ControllerSettings(probe=probe), random.Random(1))), options)
    assert all(one.backend == "cpu" for one in played.served if one.at_s < 180.0)
    assert [change.backend for _, change in played.changes] == ["gpu"]


def test_rare_requests_are_promoted_within_the_learning_phase() -> None:
    traces = _traces([1600.0] * 60, [170.0] * 60)
    found = _ours(traces, ReplayOptions(think_s=13.4, gpu_cold_s=10.0))
    assert found.regret_pct == 0.0
    assert found.slo_violations == 0


def test_a_useless_gpu_gets_at_most_a_percent_of_the_time() -> None:
    shares = []
    for seed in range(12):
        chance = random.Random(seed)
        cpu = [2080.0 * chance.gauss(1.0, 0.02) for _ in range(500)]
        gpu = [2080.0 * chance.gauss(1.0, 0.02) for _ in range(500)]
        found = _ours(_traces(cpu, gpu), ReplayOptions(gpu_cold_s=5.0))
        shares.append(found.gpu_share_pct)
        assert found.switches <= 2
    assert max(shares) <= 1.0


@pytest.mark.slow
def test_regret_over_a_family_of_traces() -> None:
    """Of 17 kinds, twelve seeds each: 95 of 100 stay within 10 % of the oracle; those of one regime switch little."""
    regrets, switches = [], []
    for kind in KINDS:
        for seed in range(100, 112):
            found = _ours(family(kind, seed, 400), ReplayOptions(slo_ms=0.0))
            regrets.append(found.regret_pct)
            if kind in {"steady", "useless", "hidden-sizes"}:
                switches.append(found.switches)
    assert sorted(regrets)[int(0.95 * len(regrets))] <= 10.0
    assert sorted(regrets)[len(regrets) // 2] <= 1.0
    assert max(switches) <= 4
    assert sorted(switches)[int(0.9 * len(switches))] <= 2
