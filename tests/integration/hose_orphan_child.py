"""A sender that leaves a whole transfer and half of one at a node, says ``half``, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request

from edgeagent.hose.frames import Accept, Offer
from edgeagent.hose.remote import RemoteClient, RemoteSettings, Scope, Ticket
from tests.integration.hose_remote_rig import RawPeer

HALF = 1 << 20


def main() -> None:
    tickets = [_ticket(sys.argv[1]) for _ in range(2)]
    port = tickets[0][1]
    asyncio.run(_whole(port, tickets[0][0]))
    offer = Offer(os.urandom(16), 0, 2 * HALF, 0, 2 * HALF)
    with RawPeer(port, tickets[1][0]) as peer:
        peer.write(offer)
        assert isinstance(peer.read(), Accept)
        peer.data(offer, 0, bytes(HALF))
        sys.stdout.write("half\n")
        sys.stdout.flush()
        signal.pause()


def _ticket(url: str) -> tuple[Ticket, int]:
    asked = urllib.request.Request(f"{url}/v1/hoses/tickets", b'{"peer": "orphan"}')
    with urllib.request.urlopen(asked, timeout=30) as reply:
        given = json.load(reply)
    id_, secret = bytes.fromhex(given["ticket"]), bytes.fromhex(given["secret"])
    return Ticket(id_, secret, 60.0, Scope("orphan", given["transfer_bytes_max"])), int(given["port"])


async def _whole(port: int, ticket: Ticket) -> None:
    async def tickets() -> Ticket:
        return ticket

    client = RemoteClient("127.0.0.1", port, tickets, RemoteSettings(), random_bytes=os.urandom)
    await client.send(bytes(100_000))
    await client.close()


if __name__ == "__main__":
    main()
