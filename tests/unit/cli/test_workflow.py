"""``edgeagent workflow`` against a daemon that says what the test wants, event streams that break off among it."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edgeagent.cli import workflow_progress
from edgeagent.cli.main import main

SPEC = '[workflow]\nname = "w"\n[[step]]\nname = "a"\nfunction = "f"\n'
STEP = {"name": "a", "state": "running", "node": "n" * 32, "measured_ms": None}


def event(number: int, kind: str, **data: Any) -> bytes:
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode()


DONE = event(3, "state", state="succeeded", holder="n" * 32, epoch=1)


class Daemon:
    """``streams`` are what each request for events gets, in turn; ``views`` how the run stands, the last one stays."""

    def __init__(self) -> None:
        self.url = ""
        self.streams: list[bytes] = []
        self.views: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, str | None, bytes]] = []

    def view(self, state: str, **members: Any) -> None:
        step = {**STEP, "state": state, "predicted_ms": 2.0, "hose": "copy", "why": "nearest"}
        plain = {"id": "r1", "workflow": "w", "state": state, "holder": "n" * 32, "epoch": 1, "problem": None}
        self.views.append({**plain, "steps": [step], "decisions": [], **members})

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        if path.endswith("/events"):
            return 200, self.streams.pop(0)
        if path.endswith("/output"):
            return 200, b"out\xff"
        if path == "/v1/runs/r1":
            return 200, json.dumps(self.views.pop(0) if len(self.views) > 1 else self.views[0]).encode()
        if method == "POST":
            return 202, json.dumps({"id": "r1", "workflow": "w", "state": "running"}).encode()
        if path.startswith("/v1/runs"):
            runs = [{"id": "r1", "workflow": "w", "state": "running", "created_at": "t", "holder": "n"}]
            return 200, json.dumps({"runs": runs}).encode()
        if path == "/v1/workflows":
            return 200, json.dumps({"workflows": [{"name": "w", "step": [1], "trigger": []}]}).encode()
        return 201, b"{}"


def _handler(daemon: Daemon) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            said = self.headers["Last-Event-ID"] or self.headers["Content-Type"]
            daemon.asked.append((self.command, self.path, said, body))
            status, reply = daemon.answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Location", "/v1/runs/r1")
            self.end_headers()
            self.wfile.write(reply)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    told = Daemon()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(told))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}"
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


def call(daemon: Daemon, *words: str) -> int:
    return main(["workflow", *words, "--node", daemon.url])


@pytest.mark.parametrize("suffix", [".toml", ".txt"])
def test_deploy_sends_the_file_as_it_is(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    file = tmp_path / f"w{suffix}"
    file.write_text(SPEC)
    assert call(daemon, "deploy", str(file)) == 0
    assert capsys.readouterr().out == "w: deployed\n"
    kind = "application/toml" if suffix == ".toml" else "application/octet-stream"
    assert daemon.asked == [("PUT", "/v1/workflows/w", kind, SPEC.encode())]


def test_deploy_under_another_name(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "w.toml"
    file.write_text(SPEC)
    assert call(daemon, "deploy", str(file), "--name", "v", "--json") == 0
    _, path, kind, body = daemon.asked[0]
    assert (path, kind) == ("/v1/workflows/v", "application/json")
    assert json.loads(body)["workflow"]["name"] == "v"
    assert call(daemon, "deploy", str(file), "--name", "V/1") == 1


def test_what_is_wrong_with_a_file_is_said_before_anything_is_sent(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "w.toml"
    file.write_text(SPEC.replace("function", "functoin"))
    assert call(daemon, "deploy", str(file)) == 1
    assert "did you mean 'function'?" in capsys.readouterr().err
    assert call(daemon, "deploy", str(tmp_path / "none.toml")) == 1
    assert "cannot read" in capsys.readouterr().err
    assert call(daemon, "run", "no/name", "--data", "") == 1
    assert call(daemon, "list", "--workflow", "no&name") == 1
    assert not daemon.asked


def test_run_shows_events_and_writes_the_output(daemon: Daemon, capfdbinary: Any) -> None:
    daemon.view("running")
    daemon.view("succeeded")
    daemon.streams = [b": still here\n\n" + event(1, "placed", **STEP) + event(2, "step", **STEP) + DONE]
    assert call(daemon, "run", "w", "--data", "in") == 0
    out, err = capfdbinary.readouterr()
    assert out == b"out\xff"
    assert err.splitlines() == [
        b"a: running at nnnnnnnnnnnn",
        b"a: running at nnnnnnnnnnnn",
        b"succeeded at nnnnnnnnnnnn, epoch 1",
    ]


def test_a_stream_that_breaks_off_is_taken_up_where_it_was(daemon: Daemon, capfdbinary: Any) -> None:
    daemon.view("running")
    daemon.view("succeeded")
    daemon.streams = [event(1, "step", **STEP), event(2, "step", **STEP) + b"event: st", DONE]
    assert call(daemon, "run", "w", "--data", "in", "--json") == 0
    document = json.loads(capfdbinary.readouterr().out)
    assert (document["ok"], document["output_base64"]) == (True, "b3V0/w==")
    assert [said for _, path, said, _ in daemon.asked if path.endswith("/events")] == [None, "1", "2"]


@pytest.mark.parametrize("stream", [b"event: step\ndata: [1]\n\n", b"event: step\ndata: {\n\n"])
def test_a_stream_of_nonsense_is_an_error(daemon: Daemon, stream: bytes, capfdbinary: Any) -> None:
    daemon.view("running")
    daemon.streams = [stream]
    assert call(daemon, "run", "w", "--data", "in") == 1
    assert b"workflow status r1 asks again" in capfdbinary.readouterr().err


def test_a_stream_that_tells_nothing_new_ends_the_wait(daemon: Daemon, capfdbinary: Any) -> None:
    daemon.view("running")
    daemon.streams = [b"", b"event: step\nid: 1\ndata: {}\n\n", b""]
    assert call(daemon, "run", "w", "--data", "in") == 1
    assert b"the run is running" in capfdbinary.readouterr().err


def test_a_run_that_failed_says_why(daemon: Daemon, capfdbinary: Any) -> None:
    problem = {"title": "guest trap", "detail": "it trapped", "step": "a"}
    daemon.view("failed", problem=problem)
    assert call(daemon, "run", "w", "--data", "in") == 1
    assert b"it trapped" in capfdbinary.readouterr().err
    assert call(daemon, "run", "w", "--data", "in", "--json") == 1
    assert json.loads(capfdbinary.readouterr().out)["problem"] == problem
    assert call(daemon, "status", "r1") == 0
    assert b"a: it trapped" in capfdbinary.readouterr().out


def test_interrupted_it_says_how_to_go_on(
    daemon: Daemon, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> Iterator[tuple[str, dict[str, Any]]]:
        raise KeyboardInterrupt

    daemon.view("running")
    monkeypatch.setattr(workflow_progress, "read_events", interrupted)
    assert call(daemon, "run", "w", "--data", "in") == 130
    assert b"workflow status r1 --follow" in capfdbinary.readouterr().err


def test_async_gives_the_id(daemon: Daemon, capfdbinary: Any) -> None:
    assert call(daemon, "run", "w", "--data", "in", "--async", "--deadline-ms", "5") == 0
    assert capfdbinary.readouterr().out == b"r1\n"
    assert call(daemon, "run", "w", "--data", "in", "--async", "--json") == 0
    assert json.loads(capfdbinary.readouterr().out)["location"] == "/v1/runs/r1"


def test_lists(daemon: Daemon, capfdbinary: Any) -> None:
    for words, said in (
        (("list",), b"steps"),
        (("list", "--runs"), b"r1"),
        (("list", "--workflow", "w"), b"r1"),
    ):
        assert call(daemon, *words) == 0
        assert said in capfdbinary.readouterr().out
        assert call(daemon, *words, "--json") == 0
        assert json.loads(capfdbinary.readouterr().out)["ok"]


def test_on_a_terminal_a_bar_or_lines_where_rich_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert isinstance(workflow_progress._shown(2), workflow_progress._Lines)


def test_the_bar_counts_steps_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    bar = workflow_progress._Bar(2)
    try:
        for state in ("running", "succeeded", "succeeded"):
            bar.event("step", {**STEP, "state": state})
        bar.event("state", {"state": "succeeded"})
        assert bar._progress.tasks[0].completed == 1
    finally:
        bar.end()
