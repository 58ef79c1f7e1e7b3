"""The gossip benchmark: its cases, what its worlds measure, one quick run of each kind."""

from __future__ import annotations

import gc
import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from edgeagent.bench import gossip
from edgeagent.bench.gossip import cases
from edgeagent.bench.gossip_disturbed import occluded, starved
from edgeagent.bench.gossip_worlds import LAN, WorldFailed, converge, detect, load_delays, settled
from edgeagent.bench.harness import Bench, CaseSkipped, Options, Progress, Sampler, run_cases
from edgeagent.bench.report import Report
from edgeagent.gossip.commands import SetNeighbours
from edgeagent.gossip.presets import preset, without_lifeguard


def _run(pattern: str, rounds: int = 2) -> Report:
    report = Report(benchmark="gossip", machine={}, date="", seed=1, full=False)
    bench = Bench(options=Options(patterns=(pattern,)), progress=Progress(io.StringIO()))
    chosen = [replace(case, rounds=rounds) for case in cases()]
    assert run_cases(chosen, bench, report), report.skipped
    return report


def test_case_names() -> None:
    assert [case.name for case in cases()] == [
        "detect-10",
        "detect-100",
        "detect-1000",
        "converge-100",
        "converge-1000",
        "converge-5000",
        "false-deaths",
        "load-to-neighbours",
        "occlusion-24h",
        "simulated-seconds-per-second-1000",
        "simulated-seconds-per-second-1000-orbit",
        "bytes-per-second-100",
        "bytes-per-second-1000",
        "bytes-per-second-100-lan",
        "bytes-per-second-1000-lan",
        "walker-72x22",
        "detect-real-8",
        "detect-real-24",
        "detect-real-50",
    ]


def test_a_crash_is_noticed_in_small_and_in_warm_groups() -> None:
    for pattern in ("detect-10", "detect-100"):
        (case,) = _run(pattern).cases
        ours = case["ours"]
        assert 2.0 < ours["first_s"] <= ours["median"] <= ours["everybody_s"] < 20.0
        assert case["baselines"]["swim-without-lifeguard"]["median"] > 0


def test_a_record_is_soon_everywhere() -> None:
    (case,) = _run("converge-100").cases
    assert 0.2 < case["ours"]["half_s"] < case["ours"]["median"] < 5.0
    assert case["ours"]["bytes_per_node"] > 100


def test_one_seed_gives_one_figure() -> None:
    figures = [detect(settled("twice", 20, preset("lan"), LAN)) for _ in range(2)]
    assert figures[0] == figures[1]
    assert detect(settled("other", 20, preset("lan"), LAN)) != figures[0]


def test_the_starved_do_not_bury_the_others_with_lifeguard() -> None:
    lan = preset("lan")
    ours, _ = starved("s", 40, 8, 60.0, lan)
    theirs, more = starved("s", 40, 8, 60.0, without_lifeguard(lan))
    assert ours < theirs
    assert more["verdicts"] >= theirs > 5


def test_counts_are_compared_by_their_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gossip.STARVED, "nodes", 30)
    monkeypatch.setitem(gossip.STARVED, "starved", 6)
    monkeypatch.setitem(gossip.STARVED, "for_s", 40.0)
    (case,) = _run("false-deaths").cases
    total = case["total"]
    ours = max(1.0, total.pop("ours"))
    assert total.keys() == {"swim-without-lifeguard", "lifeguard-without-stalls"}
    assert case["ratio"] == {who: pytest.approx(theirs / ours, rel=1e-3) for who, theirs in total.items()}


def test_satellites_that_set_are_not_dead_and_those_that_crash_are() -> None:
    ours, more = occluded("o", 40, 1.0, planned=True)
    assert ours == 0.0
    assert more["occlusions"] > 500
    assert more["returns"] > 100
    assert 0.0 < more["crash_found_s"] < 300.0
    theirs, _ = occluded("o", 40, 0.25, planned=False)
    assert theirs > 100


def test_bytes_and_loads() -> None:
    (case,) = _run("bytes-per-second-100", rounds=1).cases
    assert 0 < case["without_load_bytes_per_s"] < case["ours"]["median"] < 4000
    (case,) = _run("load-to-neighbours", rounds=1).cases
    assert case["ours"]["median_s"] <= case["ours"]["median"] <= 1.0


def test_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def small(bench: Bench) -> Iterator[dict[str, Sampler]]:
        with gossip._speed(40, "lan", 2.0)(bench) as samplers:
            yield samplers

    case = replace(
        next(one for one in cases() if one.name == "simulated-seconds-per-second-1000"), open=small
    )
    report = Report(benchmark="gossip", machine={}, date="", seed=1, full=False)
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    assert run_cases([replace(case, rounds=2)], bench, report)
    assert report.cases[0]["ours"]["median"] > 1.0


def test_a_world_that_fails_gives_no_figure() -> None:
    world = settled("f", 20, preset("lan"), LAN)
    world.wire.clogged.update(list(world.nodes)[:10])
    with pytest.raises(WorldFailed, match="have a record after 5 s"):
        converge(world, 5.0)
    world.calm()
    with pytest.raises(WorldFailed, match=r"know after 1 s that n\d+ crashed"):
        detect(world, 1.0)
    world.false_deaths.append((0.0, "a", "b"))
    with pytest.raises(WorldFailed, match="the living were buried"):
        detect(world)
    other = settled("g", 20, preset("lan"), LAN)
    for node in other.nodes.values():
        node.command(SetNeighbours(()))
    with pytest.raises(WorldFailed, match="have not heard of its load"):
        load_delays(other, 1)


def test_a_walker_shell_buries_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeagent.bench import gossip_shell

    monkeypatch.setattr(gossip_shell, "PLANES", 12)
    monkeypatch.setattr(gossip_shell, "SLOTS", 16)
    monkeypatch.setattr(gossip_shell, "LOADED_S", 20.0)
    monkeypatch.setattr(gossip_shell, "_COLLECT_EVERY_S", 20.0)
    rate, more = gossip_shell.shell("1", 60.0, 600.0, crash=True)
    assert 100.0 < rate < 5000.0
    assert 10.0 < more["without_load_bytes_per_s"] < rate
    assert (more["loaded_s"], more["virtual_s"]) == (20.0, 60.0)
    assert gc.isenabled()
    assert more["false_deaths"] == 0.0
    assert 0.0 < more["crash_half_s"] <= more["crash_everybody_s"]


def test_a_walker_shell_ends_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeagent.bench import gossip_shell

    monkeypatch.setattr(gossip_shell, "PLANES", 12)
    monkeypatch.setattr(gossip_shell, "SLOTS", 16)
    _, more = gossip_shell.shell("1", 1e6, 0.0, crash=False)
    assert (more["loaded_s"], more["virtual_s"]) == (10.0, 20.0)
    assert "crash_half_s" not in more


def test_real_processes_find_the_killed_one_and_the_new_one() -> None:
    from edgeagent.bench.gossip_real import Group

    group = Group("ours", 4, random.Random(1))
    try:
        detected_s, more = group.round()
    finally:
        group.close()
    assert 1.0 < detected_s < 60.0
    assert 0.0 < more["join_half_s"] <= more["join_everybody_s"] < 60.0


def test_fifty_processes_are_for_who_chooses_them() -> None:
    bench = Bench(options=Options(), progress=Progress(io.StringIO()))
    (case,) = [one for one in cases() if one.name == "detect-real-50"]
    with pytest.raises(CaseSkipped, match="--full"), case.open(bench):
        raise AssertionError("it opened")


def test_processes_that_do_not_start_are_a_failure() -> None:
    from edgeagent.bench.gossip_real import Group
    from edgeagent.bench.processes import ServerFailed

    with pytest.raises(ServerFailed, match="did not start"):
        Group("nothing", 2, random.Random(1))
