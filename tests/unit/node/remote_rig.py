"""A node's RemoteHoses against a real hose port of this process and an HTTP that is played."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from edgeagent.node.hose_inbox import HoseInbox
from edgeagent.node.hose_lines import TicketRequest
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerReply
from edgeagent.node.peers import peer_url
from edgeagent.node.remote_hoses import RemoteHoses
from edgeagent.runtime.pure_call import PureLease, PurePayload

SMALL = 1000
STEP = {
    "function": "f",
    "duration_us": 3,
    "cold": False,
    "hose": "share",
    "copied_bytes": 1,
    "mapped_bytes": 2,
    "bytes_in": 4,
    "bytes_out": 5,
}


class Leases:
    def lease(self, count: int) -> PureLease:
        return PureLease(count)


def new_inbox(meters: Meters, **bounds: Any) -> HoseInbox:
    known: dict[str, Any] = {
        "transfer_bytes_max": 1 << 22,
        "held_bytes_max": 1 << 23,
        "keep_s": 60.0,
        "tls": None,
    }
    return HoseInbox(Leases(), meters, **{**known, **bounds})  # type: ignore[arg-type]


class PlayedHttp:
    """Implements what RemoteHoses uses of PeerHttp, for one peer, ``ground``, and keeps what its functions got."""

    def __init__(self, inbox: HoseInbox) -> None:
        self.inbox = inbox
        self.base = "http://127.0.0.1:1"
        self.got: list[bytes] = []
        self.released: list[str] = []
        self.gate: asyncio.Event | None = None
        self.answer: Callable[[Mapping[str, str], bytes], Awaitable[PeerReply]] | None = None

    def url(self, peer: str) -> str:
        return peer_url({"ground": self.base}, peer)

    def hosts(self) -> set[str]:
        return {"127.0.0.1"}

    async def cross(self, to: str) -> None:
        """No emulated links here."""

    async def request(
        self,
        peer: str,
        method: str,
        path: str,
        body: bytes | memoryview = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 0.0,
    ) -> PeerReply:
        self.url(peer)
        await asyncio.sleep(0)
        if path == "/v1/hoses/tickets":
            wanted = msgspec.json.decode(body, type=TicketRequest)
            return PeerReply({}, msgspec.json.encode(self.inbox.invite(wanted.peer, count=wanted.bytes)))
        if method == "DELETE":
            self.released.append(path.rpartition("/")[2])
            self.inbox.parcels.release(self.released[-1])
            return PeerReply({}, b"")
        if self.gate is not None:
            await self.gate.wait()
        headers = headers or {}
        data = bytes(body)
        if id_ := headers.get("Edgeagent-Hose-Input"):
            data = bytes(self.inbox.parcels.use(id_).read())
            self.inbox.parcels.done(id_, time.monotonic())
        self.got.append(data)
        if self.answer is not None:
            return await self.answer(headers, data)
        return reply(data)

    async def close(self) -> None:
        pass


def reply(body: bytes, **headers: str) -> PeerReply:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return PeerReply({"edgeagent-steps": json.dumps([STEP]), "edgeagent-node": "there", **named}, body)


class Rig:
    """``there`` is the peer's inbox, ``here`` this node's."""

    def __init__(self, **bounds: Any) -> None:
        meters = Meters()
        self.there = new_inbox(Meters(), **bounds)
        self.here = new_inbox(meters)
        self.http = PlayedHttp(self.there)
        self.remote = RemoteHoses(
            self.http,  # type: ignore[arg-type]
            self.here,
            meters,
            node_id="here",
            bytes_min=SMALL,
            tls=None,
        )

    async def received(self) -> int:
        return self.there._listener.stats.transfers


@contextlib.asynccontextmanager
async def started(**bounds: Any) -> AsyncIterator[Rig]:
    rig = Rig(**bounds)
    await rig.there.start("127.0.0.1", 0)
    await rig.here.start("127.0.0.1", 0)
    try:
        yield rig
    finally:
        await rig.remote.close()
        await rig.here.close()
        await rig.there.close()


def run(test: Callable[[Rig], Awaitable[None]], **bounds: Any) -> None:
    async def body() -> None:
        async with asyncio.timeout(30), started(**bounds) as rig:
            await test(rig)

    asyncio.run(body())


def payload(size: int = 50_000) -> PurePayload:
    return PurePayload(os.urandom(size), {})


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until it is so; bounded by the test's timeout."""
    while not true():  # noqa: ASYNC110 - it happens on other threads too
        await asyncio.sleep(0.001)
