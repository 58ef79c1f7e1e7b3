"""``edgeagent bench``: arguments, exit codes, and nothing but JSON on stdout with ``--json``."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from edgeagent.bench import command
from edgeagent.bench.harness import Bench, Case, Sample, Sampler


def _terminated() -> Sample:
    signal.raise_signal(signal.SIGTERM)
    raise AssertionError("not reached")


def _one_case(sampler: Sampler) -> Case:
    @contextmanager
    def opened(_bench: Bench) -> Iterator[dict[str, Sampler]]:
        yield {"ours": sampler, "peer": lambda: (20.0, {})}

    return Case(name="quick", unit="us", better="lower", open=opened, rounds=3, memory_bytes=0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(command, "busy_share", lambda: 0.5)

    def run(*argv: str, sampler: Sampler = lambda: (10.0, {})) -> int:
        monkeypatch.setitem(command.BENCHMARKS, "quick", lambda: [_one_case(sampler)])
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        return command.run(parser.parse_args(["quick", *argv]))

    return run


def test_json_alone_goes_to_stdout_and_to_the_file(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    assert bench("--json", "--out", str(out)) == 0
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert document == json.loads(out.read_text())
    assert document["benchmark"] == "quick"
    assert document["cases"][0]["ratio"] == {"peer": 2.0}
    assert "warning: this machine is busy (50%)" in shown.err
    assert list(tmp_path.iterdir()) == [out]


def test_what_parts_of_a_node_say_goes_to_stderr(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def sampler() -> tuple[float, dict[str, Any]]:
        structlog.get_logger("accel").warning("a GPU was lost")
        return 10.0, {}

    before = structlog.get_config()
    assert bench("--json", sampler=sampler) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["benchmark"] == "quick"
    assert "a GPU was lost" in err
    assert structlog.get_config() == before


def test_without_json_a_table_is_printed(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench() == 0
    assert "ours 2x" in capsys.readouterr().out


def test_a_failing_case_gives_exit_code_1(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Sample:
        raise RuntimeError("wrong answer")

    assert bench("--json", sampler=broken) == 1
    assert json.loads(capsys.readouterr().out)["skipped"][0]["reason"].endswith("wrong answer")


def test_sigterm_ends_like_ctrl_c_with_the_results_so_far(
    bench: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert bench("--json", sampler=_terminated) == 1
    assert json.loads(capsys.readouterr().out)["interrupted"] is True
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("argv", [["--case", "nothing*"], ["--out", "/nonexistent/folder/f.json"]])
def test_wrong_usage_gives_exit_code_2(
    bench: Any, argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "edgeagent bench:" in shown.err


def test_a_parser_that_has_json_already_is_left_alone() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    command.add_arguments(parser)
    assert parser.parse_args(["invoke", "--json"]).json is True


def test_invoke_brings_the_cases_that_the_contract_names() -> None:
    names = [case.name for case in command.BENCHMARKS["invoke"]()]
    assert len(set(names)) == len(names)
    assert {
        "inprocess-1KiB",
        "inprocess-1KiB-awaited",
        "http-post-1KiB-c1",
        "http-post-1KiB-c16",
        "loop-lag-mixed",
        "cold-start",
        "idle-rss",
        "rss-per-warm-function",
    } <= set(names)
