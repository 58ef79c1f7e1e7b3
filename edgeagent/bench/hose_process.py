"""``cross-process-SIZE``: from sending a sealed output to the first byte read in another process, in us.

Ours: the node's end of the hose socket in this process, ``edgeagent.hose.client`` in the other; the descriptor of the
same sealed memfd is sent again and again, as to one consumer of a camera after the other. ``plain-socket``: the bytes
through a Unix stream socket into a buffer that was there before; it ends when all have arrived, since any byte might be
the one that is wanted. Both processes read the same monotonic clock.
The consumer sleeps until the frame comes, so that most of it is the system waking a process. A sample is the median of
a few frames in a row: alone it would mostly tell how cold the last sample of the other kind has left the caches.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edgeagent.bench.harness import Bench, Case, CaseSkipped, Sample, Sampler
from edgeagent.bench.hose_cases import FROM_1MIB, Shape, sized_cases
from edgeagent.bench.hose_cost import Cost
from edgeagent.bench.hose_rig import Side, kept, opened_rig
from edgeagent.hose.client import Hose, library_path
from edgeagent.hose.local_socket import LocalSocket, LocalSocketSettings

__all__ = ["process_cases"]

_NAME = "bench"
_CHUNK_BYTES = 1 << 20
_IN_A_ROW = 5


class _Sent:
    """A range of a memfd of ours; the socket gives it back when the consumer has taken it."""

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd, self.offset, self.bytes = fd, offset, count

    def release(self) -> None:
        pass


class _Link:
    """Both ways to the other process; used from one thread."""

    def __init__(self, stack: ExitStack) -> None:
        if not library_path().is_file():
            raise CaseSkipped("libedgehose.so is not built")
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-"))
        self.loop = asyncio.new_event_loop()
        stack.callback(self.loop.close)
        hose, plain = f"{folder}/hose", f"{folder}/plain"
        self.node = LocalSocket(LocalSocketSettings(path=hose, frame_bytes_max=1 << 40), _refuse)
        self.loop.run_until_complete(self.node.start())
        stack.callback(lambda: self.loop.run_until_complete(self.node.close()))
        listener = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
        listener.bind(plain)
        listener.listen(1)
        command = [sys.executable, "-m", "edgeagent.bench.hose_process", hose, plain]
        self.child = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        stack.callback(self.child.terminate)
        self.plain, _ = listener.accept()
        stack.callback(self.plain.close)
        while not self.node.consumers(_NAME):
            self.loop.run_until_complete(asyncio.sleep(0.001))

    def _ask(self, command: str) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(f"{command}\n".encode())
        self.child.stdin.flush()

    def _answer_ns(self) -> int:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        if not line:
            raise RuntimeError("the other process has ended")
        return int(line)

    def by_hose(self, sent: _Sent) -> float:
        self._ask("hose")
        self._answer_ns()  # it is waiting now

        async def publish() -> int:
            begun = time.monotonic_ns()
            if self.node.publish(_NAME, sent) != 1:
                raise RuntimeError("nobody takes it")
            return begun

        begun = self.loop.run_until_complete(publish())
        took_us = (self._answer_ns() - begun) / 1000
        self._answer_ns()  # released
        self.loop.run_until_complete(asyncio.sleep(0))
        return took_us

    def by_socket(self, data: memoryview) -> float:
        self._ask(f"plain {len(data)}")
        self._answer_ns()
        begun = time.monotonic_ns()
        self.plain.sendall(data)
        return (self._answer_ns() - begun) / 1000


async def _refuse(_name: str, frame: Any) -> None:
    frame.release()


@contextmanager
def _linked() -> Iterator[_Link]:
    with ExitStack() as stack:
        yield _Link(stack)


def _contestants(bench: Bench, count: int, stack: ExitStack) -> dict[str, Sampler]:
    rig = bench.share("hose-rig", opened_rig)
    link = bench.share("hose-link", _linked)
    sent = stack.enter_context(_exported(rig.ours, count))
    data = memoryview(os.pread(sent.fd, count, sent.offset))
    pid = link.child.pid
    return {
        "ours": lambda: _in_a_row(lambda: link.by_hose(sent), pid),
        "plain-socket": lambda: _in_a_row(lambda: link.by_socket(data), pid),
    }


def _in_a_row(sample: Callable[[], float], pid: int) -> Sample:
    """The median, and the cost of one in both processes."""
    cost = Cost(pid)
    median_us = statistics.median(sample() for _ in range(_IN_A_ROW))
    return median_us, cost.spent(_IN_A_ROW)[1]


@contextmanager
def _exported(side: Side, count: int) -> Iterator[_Sent]:
    payload: Any = kept(side.produce, count)
    sent = _Sent(*payload.export())
    payload.close()
    try:
        yield sent
    finally:
        os.close(sent.fd)


def process_cases() -> list[Case]:
    """From 1 MiB: smaller outputs do not lie in a hose of their own."""
    shape = Shape(unit="us", sizes=FROM_1MIB, held=4, is_rate=True)
    return sized_cases("cross-process-{}", _contestants, shape)


def _say(moment_ns: int) -> None:
    sys.stdout.write(f"{moment_ns}\n")
    sys.stdout.flush()


def _serve(hose_path: str, plain_path: str) -> None:
    """The other process: takes what it is told to take, and says when it had it."""
    plain = socket.socket(socket.AF_UNIX)
    plain.connect(plain_path)
    buffer = bytearray()
    with Hose.attach(hose_path, _NAME, role="consumer") as hose:
        for line in sys.stdin:
            word, *rest = line.split()
            if word == "hose":
                _say(0)
                taken = hose.take(timeout_s=60)
                first = taken.data[0]
                _say(time.monotonic_ns() + first * 0)
                taken.release()
                _say(0)
                continue
            wanted = int(rest[0])
            if len(buffer) != wanted:
                buffer = bytearray(b"\1") * wanted
            view, at = memoryview(buffer), 0
            _say(0)
            while at < wanted:
                at += plain.recv_into(view[at : at + _CHUNK_BYTES])
            _say(time.monotonic_ns())


if __name__ == "__main__":
    _serve(str(Path(sys.argv[1])), sys.argv[2])
