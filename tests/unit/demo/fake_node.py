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
    """``requests`` are (method, path, content type); ``broken`` maps a path to (status, body) given instead."""

    def __init__(self) -> None:
        self.url = ""
        self.guests: dict[str, Guest] = {}
        self.called: set[str] = set()
        self.requests: list[tuple[str, str, str | None]] = []
        self.broken: dict[str, tuple[int, bytes]] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if path in self.broken:
            status, text = self.broken[path]
            return status, {}, text
        name = path.rpartition("/")[2]
        if method == "PUT":
            self.guests[name] = Guest(body)
            return 201, {}, json.dumps({"name": name}).encode()
        cold = "0" if name in self.called else "1"
        self.called.add(name)
        headers = {
            "Edgeagent-Node": "fake",
            "Edgeagent-Backend": "cpu",
            "Edgeagent-Cold": cold,
            "Edgeagent-Duration-Us": "1500",
        }
        return 200, headers, self.guests[name](body)


def _handler(node: FakeNode) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            node.requests.append((self.command, self.path, self.headers["Content-Type"]))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, answer = node.answer(self.command, self.path, body)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(answer)

        do_PUT = do_POST = _serve  # noqa: N815 - http.server calls them so

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
