"""The cases that need a daemon, played through with a stand-in: each yields samples of the promised form."""

from __future__ import annotations

import dataclasses
import http.client
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeagent.bench import daemon, footprint, http_cases, lag_case, wrk
from edgeagent.bench.harness import Bench, Case, CaseSkipped, Options, Progress, run_cases
from edgeagent.bench.peers import PEERS, PeerAbsent
from edgeagent.bench.processes import ServerFailed
from edgeagent.bench.report import Report

FAKE = Path(__file__).with_name("fake_daemon.py")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    ports: list[str] = []

    def command(_module: str = "", *probe: str) -> list[str]:
        return [sys.executable, str(FAKE), ports[-1], *probe]

    def environment(_folder: Path, port: int) -> dict[str, str]:
        ports.append(str(port))
        return {"PYTHONPATH": str(Path(daemon.__file__).parents[2])}

    def late_command(*args: str) -> Any:
        return _Late(lambda: command(*args))

    for module in (daemon, lag_case):
        monkeypatch.setattr(module, "daemon_env", environment)
        monkeypatch.setattr(module, "daemon_command", late_command)


class _Late(list[str]):
    """A command line that is made when it is used: the stand-in takes its port as an argument."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self._make = make

    def __iter__(self) -> Iterator[str]:
        return iter(self._make())


def run(case: Case) -> Report:
    done = Report(benchmark="test", machine={}, date="", seed=1, full=False)
    run_cases([case], Bench(options=Options(), progress=Progress(io.StringIO())), done)
    return done


def case_named(name: str) -> Case:
    return next(case for case in footprint.footprint_cases() if case.name == name)


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "COLD_ROUNDS", 2)
    monkeypatch.setattr(footprint, "BATCH", 2)
    monkeypatch.setattr(footprint, "CALLS_TO_WARM", 2)
    monkeypatch.setattr(footprint, "IDLE_S", 0.0)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("cold-start", {"next_call_ms"}),
        ("cold-start-daemon", {"listening_ms"}),
        ("idle-rss", {"pss_mib", "private_mib"}),
        ("rss-per-warm-function", {"private_kib"}),
    ],
)
def test_a_footprint_case_yields_its_figures(
    name: str, more: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    done = run(dataclasses.replace(case_named(name), rounds=2))
    assert done.skipped == []
    assert more <= set(done.cases[0]["ours"])
    assert done.cases[0]["ours"]["n"] == 2


def test_a_deploy_that_is_refused_fails_the_case(tmp_path: Path) -> None:
    with daemon.daemon(tmp_path) as process, pytest.raises(ServerFailed, match="status 422"):
        daemon.deploy(process.port, "refused", b"")


def test_a_function_that_fails_is_no_first_byte(tmp_path: Path) -> None:
    with daemon.daemon(tmp_path) as process:
        connection = http.client.HTTPConnection("127.0.0.1", process.port)
        with pytest.raises(ServerFailed, match="status 500"):
            footprint._first_byte_ms(connection, "/functions/broken")
        connection.close()


@needs_wrk
def test_the_lag_case_measures_while_both_functions_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag_case, "SECONDS", 1)
    done = run(dataclasses.replace(lag_case.lag_case(), rounds=1))
    assert done.skipped == []
    ours = done.cases[0]["ours"]
    assert ours["p50_ms"] <= ours["median"] <= ours["max_ms"]
    assert ours["stamps"] > 10
    assert done.cases[0]["one_slow_connection_p99_ms"] > 0
    assert min(ours["fast_per_s"], ours["slow_per_s"]) > 0


def test_a_probe_without_figures_fails_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag_case, "RESULT_S", 0.02)
    reader, writer = os.pipe()
    with pytest.raises(ServerFailed, match="no figures"):
        lag_case._result(writer, tmp_path / "never")
    os.close(reader)
    os.close(writer)


@needs_wrk
def test_the_http_cases_go_on_without_absent_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_folder: Path) -> Any:
        raise PeerAbsent("not installed")

    monkeypatch.setattr(http_cases, "PEERS", {"workerd": absent, "aiohttp-bare": PEERS["aiohttp-bare"]})
    done = run(dataclasses.replace(http_cases.http_cases()[0], rounds=1))
    assert [(one.name, one.reason) for one in done.skipped] == [("workerd", "not installed")]
    found = done.cases[0]
    assert found["name"] == "http-post-1KiB-c1"
    for one in (found["ours"], found["baselines"]["aiohttp-bare"]):
        assert one["median"] > 0
        assert {"p50_us", "p99_us", "cpu_us_per_request"} <= set(one)
    assert {"client_kernel_loop_us", "http_node_engine_us"} <= set(found["breakdown"])


def test_without_wrk_the_http_cases_are_skipped_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.bench.wrk.shutil.which", lambda _name: None)
    with pytest.raises(CaseSkipped, match="Debian package wrk"):
        http_cases.wrk_program()
    done = run(http_cases.http_cases()[1])
    assert "wrk is neither on PATH" in done.skipped[0].reason


def test_wrk_that_fails_is_reported(tmp_path: Path) -> None:
    script = wrk.write_script(tmp_path, b"a")
    with pytest.raises(wrk.WrkFailed, match="ended with 1"):
        wrk.run_wrk("false", script, "http://127.0.0.1:1/", 1, 1)
