"""The steps of a chain, framed items, peers of the configuration, and the table of parcels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagent.model.errors import (
    BadConfig,
    BadRequest,
    Busy,
    Conflict,
    GuestTrap,
    NotFound,
    PeerFailed,
    StorageFull,
    TooLarge,
)
from edgeagent.node.items import items_bytes, read_items, write_items
from edgeagent.node.parcels import Parcels
from edgeagent.node.peer_http import error_of
from edgeagent.node.peers import UnknownPeer, checked_peers, peer_url, split_peers
from edgeagent.node.steps import Leg, Target, legs_of, parse_step


def test_steps_as_users_write_them() -> None:
    assert parse_step("b") == (Target("b"),)
    assert parse_step("b@ground") == (Target("b", "ground"),)
    assert parse_step(" b + c@ground") == (Target("b"), Target("c", "ground"))
    assert str(Target("c", "ground")) == "c@ground"
    for wrong in ("", "+", "a+", "a@", "@a", "A", "a@b@c", "a b", "x" * 64, "a,b"):
        with pytest.raises(BadRequest, match="no step of a chain"):
            parse_step(wrong)


def test_consecutive_steps_of_one_peer_go_there_together() -> None:
    steps = [parse_step(text) for text in ("a", "b@g", "c@g", "d@h", "e+f@h", "g@h")]
    assert legs_of(steps) == [
        Leg((steps[0],)),
        Leg((steps[1], steps[2])),
        Leg((steps[3],)),
        Leg((steps[4],)),
        Leg((steps[5],)),
    ]
    with pytest.raises(BadRequest, match="at most 32"):
        legs_of([parse_step("a+b")] * 17)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_items_come_back_as_they_were(items: list[bytes]) -> None:
    framed = bytearray(items_bytes([len(item) for item in items]))
    write_items(memoryview(framed), items)
    assert [bytes(item) for item in read_items(bytes(framed))] == items
    if items:
        with pytest.raises(BadRequest, match="are cut"):
            read_items(bytes(framed) + b"x")


@given(st.binary(max_size=60))
def test_any_bytes_are_items_or_refused(data: bytes) -> None:
    try:
        items = read_items(data)
    except BadRequest:
        return
    assert items_bytes([len(item) for item in items]) == len(data)


def test_an_item_has_a_length_of_32_bits() -> None:
    with pytest.raises(TooLarge):
        items_bytes([1 << 32])


def test_peers_of_a_configuration() -> None:
    split = split_peers(" ground=http://10.0.0.2:8480/, relay=https://[::1]:8480 ,")
    peers = checked_peers(split)
    assert peers == {"ground": "http://10.0.0.2:8480", "relay": "https://[::1]:8480"}
    assert peer_url(peers, "ground") == "http://10.0.0.2:8480"
    assert split_peers("") == {}
    with pytest.raises(UnknownPeer, match="no peer moon") as unknown:
        peer_url(peers, "moon")
    assert "ground, relay" in unknown.value.hint
    assert (unknown.value.status, unknown.value.details["peers"]) == (400, ["ground", "relay"])
    for wrong in (
        "ground", "=http://a", "A=http://a", "a=ftp://a", "a=http://", "a=http://u:p@h", "a=http://h/x", "a=http://h?x",
        "a=http://h:99999", "a=http://h,a=http://i", "a=http://h h", "a=http://h\x7f",
    ):  # fmt: skip
        with pytest.raises(BadConfig, match=r"hose\.peers"):
            checked_peers(split_peers(wrong))
    with pytest.raises(BadConfig, match=r"f: hose\.peers: 'a' = '1'"):
        checked_peers({"a": 1}, source="f")
    with pytest.raises(BadConfig, match="1025 entries"):
        checked_peers({str(i): "http://h" for i in range(1025)})


class Box:
    def __init__(self, size: int) -> None:
        self.size = size
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def table(**more: float) -> Parcels[Box]:
    return Parcels(**{"count_max": 2, "bytes_max": 100, "keep_s": 10.0, **more})  # type: ignore[arg-type]


def test_a_parcel_is_used_until_its_sender_lets_go() -> None:
    parcels, box = table(), Box(5)
    parcels.add("a", box, 0.0)
    assert parcels.use("a") is box
    assert parcels.use("a") is box
    parcels.release("a")
    with pytest.raises(NotFound, match="no parcel"):
        parcels.use("a")
    parcels.done("a", 1.0)
    assert (box.closed, parcels.bytes) == (0, 5)
    parcels.done("a", 1.0)
    assert (box.closed, parcels.bytes, len(parcels)) == (1, 0, 0)
    parcels.release("a")  # twice, or of nobody


def test_parcels_come_and_go_on_several_threads() -> None:
    parcels = table(count_max=10_000, bytes_max=1 << 20)
    boxes = [[Box(1) for _ in range(500)] for _ in range(4)]

    def come_and_go(number: int) -> None:
        for at, box in enumerate(boxes[number]):
            id_ = f"{number}-{at}"
            parcels.add(id_, box, float(at))
            parcels.use(id_)
            parcels.expire(0.0)  # looks at all of them
            parcels.release(id_)
            parcels.done(id_, float(at))

    with ThreadPoolExecutor(len(boxes)) as pool:
        list(pool.map(come_and_go, range(len(boxes))))
    assert (parcels.bytes, len(parcels)) == (0, 0)
    assert all(box.closed == 1 for some in boxes for box in some)


def test_a_parcel_that_is_taken_is_the_takers() -> None:
    parcels, box = table(), Box(5)
    parcels.add("a", box, 0.0)
    assert parcels.take("a") is box
    assert (box.closed, parcels.bytes) == (0, 0)
    with pytest.raises(NotFound):
        parcels.take("a")
    parcels.add("used", box, 0.0)
    parcels.use("used")
    with pytest.raises(NotFound, match="in use"):
        parcels.take("used")
    parcels.done("used", 1.0)
    assert parcels.take("used") is box
    parcels.done("gone", 1.0)  # the node stopped meanwhile


def test_nobody_came() -> None:
    parcels, old, used = table(), Box(5), Box(6)
    parcels.add("old", old, 0.0)
    parcels.add("used", used, 0.0)
    parcels.use("used")
    assert parcels.expire(9.9) == 0
    assert parcels.expire(10.0) == 1
    assert (old.closed, used.closed) == (1, 0)
    parcels.done("used", 20.0)
    assert parcels.expire(29.0) == 0
    parcels.clear()
    assert used.closed == 1


def test_parcels_are_bounded() -> None:
    parcels = table()
    parcels.add("a", Box(60), 0.0)
    with pytest.raises(StorageFull, match="60 bytes"):
        parcels.add("b", Box(41), 0.0)
    parcels.add("b", Box(40), 0.0)
    with pytest.raises(StorageFull, match="2 parcels"):
        parcels.check_room(0)
    with pytest.raises(Conflict, match="here already"):
        parcels.add("a", Box(0), 0.0)


def test_what_a_peer_says_went_wrong() -> None:
    trap = GuestTrap("boom", hint="mend it", code=3, backtrace=[])
    import json

    error = error_of("ground", 500, json.dumps(trap.problem()).encode())
    assert isinstance(error, GuestTrap)
    assert error.message == "ground: boom"
    assert (error.hint, error.details["code"], error.details["peer"]) == ("mend it", 3, "ground")
    busy = error_of("ground", 429, json.dumps(Busy("full").problem()).encode(), "2")
    assert isinstance(busy, Busy)
    assert busy.retry_after_s == 2
    for body in (
        b"",
        b"<html>",
        b"[]",
        b'{"type": "urn:x"}',
        b'{"type": "urn:edgeagent:problem:new", "detail": "x"}',
    ):
        assert isinstance(error_of("ground", 500, body), PeerFailed)
