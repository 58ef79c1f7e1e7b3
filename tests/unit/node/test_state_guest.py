"""Asks of edge_state and their answers: codes, payloads, layouts; the engine is the pure one's values."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
import structlog

from edgeagent.model.errors import (
    Busy,
    DeadlineExceeded,
    EdgeError,
    StorageFull,
    StoreFailed,
    TooLarge,
    Unavailable,
)
from edgeagent.model.function import Deployed, FunctionSection, Import, Manifest, ModuleInfo, State
from edgeagent.model.run_tag import RunTag
from edgeagent.node.state_fusion import Fusion
from edgeagent.node.state_guest import StateGuest
from edgeagent.node.state_session import StepSession
from edgeagent.runtime.port import Ask, AskKind, Engine, Lease, Payload
from edgeagent.runtime.pure_call import PureLease, PurePayload
from edgeagent.state.calls import Group, GroupDone
from edgeagent.state.errors import Behind, ClockAhead, Fenced, KeyTaken, NotDurable
from edgeagent.state.guest_layout import (
    HELD,
    Answered,
    Code,
    Flag,
    GuestOp,
    OpCode,
    pack_list,
)
from tests.guest_frames import pack_group, unpack_replies
from tests.unit.node.fake_state import FakeState

DEPLOYED = Deployed(
    name="step",
    sha256="0" * 64,
    abi="bytes",
    manifest=Manifest(function=FunctionSection(name="step"), state=State(prefixes=("tasks/",))),
    info=ModuleInfo(sha256="0" * 64, size_bytes=1, abi="bytes", imports=(Import("edge_state", "get"),)),
    deployed_at="2026-01-01T00:00:00Z",
)
RUN = RunTag("r1", 1)


class Desk:
    """The engine's side: notes answers."""

    def __init__(self) -> None:
        self.leases = 0
        self.no_memory = False
        self.told: asyncio.Queue[tuple[int, bytes | None]] = asyncio.Queue()
        self.payload: Payload | None = None

    def answer(self, call_id: int, status: int, payload: Payload | None = None) -> None:
        self.payload = payload
        self.told.put_nowait((status, None if payload is None else bytes(payload.read())))

    def payload_of(self, data: bytes | memoryview) -> Payload:
        return PurePayload(bytes(data), {})

    def lease(self, count: int) -> Lease:
        if self.no_memory:
            raise MemoryError
        self.leases += 1
        return PureLease(count)


class Bench:
    """A guest that asks one thing after the other."""

    def __init__(self) -> None:
        self.port = FakeState()
        self.fusion = Fusion(self.port)
        self.desk = Desk()
        self.guest = StateGuest(cast("Engine", self.desk))
        self.session: StepSession | None = None
        self.last: PurePayload | None = None

    async def begin(self, tag: RunTag | None = None) -> StepSession:
        self.session = await self.fusion.begin(DEPLOYED, tag)
        return self.session

    async def ask(
        self,
        kind: AskKind,
        name: bytes = b"",
        data: bytes | None = None,
        *,
        flags: int = 0,
        extra: bytes = b"",
    ) -> tuple[int, bytes | None]:
        self.last = None if data is None else PurePayload(data, {})
        self.guest.asked(Ask(1, "step", kind, name, flags, True, self.last, extra, self.session))
        return await self.desk.told.get()

    async def group(self, *ops: GuestOp) -> int | list[Answered]:
        status, reply = await self.ask(AskKind.STATE_GROUP, data=pack_group(ops))
        return status if reply is None else unpack_replies(reply)


def benched(test: Callable[[Bench], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @functools.wraps(test)
    def on_loop() -> None:
        async def main() -> None:
            bench = Bench()
            await test(bench)
            await bench.guest.stop()

        asyncio.run(main())

    del on_loop.__wrapped__  # pytest would ask for the bench
    return on_loop


@benched
async def test_without_a_session_state_is_off(bench: Bench) -> None:
    assert await bench.ask(AskKind.STATE_PUT, b"tasks/a", b"1") == (Code.OFF, None)
    assert bench.last is not None
    assert bench.last.kind == "", "closed"
    assert await bench.ask(AskKind.STATE_GET, b"tasks/a") == (Code.OFF, None)


@benched
async def test_values_come_and_go(bench: Bench) -> None:
    await bench.begin()
    assert await bench.ask(AskKind.STATE_GET, b"tasks/a") == (Code.NONE, None)
    assert await bench.ask(AskKind.STATE_VERSION, b"tasks/a") == (Code.NONE, None)
    assert await bench.ask(AskKind.STATE_PUT, b"tasks/a", b"one") == (0, None)
    assert bench.last is not None
    assert bench.last.kind == ""
    assert await bench.ask(AskKind.STATE_GET, b"tasks/a") == (0, b"one")
    version = bench.port.entries["tasks/a"].version.text()
    assert await bench.ask(AskKind.STATE_VERSION, b"tasks/a") == (0, version.encode())
    listing = pack_list([("tasks/a", version, 3)], more=False)
    assert await bench.ask(AskKind.STATE_LIST, b"tasks/") == (0, listing)
    assert await bench.ask(AskKind.STATE_LIST, b"tasks/", extra=b"tasks/a") == (0, pack_list([], more=False))
    assert await bench.ask(AskKind.STATE_DELETE, b"tasks/a") == (0, None)
    assert await bench.ask(AskKind.STATE_GET, b"tasks/a") == (Code.NONE, None)


@benched
async def test_a_run_holds_its_writes_and_names_its_keys(bench: Bench) -> None:
    session = await bench.begin(RUN)
    assert await bench.ask(AskKind.STATE_PUT, b"run/a", b"held") == (HELD, None)
    assert bench.last is not None
    held = bench.last
    assert held.kind == "host", "it is what will be written"
    assert await bench.ask(AskKind.STATE_GET, b"run/a") == (0, b"held")
    assert await bench.ask(AskKind.STATE_LIST, b"run/") == (0, pack_list([("run/a", "", 4)], more=False))
    await session.commit()
    session.close()
    assert bench.port.values == {"runs/r1/a": b"held"}
    assert held.kind == ""
    assert await bench.ask(AskKind.STATE_PUT, b"run/b", b"late") == (Code.FAILED, None)


@benched
async def test_cas_says_which_version_there_is(bench: Bench) -> None:
    for tag in (None, RUN):
        await bench.begin(tag)
        bench.port.set("tasks/a", b"0")
        old = bench.port.entries["tasks/a"].version.text().encode()
        status, version = await bench.ask(AskKind.STATE_CAS, b"tasks/a", b"1", extra=b"")
        assert (status, version) == (Code.VERSION, old)
        status, version = await bench.ask(AskKind.STATE_CAS, b"tasks/a", b"1", extra=old)
        assert (status, version) == (0, bench.port.entries["tasks/a"].version.text().encode())
        assert bench.port.values["tasks/a"] == b"1"
        assert await bench.ask(AskKind.STATE_GET, b"tasks/a") == (0, b"1")
        bench.port.set("tasks/a", b"2")
        assert (await bench.ask(AskKind.STATE_CAS, b"tasks/a", b"3", extra=old))[0] == Code.VERSION
        assert await bench.ask(AskKind.STATE_GET, b"tasks/a") == (0, b"2"), "it is read again"
        status, version = await bench.ask(AskKind.STATE_CAS, b"tasks/new", b"1", extra=old)
        assert (status, version) == (Code.VERSION, b"")
        assert await bench.ask(AskKind.STATE_CAS, b"tasks/a", b"3", extra=b"no version") == (Code.BAD, None)


@benched
async def test_nonsense_gets_codes(bench: Bench) -> None:
    await bench.begin()
    asks: list[tuple[AskKind, bytes, int]] = [
        (AskKind.STATE_GET, b"", Code.BAD),
        (AskKind.STATE_GET, b"\xff", Code.BAD),
        (AskKind.STATE_GET, b"tasks//a", Code.BAD),
        (AskKind.STATE_GET, b"run/a", Code.BAD),
        (AskKind.STATE_GET, b"other/a", Code.DENIED),
        (AskKind.STATE_GET, b"runs/r1/a", Code.DENIED),
        (AskKind.STATE_DELETE, b"other/a", Code.DENIED),
        (AskKind.STATE_VERSION, b"other/a", Code.DENIED),
        (AskKind.STATE_LIST, b"", Code.DENIED),
        (AskKind.STATE_LIST, b"/", Code.BAD),
        (AskKind.STATE_LIST, b"run/", Code.BAD),
    ]
    for kind, name, code in asks:
        assert await bench.ask(kind, name) == (code, None), (kind, name)
    for kind in (AskKind.STATE_PUT, AskKind.STATE_CAS):
        assert await bench.ask(kind, b"other/a", b"1") == (Code.DENIED, None)
        assert bench.last is not None
        assert bench.last.kind == ""
    for flags in (8, 128, -1, 1 << 30):
        assert await bench.ask(AskKind.STATE_PUT, b"tasks/a", b"1", flags=flags) == (Code.BAD, None)
    assert await bench.ask(AskKind.STATE_LIST, b"tasks/", extra=b"other") == (Code.DENIED, None)
    assert await bench.ask(AskKind.STATE_GROUP, data=b"no group") == (Code.BAD, None)
    assert await bench.group(GuestOp(OpCode.GET, "other/a")) == Code.DENIED
    assert await bench.group(GuestOp(OpCode.BELOW, "")) == Code.DENIED
    bad = GuestOp(OpCode.PUT, "tasks/a", b"1", Flag.EXPECT, "no version")
    assert await bench.group(bad) == Code.BAD
    assert bench.port.writes() == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (KeyTaken("x"), Code.TAKEN),
        (Fenced("x"), Code.FENCED),
        (ClockAhead("x"), Code.FENCED),
        (TooLarge("x"), Code.TOO_LARGE),
        (StorageFull("x"), Code.NO_ROOM),
        (Behind("x"), Code.BEHIND),
        (NotDurable("x"), Code.LATE),
        (Busy("x"), Code.FULL),
        (StoreFailed("x"), Code.FAILED),
        (Unavailable("x"), Code.FAILED),
        (DeadlineExceeded("x"), Code.FAILED),
        (RuntimeError("a fault of ours"), Code.FAILED),
    ],
)
def test_what_the_service_raises_is_a_code(error: EdgeError, code: Code) -> None:
    @benched
    async def case(bench: Bench) -> None:
        await bench.begin()
        bench.port.fail = error
        assert await bench.ask(AskKind.STATE_PUT, b"tasks/a", b"1") == (code, None)
        assert await bench.ask(AskKind.STATE_PUT, b"tasks/a", b"1") == (0, None)

    with structlog.testing.capture_logs() as logs:
        case()
    assert bool(logs) == (code == Code.FAILED)


@benched
async def test_a_group_outside_a_run_is_one_call(bench: Bench) -> None:
    await bench.begin()
    bench.port.set("tasks/b", b"bee")
    found = await bench.group(
        GuestOp(OpCode.PUT, "tasks/a", b"1", Flag.PEER),
        GuestOp(OpCode.GET, "tasks/b"),
        GuestOp(OpCode.GET, "tasks/none"),
        GuestOp(OpCode.BELOW, "tasks/"),
    )
    assert isinstance(found, list)
    assert [(one.status, one.key, one.value) for one in found] == [
        (0, "tasks/a", b""),
        (0, "tasks/b", b"bee"),
        (Code.NONE, "tasks/none", b""),
        (0, "tasks/a", b"1"),
        (0, "tasks/b", b"bee"),
    ]
    assert len(bench.port.groups) == 1
    taken = GuestOp(OpCode.PUT, "tasks/b", b"2", Flag.EXPECT)
    assert await bench.group(GuestOp(OpCode.PUT, "tasks/a", b"2"), taken) == Code.VERSION
    assert bench.port.values == {"tasks/a": b"1", "tasks/b": b"bee"}


@benched
async def test_a_group_in_a_run_is_held_and_read_back(bench: Bench) -> None:
    session = await bench.begin(RUN)
    for name in ("a", "b", "c"):
        bench.port.set(f"tasks/{name}", name.encode())
    found = await bench.group(
        GuestOp(OpCode.GET, "tasks/a"),
        GuestOp(OpCode.PUT, "tasks/a", b"new", ttl_ms=5),
        GuestOp(OpCode.GET, "tasks/a"),
        GuestOp(OpCode.DELETE, "tasks/b"),
        GuestOp(OpCode.PUT, "run/x", b"x"),
        GuestOp(OpCode.BELOW, "tasks/"),
    )
    assert isinstance(found, list)
    assert [(one.status, one.key, one.value) for one in found] == [
        (0, "tasks/a", b"a"),
        (HELD, "tasks/a", b""),
        (0, "tasks/a", b"new"),
        (HELD, "tasks/b", b""),
        (HELD, "run/x", b""),
        (0, "tasks/a", b"new"),
        (0, "tasks/c", b"c"),
    ]
    assert len(bench.port.groups) == 1
    again = await bench.group(GuestOp(OpCode.GET, "tasks/a"), GuestOp(OpCode.GET, "tasks/c"))
    assert isinstance(again, list)
    assert [one.value for one in again] == [b"new", b"c"]
    assert len(bench.port.groups) == 1
    bench.port.set("tasks/c", b"changed")
    assert await bench.ask(AskKind.STATE_GET, b"tasks/c") == (0, b"c"), "as this step sees it"
    fresh = await bench.group(GuestOp(OpCode.GET, "tasks/c", flags=Flag.NOW))
    assert isinstance(fresh, list)
    assert fresh[0].value == b"changed"
    assert bench.port.writes() == [{"tasks/a": b"new", "tasks/b": None, "runs/r1/x": b"x"}]
    await session.commit()
    assert len(bench.port.writes()) == 1
    held = next(op for group, _, _ in bench.port.groups for op in group.ops if op.op == "put")
    assert held.ttl_ms == 5


@benched
async def test_a_large_value_is_leased_once_for_all_who_read_it(bench: Bench) -> None:
    large = bytes(600_000)
    bench.port.set("runs/r1/large", large)
    for _ in range(2):
        await bench.begin(RUN)
        for _ in range(2):
            assert await bench.ask(AskKind.STATE_GET, b"run/large") == (0, large)
    assert bench.desk.leases == 1
    await bench.begin()
    bench.port.set("tasks/large", large)
    bench.desk.no_memory = True
    assert await bench.ask(AskKind.STATE_GET, b"tasks/large") == (0, large)


@benched
async def test_what_is_asked_when_the_node_stops_is_given_up(bench: Bench) -> None:
    class Stuck(FakeState):
        async def group(self, group: Group, *, run: str, epoch: int) -> GroupDone:
            await asyncio.Event().wait()
            raise AssertionError

    bench.fusion = Fusion(Stuck())
    await bench.begin()
    bench.guest.asked(Ask(1, "step", AskKind.STATE_GET, b"tasks/a", 0, True, None, b"", bench.session))
    await asyncio.sleep(0)
    await bench.guest.stop()
    assert bench.desk.told.empty()
