"""What a node sends to its peers, over a real hose port of this process and an HTTP that is played."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Mapping

import msgspec
import pytest

from edgeagent.model.errors import (
    BadRequest,
    EdgeError,
    NotFound,
    PeerFailed,
    StorageFull,
    TooLarge,
)
from edgeagent.node.hose_lines import Invitation
from edgeagent.node.meters import Meters
from edgeagent.node.peer_http import PeerReply
from edgeagent.node.peers import UnknownPeer
from edgeagent.node.remote_hoses import HOPS_MAX
from edgeagent.runtime.pure_call import PurePayload
from tests.unit.node.remote_rig import SMALL, Rig, new_inbox, payload, reply, run, until


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
