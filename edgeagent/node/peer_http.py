"""HTTP to peers that the configuration names or that membership found: bounded, without redirects, every failure a
typed error.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from edgeagent.model import errors
from edgeagent.model.decoding import UNDECODABLE
from edgeagent.node.peers import peer_url

__all__ = ["PeerHttp", "PeerReply", "error_of"]

CONNECT_S = 5.0
REPLY_S = 900.0  # longest wait without a deadline: more than any function may run
_PROBLEM_BYTES_MAX = 256 << 10
_PIECE_BYTES = 1 << 20
_FIELD_BYTES_MAX = 64 << 10  # what 32 steps say of themselves is one field


class PeerReply(msgspec.Struct, frozen=True):
    """A success; header names are lower-case."""

    headers: dict[str, str]
    body: bytes


def _by_slug(kind: type[errors.EdgeError]) -> dict[str, type[errors.EdgeError]]:
    found = {kind.slug: kind}
    for below in kind.__subclasses__():
        found |= _by_slug(below)
    return found


def error_of(peer: str, status: int, body: bytes, retry_after: str = "") -> errors.EdgeError:
    """A peer's problem document as the error that it stands for; PeerFailed where it is none."""
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
        slug = str(problem.pop("type")).removeprefix("urn:edgeagent:problem:")
        kind = _by_slug(errors.EdgeError)[slug]
        message = str(problem.pop("detail"))
    except (*UNDECODABLE, KeyError):
        return errors.PeerFailed(f"the peer {peer} answered {status} without saying why", peer=peer)
    hint = str(problem.pop("hint", ""))
    details = {key: value for key, value in problem.items() if key not in {"title", "status", "message"}}
    again_s = float(retry_after) if retry_after.isascii() and retry_after[:6].isdigit() else None
    error = kind(f"{peer}: {message}", hint=hint, retry_after_s=again_s)
    error.details.update(details)
    error.details.setdefault("peer", peer)
    return error


def _socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """One that notices a vanished host in about a minute, also while a function runs there and nothing is sent."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    return made


class PeerHttp:
    """On the event loop's thread."""

    def __init__(
        self,
        peers: Mapping[str, str],
        node_id: str,
        *,
        reply_bytes_max: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._peers = dict(peers)
        self._node_id = node_id
        self._reply_bytes_max = reply_bytes_max
        self._tls = tls
        # Emulated links: ends when something that is sent to a URL or a node would be there; raises PeerFailed.
        self.crossing: Callable[[str], Awaitable[None]] | None = None
        # Where members of the mesh are, by their ids; None: no member.
        self.member_url: Callable[[str], str | None] = lambda _: None
        self._session: aiohttp.ClientSession | None = None

    def url(self, peer: str) -> str:
        """Of a configured peer or of a member of the mesh. Raises UnknownPeer naming the peers that there are."""
        if peer not in self._peers and (member := self.member_url(peer)) is not None:
            return member
        return peer_url(self._peers, peer)

    async def cross(self, to: str) -> None:
        """The time on the way to a URL or a node, where links are emulated. Raises PeerFailed where there is no way."""
        if self.crossing is not None:
            await self.crossing(to)

    def hosts(self) -> set[str]:
        """The hosts of all peers."""
        return {urlsplit(url).hostname or "" for url in self._peers.values()}

    async def request(
        self,
        peer: str,
        method: str,
        path: str,
        body: bytes | memoryview = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 0.0,
    ) -> PeerReply:
        """The reply, with a status below 300. Raises UnknownPeer, PeerFailed when the peer
        does not answer, DeadlineExceeded, and what the peer's problem says.
        """
        return await self.request_url(
            self.url(peer), method, path, body, headers, timeout_s=timeout_s, called=peer
        )

    async def request_url(
        self,
        url: str,
        method: str,
        path: str,
        body: bytes | memoryview = b"",
        headers: Mapping[str, str] | None = None,
        *,
        timeout_s: float = 0.0,
        bytes_max: int = 0,
        called: str = "",
    ) -> PeerReply:
        """As :meth:`request`, of whoever is at a base URL (``http://HOST:PORT``); errors say ``called``, else the URL.

        The reply may have ``bytes_max`` bytes, 0: as many as any. Raises PeerFailed where the URL is none.
        """
        peer = called or url
        await self.cross(url)
        timeout = aiohttp.ClientTimeout(total=timeout_s or REPLY_S, sock_connect=CONNECT_S)
        try:
            async with self._open_session().request(
                method,
                url + path,
                data=bytes(body) if isinstance(body, memoryview) else body,
                headers={"Edgeagent-Peer": self._node_id, **(headers or {})},
                timeout=timeout,
                allow_redirects=False,
            ) as reply:
                content = await self._read(peer, reply, bytes_max or self._reply_bytes_max)
        except TimeoutError:
            if timeout_s:
                raise errors.DeadlineExceeded(f"the peer {peer} did not answer in time", peer=peer) from None
            raise errors.PeerFailed(
                f"the peer {peer} at {url} did not answer in {REPLY_S:g} s", peer=peer
            ) from None
        except aiohttp.ClientError as error:
            reason = getattr(error, "os_error", None)  # without aiohttp's words around it
            why = (reason and reason.strerror) or str(error) or type(error).__name__
            at = f" at {url}" if called else ""
            raise errors.PeerFailed(f"the peer {peer}{at} did not answer: {why[:200]}", peer=peer) from None
        await self.cross(url)
        if reply.status >= 300:
            raise error_of(peer, reply.status, content, reply.headers.get("Retry-After", ""))
        return PeerReply({key.lower(): value for key, value in reply.headers.items()}, content)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # No bound of its own on connections: calls are bounded where they come in, and a ticket must not wait
                # for a hundred calls to end.
                connector=aiohttp.TCPConnector(limit=0, socket_factory=_socket, ssl=self._tls or True),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                max_field_size=_FIELD_BYTES_MAX,
            )
        return self._session

    async def _read(self, peer: str, reply: aiohttp.ClientResponse, bytes_max: int) -> bytes:
        limit = bytes_max if reply.status < 300 else _PROBLEM_BYTES_MAX
        pieces: list[bytes] = []
        total = 0
        async for piece in reply.content.iter_chunked(_PIECE_BYTES):
            total += len(piece)
            if total > limit:
                raise errors.PeerFailed(f"the peer {peer} answered with more than {limit} bytes", peer=peer)
            pieces.append(piece)
        return b"".join(pieces)

    async def close(self) -> None:
        """Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
