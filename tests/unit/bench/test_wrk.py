"""wrk's script and its output."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagent.bench.wrk import WrkFailed, WrkResult, find_program, parse, write_script

_RESULT = (
    '{"requests":20000,"duration_us":2000000,"errors":0,"bad_status":0,"p50_us":90,"p90_us":120,"p99_us":300}'
)


def test_a_result_is_read_from_among_wrks_own_lines() -> None:
    result = parse(f"Running 2s test @ http://127.0.0.1\n  1 threads\n\n{_RESULT}\n")
    assert result == WrkResult(
        requests=20000, duration_us=2_000_000, errors=0, bad_status=0, p50_us=90, p90_us=120, p99_us=300
    )
    assert result.per_second == 10_000


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("unable to connect", "gave no result: unable to connect"),
        (_RESULT.replace('"bad_status":0', '"bad_status":7'), "7 replies that are not 2xx"),
        (_RESULT.replace('"errors":0', '"errors":2'), "2 broken connections"),
        (_RESULT.replace('"requests":20000', '"requests":0'), "no request was answered"),
    ],
)
def test_a_run_with_errors_is_no_result(output: str, reason: str) -> None:
    with pytest.raises(WrkFailed, match=reason):
        parse(output)


def test_the_script_repeats_a_plain_body_and_spells_a_short_one(tmp_path: Path) -> None:
    assert 'string.rep("a", 1024)' in write_script(tmp_path, b"a" * 1024).read_text()
    assert "string.char(1,0,255,10)" in write_script(tmp_path, b"\x01\x00\xff\n").read_text()
    with pytest.raises(ValueError, match="limited to 64"):
        write_script(tmp_path, bytes(range(65)))


def test_a_program_is_named_by_the_environment_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "other-wrk"
    named.write_text("#!/bin/sh\n")
    named.chmod(0o755)
    monkeypatch.setenv("EDGEAGENT_BENCH_WRK", str(named))
    assert find_program("sh", "WRK") == str(named)
    monkeypatch.delenv("EDGEAGENT_BENCH_WRK")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("other-wrk", "WRK") == str(named)
    assert find_program("wrk-that-is-not-there", "WRK") is None
