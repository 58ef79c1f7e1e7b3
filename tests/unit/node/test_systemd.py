"""sd_notify against a socket of our own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagent.node.systemd import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(20)
        yield listening


def notifier(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ})


def test_what_is_said(manager: socket.socket) -> None:
    says = notifier(manager)
    assert says.enabled
    says.ready("serving on\nhttp://x")
    assert manager.recv(100) == b"READY=1\nSTATUS=serving on http://x"
    says.ready()
    assert manager.recv(100) == b"READY=1"
    says.status("a\nREADY=0")
    assert manager.recv(100) == b"STATUS=a READY=0"
    says.stopping("draining")
    assert manager.recv(100) == b"STOPPING=1\nSTATUS=draining"
    says.stopping()
    assert manager.recv(100) == b"STOPPING=1"


def test_what_must_be_heard_waits_for_room(manager: socket.socket) -> None:
    manager.setblocking(False)
    says = notifier(manager)
    for number in range(1000):  # more than any queue of datagrams here takes
        says.status(str(number))
    says.ready()
    says.status("dropped")
    heard = []
    with contextlib.suppress(BlockingIOError):
        while True:
            heard.append(manager.recv(100))
    assert not {b"READY=1", b"STATUS=999"} & set(heard)
    says.status("next")
    assert [manager.recv(100), manager.recv(100)] == [b"READY=1", b"STATUS=next"]
    with pytest.raises(BlockingIOError):
        manager.recv(100)


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0edgeagent-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@edgeagent-test-{os.getpid()}"}).ready()
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "relative/path"])
def test_silence_where_nobody_asked(address: str | None) -> None:
    says = Notifier({} if address is None else {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    assert not says.enabled
    says.ready()
    assert says.watchdog_s == 0


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not Notifier().enabled


def test_a_manager_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}).ready()


@pytest.mark.parametrize(
    ("environ", "expected_s"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({}, 0.0),
    ],
)
def test_when_the_watchdog_is_ours(
    manager: socket.socket, environ: dict[str, str], expected_s: float
) -> None:
    assert notifier(manager, **environ).watchdog_s == expected_s


def test_the_loop_feeds_the_watchdog_while_the_node_is_healthy(manager: socket.socket) -> None:
    manager.setblocking(False)
    healthy = True

    async def main() -> None:
        nonlocal healthy
        loop = asyncio.get_running_loop()
        says = notifier(manager, WATCHDOG_USEC="2000")
        says.start_watchdog(loop, lambda: healthy)
        says.start_watchdog(loop)  # a second time is the first
        for _ in range(3):
            assert await loop.sock_recv(manager, 100) == b"WATCHDOG=1"
        healthy = False
        await asyncio.sleep(0.002)
        while True:  # what was sent before
            try:
                manager.recv(100)
            except BlockingIOError:
                break
        await asyncio.sleep(0.01)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
        says.stop_watchdog()
        says.stop_watchdog()

    asyncio.run(main())


def test_no_watchdog_no_timer(manager: socket.socket) -> None:
    async def main() -> None:
        says = notifier(manager)
        says.start_watchdog(asyncio.get_running_loop())
        says.stop_watchdog()

    asyncio.run(main())
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
