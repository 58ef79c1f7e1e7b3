"""The baseline ``aiohttp-bare``: the same HTTP library and loop as the daemon, and nothing else.

The handler adds 1 to every byte with ``bytes.translate``: what HTTP alone costs in this Python, an upper
bound for any daemon built on it. Run as ``python -m edgeagent.bench.bare_server PORT``.
"""

from __future__ import annotations

import asyncio
import sys

from aiohttp import web

__all__ = ["main"]

_ADD1 = bytes((value + 1) & 255 for value in range(256))


async def _handle(request: web.BaseRequest) -> web.StreamResponse:
    body = await request.read()
    return web.Response(body=body.translate(_ADD1), content_type="application/octet-stream")


async def _serve(port: int) -> None:
    runner = web.ServerRunner(web.Server(_handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


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
