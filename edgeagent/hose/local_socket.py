"""The hose socket: other processes of this host feed hoses and are fed from them (docs/hose-socket.md).

A frame is a memfd that is sealed against every change; its descriptor travels, its bytes do not. This is the shell
of the protocol in ``messages``: it owns the listener and the sessions, and hands descriptors on. It maps nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import structlog

from edgeagent.hose.descriptors import check_frame
from edgeagent.hose.local_peer import (
    Frame,
    LocalSocketSettings,
    LocalSocketStats,
    OnFrame,
    OnProducer,
    Payload,
    Peer,
    Shared,
)
from edgeagent.hose.messages import BadMessage, Refusal, Role
from edgeagent.model.errors import BadConfig

__all__ = [
    "Accepts",
    "Frame",
    "LocalSocket",
    "LocalSocketSettings",
    "LocalSocketStats",
    "OnFrame",
    "OnProducer",
    "Payload",
    "Role",
]

log = structlog.get_logger("hose")

Accepts = Callable[[str], bool]
BACKLOG = 64
ACCEPT_BURST = 16
ACCEPT_RETRY_S = 0.1


class LocalSocket:
    """``on_frame(hose name, frame)`` is awaited for each frame, one at a time and in order for each producer, and
    must see to it that the frame is released; where it raises, or is cancelled by ``close``, the frame is released for
    it. ``accepts(hose name)`` tells whether there is such a hose; ``on_producer(hose name, producer, present)`` is
    called when a producer has attached, and when it has gone and all of its frames are delivered.

    All methods on the loop's thread.
    """

    def __init__(
        self,
        settings: LocalSocketSettings,
        on_frame: OnFrame,
        accepts: Accepts = lambda _: True,
        on_producer: OnProducer = lambda *_: None,
    ) -> None:
        self.settings = settings
        self.stats = LocalSocketStats()
        self.on_frame = on_frame
        self.on_producer = on_producer
        self._accepts = accepts
        self._peers: set[Peer] = set()
        self._listener: socket.socket | None = None
        self._inode: tuple[int, int] | None = None

    async def start(self) -> None:
        """Listen. Raises BadConfig when the path cannot be used or another process listens there."""
        path = self.settings.path
        _remove_stale(path)
        self._listener = _listen(path, 0o666 if self.settings.allowed_uids else 0o600)
        self._inode = _inode_of(path)
        self._accept_on()

    async def close(self) -> None:
        """Stop listening, end every session, release what was not delivered, remove the socket."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
            if _inode_of(self.settings.path) == self._inode:  # not what another node has put there meanwhile
                with contextlib.suppress(
                    OSError
                ):  # a read-only file system: the next start takes it for stale
                    _unlink(self.settings.path)
        await asyncio.gather(*(peer.stop() for peer in list(self._peers)))

    def publish(self, hose_name: str, payload: Payload) -> int:
        """Give the payload to every consumer of the hose; returns how many there are.

        The payload is the socket's from here on: ``release`` is called once. Consumers can read the whole memfd, not
        only the range. Raises ValueError, after the release, when it is not sealed against every change.
        """
        try:
            check_frame(payload.fd, payload.offset, payload.bytes)
        except BadMessage as error:
            payload.release()
            raise ValueError(f"not fit to be published: {error}") from None
        consumers = [
            peer
            for peer in self._peers
            if peer.is_open and peer.name == hose_name and peer.role is Role.CONSUMER
        ]
        if not consumers:
            payload.release()
            return 0
        shared = Shared(payload, len(consumers))
        for peer in consumers:
            peer.offer(shared)
        return len(consumers)

    def consumers(self, hose_name: str) -> int:
        """How many consumers of the hose are attached: whether it is worth making a payload."""
        return sum(
            peer.is_open and peer.name == hose_name and peer.role is Role.CONSUMER for peer in self._peers
        )

    # ---- what sessions ask for ----

    def greeted(self, peer: Peer) -> None:
        """Refuse, by BadMessage, a peer that wants a hose that does not exist."""
        if not self._accepts(peer.name):
            raise BadMessage(Refusal.UNKNOWN_HOSE, f"there is no hose {peer.name}")

    def gone(self, peer: Peer) -> None:
        """A place is free again."""
        self._peers.discard(peer)
        self.stats.peers = len(self._peers)

    # ---- the listener ----

    def _accept_on(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._on_connections)

    def _on_connections(self) -> None:
        for _ in range(ACCEPT_BURST):
            if self._listener is None:
                return
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(error)
                return
            sock.setblocking(False)
            self._admit(sock)

    def _pause_accepting(self, error: OSError) -> None:
        # No descriptor or no memory: the connection stays in the queue, and the loop must not spin on it.
        log.warning("hose_accept_failed", error=str(error))
        loop = asyncio.get_running_loop()
        if self._listener is not None:
            loop.remove_reader(self._listener)
        loop.call_later(ACCEPT_RETRY_S, self._accept_on)

    def _admit(self, sock: socket.socket) -> None:
        peer = Peer(self, sock)
        same_process = sum(other.pid == peer.pid for other in self._peers)
        self._peers.add(peer)
        self.stats.peers = len(self._peers)
        if peer.uid != os.geteuid() and peer.uid not in self.settings.allowed_uids:
            peer.refuse(Refusal.FOREIGN, f"user {peer.uid} may not attach to this node's hoses")
        elif len(self._peers) > self.settings.peers_max:
            peer.refuse(Refusal.BUSY, f"{self.settings.peers_max} sessions are open")
        elif peer.pid and same_process >= self.settings.peers_per_process_max:  # 0: of another pid namespace
            peer.refuse(Refusal.BUSY, f"a process has at most {same_process} sessions")


def _listen(path: str, mode: int) -> socket.socket:
    """A listener; who may attach is decided by credentials, the mode only spares others the refusal."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        listener.bind(path)
        Path(path).chmod(mode)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise BadConfig(
            f"the hose socket {path!r} cannot be made: {error}",
            hint="a path of at most 107 bytes in a directory that the node may write to",
        ) from None
    listener.setblocking(False)
    return listener


def _remove_stale(path: str) -> None:
    """Remove the socket of a node that has died; raises BadConfig when one is alive."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.ECONNREFUSED and Path(path).is_socket():
                _unlink(path)
                return
            if error.errno != errno.EAGAIN:  # else: its queue is full, so somebody has it
                raise BadConfig(f"the hose socket {path!r} cannot be made: {error}") from None
    raise BadConfig(f"another process listens at {path!r}", hint="give each node its own hose socket")


def _inode_of(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _unlink(path: str) -> None:
    Path(path).unlink(missing_ok=True)
