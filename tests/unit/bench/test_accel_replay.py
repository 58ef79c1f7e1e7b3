"""``edgeagent bench accel``: replays of files, the synthetic traces, and Gaia's rules with their defects."""

from __future__ import annotations

import argparse
import io
import json
import random
from pathlib import Path

import pytest

from edgeagent.accel.replay import Play, ReplayOptions, Served, play
from edgeagent.accel.settings import Backend
from edgeagent.accel.traces import Traces
from edgeagent.bench import accel_replay
from edgeagent.bench.accel_contest import RIVALS, contest
from edgeagent.bench.accel_gaia import GaiaRules, bucketed_p95_ms
from edgeagent.bench.accel_promotion import promotion_cases, promotion_s
from edgeagent.bench.accel_traces import TRACES
from edgeagent.bench.command import BENCHMARKS, add_arguments, run
from edgeagent.bench.harness import Bench, Options, Progress, run_cases
from edgeagent.bench.report import Report

CONTRACT = {
    "mean_ms",
    "p50_ms",
    "p95_ms",
    "slo_violations",
    "switches",
    "gpu_seconds",
    "cost_usd",
    "regret_pct",
    "oracle_mean_ms",
}


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return run(parser.parse_args(["accel", *argv]))


def _write(folder: Path, cpu: list[float], gpu: list[float]) -> Path:
    for name, times in (("cpu.csv", cpu), ("gpu.csv", gpu)):
        rows = "".join(f"{number},{ms}\n" for number, ms in enumerate(times))
        (folder / name).write_text("timestamp,response_time_ms\n" + rows)
    return folder


def _gaia(cpu_ms: float, gpu_ms: float, count: int, options: ReplayOptions) -> Play:
    traces = Traces((cpu_ms,) * count, (gpu_ms,) * count, (0.0,) * count)
    return play(traces, GaiaRules(options), options)


def test_a_replay_prints_the_figures_of_the_contract(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = _write(tmp_path, [1570.0] * 200, [164.0] * 200), tmp_path / "out.json"
    argv = ["--replay", str(folder), "--json", "--out", str(out), "--slo-ms", "500", "--gpu-cold-s", "10"]
    assert _run(*argv, "--think-s", "1", "--cpu-usd-s", "1", "--gpu-usd-s", "2", "--seed", "7") == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text()) == document
    assert set(document) >= CONTRACT
    assert set(document["baselines"]) == set(RIVALS)
    assert all(set(one) >= CONTRACT for one in document["baselines"].values())
    assert document["params"]["slo_ms"] == 500.0
    assert (document["mean_ms"], document["oracle_mean_ms"], document["regret_pct"]) == (164.0, 164.0, 0.0)
    assert document["baselines"]["static-cpu"]["slo_violations"] == 170
    assert document["learning"]["requests"] == 30
    assert document["cost_usd"] == pytest.approx(2.0 * 170 * 0.164, rel=0.3)


def test_a_replay_is_the_same_each_time_and_a_table_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(3)
    _write(
        tmp_path, [chance.uniform(50, 150) for _ in range(90)], [chance.uniform(50, 150) for _ in range(90)]
    )
    for _ in range(2):
        assert _run("--replay", str(tmp_path), "--probe", "serve") == 0
    first, second = capsys.readouterr().out.split("who ")[1:]
    assert first == second
    assert "60 requests after 30 of learning" in first


def test_what_cannot_be_replayed_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, [1.0] * 3, [1.0] * 2)
    assert _run("--replay", str(tmp_path), "--json") == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["ok"] is False
    assert "3 rows and gpu.csv 2" in shown.err


@pytest.mark.parametrize("argv", [("--slo-ms", "-1"), ("--think-s", "nan"), ("--gpu-usd-s", "x")])
def test_an_option_out_of_its_range_is_wrong_usage(
    argv: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _run("--replay", str(tmp_path), *argv)
    assert ended.value.code == 2
    assert f"argument {argv[0]}: '{argv[1]}' is not a number from 0 up" in capsys.readouterr().err


@pytest.mark.parametrize(("out", "said"), [("no/out.json", "no such directory"), (".", "is a directory")])
def test_where_the_result_cannot_go_nothing_is_played(
    out: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, [1.0] * 3, [1.0] * 3)
    assert _run("--replay", str(tmp_path), "--json", "--out", str(tmp_path / out)) == 2
    shown = capsys.readouterr()
    assert said in json.loads(shown.out)["problem"]["detail"]
    assert said in shown.err


def test_who_answered_nothing_has_no_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, [100.0] * 60, [-1.0] * 60)
    assert _run("--replay", str(tmp_path), "--json") == 0
    dead = json.loads(capsys.readouterr().out)["baselines"]["static-gpu"]
    assert (dead["mean_ms"], dead["p95_ms"], dead["slo_violations"]) == (None, None, 30)
    assert _run("--replay", str(tmp_path)) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("static-gpu"))
    assert row.split()[3:6] == ["-", "-", "-"]


def test_odd_timestamps_are_remarked_upon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path, [100.0] * 3, [50.0] * 3)
    (tmp_path / "gpu.csv").write_text("timestamp,response_time_ms\n9,50\n1,50\n2,50\n")
    assert _run("--replay", str(tmp_path), "--json") == 0
    assert "gpu.csv, line 3: timestamp 1.0 after 9.0" in capsys.readouterr().err


def test_files_that_are_not_there_or_not_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("--replay", str(tmp_path)) == 1
    (tmp_path / "cpu.csv").write_bytes(b"\xff\xfe\x00")
    assert _run("--replay", str(tmp_path)) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("cannot be read") == 2


def test_files_that_are_too_large(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accel_replay, "_FILE_BYTES_MAX", 20)
    _write(tmp_path, [1.0] * 3, [1.0] * 3)
    assert _run("--replay", str(tmp_path)) == 1
    assert "cpu.csv has 45 bytes" in capsys.readouterr().err


def test_replays_go_with_accel_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(["hose", "--replay", str(tmp_path)])) == 2
    assert "--replay goes with accel" in capsys.readouterr().err


def test_the_cases_have_their_names() -> None:
    names = {case.name for case in BENCHMARKS["accel"]()}
    kinds = ("steady", "drifting-sizes", "rare-requests", "slow-gpu-start", "gpu-dies", "useless-gpu")
    assert {f"replay-{kind}-regret" for kind in kinds} <= names


def test_the_cases_play() -> None:
    report = Report(benchmark="accel", machine={}, date="", seed=1, full=False)
    chosen = [case for case in accel_replay.replay_cases() if "steady" in case.name]
    options = Options(budget_s=60.0)
    assert run_cases(chosen, Bench(options=options, progress=Progress(io.StringIO())), report)
    assert set(report.cases[0]["baselines"]) == set(RIVALS)
    assert report.cases[0]["ours"]["median"] <= 10.0
    assert set(report.cases[0]["latency_ratio"]) == set(RIVALS)
    assert report.cases[0]["latency_ratio"]["static-cpu"] == pytest.approx(1577.0 / 164.0, rel=0.1)


def test_promotion_is_timed_from_the_first_breach() -> None:
    def served(at_s: float, backend: Backend, ms: float) -> Served:
        return Served(at_s, backend, ms, 0.0, 0.0, probed=False)

    rows = [
        served(0.0, "cpu", 500.0),
        served(1.0, "cpu", 2000.0),
        served(3.0, "cpu", -1.0),
        served(3.0, "gpu", 3000.0),
    ]
    assert promotion_s(Play(rows, ends_s=8.0), 1000.0) == 5.0
    assert promotion_s(Play([*rows, served(6.0, "gpu", 500.0)], ends_s=8.0), 1000.0) == 3.5
    assert promotion_s(Play(rows[:1], ends_s=8.0), 1000.0) == 0.0


def test_ours_promotes_as_soon_as_the_gpu_is_there() -> None:
    report = Report(benchmark="accel", machine={}, date="", seed=1, full=False)
    options = Options(budget_s=60.0)
    assert run_cases(promotion_cases(), Bench(options=options, progress=Progress(io.StringIO())), report)
    busy, rare = report.cases
    assert 8.0 < busy["ours"]["median"] < 18.0  # the GPU takes 10 s to start
    assert rare["ours"]["median"] < 60.0
    assert busy["baselines"]["gaia-rules"]["median"] > 2.0 * busy["ours"]["median"]
    assert rare["baselines"]["gaia-rules"]["median"] > 1000.0


@pytest.mark.parametrize("kind", sorted(TRACES))
def test_the_goals_hold_on_the_synthetic_traces(kind: str) -> None:
    made = TRACES[kind](random.Random(11))
    ours = contest(made.traces, made.options)["ours"]
    assert ours.regret_pct <= 10.0
    assert ours.switches <= 2
    assert ours.failures == 0
    if kind == "useless-gpu":
        assert ours.gpu_share_pct <= 1.0


@pytest.mark.parametrize(
    ("times", "p95"),
    [([], 0.0), ([150.0] * 20, 195.0), ([1.0] * 10 + [9000.0] * 10, 9500.0), ([1e9], 500_000.0)],
)
def test_percentiles_of_a_histogram(times: list[float], p95: float) -> None:
    assert bucketed_p95_ms(times) == pytest.approx(p95)


def test_gaia_promotes_a_busy_slow_function_after_its_poll() -> None:
    played = _gaia(1570.0, 164.0, 300, ReplayOptions(gpu_cold_s=15.0))
    assert [change.reason for _, change in played.changes] == ["over the limit"]
    first = next(one for one in played.served if one.backend == "gpu")
    assert 40.0 < first.at_s < 50.0


def test_gaia_never_promotes_at_one_request_every_15_seconds() -> None:
    assert _gaia(1600.0, 170.0, 200, ReplayOptions(think_s=13.4)).changes == []


def test_gaia_demotes_a_gpu_that_is_still_starting() -> None:
    played = _gaia(4000.0, 200.0, 200, ReplayOptions(gpu_cold_s=180.0))
    assert [change.reason for _, change in played.changes][:2] == ["over the limit", "the GPU is not better"]
    assert all(one.backend == "cpu" for one in played.served if one.at_s < played.changes[1][1].at_s)


def test_gaia_promotes_and_demotes_a_young_function_in_turn() -> None:
    played = _gaia(3500.0, 164.0, 400, ReplayOptions(think_s=5.0))
    reasons = [change.reason for _, change in played.changes]
    assert reasons == ["over the limit", "seldom used", "over the limit"]
    (_, first), (_, second), (_, third) = played.changes
    assert 600.0 < second.at_s - first.at_s < 700.0
    assert third.at_s - second.at_s <= 120.0


def test_gaia_sleeps_through_a_long_silence() -> None:
    rules = GaiaRules(ReplayOptions())
    for second in range(1, 60):
        rules.seen(float(second), 0.0, "cpu", 3000.0 if second <= 30 else 100.0)
    assert rules.wants_gpu(60.0)
    late = [change for at_s in (1e9, 1e11) for change in rules.seen(at_s, 0.0, "gpu", 100.0)]
    assert [(change.backend, change.reason) for change in late] == [("cpu", "seldom used")]


def test_gaia_demotes_a_function_that_is_seldom_used_and_promotes_it_no_more() -> None:
    options = ReplayOptions(slo_ms=1000.0)
    traces = Traces((3000.0,) * 60 + (3000.0,) * 200, (100.0,) * 260, (0.0,) * 260)
    rules = GaiaRules(options)
    play(Traces(traces.cpu_ms[:60], traces.gpu_ms[:60], traces.sizes[:60]), rules, options)
    changes = [
        change for second in range(200, 9000, 100) for change in rules.seen(float(second), 0.0, "gpu", 100.0)
    ]
    assert [change.reason for change in changes] == ["seldom used"]


def test_gaia_pins_a_function_of_100_seconds_and_does_not_see_failures() -> None:
    options = ReplayOptions()
    rules = GaiaRules(options)
    for second in range(1, 400):
        assert rules.choose(float(second), 0.0, gpu_ready=True)[1] is None
        rules.seen(float(second), 0.0, "cpu", -1.0)
    assert not rules.wants_gpu(400.0)
    for second in range(400, 460):
        rules.seen(float(second), 0.0, "cpu", 150_000.0)
    assert rules.wants_gpu(460.0)
    assert [rules.seen(float(second), 0.0, "gpu", 190_000.0) for second in range(460, 900)] == [[]] * 440
