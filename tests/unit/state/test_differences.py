"""Two replicators find what differs between their stores, and only that travels."""

from __future__ import annotations

import hashlib

from edgeagent.state.effects import Effect, ListGroup, Load, NetworkView, PeerView, Send, Summarize
from edgeagent.state.entry import Entry, entry_of
from edgeagent.state.hlc import Version
from edgeagent.state.keys import digest_of, group_of
from edgeagent.state.messages import Chunks, CommitRequest, Differs, Digest, Listing, Others, Want
from edgeagent.state.packing import level_for, pack, unpack
from edgeagent.state.replicator import Replicator

UTC_MS = 1_790_000_000_000


class Side:
    """A replicator over a dict. Commits are not carried out: the requests are what is looked at."""

    def __init__(self, name: str, rows: dict[str, Entry]) -> None:
        self.name = name
        self.rows = rows
        self.core = Replicator(name, life=len(name))
        self.out: list[Send] = []
        self.summed = 0

    def carry(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.out.append(effect)
            elif isinstance(effect, Summarize):
                self.summed += 1
                groups: dict[str, str] = {}
                for key, entry in sorted(self.rows.items()):
                    groups[group_of(key)] = groups.get(group_of(key), "") + key + entry.version.text()
                sums = {
                    digest_of(one): hashlib.sha256(text.encode()).digest()[:8] for one, text in groups.items()
                }
                self.carry(self.core.summed(effect.token, sums))
            elif isinstance(effect, ListGroup):
                names = [
                    (k, e.version)
                    for k, e in sorted(self.rows.items())
                    if digest_of(group_of(k)) == effect.group
                ]
                self.carry(self.core.listed(effect.token, names))
            elif isinstance(effect, Load):
                self.carry(self.core.loaded(effect.token, [self.rows[key] for key in effect.keys]))


def entry(key: str, at: int, node: str = "a") -> Entry:
    return entry_of(key, key.encode(), Version(UTC_MS - at, 0, node))


def talk(a: Side, b: Side, now_s: float) -> list[Send]:
    """One round; all that was said."""
    said: list[Send] = []
    for side in (a, b):
        side.carry(side.core.tick(now_s, UTC_MS, free_bytes=1 << 20))
    while a.out or b.out:
        side, other = (a, b) if a.out else (b, a)
        send = side.out.pop(0)
        said.append(send)
        if not isinstance(send.message, CommitRequest):
            other.carry(other.core.message(side.name, send.message))
    return said


def meet(a: Side, b: Side) -> None:
    for side, other in ((a, b), (b, a)):
        side.carry(side.core.tick(0.5, UTC_MS, free_bytes=1 << 20))
        side.carry(side.core.network(NetworkView({other.name: PeerView()})))


def test_only_what_both_hold_and_what_differs_is_sent_both_ways() -> None:
    same = {f"same/{at}": entry(f"same/{at}", 5) for at in range(3)}
    a = Side(
        "a", {**same, "g/k": entry("g/k", 1), "g/mine": entry("g/mine", 1), "alone/x": entry("alone/x", 2)}
    )
    b = Side("b", {**same, "g/k": entry("g/k", 2, "b"), "g/yours": entry("g/yours", 3)})
    meet(a, b)
    said = talk(a, b, 1.0)
    assert [type(one.message) for one in said[:4]] == [Digest, Differs, Listing, Others]
    sent = {
        (one.peer, held.key)
        for one in said
        if isinstance(one.message, CommitRequest)
        for held in one.message.entries
    }
    assert sent == {("b", "g/k"), ("a", "g/k")}


def test_a_comparison_that_found_nothing_is_not_made_again_before_something_changes() -> None:
    a = Side("a", {"g/k": entry("g/k", 1), "g/mine": entry("g/mine", 1)})
    b = Side("b", {"g/k": entry("g/k", 1)})
    meet(a, b)
    assert sum(isinstance(one.message, Listing) for one in talk(a, b, 1.0)) == 1
    said = talk(a, b, 62.0)
    assert [type(one.message) for one in said] == [Digest, Differs]
    b.rows["g/k"] = entry("g/k", 0, "b")
    assert sum(isinstance(one.message, Listing) for one in talk(a, b, 123.0)) == 1


def test_a_round_that_breaks_off_begins_anew_later() -> None:
    a = Side("a", {"g/k": entry("g/k", 1)})
    b = Side("b", {"g/k": entry("g/k", 2)})
    meet(a, b)
    a.carry(a.core.tick(1.0, UTC_MS, free_bytes=0))
    digest = a.out.pop().message
    assert isinstance(digest, Digest)
    assert not a.core.failed(digest)
    a.carry(a.core.tick(62.0, UTC_MS, free_bytes=0))
    digest = a.out.pop().message
    assert isinstance(digest, Digest)
    a.carry(a.core.message("b", Differs(digest.ask, ((digest_of("g"), bytes(8)),))))
    listing = a.out.pop().message
    assert isinstance(listing, Listing)
    assert not a.core.failed(listing)
    # A group that was not asked about is nobody's business.
    a.carry(a.core.tick(123.0, UTC_MS, free_bytes=0))
    digest = a.out.pop().message
    assert isinstance(digest, Digest)
    assert not a.core.message("b", Differs(digest.ask, ((bytes(8), bytes(8)),)))


def test_the_node_whose_name_comes_first_begins() -> None:
    a, b = Side("a", {}), Side("b", {})
    meet(a, b)
    talk(a, b, 1.0)
    assert (a.summed, b.summed) == (1, 0)


def test_it_is_the_link_that_says_how_much_to_pack() -> None:
    assert (level_for(0), level_for(50e6), level_for(1e9)) == (1, 3, 1)
    assert pack(b"", 1) is None
    assert pack(b"x" * 1000, 0) is None
    packed = pack(b"x" * 100_000, 3)
    assert packed is not None
    assert unpack(packed, 100_000) == b"x" * 100_000


def test_a_want_for_what_is_not_held_is_answered() -> None:
    b = Side("b", {})
    effects = b.core.message("a", Want(1, ("g/none",)))
    assert isinstance(effects[0], Load)
    answer = b.core.loaded(effects[0].token, [])[0]
    assert isinstance(answer, Send)
    assert not isinstance(answer.message, Chunks)


def test_who_has_met_somebody_that_noticed_nothing_begins_itself() -> None:
    a, b = Side("a", {"g/k": entry("g/k", 1)}), Side("b", {"g/k": entry("g/k", 2)})
    meet(a, b)
    talk(a, b, 1.0)
    talk(a, b, 4.0)
    b.carry(b.core.network(NetworkView({"a": PeerView(reachable=False)})))
    b.carry(b.core.network(NetworkView({"a": PeerView()})))
    assert talk(a, b, 5.0) == [], "it is a's turn"
    assert [type(one.message) for one in talk(a, b, 6.1)][:1] == [Digest]


def test_what_a_request_did_not_reach_is_compared_soon() -> None:
    a, b = Side("a", {}), Side("b", {"g/k": entry("g/k", 2)})
    meet(a, b)
    talk(a, b, 1.0)
    talk(a, b, 4.0)
    b.carry(b.core.wrote([entry("g/k", 1, "b")]))
    (offer,) = (one for one in b.out)
    b.out.clear()
    b.carry(b.core.failed(offer.message))  # type: ignore[arg-type]
    b.out.clear()
    said = talk(a, b, 14.5)
    assert Digest in [type(one.message) for one in said]


def test_two_have_settled_when_what_differed_has_come() -> None:
    a, b = Side("a", {"g/k": entry("g/k", 1)}), Side("b", {"g/k": entry("g/k", 2)})
    meet(a, b)
    assert (a.core.unsettled(["b"]), b.core.unsettled(["a"])) == (["b"], ["a"])
    talk(a, b, 1.0)
    assert a.core.unsettled(["b"]) == [], "it has the newer one"
    assert b.core.unsettled(["a"]) == ["a"]
    talk(a, b, 4.0)
    assert b.core.unsettled(["a"]) == ["a"], "nobody asks any more, and it has not come"
    b.core._taken("a", [entry("g/k", 1)], custody=False)
    assert b.core.unsettled(["a"]) == []
    b.carry(b.core.network(NetworkView({"a": PeerView(reachable=False)})))
    assert b.core.unsettled(["a"]) == ["a"]


def test_who_could_not_sum_up_what_it_holds_has_not_settled() -> None:
    a, b = Side("a", {}), Side("b", {})
    meet(a, b)
    effects = a.core.tick(1.0, UTC_MS, free_bytes=1 << 20)
    (token,) = (effect.token for effect in effects if isinstance(effect, Summarize))
    a.core.summed(token, None)
    assert a.core.unsettled(["b"]) == ["b"]
