"""Our daemon with a probe in its event loop: ``python -m edgeagent.bench.lag_daemon FIFO RESULTS``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from edgeagent.bench.lag_probe import Probe
from edgeagent.http.server import Server
from edgeagent.node.config import load_config
from edgeagent.node.node import Node

__all__ = ["main"]


async def _serve(fifo: str, results: Path) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    node = Node(load_config(None, os.environ, {}))
    await node.start()
    server = Server(node)
    # Opened for writing too, so that it is never at its end.
    fd = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    loop.add_reader(fd, Probe(fd, results).on_readable)
    await server.start()
    await stopped.wait()
    loop.remove_reader(fd)
    await server.stop()
    await node.close()


def main(fifo: str, results: str) -> None:
    """Serve until SIGTERM, on the loop that the daemon uses."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(_serve(fifo, Path(results)))
    else:
        uvloop.run(_serve(fifo, Path(results)))


if __name__ == "__main__":
    main(*sys.argv[1:3])
