"""One broker process from its start to its end: its socket, its arena, its death.

It is started afresh from the interpreter, never forked: nothing of a driver survives a fork. It dies with the node: the
kernel kills it when the node's thread that started it ends, and a closed socket ends it otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import edgeagent
from edgeagent.accel.arena import Arena
from edgeagent.accel.broker_wire import PACKET_BYTES_MAX, FromBroker, ToBroker, pack, to_node
from edgeagent.accel.errors import BrokerLost

__all__ = ["Link"]

_PATIENCE_S = 5.0  # for a process that was killed; one that hangs in its driver may never go


class Link:
    """On the event loop's thread. ``told`` gets what the broker says, ``lost`` is called once if it goes by itself."""

    def __init__(self, arena: Arena, told: Callable[[FromBroker], None], lost: Callable[[str], None]) -> None:
        self.arena = arena
        self.pid = 0
        self._told, self._lost = told, lost
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._is_over = False

    async def start(self, backend: str, device: int, cache_dir: str = "") -> None:
        """Raises BrokerLost. ``cache_dir`` is for the code that the driver and CuPy compile."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        ours.setblocking(False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # never a package that lies in the directory where the node was started
                "-m",
                "edgeagent.accel.broker_main",
                str(theirs.fileno()),
                str(self.arena.fd),
                str(self.arena.total_bytes),
                str(os.getpid()),
                backend,
                str(device),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(theirs.fileno(), self.arena.fd),
                env=_environment(cache_dir),
            )
        except OSError as error:
            raise BrokerLost(f"a broker could not be started: {error.strerror}") from None
        finally:
            theirs.close()
            self.arena.close_fd()
        self.pid = self._process.pid
        if self._is_over:  # ended meanwhile
            await self.end()
            return
        self._loop.add_reader(ours.fileno(), self._readable)

    def send(self, message: ToBroker, fds: Sequence[int] = ()) -> None:
        """With descriptors, of which the broker gets its own. Raises BrokerLost."""
        assert self._socket is not None
        try:
            if fds:
                socket.send_fds(self._socket, [pack(message)], list(fds))
            else:
                self._socket.send(pack(message))
        except OSError as error:  # a full socket too: there is never so much under way
            raise BrokerLost(f"the broker takes nothing: {error.strerror}") from None

    def mute(self) -> None:
        """It tells nothing any more; ``end`` must follow."""
        self._is_over = True
        if self._socket is not None and self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())

    def _readable(self) -> None:
        if self._socket is None or self._is_over:
            return
        try:
            packet = self._socket.recv(PACKET_BYTES_MAX + 1)
            if not packet:
                raise BrokerLost("the broker died")
            message = to_node(packet)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._go(f"the broker died: {error.strerror}")
            return
        except BrokerLost as error:
            self._go(error.message)
            return
        self._told(message)

    def _go(self, why: str) -> None:
        self.mute()
        self._lost(why)

    async def end(self) -> bool:
        """Kill it; whether it is gone. Nothing is told any more."""
        self.mute()
        if self._socket is not None:
            self._socket.close()
        self.arena.close_fd()
        is_gone = await self._killed()
        self.arena.retire()
        return is_gone

    async def _killed(self) -> bool:
        if self._process is None:
            return True
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it may end between the look and the kill
                os.killpg(self._process.pid, signal.SIGKILL)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._process.wait()
        except TimeoutError:
            return False
        return True


def _environment(cache_dir: str) -> dict[str, str]:
    """Ours, with the place that this package was imported from first on the path; kernels are loaded when they run."""
    caches = (
        {"CUPY_CACHE_DIR": f"{cache_dir}/cupy", "CUDA_CACHE_PATH": f"{cache_dir}/cuda"} if cache_dir else {}
    )
    places = [str(Path(edgeagent.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    paths = os.pathsep.join(place for place in places if place)
    return {"CUDA_MODULE_LOADING": "LAZY", **caches, **os.environ, "PYTHONPATH": paths}
