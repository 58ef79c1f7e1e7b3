"""What a node sends to its peers, over a real hose port of this process and an HTTP that is played."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec
import pytest

from edgeagent.hose.errors import HoseFault, LinkCut, NoRoom, TransferTooLarge
from edgeagent.hose.remote import Scope
from edgeagent.model.errors import (
    BadConfig,
    BadRequest,
    EdgeError,
    NotFound,
    PeerFailed,
    StorageFull,
    TooLarge,
    Unavailable,
)
from edgeagent.node import hose_inbox
from edgeagent.node.hose_inbox import HoseInbox
from edgeagent.node.hose_lines import Address, BackLine, Invitation, NoTicket, TicketRequest, address_of
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerReply
from edgeagent.node.peers import UnknownPeer, peer_url
from edgeagent.node.remote_hoses import HOPS_MAX, RemoteHoses
from edgeagent.node.shipments import NoHoses, _error_of
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


def test_one_transfer_however_many_use_it_now_or_later() -> None:
    async def test(rig: Rig) -> None:
        given = payload()
        results = await asyncio.gather(*(rig.remote.call("ground", ["f"], given) for _ in range(5)))
        await rig.remote.call("ground", ["f"], given)
        assert [bytes(r.output) for r in results] == [given.read()] * 5
        assert rig.http.got == [given.read()] * 6
        assert (rig.remote.stats.transfers, rig.there._listener.stats.transfers) == (1, 1)
        assert len(rig.there.parcels) == 1
        step = results[0].steps[0]
        assert (step.hose, step.wire_bytes, step.node) == ("wire", given.size, "there")
        rig.remote.drop(given)
        await until(lambda: len(rig.there.parcels) == 0)
        rig.remote.drop(given)
        assert len(rig.http.released) == 1

    run(test)


def test_bytes_are_released_when_the_requests_that_share_them_end() -> None:
    async def test(rig: Rig) -> None:
        data = os.urandom(5000)
        await asyncio.gather(*(rig.remote.call("ground", ["f"], data) for _ in range(3)))
        await until(lambda: len(rig.there.parcels) == 0)
        assert rig.remote.stats.transfers == 1
        await rig.remote.call("ground", ["f"], data)
        assert rig.remote.stats.transfers == 2
        await rig.remote.call("ground", ["f"], data[: SMALL - 1])
        assert rig.remote.stats.transfers == 2  # it went as the body

    run(test)


def test_a_payload_that_was_collected_is_released_and_never_mistaken_for_another() -> None:
    async def test(rig: Rig) -> None:
        given = [payload()]
        for _ in range(10):  # the next one often lies where this one lay
            await rig.remote.call("ground", ["f"], given[0])
            assert rig.http.got[-1] == given[0].read()
            del given[:]
            given.append(payload())
        gc.collect()
        await until(lambda: len(rig.there.parcels) == 0)
        assert len(rig.http.released) == rig.remote.stats.transfers == 10

    run(test)


def test_a_parcel_that_the_peer_has_lost_is_sent_again_once() -> None:
    async def test(rig: Rig) -> None:
        given = payload()
        await rig.remote.call("ground", ["f"], given)
        rig.there.parcels.clear()
        await rig.remote.call("ground", ["f"], given)
        assert rig.http.got == [given.read()] * 2
        assert rig.remote.stats.transfers == 2

        async def lost(headers: Mapping[str, str], data: bytes) -> PeerReply:
            raise NotFound("lost", parcel=headers["Edgeagent-Hose-Input"])

        rig.http.answer = lost
        with pytest.raises(NotFound):
            await rig.remote.call("ground", ["f"], given)
        assert rig.remote.stats.transfers == 3

    run(test)


def test_what_does_not_fit_there() -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(TooLarge, match="more than one transfer"):
            await rig.remote.call("ground", ["f"], payload(60_001))
        first = payload(60_000)
        await rig.remote.call("ground", ["f"], first)
        with pytest.raises(StorageFull) as full:  # the ticket was had before, so the hose refuses
            await rig.remote.call("ground", ["f"], payload(60_000))
        assert full.value.details["peer"] == "ground"
        assert full.value.retry_after_s
        assert rig.remote.stats.failed == 1
        rig.remote.drop(first)
        await until(lambda: len(rig.there.parcels) == 0)
        await rig.remote.call("ground", ["f"], payload(60_000))  # over the same line

    run(test, transfer_bytes_max=60_000, held_bytes_max=100_000)


def test_a_peer_that_listens_elsewhere_now_is_found() -> None:
    async def test(rig: Rig) -> None:
        await rig.remote.call("ground", ["f"], payload())
        old, rig.http.inbox = rig.there, new_inbox(Meters())
        await old.close()
        await rig.http.inbox.start("127.0.0.1", 0)
        try:
            given = [payload(), payload()]
            await asyncio.gather(*(rig.remote.call("ground", ["f"], one) for one in given))
            assert sorted(rig.http.got[1:]) == sorted(one.read() for one in given)
        finally:
            await rig.http.inbox.close()

    run(test)


def test_a_call_that_is_given_up_ends_its_transfer() -> None:
    async def test(rig: Rig) -> None:
        rig.http.gate = asyncio.Event()
        calls = [asyncio.create_task(rig.remote.call("ground", ["f"], payload(), wall_ms=50)) for _ in "ab"]
        for call in calls:
            with pytest.raises(EdgeError, match="deadline passed"):
                await call
        assert not rig.here._listener._shared.book  # nor is a ticket left
        del calls, call
        gc.collect()
        await until(lambda: len(rig.there.parcels) == 0)
        assert rig.http.released

    run(test, keep_s=1.0)  # a transfer that comes through after it was given up expires


def test_peers_without_hoses_get_bodies() -> None:
    async def test(rig: Rig) -> None:
        await rig.there.close()
        given = payload()
        assert (await rig.remote.call("ground", ["f"], given)).output == given.read()
        rig.http.base = "http://10.0.0.2:1"  # whose loopback is not ours: it listens there, and so do we
        await rig.http.inbox.start("127.0.0.1", 0)
        asked: list[bool] = []

        async def answer(headers: Mapping[str, str], data: bytes) -> PeerReply:
            asked.append("Edgeagent-Hose-Return" in headers)
            return reply(data)

        rig.http.answer = answer
        assert (await rig.remote.call("ground", ["f"], given)).output == given.read()
        assert asked == [False]
        assert rig.remote.stats.transfers == rig.remote.stats.failed == 0

    run(test)


def test_refusals_before_anything_is_sent() -> None:
    async def test(rig: Rig) -> None:
        with pytest.raises(UnknownPeer, match="no peer moon"):
            await rig.remote.call("moon", ["f"], payload())
        with pytest.raises(UnknownPeer):
            rig.remote.check("moon")
        with pytest.raises(BadRequest, match="8 hosts"):
            await rig.remote.call("ground", ["f"], b"", hops=HOPS_MAX)
        assert rig.http.got == []

    run(test)


@pytest.mark.parametrize("said", [{}, {"edgeagent-steps": "{"}, {"edgeagent-steps": "[1]"}])
def test_a_peer_that_is_no_edgeagent(said: dict[str, str]) -> None:
    async def test(rig: Rig) -> None:
        async def answer(headers: Mapping[str, str], data: bytes) -> PeerReply:
            return PeerReply(said, b"")

        rig.http.answer = answer
        with pytest.raises(PeerFailed, match="is it an edgeagent"):
            await rig.remote.call("ground", ["f"], b"x")

    run(test)


def test_outputs_come_back_by_hose() -> None:
    """The peer is this node as well: what it gives back goes to our own inbox."""

    async def test(rig: Rig) -> None:
        async def answer(headers: Mapping[str, str], data: bytes) -> PeerReply:
            back = msgspec.json.decode(headers["Edgeagent-Hose-Return"], type=Invitation)
            id_ = await rig.remote.give_back("127.0.0.1", back, "there", PurePayload(data, {}))
            assert id_ is not None
            return reply(b"", edgeagent_hose_output=id_)

        rig.http.answer = answer
        given = [payload(size) for size in (2000, 3000, 70_000)]
        results = await asyncio.gather(*(rig.remote.call("ground", ["f"], one) for one in given))
        for result, one in zip(results, given, strict=True):
            assert result.payload is not None
            assert result.payload.read() == one.read()
        assert len(rig.here.parcels) == 0
        assert len(rig.remote._back) == 1

        async def lies(headers: Mapping[str, str], data: bytes) -> PeerReply:
            return reply(b"", edgeagent_hose_output="00")

        rig.http.answer = lies
        with pytest.raises(PeerFailed, match="is not here"):
            await rig.remote.call("ground", ["f"], given[0])

    run(test)


def test_outputs_that_cannot_go_back_by_hose() -> None:
    async def test(rig: Rig) -> None:
        back, output = rig.here.invite("x"), payload()
        give = rig.remote.give_back
        assert await give("127.0.0.1", back, "x", payload(SMALL - 1)) is None
        elsewhere = msgspec.structs.replace(back, host="10.1.2.3")
        assert await give("127.0.0.1", elsewhere, "x", output) is None
        assert await give("", msgspec.structs.replace(back, host=""), "x", output) is None
        assert rig.remote.stats.failed == 0
        forged = msgspec.structs.replace(back, secret="00" * 32)
        assert await asyncio.gather(*(give("127.0.0.1", forged, "x", output) for _ in range(3))) == [None] * 3
        assert rig.remote.stats.failed == 3
        assert await give("127.0.0.1", back, "x", output) is not None  # over the same line

    run(test)


def test_lines_back_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.node.remote_hoses.BACK_LINES_MAX", 1)

    async def test(rig: Rig) -> None:
        invitations = [rig.here.invite("x"), rig.there.invite("x")]
        outputs = [payload() for _ in range(8)]
        ids = await asyncio.gather(
            *(
                rig.remote.give_back("127.0.0.1", invitations[i % 2], "x", output)
                for i, output in enumerate(outputs)
            )
        )
        assert len(rig.remote._back) == 1
        # One ticket opens one connection; a line that others send over is not closed under them.
        assert sum(id_ is not None for id_ in ids) >= 2

    run(test)


def test_a_full_book_of_tickets_costs_only_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(rig: Rig) -> None:
        for _ in range(4096):
            rig.here.invite("x")
        assert (await rig.remote.call("ground", ["f"], b"x")).output == b"x"

    run(test)


def test_half_a_parcel_of_nobody_and_a_whole_one_expire() -> None:
    async def test(rig: Rig) -> None:
        given = payload()
        await rig.remote.call("ground", ["f"], given)
        await until(lambda: len(rig.there.parcels) == 0)
        await rig.remote.call("ground", ["f"], given)
        assert rig.http.got == [given.read()] * 2

    run(test, keep_s=0.05)


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
