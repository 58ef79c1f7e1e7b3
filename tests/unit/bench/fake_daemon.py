"""A stand-in for the daemon in the tests of the cases: takes deploys, adds 1 to every byte, has the probe.

``python fake_daemon.py PORT [FIFO RESULTS]``; a function named ``broken`` answers 500.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from aiohttp import web

from edgeagent.bench.lag_probe import Probe


async def _handle(request: web.BaseRequest) -> web.StreamResponse:
    body = await request.read()
    if request.method == "PUT":
        return web.Response(status=422 if request.path.endswith("refused") else 201)
    if request.path.endswith("broken"):
        return web.Response(status=500)
    return web.Response(body=bytes(value + 1 & 255 for value in body))


async def _serve(port: int, probe: list[str]) -> None:
    if probe:
        fd = os.open(probe[0], os.O_RDWR | os.O_NONBLOCK)
        asyncio.get_running_loop().add_reader(fd, Probe(fd, Path(probe[1])).on_readable)
    runner = web.ServerRunner(web.Server(_handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2:]))
