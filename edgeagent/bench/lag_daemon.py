"""Our daemon with a probe in its event loop: ``python -m edgeagent.bench.lag_daemon FIFO RESULTS``."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
from pathlib import Path

from edgeagent.bench.lag_probe import Probe
from edgeagent.http.server import Server
from edgeagent.node.config import Config, load_config
from edgeagent.node.logs import configure
from edgeagent.node.node import Node

__all__ = ["main"]


async def _serve(config: Config, fifo: str, results: Path) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    # Opened for writing too, so that it is never at its end.
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    node = Node(config)
    server = Server(node)
    try:
        await node.start()
        await server.start()
        node.serving(server.url)
        loop.add_reader(fd, Probe(fd, results).on_readable)
        await stopped.wait()
        loop.remove_reader(fd)
        await node.drain()
    finally:
        await server.stop()
        await node.close()
        os.close(fd)


def main(fifo: str, results: str) -> None:
    """Serve until SIGTERM as ``edgeagent run`` does, configured by the environment alone."""
    faulthandler.enable()
    config = load_config(None, os.environ, {})
    configure(config.log)
    serving = _serve(config, fifo, Path(results))
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)


if __name__ == "__main__":
    main(*sys.argv[1:3])
