"""A broker's socket and process: nonsense from either side, and what the system refuses."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeagent.accel import broker_link
from edgeagent.accel.arena import Arena
from edgeagent.accel.broker import Broker, BrokerSettings
from edgeagent.accel.broker_link import Link
from edgeagent.accel.broker_state import State
from edgeagent.accel.broker_wire import PACKET_BYTES_MAX, FromBroker, Ping, Ready, pack, to_node
from edgeagent.accel.errors import BrokerLost
from tests.unit.accel.gpu_double import NAME
from tests.unit.accel.test_broker import until

ROOT = Path(__file__).parents[3]


class Broken:
    """A broker process that a test talks to itself."""

    def __init__(self, *, parent: int | None = None, backend: str = NAME) -> None:
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arena = Arena(8192)
        words = [theirs.fileno(), arena.fd, arena.total_bytes, os.getpid() if parent is None else parent]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edgeagent.accel.broker_main", *map(str, words), backend, "0"],
            pass_fds=(theirs.fileno(), arena.fd),
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        arena.close_fd()

    def end(self) -> int:
        self.link.close()
        return self.process.wait(30)


def test_a_node_that_says_nonsense_is_left() -> None:
    broken = Broken()
    assert to_node(broken.link.recv(PACKET_BYTES_MAX)) == Ready("numpy 0", 1 << 30)
    broken.link.send(b"\x01nonsense")
    assert broken.link.recv(PACKET_BYTES_MAX) == b""
    assert broken.end() == 1


def test_a_node_that_goes_is_followed() -> None:
    broken = Broken()
    broken.link.recv(PACKET_BYTES_MAX)
    assert broken.end() == 0


def test_a_node_that_goes_before_the_broker_is_ready_is_followed() -> None:
    assert Broken().end() == 1  # there is nobody to tell


def test_a_broker_of_another_process_ends_at_once() -> None:
    assert Broken(parent=1).end() == 1


def linked() -> tuple[Link, socket.socket, list[FromBroker], list[str]]:
    told: list[FromBroker] = []
    lost: list[str] = []
    link = Link(Arena(8192), told.append, lost.append)
    link._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link._socket.setblocking(False)
    return link, theirs, told, lost


def on_loop(test: Any) -> Any:
    def run(monkeypatch: pytest.MonkeyPatch) -> None:
        asyncio.run(test(monkeypatch))

    run.__name__ = test.__name__
    return run


@on_loop
async def test_what_a_broker_says_is_told_and_nonsense_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    link, theirs, told, lost = linked()
    link._readable()  # nothing is there
    theirs.send(pack(Ready("x")))
    link._readable()
    assert told == [Ready("x")]
    theirs.send(b"\x01nonsense")
    link._readable()
    assert [one[:24] for one in lost] == ["the broker says nonsense"]
    theirs.send(pack(Ready("late")))
    link._readable()
    assert len(told) == len(lost) == 1
    theirs.close()
    assert await link.end()
    assert await link.end()


@on_loop
async def test_one_that_is_gone_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    link, theirs, _, lost = linked()
    theirs.close()
    with pytest.raises(BrokerLost, match="takes nothing"):
        link.send(Ping(1))
    link._readable()
    assert lost == ["the broker died"]
    await link.end()


@on_loop
async def test_a_process_that_does_not_die_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(broker_link, "_PATIENCE_S", 0.01)
    link, theirs, _, _ = linked()
    process: Any = SimpleNamespace(returncode=0, pid=0, wait=never)
    link._process = process
    assert not await link.end()
    theirs.close()


@on_loop
async def test_no_process_is_a_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refuse)
    broker = Broker(BrokerSettings(arena_bytes=8192), NAME)
    broker.want()
    await until(lambda: broker.life.state is State.BROKEN)
    assert "could not be started" in broker.life.why
    await broker.close()


def test_an_arena_without_memory_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, _size: int) -> None:
        opened.append(fd)
        raise OSError(12, "Cannot allocate memory")

    opened: list[int] = []
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(OSError, match="Cannot allocate"):
        Arena(8192)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(opened[0])
