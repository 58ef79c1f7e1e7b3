"""A node that answers as the HTTP contract says, in a thread, with the real guests or with what a test asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.unit.guests.guest import Guest

__all__ = ["FakeNode", "fake_node"]


class FakeNode:
    """``requests`` are (method, path, content type); ``broken`` maps a path to (status, body) given instead.

    ``scripted`` maps a method and a path to answers (status, headers, body) in their order, of which the last remains.
    """

    def __init__(self) -> None:
        self.url = ""
        self.guests: dict[str, Guest] = {}
        self.called: set[str] = set()
        self.requests: list[tuple[str, str, str | None]] = []
        self.tells = True
        self.broken: dict[str, tuple[int, bytes]] = {}
        self.scripted: dict[tuple[str, str], list[tuple[int, dict[str, str], bytes]]] = {}

    def answer(
        self, method: str, path: str, body: bytes, then: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        if answers := self.scripted.get((method, path)):
            return answers.pop(0) if len(answers) > 1 else answers[0]
        name = path.rpartition("/")[2]
        if method == "PUT":
            self.guests[name] = Guest(body)
            return 201, {}, json.dumps({"name": name}).encode()
        steps = []
        for step in (name, *(then.split(",") if then else ())):
            if f"/functions/{step}" in self.broken:
                status, output = self.broken[f"/functions/{step}"]
                if status != 200:
                    return status, {}, output
            else:
                output = self.guests[step](body)
            steps.append({**self._step(step), "bytes_in": len(body), "bytes_out": len(output)})
            self.called.add(step)
            body = output
        headers = {"Edgeagent-Node": "fake", "Edgeagent-Backend": "cpu"}
        if self.tells:
            headers["Edgeagent-Steps"] = json.dumps(steps)
        return 200, headers, body

    def _step(self, name: str) -> dict[str, Any]:
        cold = name not in self.called
        told = {"function": name, "duration_us": 1500, "cold": cold, "hose": "share"}
        return {**told, "copied_bytes": 1, "mapped_bytes": 2}


def _handler(node: FakeNode) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            node.requests.append((self.command, self.path, self.headers["Content-Type"]))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, answer = node.answer(
                self.command, self.path, body, self.headers["Edgeagent-Then"]
            )
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = _serve  # noqa: N815 - http.server calls them so

        def log_message(self, *_: Any) -> None:
            """Nothing: a test's output is its own."""

    return Handler


@contextmanager
def fake_node() -> Iterator[FakeNode]:
    """A fake node that serves until the block ends."""
    node = FakeNode()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(node)) as server:
        node.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield node
        finally:
            server.shutdown()
            thread.join()
