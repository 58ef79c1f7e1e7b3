"""The floor below every Python HTTP server: an event loop that answers 1 KiB with bytes made in advance.

It looks for the end of the head once and then only counts bytes: what is left is the client, the kernel and
the loop. Used for the breakdown alone. Run as ``python -m edgeagent.bench.floor_server PORT``.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

from edgeagent.bench.guests import BODY_BYTES, EXPECTED

__all__ = ["Floor", "main"]

_REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES
) + EXPECTED


class Floor(asyncio.Protocol):
    """Answers whenever as many bytes have come as the connection's first request had."""

    def __init__(self) -> None:
        self._head = b""
        self._request_bytes = 0
        self._pending = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        if not self._request_bytes:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end >= 0:
                self._request_bytes = end + 4 + BODY_BYTES
        self._pending += len(data)
        while self._request_bytes and self._pending >= self._request_bytes:
            self._pending -= self._request_bytes
            self._transport.write(_REPLY)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Floor, "127.0.0.1", port)
    await server.serve_forever()


def main(port: int) -> None:
    """Serve on a loopback port until killed."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(port))
    else:
        uvloop.run(_serve(port))


if __name__ == "__main__":
    main(int(sys.argv[1]))
