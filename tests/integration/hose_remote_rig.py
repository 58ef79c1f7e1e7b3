"""A hose listener on a loop of its own thread, and a peer that speaks the frames by hand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
import ipaddress
import queue
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgeagent.hose.checksum import Check, Checksum, check_of, key_of, nonce_of
from edgeagent.hose.frames import (
    FRAME_BYTES,
    RESENT,
    Data,
    Frame,
    Greeting,
    Hello,
    Offer,
    Welcome,
    decode,
    encode,
)
from edgeagent.hose.remote import (
    Allocate,
    Delivery,
    RemoteClient,
    RemoteListener,
    RemoteSettings,
    Scope,
    Ticket,
    allocate_memory,
)
from edgeagent.hose.remote_link import Link
from edgeagent.hose.tickets import client_proof

__all__ = ["MIB", "WAIT_S", "RawPeer", "Rig", "pattern", "tls_contexts"]

MIB = 1 << 20
WAIT_S = 30.0  # only reached by a test that fails
PEER = "node-a"

T = TypeVar("T")


def pattern(count: int) -> bytes:
    """Bytes that differ in each frame: their period is a prime, so that none is right in the place of another."""
    return (bytes(i % 251 for i in range(4099)) * (count // 4099 + 1))[:count]


class _Watched(RemoteListener):
    changed: threading.Condition

    def _gone(self, link: Link) -> None:
        super()._gone(link)
        with self.changed:
            self.changed.notify_all()


class Rig:
    """``deliveries`` receives what arrives, as bytes; ``refuse`` is raised instead. Plain calls from the test."""

    def __init__(
        self,
        *,
        allocate: Allocate = allocate_memory,
        tls: ssl.SSLContext | None = None,
        client_tls: ssl.SSLContext | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        **settings: Any,
    ) -> None:
        self.settings = RemoteSettings(
            **{"retry_wait_s": 0.01, "payload_bytes": MIB, "stall_s": 10.0, **settings}
        )
        self.deliveries: queue.SimpleQueue[tuple[Delivery, bytes]] = queue.SimpleQueue()
        self.refuse: Exception | None = None
        self.now_s = 1000.0
        self._client_tls = client_tls
        self._clients: list[RemoteClient] = []
        self._loop = loop or asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hose-rig")
        self._thread.start()
        self.listener = _Watched(
            self.settings,
            allocate,
            self._deliver,
            clock=lambda: self.now_s,
            random_bytes=secrets.token_bytes,
            tls=tls,
        )
        self.listener.changed = threading.Condition()
        self.port = self.run(self.listener.start())

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.submit(call).result(WAIT_S)

    def submit(self, call: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(call, self._loop)

    async def _deliver(self, delivery: Delivery) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.deliveries.put((delivery, bytes(delivery.payload)))

    def ticket(self, bytes_max: int = 1 << 30, **more: Any) -> Ticket:
        return self.listener.issue_ticket(Scope(PEER, bytes_max), **more)

    def client(self, tickets: Callable[[], Ticket] | None = None, **settings: Any) -> RemoteClient:
        async def ticket() -> Ticket:
            return (tickets or self.ticket)()

        values = {name: getattr(self.settings, name) for name in self.settings.__struct_fields__}
        client = RemoteClient(
            "127.0.0.1",
            self.port,
            ticket,
            RemoteSettings(**{**values, **settings}),
            random_bytes=secrets.token_bytes,
            tls=self._client_tls,
        )
        self._clients.append(client)
        return client

    def raw(self, **more: Any) -> RawPeer:
        return RawPeer(self.port, self.ticket(**more))

    def delivered(self) -> bytes:
        return self.deliveries.get(timeout=WAIT_S)[1]

    def wait_connections(self, count: int) -> None:
        with self.listener.changed:
            assert self.listener.changed.wait_for(lambda: len(self.listener._links) <= count, WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for client in self._clients:
                self.run(client.close())
            self.run(self.listener.stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(WAIT_S)
            self._loop.close()


class RawPeer:
    """A client by hand; ``ticket`` None stops after the greeting."""

    def __init__(self, port: int, ticket: Ticket | None, secret: bytes | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.check: Check = check_of(Checksum.CRC32, b"")
        if ticket is None:
            return
        greeting = self.read()
        assert isinstance(greeting, Greeting)
        nonce = secrets.token_bytes(16)
        proof = client_proof(ticket.id, secret or ticket.secret, nonce, greeting.nonce)
        self.write(Hello(ticket.id, nonce, proof, greeting.checksums, 0))
        self.answer = self.read()
        if isinstance(self.answer, Welcome):
            self.check = check_of(self.answer.checksum, key_of(ticket.secret, nonce, greeting.nonce))

    def write(self, frame: Frame, more: bytes = b"") -> None:
        self.sock.sendall(encode(frame) + more)

    def data(self, offer: Offer, offset: int, payload: bytes, *, flags: int = 0, good: bool = True) -> None:
        check = self.check(payload, nonce_of(1, offset, resent=bool(flags & RESENT)))
        if not good:
            check = bytes((check[0] ^ 1,)) + check[1:]
        size = len(payload)
        self.write(Data(offer.transfer, offer.generation, offset, size, size, flags, check), payload)

    def read(self) -> Frame:
        got = b""
        while len(got) < FRAME_BYTES:
            more = self.sock.recv(FRAME_BYTES - len(got))
            if not more:
                raise EOFError
            got += more
        return decode(got)

    def at_end(self) -> bool:
        """True when the listener closes the connection, however."""
        try:
            while self.sock.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def tls_contexts(directory: Path, host: str = "127.0.0.1") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A listener's and a client's context with a self-signed certificate for ``host``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hose test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / f"{time.monotonic_ns()}.pem"
    path.write_bytes(secret + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cadata=pem.decode())
    return server, client
