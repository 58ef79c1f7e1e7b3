"""Sessions of calls: what is fetched, what is served, what is written, and what never meets."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from edgeagent.model.errors import Busy, GuestStateRefused, Internal, NotAllowed, StorageFull
from edgeagent.model.function import Deployed, FunctionSection, Import, Manifest, ModuleInfo, State
from edgeagent.model.run_tag import RunTag
from edgeagent.node.meters import Meters
from edgeagent.node.state_fusion import Fusion
from edgeagent.node.state_session import StepSession, Value
from edgeagent.state.calls import Done, Group, GroupDone
from edgeagent.state.entry import Durability
from edgeagent.state.errors import BadKey, Behind, KeyTaken, NotDurable, VersionMismatch
from edgeagent.state.guest_layout import HELD, Flag
from edgeagent.state.session import read_session
from tests.unit.node.fake_state import FakeState

RUN = RunTag("r1", 1)
LATER = Flag(0)


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """The test on an event loop of its own."""

    @functools.wraps(test)
    def on_loop(*args: Any, **more: Any) -> None:
        asyncio.run(test(*args, **more))

    return on_loop


def deployed(*prefixes: str, imports: Sequence[str] = ("get", "put")) -> Deployed:
    return Deployed(
        name="step",
        sha256="0" * 64,
        abi="bytes",
        manifest=Manifest(function=FunctionSection(name="step"), state=State(prefixes=prefixes)),
        info=ModuleInfo(
            sha256="0" * 64,
            size_bytes=1,
            abi="bytes",
            imports=tuple(Import("edge_state", name) for name in imports),
        ),
        deployed_at="2026-01-01T00:00:00Z",
    )


async def put(session: StepSession, name: str, data: bytes, flags: Flag = LATER) -> int:
    return await session.write(session.key(name), Value(data), flags)


async def get(session: StepSession, name: str) -> bytes | None:
    value = await session.get(session.key(name))
    return None if value is None else await value.read()


@looped
async def test_keys_are_fetched_as_one_group_and_served_from_the_session() -> None:
    port = FakeState()
    for key in ("runs/r1/a", "runs/r1/b", "runs/r2/c", "config/limits", "tasks/x"):
        port.set(key, key.encode())
    fusion = Fusion(port)
    session = await fusion.begin(deployed("config/limits", "tasks/"), RUN)
    assert [sorted(op.key for op in group.ops) for group, _, _ in port.groups] == [
        ["config/limits", "runs/r1/a", "runs/r1/b"]
    ]
    assert port.groups[0][1:] == ("r1", 1)
    for name in ("run/a", "run/b", "runs/r1/a", "config/limits", "run/a"):
        assert await get(session, name) is not None
    assert len(port.groups) == 1
    assert await get(session, "tasks/x") == b"tasks/x"
    assert await get(session, "tasks/x") == b"tasks/x"
    assert await get(session, "tasks/none") is None
    assert await get(session, "tasks/none") is None
    assert len(port.groups) == 3
    assert (fusion.stats.reads, fusion.stats.hits, fusion.stats.prefetched) == (9, 7, 3)


@looped
async def test_the_next_step_is_not_sent_what_it_has() -> None:
    port = FakeState()
    port.set("runs/r1/a", b"once")
    port.set("config/limits", b"1")
    fusion = Fusion(port)
    for expected in ([b"1", b"once"], [b"1", b"once"]):
        session = await fusion.begin(deployed("config/limits"), RUN)
        assert [await get(session, "config/limits"), await get(session, "run/a")] == expected
    second = port.groups[1][0]
    assert [(op.key, bool(op.known)) for op in second.ops] == [("config/limits", True)], (
        "once is not asked for"
    )
    port.set("config/limits", b"2")
    session = await fusion.begin(deployed("config/limits"), RUN)
    assert await get(session, "config/limits") == b"2"


@looped
async def test_a_function_that_never_reads_is_not_fetched_for() -> None:
    port = FakeState()
    port.set("runs/r1/a", b"1")
    await Fusion(port).begin(deployed(imports=("put",)), RUN)
    assert (port.groups, port.lists) == ([], [])


@looped
async def test_what_is_large_is_left_until_it_is_read() -> None:
    port = FakeState()
    port.set("runs/r1/large", bytes(100))
    port.set("runs/r1/small", b"1")
    session = await Fusion(port, prefetch_bytes_max=50).begin(deployed(), RUN)
    assert [op.key for op in port.groups[0][0].ops] == ["runs/r1/small"]
    assert await get(session, "run/large") == bytes(100)


@looped
async def test_a_fetch_that_fails_is_made_up_for_by_reads() -> None:
    port = FakeState()
    port.set("runs/r1/a", b"1")
    port.fail = Behind("no node in reach")
    session = await Fusion(port).begin(deployed(), RUN)
    assert await get(session, "run/a") == b"1"


@looped
async def test_writes_are_one_group_at_the_end_and_read_back_before() -> None:
    port = FakeState()
    port.set("tasks/old", b"old")
    fusion = Fusion(port)
    session = await fusion.begin(deployed("tasks/"), RUN)
    assert await put(session, "run/a", b"1") == HELD
    assert await put(session, "run/b", b"2") == HELD
    assert await put(session, "run/b", b"3", Flag.PEER) == HELD
    assert await session.write(session.key("tasks/old"), None, LATER) == HELD
    assert [await get(session, name) for name in ("run/a", "run/b", "tasks/old")] == [b"1", b"3", None]
    assert port.writes() == []
    rows, more = await session.list(session.prefix("run/"), "")
    assert ([session.name(one.key) for one in rows], more) == (["run/a", "run/b"], False)
    assert (await session.list("tasks/", ""))[0] == []
    await session.commit()
    assert port.writes() == [{"runs/r1/a": b"1", "runs/r1/b": b"3", "tasks/old": None}]
    group = port.groups[-1][0]
    assert group.durability is Durability.PEER
    assert group.deadline_ms > 0
    assert {op.key: op.epoch for op in group.ops} == {"runs/r1/a": 1, "runs/r1/b": 1, "tasks/old": 0}
    assert read_session(session.token).least("runs/r1/a").wall_ms > 0
    await session.commit()
    assert len(port.writes()) == 1
    assert (fusion.stats.groups, fusion.stats.written) == (1, 3)
    session.close()


@looped
async def test_a_step_that_fails_writes_nothing() -> None:
    port = FakeState()
    session = await Fusion(port).begin(deployed(), RUN)
    await put(session, "run/a", b"1")
    session.close()
    await session.commit()
    assert port.writes() == []
    with pytest.raises(Internal):  # an ask that is still under way
        await put(session, "run/b", b"1")
    with pytest.raises(Internal):
        await put(session, "run/b", b"1", Flag.NOW)


@pytest.mark.parametrize("error", [KeyTaken("x"), VersionMismatch("x"), NotDurable("x"), BadKey("x")])
@looped
async def test_what_is_refused_anywhere_is_the_functions_failure(error: Exception) -> None:
    port = FakeState()
    session = await Fusion(port).begin(deployed(), RUN)
    await put(session, "run/a", b"1")
    port.fail = error  # type: ignore[assignment]
    with pytest.raises(GuestStateRefused, match="step"):
        await session.commit()
    port.fail = StorageFull("no room here")
    with pytest.raises(StorageFull):
        await session.commit()
    await session.commit()
    assert port.writes()[-1] == {"runs/r1/a": b"1"}


@looped
async def test_now_writes_what_was_held_before_it_first() -> None:
    port = FakeState()
    session = await Fusion(port).begin(deployed("tasks/"), RUN)
    await put(session, "tasks/a", b"1")
    assert await put(session, "tasks/b", b"2", Flag.NOW | Flag.GROUND) == Durability.LOCAL.rank
    assert port.writes() == [{"tasks/a": b"1"}, {"tasks/b": b"2"}]
    assert port.groups[-1][0].durability is Durability.GROUND
    assert await get(session, "tasks/a") == b"1"
    await put(session, "tasks/a", b"3")
    version = await session.version("tasks/a")
    assert version == port.entries["tasks/a"].version.text()
    assert port.values["tasks/a"] == b"3"
    assert await session.version("tasks/none") == ""


@looped
async def test_held_writes_are_bounded() -> None:
    session = await Fusion(FakeState()).begin(deployed(), RUN)
    for i in range(1024):
        await put(session, f"run/{i}", b"1")
    await put(session, "run/0", b"2")
    with pytest.raises(Busy):
        await put(session, "run/1024", b"1")


@looped
async def test_a_call_outside_a_run_reads_and_writes_at_once() -> None:
    port = FakeState()
    session = await Fusion(port).begin(deployed("tasks/"), None)
    assert port.groups == []
    assert await put(session, "tasks/a", b"1") == 0
    assert await get(session, "tasks/a") == b"1"
    port.set("tasks/a", b"2")
    assert await get(session, "tasks/a") == b"2"
    seen = port.entries["tasks/a"].version.text()
    port.set("tasks/a", b"3")
    assert await session.version("tasks/a") == seen, "of what was read"
    for name in ("run/a", "run/"):
        with pytest.raises(BadKey):
            session.key(name) if name == "run/a" else session.prefix(name)


@pytest.mark.parametrize("name", ["other/a", "runs/r2/a", "runs/r1", "task", "runs/r11/a"])
def test_keys_outside_the_prefixes_are_refused(name: str) -> None:
    session = asyncio.run(Fusion(FakeState()).begin(deployed("tasks/", "runs/"), RUN))
    with pytest.raises(NotAllowed):
        session.key(name)
    with pytest.raises(NotAllowed):
        session.prefix(name)
    with pytest.raises(NotAllowed):
        session.prefix("")
    assert session.key("tasks/a") == "tasks/a"
    assert session.prefix("run/") == session.prefix("runs/r1/") == "runs/r1/"


@pytest.mark.parametrize(
    "name", ["", "/a", "tasks//a", "tasks/../a", "run/", "run/../../x", "a\0", "x" * 600]
)
def test_what_is_no_key_is_refused(name: str) -> None:
    session = asyncio.run(Fusion(FakeState()).begin(deployed(""), RUN))
    with pytest.raises(BadKey):
        session.key(name)


@looped
async def test_runs_at_once_never_meet() -> None:
    port = FakeState()
    fusion = Fusion(port)

    async def step(run: str, first: bool) -> None:
        session = await fusion.begin(deployed(), RunTag(run, 1))
        if first:
            assert await get(session, "run/a") is None
            await put(session, "run/a", run.encode())
            await asyncio.sleep(0)
            assert await get(session, "run/a") == run.encode()
            await session.commit()
        else:
            assert await get(session, "run/a") == run.encode()
        session.close()

    runs = [f"run-{i}" for i in range(50)]
    for first in (True, False):
        await asyncio.gather(*(step(run, first) for run in runs))
    assert port.values == {f"runs/{run}/a": run.encode() for run in runs}


@looped
async def test_another_epoch_shares_nothing() -> None:
    port = FakeState()
    port.set("runs/r1/a", b"1")
    fusion = Fusion(port)
    await fusion.begin(deployed(), RUN)
    await fusion.begin(deployed(), RunTag("r1", 2))
    assert [op.known for op in port.groups[1][0].ops] == [""]
    fusion.forget("r1")
    await fusion.begin(deployed(), RUN)
    assert [op.known for op in port.groups[2][0].ops] == [""]


@looped
async def test_what_runs_have_read_is_bounded() -> None:
    port = FakeState()
    for i in range(20):
        port.set(f"runs/r{i}/a", bytes(100))
    fusion = Fusion(port, cache_bytes_max=450)
    sessions = [await fusion.begin(deployed(), RunTag(f"r{i}", 1)) for i in range(20)]
    assert sum(cache.size_bytes for cache in fusion._runs.values()) <= 550
    assert [await get(session, "run/a") for session in sessions] == [bytes(100)] * 20, "sessions keep theirs"
    assert len(port.groups) == 20
    many = Fusion(port, runs_max=3)
    for i in range(20):
        await many.begin(deployed(), RunTag(f"r{i}", 1))
    assert len(many._runs) <= 3


@looped
async def test_lists_go_on_after_a_key() -> None:
    port = FakeState()
    for i in range(1500):
        port.set(f"tasks/{i:04}", b"1")
    session = await Fusion(port).begin(deployed("tasks/"), RUN)
    await put(session, "tasks/0000a", b"22")
    await put(session, "tasks/9999", b"22")
    await session.write("tasks/0001", None, LATER)
    first, more = await session.list("tasks/", "")
    assert more
    second, ends = await session.list("tasks/", first[-1].key)
    assert not ends
    keys = [one.key for one in (*first, *second)]
    expected = {f"tasks/{i:04}" for i in range(1500)} - {"tasks/0001"} | {"tasks/0000a", "tasks/9999"}
    assert keys == sorted(expected)


@looped
async def test_a_service_that_talks_nonsense_is_found_out() -> None:
    class Silent(FakeState):
        async def group(self, group: Group, *, run: str, epoch: int) -> GroupDone:
            return GroupDone(results=[])

    class Lying(FakeState):
        async def group(self, group: Group, *, run: str, epoch: int) -> GroupDone:
            return GroupDone(results=[Done(key=op.key, found=True, unchanged=True) for op in group.ops])

    for port in (Silent(), Lying()):
        session = await Fusion(port).begin(deployed("tasks/"), None)
        with pytest.raises(Internal):
            await get(session, "tasks/a")


def test_it_is_counted() -> None:
    meters = Meters()
    Fusion(FakeState()).export(meters)
    assert "edgeagent_state_guest_hits" in meters.render().decode()


@looped
async def test_what_a_step_writes_is_bound_for_where_the_next_one_runs() -> None:
    told: list[tuple[Sequence[str], Sequence[str]]] = []
    fusion = Fusion(FakeState(), bound_for=lambda nodes, keys: told.append((nodes, keys)))
    for following in ((), ("n1", "n2")):
        session = await fusion.begin(deployed(), RunTag("r1", 1, following=following))
        await get(session, "run/a")
        assert told == [], "nothing was written"
        await put(session, "run/a", b"1")
        await session.commit()
    assert told == [(("n1", "n2"), ["runs/r1/a"])]
