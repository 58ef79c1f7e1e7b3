"""The fast lane's rules, with a parser and a connection of the test's own."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from edgeagent.http.lane import LaneParser, lane_fits


class Transport:
    def __init__(self, backlog: int = 0) -> None:
        self.written: list[bytes] = []
        self.backlog = backlog

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.backlog


class Inner:
    """Gives what the test wants parsed."""

    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages
        self.consumed = 0

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        return self.messages, False, b""

    def message_consumed(self) -> None:
        self.consumed += 1

    def other(self) -> str:
        return "passed on"


def _request(method: str = "POST", *, close: bool = False, body: bytes = b"hi", complete: bool = True) -> Any:
    message = SimpleNamespace(
        method=method, should_close=close, upgrade=False, path="/functions/f", raw_headers=()
    )
    return message, SimpleNamespace(is_eof=lambda: complete, _buffer=[body])


def _feed(
    messages: list[Any], *, idle: bool = True, answer: bytes | None = b"reply", backlog: int = 0
) -> Any:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        transport = Transport(backlog)
        protocol = SimpleNamespace(
            transport=transport,
            _waiter=loop.create_future() if idle else None,
            _messages=[],
            _loop=loop,
            _next_keepalive_close_time=0.0,
            keepalive_timeout=75,
        )
        inner = Inner(messages)
        bodies: list[bytes] = []

        def respond(path: str, headers: Any, body: bytes) -> bytes | None:
            bodies.append(body)
            return answer

        parser = LaneParser(inner, protocol, respond)
        left, _, _ = parser.feed_data(b"")
        return SimpleNamespace(
            left=list(left),
            written=transport.written,
            inner=inner,
            served=parser.served,
            bodies=bodies,
            parser=parser,
        )

    return asyncio.run(main())


def test_this_aiohttp_fits() -> None:
    assert lane_fits()


def test_a_plain_request_is_answered_where_it_is_parsed() -> None:
    seen = _feed([_request()])
    assert seen.left == []
    assert seen.written == [b"reply"]
    assert seen.bodies == [b"hi"]
    assert seen.inner.consumed == seen.served == 1


def test_everything_else_goes_on_untouched() -> None:
    for messages, options in (
        ([_request("GET")], {}),
        ([_request(close=True)], {}),
        ([_request(complete=False)], {}),
        ([_request(), _request()], {}),
        ([_request(body=bytes(100_000))], {}),
        ([_request()], {"idle": False}),
        ([_request()], {"answer": None}),
        ([_request()], {"backlog": 10 << 20}),
        ([], {}),
    ):
        seen = _feed(messages, **options)
        assert seen.left == messages
        assert seen.written == []
        assert seen.inner.consumed == 0


def test_the_parser_behind_it_is_still_there() -> None:
    assert _feed([]).parser.other() == "passed on"
