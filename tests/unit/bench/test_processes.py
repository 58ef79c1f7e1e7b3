"""Server processes: a right one, a silent one, one that dies, one that answers wrongly."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeagent.bench import processes
from edgeagent.bench.floor_server import Floor
from edgeagent.bench.guests import EXPECTED, INPUT
from edgeagent.bench.peers import PEERS, PeerAbsent, floor, peers_folder
from edgeagent.bench.processes import ServerFailed, cpu_seconds, free_port, memory_kib, server

_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response({status})
        self.end_headers()
        self.wfile.write({answer})
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
_STUBBORN = """
import signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
time.sleep(60)
"""


def argv(port: int, answer: str = "bytes(b + 1 & 255 for b in body)", status: int = 200) -> list[str]:
    return [sys.executable, "-c", _SERVER.format(answer=answer, status=status), str(port)]


def test_a_server_runs_until_the_block_ends(tmp_path: Path) -> None:
    port = free_port()
    with server(argv(port), port=port, folder=tmp_path) as process:
        process.check()
        assert process.url == f"http://127.0.0.1:{port}/"
        assert cpu_seconds(process.pid) > 0
        memory = memory_kib(process.pid)
        assert 0 < memory["Private"] <= memory["Rss"]
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_wrong_answer_stops_it_again(tmp_path: Path) -> None:
    port = free_port()
    with (
        pytest.raises(ServerFailed, match="wrong answer"),
        server(argv(port, "body"), port=port, folder=tmp_path),
    ):
        pass


def test_a_wrong_status_is_an_error(tmp_path: Path) -> None:
    port = free_port()
    with (
        pytest.raises(ServerFailed, match="status 500"),
        server(argv(port, status=500), port=port, folder=tmp_path),
    ):
        pass


def test_a_server_that_dies_is_reported_with_its_log(tmp_path: Path) -> None:
    dying = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    with (
        pytest.raises(ServerFailed, match="exited with 1: no such option"),
        server(dying, port=free_port(), folder=tmp_path),
    ):
        pass


def test_a_server_that_died_later_is_reported_with_its_fate(tmp_path: Path) -> None:
    port = free_port()
    with server(argv(port), port=port, folder=tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ServerFailed, match="exited with -9"):
            process.check()


def test_a_server_that_never_listens_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_S", 0.05)
    silent = [sys.executable, "-c", "input() if False else __import__('signal').pause()"]
    with (
        pytest.raises(ServerFailed, match="did not listen"),
        server(silent, port=free_port(), folder=tmp_path),
    ):
        pass


def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_S", 0.2)
    port = free_port()
    with server(
        [sys.executable, "-c", _STUBBORN, str(port)], port=port, folder=tmp_path, check=False
    ) as process:
        pass
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


@pytest.mark.parametrize("name", ["wasmtime-serve", "workerd", "workerd-reused"])
def test_an_absent_peer_says_where_it_was_looked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("EDGEAGENT_BENCH_WASMTIME_SERVE", raising=False)
    monkeypatch.delenv("EDGEAGENT_BENCH_WORKERD", raising=False)
    with pytest.raises(PeerAbsent, match=r"neither on PATH nor in EDGEAGENT_BENCH_"), PEERS[name](tmp_path):
        pass


def test_peers_need_their_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (peers_folder() / "wasmtime-serve" / "add1.wasm").is_file()
    monkeypatch.setenv("EDGEAGENT_BENCH_PEERS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(PeerAbsent, match="run from a source tree"):
        peers_folder()


@pytest.mark.parametrize("opener", [PEERS["aiohttp-bare"], floor], ids=["bare", "floor"])
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_our_own_baselines_answer_on_either_loop(
    opener: Any, loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if loop == "asyncio":  # a module of this name that cannot be imported
        (tmp_path / "uvloop.py").write_text("raise ImportError('not here')\n")
        monkeypatch.setattr(sys, "executable", _with_path(tmp_path))
    with opener(tmp_path) as process:
        process.check()


def _with_path(folder: Path) -> str:
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper)


def test_the_floor_answers_once_for_each_request_however_it_is_cut() -> None:
    class Transport(asyncio.Transport):
        written = b""

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.written += bytes(data)

    head = b"POST / HTTP/1.1\r\nContent-Length: 1024\r\n\r\n"
    request, transport, protocol = head + INPUT, Transport(), Floor()
    protocol.connection_made(transport)
    for piece in (request[:10], request[10:500], request[500:] + request, request[:1]):
        protocol.data_received(piece)
    assert transport.written.count(b"HTTP/1.1 200 OK") == 2
    assert transport.written.endswith(EXPECTED)
