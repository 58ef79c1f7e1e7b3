"""The harness, with contestants that are not measured at all: order, bounds, failures, interruption."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from edgeagent.bench import harness
from edgeagent.bench.harness import Bench, Case, CaseSkipped, Options, Progress, Sample, Sampler, run_cases
from edgeagent.bench.report import Report

Play = Callable[[], Sample]


def bench(**options: Any) -> Bench:
    return Bench(options=Options(**options), progress=Progress(io.StringIO()))


def report() -> Report:
    return Report(benchmark="test", machine={}, date="2026-01-01T00:00:00Z", seed=1, full=False)


def case(name: str, samplers: dict[str, Sampler], **more: Any) -> Case:
    @contextmanager
    def opened(_bench: Bench) -> Iterator[dict[str, Sampler]]:
        yield samplers

    return Case(name=name, unit="us", better="lower", open=opened, **more)


def recorder(log: list[str], name: str, value: float = 1.0) -> Sampler:
    def sample() -> Sample:
        log.append(name)
        return value, {}

    return sample


def failing(error: BaseException, good_rounds: int = 0) -> Sampler:
    left = iter(range(good_rounds))

    def sample() -> Sample:
        if next(left, None) is None:
            raise error
        return 1.0, {}

    return sample


def orders(seed: int) -> list[str]:
    log: list[str] = []
    contestants = {name: recorder(log, name) for name in ("ours", "a", "b")}
    run_cases([case("one", contestants, rounds=20, warm_up_rounds=0)], bench(seed=seed), report())
    return log


def test_each_round_holds_everyone_once_in_a_drawn_order() -> None:
    log = orders(seed=1)
    rounds = ["".join(name[0] for name in log[at : at + 3]) for at in range(0, len(log), 3)]
    assert len(rounds) == 20
    assert all(sorted(one) == ["a", "b", "o"] for one in rounds)
    assert len(set(rounds)) > 3


def test_the_order_follows_the_seed() -> None:
    assert orders(seed=1) == orders(seed=1) != orders(seed=2)


def test_warm_up_rounds_are_thrown_away() -> None:
    values = iter([1000.0, 1.0, 1.0, 1.0])
    done = report()
    run_cases([case("one", {"ours": lambda: (next(values), {})}, rounds=3)], bench(), done)
    assert done.cases[0]["ours"] == {"median": 1.0, "ci95": [1.0, 1.0], "n": 3}


def test_full_runs_take_more_rounds() -> None:
    done = report()
    run_cases([case("one", {"ours": lambda: (1.0, {})}, rounds=2, rounds_full=9)], bench(full=True), done)
    assert done.cases[0]["ours"]["n"] == 9


def test_helpers_are_interleaved_but_published_by_the_cases_own_fields_alone() -> None:
    done = report()
    helped = case(
        "one",
        {"ours": lambda: (4.0, {}), "_empty": lambda: (1.0, {})},
        rounds=3,
        fields=lambda rounds, _: {"breakdown": {"empty_us": rounds["_empty"][0][0]}},
    )
    assert run_cases([helped], bench(), done)
    assert done.cases[0]["baselines"] == {}
    assert done.cases[0]["breakdown"] == {"empty_us": 1.0}


def test_only_cases_that_match_the_pattern_run() -> None:
    done = report()
    cases = [case(name, {"ours": lambda: (1.0, {})}, rounds=1) for name in ("http-c1", "http-c16", "idle")]
    run_cases(cases, bench(patterns=("http*",)), done)
    assert [one["name"] for one in done.cases] == ["http-c1", "http-c16"]
    run_cases(cases, bench(patterns=("idle", "*-c1")), more := report())
    assert [one["name"] for one in more.cases] == ["http-c1", "idle"]


@pytest.mark.parametrize("good_rounds", [0, 3])
def test_a_baseline_that_breaks_is_dropped_and_named(good_rounds: int) -> None:
    done = report()
    samplers = {"ours": lambda: (1.0, {}), "peer": failing(RuntimeError("gone"), good_rounds)}
    assert run_cases([case("one", samplers, rounds=5)], bench(), done)
    assert done.cases[0]["ours"]["n"] == 5
    assert done.cases[0]["baselines"] == {}
    assert [(one.name, one.reason) for one in done.skipped] == [("peer", "failed in one: gone")]


def test_when_ours_breaks_the_case_fails_and_the_next_one_runs() -> None:
    done = report()
    cases = [
        case("bad", {"ours": failing(RuntimeError("wrong answer"))}),
        case("good", {"ours": lambda: (1.0, {})}, rounds=1),
    ]
    assert not run_cases(cases, bench(), done)
    assert [one["name"] for one in done.cases] == ["good"]
    assert done.skipped[0].reason == "failed: RuntimeError: wrong answer"


def test_a_case_that_cannot_run_here_is_skipped_with_its_word() -> None:
    done = report()

    @contextmanager
    def opened(_bench: Bench) -> Iterator[dict[str, Sampler]]:
        if not done.cases:
            raise CaseSkipped("no client")
        yield {}

    assert run_cases([Case(name="one", unit="ms", better="lower", open=opened)], bench(), done)
    assert [(one.name, one.reason) for one in done.skipped] == [("one", "no client")]


def test_a_case_over_a_quarter_of_the_memory_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "available_memory_bytes", lambda: 4 << 30)
    done = report()
    cases = [
        case("large", {"ours": lambda: (1.0, {})}, memory_bytes=(1 << 30) + 1),
        case("fits", {"ours": lambda: (1.0, {})}, memory_bytes=1 << 30, rounds=1),
    ]
    assert run_cases(cases, bench(), done)
    assert [one["name"] for one in done.cases] == ["fits"]
    assert "a quarter of the available memory" in done.skipped[0].reason


class Clock:
    """A clock that only the samplers move."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        patch.setattr("edgeagent.bench.harness.time.monotonic", lambda: self.now_s)

    def taking(self, seconds: float) -> Sampler:
        def sample() -> Sample:
            self.now_s += seconds
            return 1.0, {}

        return sample


def test_a_round_that_would_not_end_in_time_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    done = report()
    cases = [case(name, {"ours": clock.taking(10)}, rounds=50, warm_up_rounds=0) for name in ("one", "two")]
    assert run_cases(cases, bench(budget_s=75), done)
    assert done.cases[0]["ours"]["n"] == 7
    assert clock.now_s <= 175
    assert [one.name for one in done.skipped] == ["two"]
    assert "out of time" in done.skipped[0].reason


def test_a_case_whose_opening_took_all_the_time_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    done = report()
    assert run_cases([case("one", {"ours": clock.taking(100)}, rounds=5)], bench(budget_s=30), done)
    assert done.cases == []
    assert done.skipped[0].reason == "out of time before its first round"


def test_ctrl_c_keeps_whole_rounds_and_lists_the_rest() -> None:
    done = report()
    cases = [
        case(
            "cut",
            {"ours": failing(KeyboardInterrupt(), 4), "peer": lambda: (2.0, {})},
            rounds=9,
            warm_up_rounds=0,
        ),
        case("never", {"ours": lambda: (1.0, {})}),
    ]
    assert not run_cases(cases, bench(), done)
    assert done.interrupted
    assert done.cases[0]["ours"]["n"] == 4
    assert done.cases[0]["baselines"]["peer"]["n"] == 4
    assert [(one.name, one.reason) for one in done.skipped] == [("never", "interrupted")]


def test_ctrl_c_before_the_first_round_leaves_no_figures() -> None:
    done = report()
    assert not run_cases([case("cut", {"ours": failing(KeyboardInterrupt())})], bench(), done)
    assert done.cases == []
    assert done.skipped[0].reason == "interrupted before its first round"


def test_ctrl_c_while_a_case_opens_ends_the_run() -> None:
    done = report()

    @contextmanager
    def opened(_bench: Bench) -> Iterator[dict[str, Sampler]]:
        if done.cases:
            raise KeyboardInterrupt
        yield {}

    cases = [
        case("before", {"ours": lambda: (1.0, {})}, rounds=1),
        Case(name="opening", unit="ms", better="lower", open=opened),
    ]
    assert not run_cases(cases, bench(), done)
    assert done.interrupted
    assert [one["name"] for one in done.cases] == ["before"]
    assert [(one.name, one.reason) for one in done.skipped] == [("opening", "interrupted")]


def test_shared_resources_live_for_a_group_and_are_closed_after_it() -> None:
    log: list[str] = []

    @contextmanager
    def servers() -> Iterator[str]:
        log.append("up")
        yield "servers"
        log.append("down")

    def grouped(name: str, group: str) -> Case:
        @contextmanager
        def opened(one: Bench) -> Iterator[dict[str, Sampler]]:
            if group:
                assert one.share("servers", servers) == "servers"
            log.append(name)
            yield {"ours": lambda: (1.0, {})}

        return Case(name=name, unit="us", better="lower", open=opened, rounds=1, group=group)

    cases = [grouped("c1", "http"), grouped("c16", "http"), grouped("idle", "")]
    assert run_cases(cases, bench(), report())
    assert log == ["up", "c1", "c16", "down", "idle"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_rewrites_its_line_on_a_terminal_and_keeps_quiet_elsewhere() -> None:
    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        shown = Progress(stream)
        shown.step("round 1")
        shown.say("done")
    assert plain.getvalue() == "done\n"
    assert terminal.getvalue() == "\r\x1b[Kround 1\r\x1b[Kdone\n"
