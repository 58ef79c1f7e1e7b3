"""Where listeners are, tickets, what a failed transfer means, and the receiving end of a node."""

from __future__ import annotations

import asyncio
import os
import time

import msgspec
import pytest

from edgeagent.hose.errors import HoseFault, LinkCut, NoRoom, TransferTooLarge
from edgeagent.hose.remote import Scope
from edgeagent.model.errors import (
    BadConfig,
    EdgeError,
    PeerFailed,
    StorageFull,
    TooLarge,
    Unavailable,
)
from edgeagent.node import hose_inbox
from edgeagent.node.hose_lines import Address, BackLine, Invitation, NoTicket, address_of
from edgeagent.node.meters import Meters
from edgeagent.node.shipments import NoHoses, _error_of
from edgeagent.runtime.pure_call import PurePayload
from tests.unit.node.remote_rig import Rig, new_inbox, run


@pytest.mark.parametrize(
    ("asked", "said", "found"),
    [
        ("10.0.0.2", "", Address("10.0.0.2", 7, "10.0.0.2")),
        ("ground.example", "10.0.0.2", Address("10.0.0.2", 7, "ground.example")),
        ("127.0.0.1", "10.0.0.2", Address("10.0.0.2", 7, "10.0.0.2")),  # through a tunnel
        ("localhost", "127.0.0.1", Address("127.0.0.1", 7, "localhost")),
        ("10.0.0.2", "127.0.0.1", None),
        ("ground.example", "::1", None),
    ],
)
def test_where_a_listener_is(asked: str, said: str, found: Address | None) -> None:
    invitation = Invitation(ticket="", secret="", port=7, transfer_bytes_max=1, expires_s=1, host=said)
    assert address_of(asked, invitation) == found


@pytest.mark.parametrize("ticket", ["", "xy", "00" * 15])
def test_a_ticket_that_is_none(ticket: str) -> None:
    invitation = Invitation(ticket=ticket, secret="00" * 32, port=7, transfer_bytes_max=1, expires_s=1)
    with pytest.raises(NoTicket, match="no ticket"):
        invitation.as_ticket("ground")


@pytest.mark.parametrize("host", ["a b", "http://x", "x\n", "x" * 254])
def test_a_host_that_is_none(host: str) -> None:
    document = {"ticket": "", "secret": "", "port": 7, "transfer_bytes_max": 1, "expires_s": 1, "host": host}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, Invitation)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (TransferTooLarge("x"), TooLarge),
        (NoRoom("x"), StorageFull),
        (NoTicket(Unavailable("x")), Unavailable),
        (LinkCut("x"), PeerFailed),
        (HoseFault("x"), PeerFailed),
    ],
)
def test_what_a_failed_transfer_means(fault: HoseFault, kind: type[EdgeError]) -> None:
    error = _error_of(fault, "ground")
    assert type(error) is kind
    assert error.details["peer"] == "ground"


def test_an_inbox_says_what_it_cannot_do() -> None:
    async def body() -> None:
        inbox = new_inbox(Meters())
        with pytest.raises(NoHoses, match="takes no hoses"):
            inbox.invite("x")
        assert (inbox.host, inbox.port) == ("", 0)
        with pytest.raises(BadConfig, match="without TLS") as refused:
            await inbox.start("0.0.0.0", 0)
        assert "hose.tls_cert" in refused.value.hint
        await inbox.start("127.0.0.1", 0)
        for i in range(hose_inbox.PARCELS_MAX):
            inbox.parcels.add(str(i), PurePayload(b"", {}), time.monotonic())
        with pytest.raises(StorageFull):
            inbox.invite("x")
        taken = new_inbox(Meters())
        with pytest.raises(BadConfig, match="cannot listen"):
            await taken.start("127.0.0.1", inbox.port)
        await inbox.close()
        await inbox.close()
        await taken.close()

    asyncio.run(body())


def test_a_line_that_is_retired_while_it_sends() -> None:
    async def test(rig: Rig) -> None:
        invitation = rig.there.invite("x")
        line = BackLine(Address("127.0.0.1", invitation.port, "127.0.0.1"), None)
        data = os.urandom(3 << 20)
        sending = [asyncio.create_task(line.send_with(invitation.as_ticket("x"), 1, data)) for _ in "ab"]
        await asyncio.sleep(0)
        await line.retire()
        assert [report.length for report in await asyncio.gather(*sending)] == [len(data)] * 2
        with pytest.raises(LinkCut, match="closed"):
            await line.send(b"late")
        with pytest.raises(HoseFault):
            await line._ticket()
        assert Scope("x", 1).peer == "x"

    run(test)
