"""The journal: what is kept, what is dropped, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from edgeagent.model.errors import Busy, KeyReused, StorageFull
from edgeagent.state.invocations import CLOCK_SET_MS, Finished, Invocations, JournalBounds, Totals
from edgeagent.state.store import Store

NOW_MS = CLOCK_SET_MS + 1_000_000
BOUNDS = JournalBounds(records_max=1000, bytes_max=1 << 20, ttl_ms=10_000, attempts_max=3)


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def with_journal(
    tmp_path: Path,
    scenario: Callable[[Invocations, Clock], Awaitable[None]],
    bounds: JournalBounds = BOUNDS,
) -> None:
    async def main() -> None:
        store = Store(tmp_path / "db")
        await store.open()
        clock = Clock()
        try:
            await scenario(Invocations(store, bounds, clock), clock)
        finally:
            await store.close()

    asyncio.run(main())


async def submit(
    journal: Invocations, name: str, key: str | None = None, body: bytes = b"in", print_: bytes = b"f"
) -> str:
    return await journal.submit(
        name, key=key, fingerprint=print_, function="fn", body=body, args=b'["a"]', wall_ms=12.5
    )


async def done(journal: Invocations, name: str, output: bytes = b"out") -> None:
    assert await journal.begin(name) is not None
    await journal.finish(name, Finished(output=output, duration_us=7))


def test_a_life_from_queued_to_succeeded(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        assert await submit(journal, "i1") == "i1"
        record = await journal.get("i1")
        assert record is not None
        assert (record.state, record.input, record.args, record.wall_ms) == ("queued", b"", b'["a"]', 12.5)
        begun = await journal.begin("i1")
        assert begun is not None
        assert (begun.state, begun.attempts, begun.input) == ("running", 1, b"in")
        assert await journal.begin("i1") is None
        clock.now_ms += 5
        await journal.finish("i1", Finished(output=memoryview(b"out"), duration_us=7, exit_code=0))
        record = await journal.get("i1")
        assert record is not None
        assert record.is_finished
        assert (record.state, record.input, record.output) == ("succeeded", b"", b"out")
        assert (record.created_ms, record.finished_ms, record.duration_us) == (NOW_MS, NOW_MS + 5, 7)
        assert await journal.get("absent") is None
        assert await journal.begin("absent") is None

    with_journal(tmp_path, scenario)


def test_a_failure_keeps_its_problem(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        await submit(journal, "i1")
        await journal.begin("i1")
        await journal.finish("i1", Finished(problem=b'{"status":500}', exit_code=3))
        record = await journal.get("i1")
        assert record is not None
        assert (record.state, record.problem, record.exit_code) == ("failed", b'{"status":500}', 3)

    with_journal(tmp_path, scenario)


def test_a_key_names_one_invocation(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        ids = await asyncio.gather(*(submit(journal, f"i{n}", key="k") for n in range(20)))
        assert len(set(ids)) == 1
        assert (await journal.totals()).records == 1
        with pytest.raises(KeyReused):
            await submit(journal, "j", key="k", print_=b"other")
        with pytest.raises(KeyReused):
            await journal.by_key("k", b"other")
        assert await journal.by_key("unknown", b"f") is None
        held = await journal.by_key("k", b"f")
        assert held is not None
        assert held.id == ids[0]

    with_journal(tmp_path, scenario)


def test_a_synchronous_result_is_kept_under_its_key(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        finished = Finished(output=b"r" * 100_000, duration_us=9)
        await journal.keep("i1", key="k", fingerprint=b"f", function="fn", finished=finished)
        again = Finished(output=b"second")
        await journal.keep("i2", key="k", fingerprint=b"f", function="fn", finished=again)
        record = await journal.by_key("k", b"f")
        assert record is not None
        assert (record.id, record.output, record.state) == ("i1", b"r" * 100_000, "succeeded")
        with pytest.raises(KeyReused):
            await journal.keep("i3", key="k", fingerprint=b"g", function="fn", finished=again)

    with_journal(tmp_path, scenario)


def test_totals_follow_every_change(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        assert await journal.totals() == Totals(0, 0, 0)
        await submit(journal, "i1", body=b"x" * 100)
        one = await journal.totals()
        assert (one.records, one.pending) == (1, 1)
        assert one.bytes == 512 + 100 + 5
        await done(journal, "i1", b"y" * 50)
        assert await journal.totals() == Totals(1, 0, 512 + 50)
        clock.now_ms += 10_001
        assert await journal.sweep() == 1
        assert await journal.totals() == Totals(0, 0, 0)

    with_journal(tmp_path, scenario)


def test_finished_ones_go_oldest_first_and_waiting_ones_never(tmp_path: Path) -> None:
    bounds = msgspec.structs.replace(BOUNDS, records_max=4)

    async def scenario(journal: Invocations, clock: Clock) -> None:
        for name in ("a", "b", "c", "d"):
            await submit(journal, name)
        with pytest.raises(Busy) as refused:
            await submit(journal, "e")
        assert refused.value.retry_after_s
        await done(journal, "b")
        await done(journal, "a")
        await submit(journal, "e")
        assert await journal.get("a") is None
        await submit(journal, "f")
        assert await journal.get("b") is None
        with pytest.raises(Busy):
            await submit(journal, "g")
        for name in ("c", "d", "e", "f"):
            assert await journal.get(name) is not None

    with_journal(tmp_path, scenario, bounds)


def test_bytes_are_bounded(tmp_path: Path) -> None:
    bounds = msgspec.structs.replace(BOUNDS, bytes_max=10_000)

    async def scenario(journal: Invocations, clock: Clock) -> None:
        await submit(journal, "a", body=b"x" * 4000)
        await done(journal, "a", b"y" * 4000)
        await submit(journal, "b", body=b"x" * 8000)
        assert await journal.get("a") is None
        with pytest.raises(StorageFull, match="bytes_max"):
            await submit(journal, "c", body=b"x" * 4000)
        with pytest.raises(StorageFull):
            await journal.keep(
                "k", key="k", fingerprint=b"f", function="fn", finished=Finished(output=b"o" * 4000)
            )
        # An accepted one keeps its result, whatever its size.
        await done(journal, "b", b"z" * 20_000)
        record = await journal.get("b")
        assert record is not None
        assert len(record.output) == 20_000
        await submit(journal, "d")
        assert await journal.get("b") is None

    with_journal(tmp_path, scenario, bounds)


def test_runs_that_were_cut_off_wait_again_until_they_were_tried_too_often(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        await submit(journal, "waits")
        await submit(journal, "kills")
        for attempt in (1, 2, 3):
            begun = await journal.begin("kills")
            assert begun is not None
            assert begun.attempts == attempt
            expected = ["waits", "kills"] if attempt < 3 else ["waits"]
            assert await journal.recover() == expected
        record = await journal.get("kills")
        assert record is not None
        assert (record.state, record.input) == ("failed", b"")
        assert msgspec.json.decode(record.problem or b"")["status"] == 500

    with_journal(tmp_path, scenario)


def test_runs_that_the_node_stopped_were_no_attempts(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        await submit(journal, "a")
        await journal.begin("a")
        await journal.put_back(["a", "unknown"])
        await journal.put_back([])
        record = await journal.get("a")
        assert record is not None
        assert (record.state, record.attempts) == ("queued", 0)

    with_journal(tmp_path, scenario)


def test_a_clock_that_was_set_late_ages_nothing_at_once(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        clock.now_ms = 60_000  # a boot in 1970
        await submit(journal, "a")
        await done(journal, "a")
        assert await journal.sweep() == 0
        clock.now_ms = NOW_MS
        assert await journal.sweep() == 0
        assert await journal.get("a") is not None
        clock.now_ms += 10_001
        assert await journal.sweep() == 1

    with_journal(tmp_path, scenario)


def test_space_is_given_back_to_the_file_system(tmp_path: Path) -> None:
    async def scenario(journal: Invocations, clock: Clock) -> None:
        for n in range(10):
            await submit(journal, f"i{n}", body=b"x" * 50_000)
            await done(journal, f"i{n}", b"y" * 50_000)
        clock.now_ms += 10_001
        assert await journal.sweep() == 10

    with_journal(tmp_path, scenario)
    assert (tmp_path / "db").stat().st_size < 200_000


def test_results_of_any_size(tmp_path: Path) -> None:
    bounds = msgspec.structs.replace(BOUNDS, bytes_max=1 << 30)

    async def scenario(journal: Invocations, clock: Clock) -> None:
        body = bytes(range(256)) * (16 << 12)  # 16 MiB
        await submit(journal, "a", body=body)
        await done(journal, "a", body)
        record = await journal.get("a")
        assert record is not None
        assert record.output == body

    with_journal(tmp_path, scenario, bounds)
