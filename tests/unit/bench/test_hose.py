"""The hose benchmark's parts at sizes that are quick, and the arithmetic of the calibration."""

from __future__ import annotations

import asyncio
import fnmatch
import io
import json
import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeagent import native
from edgeagent.bench import hose_calibrate, hose_http
from edgeagent.bench.command import add_arguments, run
from edgeagent.bench.harness import Bench, CaseSkipped, Options, Progress, run_cases
from edgeagent.bench.hose import cases
from edgeagent.bench.hose_calibrate import Crossing, crossover, last_paying
from edgeagent.bench.hose_daemon import STAMPS, Stamped
from edgeagent.bench.hose_rig import opened_rig
from edgeagent.bench.processes import ServerFailed
from edgeagent.bench.report import Report
from edgeagent.hose.settings import TIERS, load_crossovers

needs_native = pytest.mark.skipif(not native.accelerated, reason="the extension is not built")
NEVER = 1 << 62


def _points(*pairs: tuple[int, float, float]) -> list[Crossing]:
    return [Crossing(*pair) for pair in pairs]


@pytest.mark.parametrize(
    ("points", "first"),
    [
        (_points((1, 1, 2), (2, 1, 2)), 1),
        (_points((1, 3, 2), (2, 2, 2), (4, 1, 2)), 2),
        (_points((1, 1, 2), (2, 3, 2), (4, 1, 2)), 4),
        (_points((1, 1, 2), (2, 3, 2)), NEVER),
        (_points((1, 2.05, 2)), 1),
        ([], NEVER),
    ],
)
def test_where_a_tier_begins(points: list[Crossing], first: int) -> None:
    assert crossover(points) == first


@pytest.mark.parametrize(
    ("points", "last"),
    [
        (_points((1 << 18, 1, 2), (1 << 19, 1, 2)), 1 << 19),
        (_points((1 << 18, 1, 2), (1 << 19, 3, 2), (1 << 20, 1, 2)), 1 << 18),
        (_points((1 << 18, 3, 2), (1 << 19, 1, 2)), 0),
        (_points((1 << 17, 3, 2), (1 << 18, 1, 2)), 1 << 18),
        ([], 0),
    ],
)
def test_where_resident_slots_end(points: list[Crossing], last: int) -> None:
    assert last_paying(points) == last


def test_case_names_are_the_contract() -> None:
    names = {case.name for case in cases()}
    assert len(names) == len(cases())
    for size in ("1KiB", "64KiB", "1MiB", "16MiB", "64MiB", "256MiB", "512MiB"):
        assert {f"cycle-warm-{size}", f"cycle-oneshot-{size}", f"same-process-{size}"} <= names
        assert {f"fanout{n}-{size}" for n in (1, 4, 16, 64)} <= names
        if size.endswith("MiB"):
            assert {f"fanout{n}-{size}-pss" for n in (1, 4, 16, 64)} <= names
            assert {f"publish-{size}", f"cross-process-{size}", f"cross-host-{size}"} <= names


def run_some(pattern: str) -> Report:
    report = Report(benchmark="hose", machine={}, date="", seed=1, full=False)
    bench = Bench(options=Options(patterns=(pattern,)), progress=Progress(io.StringIO()))
    assert run_cases(cases(), bench, report), report.skipped
    assert report.cases
    return report


@needs_native
@pytest.mark.parametrize(
    ("pattern", "baselines"),
    [
        ("cycle-*-64KiB", {"two-copies", "one-copy", "floor", "http-json", "http-raw"}),
        ("cycle-oneshot-1MiB", {"two-copies", "one-copy", "floor", "http-json", "http-raw"}),
        ("same-process-1MiB", {"two-copies", "one-copy", "http-json", "http-raw"}),
        ("fanout4-1KiB", {"two-copies", "floor"}),
        ("fanout16-1MiB", {"two-copies", "floor"}),
        ("fanout16-1MiB-pss", {"two-copies"}),
        ("publish-1MiB", set()),
        ("cross-process-1MiB", {"plain-socket"}),
        ("cross-host-1MiB", {"plain-socket", "roadrunner-network"}),
    ],
)
def test_cases_run(pattern: str, baselines: set[str]) -> None:
    report = run_some(pattern)
    assert not report.skipped
    for case in report.cases:
        assert fnmatch.fnmatchcase(case["name"], pattern)
        assert baselines <= case["baselines"].keys()
        if "floor" in baselines and case["unit"] == "CPU ms":
            above = case["handover_cpu_ms"]
            assert above.keys() == {"ours", "two-copies"}
            assert above["two-copies"] < case["baselines"]["two-copies"]["median"]
        for one in (case["ours"], *case["baselines"].values()):
            assert one["n"] >= 5
            assert one.get("tier", "copy") in TIERS
            if not case["name"].endswith("-pss"):
                assert one["minor_faults"] >= 0
                assert "cpu_ms" in one or case["unit"] == "CPU ms"


@needs_native
def test_the_cycles_stand_beside_the_hand_over() -> None:
    report = run_some("*-64KiB")
    by_name = {case["name"]: case for case in report.cases}
    beside = by_name["same-process-64KiB"]["cycle_ratio"]
    assert beside["oneshot"] == by_name["cycle-oneshot-64KiB"]["ratio"]
    assert beside["warm"].keys() >= {"http-json", "http-raw", "two-copies"}
    assert by_name["same-process-64KiB"]["ours"]["gb_per_s"] > 0


def refused(name: str, options: Options) -> bool:
    bench = Bench(options=options, progress=Progress(io.StringIO()))
    case = next(case for case in cases() if case.name == name)
    try:
        with case.open(bench):
            return False
    except CaseSkipped:
        return True
    finally:
        bench.close_shared()


@needs_native
def test_what_takes_long_wants_to_be_chosen() -> None:
    assert refused("fanout64-64MiB", Options())
    assert not refused("fanout64-64MiB", Options(full=True))
    assert not refused("fanout64-64MiB", Options(patterns=("fanout64-*",)))
    assert not refused("fanout16-64MiB", Options())


@needs_native
@pytest.mark.parametrize(
    ("options", "available", "present", "reason"),
    [
        (Options(), 1 << 40, set(), "too long"),
        (Options(full=True), 1 << 30, set(), "more than a quarter"),
        (Options(full=True), 1 << 40, {"http-json", "http-raw"}, ""),
        (Options(patterns=("same-*",)), 1 << 40, {"http-json", "http-raw"}, ""),
    ],
)
def test_http_where_time_and_memory_allow(
    options: Options, available: int, present: set[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hose_http, "available_memory_bytes", lambda: available)
    bench = Bench(options=options, progress=Progress(io.StringIO()))
    bench._shared["hose-http"] = object()  # no daemon is needed to be left out
    side: Any = None
    samplers = hose_http.with_http(bench, side, 256 << 20, {}, lambda _hop, _name: lambda: (0.0, {}))
    assert samplers.keys() == present
    assert all(reason in skipped.reason for skipped in bench.skipped)
    assert len(bench.skipped) == 2 - len(present)


@needs_native
def test_a_daemon_that_does_not_start_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fails(_: object) -> Any:
        tried.append(1)
        raise ServerFailed("exited with 1")

    monkeypatch.setattr(hose_http, "linked", fails)
    report = run_some("cycle-*-1KiB")
    assert [case["name"] for case in report.cases] == ["cycle-oneshot-1KiB", "cycle-warm-1KiB"]
    assert all("two-copies" in case["baselines"] for case in report.cases)
    assert [skipped.name for skipped in report.skipped] == ["http-json", "http-raw"]
    assert all("exited with 1" in skipped.reason for skipped in report.skipped)
    assert len(tried) == 1


@needs_native
def test_a_consumer_that_reads_something_else_is_noticed() -> None:
    with opened_rig() as rig, hose_http.linked(rig.copies) as hop:
        hop.raw(1 << 10)
        hop.json(1 << 10)
        with pytest.raises(AssertionError, match="something else"):
            hop._sent_raw(b"\1" * 1024, 2048)
        with pytest.raises(AssertionError, match="something else"):
            hop._sent_json(b'{"data":"AAAA"}', 4, bytes(8))
        with pytest.raises(ServerFailed, match="status 500"):
            hop._sent_json(b"{", 4, bytes(8))
        with pytest.raises(ServerFailed, match="status 404"):
            hop._post("/functions/nobody", b"")


def test_the_stamps_are_those_of_runs_that_ended() -> None:
    class Function:
        def __init__(self) -> None:
            self.started: Any = None

        def start(self, *_: Any) -> Any:
            return self.started

        call = close = start

    memory = mmap.mmap(-1, STAMPS.size)
    function = Function()
    stamped = Stamped(function, memory)

    async def runs() -> None:
        loop = asyncio.get_running_loop()
        outcome = SimpleNamespace(times_ns=(3, 5))
        for ending, given, expected in (
            ("cancel", (), (0, 0)),
            ("set_exception", (OSError(),), (0, 0)),
            ("set_result", (outcome,), (3, 5)),
        ):
            function.started = loop.create_future()
            waiting = stamped.start(b"")
            getattr(waiting, ending)(*given)
            await asyncio.wait([waiting])
            assert STAMPS.unpack(memory[:]) == expected
            if not waiting.cancelled():
                waiting.exception()
        function.started = outcome
        assert stamped.start(b"") is outcome

    asyncio.run(runs())


@needs_native
def test_calibrating_writes_what_the_node_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    monkeypatch.setattr(hose_calibrate, "_SIZES", (16 << 10, 2 << 20))
    monkeypatch.setattr(hose_calibrate, "_ROUNDS", 3)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    state = tmp_path / "state"
    assert run(parser.parse_args(["hose", "--calibrate", "--state-dir", str(state), "--json"])) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["path"] == str(state / "hose.json")
    found = load_crossovers(state)
    assert document["crossovers"]["loan_bytes_min"] == found.loan_bytes_min
    assert found.loan_bytes_min in (16 << 10, 2 << 20, NEVER)
    assert run(parser.parse_args(["invoke", "--calibrate"])) == 2
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert run(parser.parse_args(["hose", "--calibrate", "--state-dir", str(tmp_path / "file")])) == 1
    assert "not calibrated" in capsys.readouterr().err
