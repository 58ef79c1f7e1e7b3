"""``edgeagent run``: the daemon."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import json
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeagent.cli.last_resort import LastResort
from edgeagent.cli.output import drop_output
from edgeagent.model.errors import BadConfig

if TYPE_CHECKING:
    from edgeagent.http.server import Server
    from edgeagent.node.config import Config
    from edgeagent.node.node import Node

__all__ = ["add_arguments", "add_config_arguments", "configured", "run"]

_FLAGS = {
    "listen": "http.listen",
    "state_dir": "node.state_dir",
    "workers": "runtime.workers",
    "log_format": "log.format",
    "log_level": "log.level",
}
_GRACE_S = 10.0  # for what stopping takes after the drain


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="TOML configuration (default: $EDGEAGENT_CONFIG)")
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help="where to serve (http.listen)")
    parser.add_argument("--state-dir", metavar="DIR", help="what must survive (node.state_dir)")
    parser.add_argument("--workers", metavar="N", help="threads that run functions (runtime.workers)")
    parser.add_argument("--log-format", choices=("auto", "json", "console"), help="log.format")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"), help="log.level")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any key, e.g. runtime.inline=false"
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_arguments(parser)
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when the process that started this one ends"
    )


def configured(args: argparse.Namespace, environ: Mapping[str, str]) -> Config:
    """The effective configuration of the command line; raises BadConfig."""
    from edgeagent.node.config import load_config

    overrides = {}
    for flag, key in _FLAGS.items():
        value = getattr(args, flag, None)
        if value is not None:
            overrides[key] = value
    for item in args.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise BadConfig(
                f"--set {item!r} is not KEY=VALUE", hint="for example --set http.keepalive_ms=5000"
            )
        overrides[key.strip()] = value.strip()
    path = args.config or environ.get("EDGEAGENT_CONFIG")
    return load_config(Path(path) if path else None, environ, overrides)


def run(args: argparse.Namespace) -> int:
    # Before the first engine: the signal handler installed last wins, and wasmtime's must.
    faulthandler.enable()
    config = configured(args, os.environ)
    if args.exit_with_parent:
        _end_with_parent()
    from edgeagent.node.logs import configure

    configure(config.log)
    return _run_loop(_serve(config, as_json=args.json))


def _run_loop(main: Coroutine[Any, Any, int]) -> int:
    """The loop of uvloop where it is installed, else of asyncio."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def _end_with_parent() -> None:
    import ctypes

    pr_set_pdeathsig = 1
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(1)


async def _serve(config: Config, *, as_json: bool) -> int:
    from edgeagent.http.server import Server
    from edgeagent.node.heap import HeapKeeper
    from edgeagent.node.node import Node

    node = Node(config)
    server = Server(node)
    heap = HeapKeeper()
    keeping: asyncio.Task[None] | None = None
    stop, last = _Stop(asyncio.get_running_loop()), LastResort()
    try:
        await node.start()
        await server.start()
        await node.join_mesh(server.tls_url or server.url)
        node.serving(server.url)
        _say_ready_or_log(node, server, as_json)
        heap.begin()
        keeping = asyncio.ensure_future(heap.run())
        await stop.wait()
        await _drain(node, stop, last)
    finally:
        if keeping is not None:
            keeping.cancel()
        await server.stop()
        await node.close()
        last.cancel()
    return 0


def _say_ready_or_log(node: Node, server: Server, as_json: bool) -> None:
    """A node serves, whether or not somebody can read that it does."""
    try:
        _say_ready(node, server, as_json)
    except OSError as error:
        import structlog

        drop_output()
        structlog.get_logger("run").warning("standard output cannot be written", problem=str(error))


def _say_ready(node: Node, server: Server, as_json: bool) -> None:
    if as_json:
        ready = {"ok": True, "url": server.url, "node": node.node_id, "pid": os.getpid()}
        print(json.dumps({**ready, "tls_url": server.tls_url} if server.tls_url else ready), flush=True)
    else:
        also = f" and {server.tls_url}" if server.tls_url not in {"", server.url} else ""
        print(f"edgeagent: serving on {server.url}{also} as {node.node_id}", flush=True)


async def _drain(node: Node, stop: _Stop, last: LastResort) -> None:
    last.within(node.config.drain.timeout_ms / 1000 + _GRACE_S)
    draining = asyncio.ensure_future(node.drain())
    again = asyncio.ensure_future(stop.wait_again())
    await asyncio.wait({draining, again}, return_when=asyncio.FIRST_COMPLETED)
    again.cancel()
    if not draining.done():
        print("edgeagent: stopping at once", file=sys.stderr)
        last.within(_GRACE_S)
        draining.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await draining


class _Stop:
    """SIGTERM, SIGHUP and Ctrl-C: the first drains, the second ends at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._first = asyncio.Event()
        self._second = asyncio.Event()
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup means: stay when the terminal goes
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self._seen)

    def _seen(self) -> None:
        (self._second if self._first.is_set() else self._first).set()

    async def wait(self) -> None:
        await self._first.wait()

    async def wait_again(self) -> None:
        await self._second.wait()
