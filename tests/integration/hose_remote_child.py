"""The other process of test_hose_remote: a sender that stops half-way and says so, or a listener.

``send PORT TICKET SECRET TRANSFER TOTAL FRAMES`` sends FRAMES frames, writes a line, and waits to be killed.
``listen`` writes its port and a ticket, and takes what comes.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time

from edgeagent.hose.frames import Frame
from edgeagent.hose.remote import (
    Delivery,
    RemoteClient,
    RemoteListener,
    RemoteSettings,
    Scope,
    Ticket,
    allocate_memory,
)
from edgeagent.hose.remote_link import Link
from tests.integration.hose_remote_rig import pattern

SCOPE = Scope("node-a", 1 << 30)


async def _send(port: int, ticket: Ticket, transfer: bytes, total: int, frames: int) -> None:
    sent = 0
    write_data = Link.write_data

    def stop_half_way(self: Link, frame: Frame, payload: memoryview, after: Frame | None = None) -> None:
        nonlocal sent
        if sent == frames:
            # Half of the next frame as well: a cut in the middle of a payload.
            write_data(self, frame, payload[: len(payload) // 2])
            os.write(1, b"half\n")
            sys.stdin.read()
        sent += 1
        write_data(self, frame, payload, after)

    Link.write_data = stop_half_way  # type: ignore[method-assign]
    Link.has_runs = False  # type: ignore[method-assign,assignment]

    async def tickets() -> Ticket:
        return ticket

    client = RemoteClient("127.0.0.1", port, tickets, RemoteSettings(), random_bytes=secrets.token_bytes)
    await client.send(pattern(total), transfer=transfer)


async def _listen() -> None:
    async def deliver(_: Delivery) -> None:
        pass

    listener = RemoteListener(
        RemoteSettings(), allocate_memory, deliver, clock=time.monotonic, random_bytes=secrets.token_bytes
    )
    port = await listener.start()
    ticket = listener.issue_ticket(SCOPE, uses=10)
    os.write(1, json.dumps([port, ticket.id.hex(), ticket.secret.hex()]).encode() + b"\n")
    await asyncio.Event().wait()


if sys.argv[1] == "listen":
    asyncio.run(_listen())
else:
    _, _, port, id_, secret, transfer, total, frames = sys.argv
    given = Ticket(bytes.fromhex(id_), bytes.fromhex(secret), 0.0, SCOPE)
    asyncio.run(_send(int(port), given, bytes.fromhex(transfer), int(total), int(frames)))
