"""Talking to something that listens where a daemon should."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from edgeagent.cli.main import main


class Stranger(BaseHTTPRequestHandler):
    status, body = 200, b""

    def _serve(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "words",
    [
        ["functions"],
        ["functions", "--json"],
        ["invoke", "a", "--data", "x", "--then", "b"],
        ["invoke", "a", "--data", "x", "--async"],
        ["workflow", "run", "a", "--data", "x"],
        ["workflow", "list", "--runs"],
        ["workflow", "status", "r", "--follow"],
    ],
)
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"{}", b"[" * 100_000, b"\xff"])
def test_answers_that_are_none(
    stranger: str, words: list[str], status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stranger, "status", status)
    monkeypatch.setattr(Stranger, "body", body)
    assert main([*words, "--node", stranger]) == 1


def test_port_0_is_not_port_80(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["functions", "--node", "http://127.0.0.1:0"]) == 1
    assert "no daemon" in capsys.readouterr().err
