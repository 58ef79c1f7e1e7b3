"""The store: group commit, isolation between callers, full disks, damaged files."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from edgeagent.model.errors import KeyReused, StorageFull, StoreFailed
from edgeagent.state import database
from edgeagent.state.database import Failure, SyncLost
from edgeagent.state.schema import MIGRATIONS
from edgeagent.state.store import Store

TABLE = ("CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB);",)
Scenario = Callable[[Store], Awaitable[None]]


def with_store(path: Path, scenario: Scenario, **options: Any) -> None:
    async def main() -> None:
        store = Store(path, migrations=TABLE, **options)
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    asyncio.run(main())


def put(number: int, body: bytes = b"") -> database.Work:
    return lambda c: c.execute("INSERT INTO t VALUES (?, ?)", (number, body)).rowcount


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def test_what_was_written_is_there_after_a_reopening(tmp_path: Path) -> None:
    async def write(store: Store) -> None:
        assert await store.write(put(1, b"x")) == 1
        assert await store.read(numbers) == [1]

    async def read(store: Store) -> None:
        assert await store.read(numbers) == [1]

    with_store(tmp_path / "db", write)
    with_store(tmp_path / "db", read)


def test_every_commit_reaches_the_disk(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        assert await store.write(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]) == 2
        assert await store.write(lambda c: c.execute("PRAGMA journal_mode").fetchone()[0]) == "wal"

    with_store(tmp_path / "db", scenario)


def test_callers_that_wait_share_a_commit(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        held, go_on = threading.Event(), threading.Event()

        def hold(connection: sqlite3.Connection) -> None:
            held.set()
            assert go_on.wait(20)

        first = asyncio.ensure_future(store.write(hold))
        await asyncio.to_thread(held.wait, 20)
        others = [asyncio.ensure_future(store.write(put(n))) for n in range(200)]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *others)
        assert store.writes == 201
        assert store.commits == 2
        assert await store.read(numbers) == list(range(200))

    with_store(tmp_path / "db", scenario)


def test_a_caller_that_raises_undoes_its_own_statements_alone(tmp_path: Path) -> None:
    def fails(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (100, x'')")
        raise KeyReused("no")

    async def scenario(store: Store) -> None:
        results = await asyncio.gather(
            store.write(put(1)),
            store.write(fails),
            store.write(put(1)),
            store.write(put(2)),
            return_exceptions=True,
        )
        assert results[0] == results[3] == 1
        assert isinstance(results[1], KeyReused)
        assert isinstance(results[2], StoreFailed)  # UNIQUE constraint
        assert "UNIQUE" in results[2].message
        assert await store.read(numbers) == [1, 2]

    with_store(tmp_path / "db", scenario)


def test_a_full_disk_refuses_what_does_not_fit_and_nothing_else(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        results = await asyncio.gather(
            store.write(put(1, b"a")),
            store.write(put(2, b"b" * 400_000)),
            store.write(put(3, b"c")),
            return_exceptions=True,
        )
        assert isinstance(results[1], StorageFull)
        assert [results[0], results[2]] == [1, 1]
        assert await store.read(numbers) == [1, 3]
        await store.write(lambda c: c.execute("PRAGMA max_page_count=1000").fetchone())
        await store.write(put(2, b"b" * 400_000))
        assert await store.read(numbers) == [1, 2, 3]

    with_store(tmp_path / "db", scenario, max_pages=20)


def test_space_that_returns_can_be_used(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        results = [
            await asyncio.gather(store.write(put(n, b"x" * 8000)), return_exceptions=True) for n in range(20)
        ]
        stored = sum(result[0] == 1 for result in results)
        assert 0 < stored < 20
        assert all(isinstance(result[0], StorageFull) for result in results[stored:])
        assert await store.read(numbers) == list(range(stored))
        await store.write(lambda c: c.execute("DELETE FROM t WHERE n < 2").rowcount)
        await store.write(put(1000, b"y" * 8000))
        assert 1000 in await store.read(numbers)

    with_store(tmp_path / "db", scenario, max_pages=20)


def test_a_reader_cannot_write_and_its_error_is_typed(tmp_path: Path) -> None:
    def misuse(connection: sqlite3.Connection) -> None:
        raise ValueError("mine")

    async def scenario(store: Store) -> None:
        with pytest.raises(StoreFailed, match="readonly"):
            await store.read(put(1))
        with pytest.raises(ValueError, match="mine"):
            await store.read(misuse)

    with_store(tmp_path / "db", scenario)


def test_a_closed_store_says_so_and_closes_twice(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        last = asyncio.ensure_future(store.write(put(1)))
        await asyncio.sleep(0)
        await store.close()
        assert await last == 1  # what waited was written
        await store.close()
        for ask in (store.write(put(2)), store.read(numbers)):
            with pytest.raises(StoreFailed, match="closed"):
                await ask
        assert (store.commits, store.writes) == (0, 0)

    with_store(tmp_path / "db", scenario)


def test_a_cancelled_caller_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def scenario(store: Store) -> None:
        gone = asyncio.ensure_future(store.write(put(1)))
        stays = asyncio.ensure_future(store.write(put(2)))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 1
        assert 2 in await store.read(numbers)

    with_store(tmp_path / "db", scenario)


def test_too_many_callers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeagent.state.store.WAITING_MAX", 0)

    async def scenario(store: Store) -> None:
        with pytest.raises(StoreFailed, match="wait"):
            await store.write(put(1))

    with_store(tmp_path / "db", scenario)


# -- files that cannot be used --------------------------------------------------------------------------------------


def refusal(path: Path, migrations: tuple[str, ...] = TABLE) -> StoreFailed:
    async def main() -> None:
        await Store(path, migrations=migrations).open()

    with pytest.raises(StoreFailed) as caught:
        asyncio.run(main())
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(b"not a database" * 1000)
    assert "damaged" in refusal(path).message
    assert path.read_bytes().startswith(b"not a database")


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"

    async def fill(store: Store) -> None:
        await store.write(put(1, b"z" * 100_000))
        await store.write(lambda c: c.execute("CREATE INDEX i ON t (body)").rowcount)

    with_store(path, fill)
    content = bytearray(path.read_bytes())
    for page in range(3, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xa5" * 64
    path.write_bytes(content)
    assert "damaged" in refusal(path).message


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    async def nothing(store: Store) -> None:
        pass

    with_store(tmp_path / "db", nothing)
    assert "schema 1" in refusal(tmp_path / "db", ()).message


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    assert "another program" in refusal(path).message


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be opened" in refusal(tmp_path / "absent" / "db").message


def test_a_full_disk_at_open_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    monkeypatch.setattr(database, "_migrate", full)
    with pytest.raises(StorageFull):
        asyncio.run(Store(tmp_path / "db").open())


def test_a_file_system_without_shared_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="write-ahead log"):
        database.open_writer(Path(":memory:"), TABLE)


def test_a_migration_happens_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "db"
    steps = (*TABLE, "ALTER TABLE t ADD COLUMN more TEXT DEFAULT 'm'; INSERT INTO t (n) VALUES (7);")

    async def one(store: Store) -> None:
        await store.write(put(1))

    with_store(path, one)
    for _ in range(2):
        connection = database.open_writer(path, steps)
        assert connection.execute("SELECT n, more FROM t ORDER BY n").fetchall() == [(1, "m"), (7, "m")]
        connection.close()
    with pytest.raises(StoreFailed):
        database.open_writer(path, (*steps, "INSERT INTO t (n) VALUES (8); INSERT INTO absent VALUES (1);"))
    connection = database.open_writer(path, steps)
    assert numbers(connection) == [1, 7]
    connection.close()


def test_a_reader_needs_a_file_that_can_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="cannot be opened"):
        database.open_reader(tmp_path / "absent" / "db")


def test_a_reader_that_cannot_be_opened_leaves_no_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> sqlite3.Connection:
        raise StoreFailed("no reader")

    monkeypatch.setattr("edgeagent.state.store.open_reader", refuse)
    store = Store(tmp_path / "db")
    with pytest.raises(StoreFailed, match="no reader"):
        asyncio.run(store.open())
    # A writer that was left open would hold the schema lock.
    database.open_writer(tmp_path / "db", MIGRATIONS).close()


# -- faults of the disk, played by a connection that fails where it is told to --------------------------------------


class FaultyConnection:
    """Stands for a connection whose COMMIT, or everything from it on, fails with an SQLite code."""

    def __init__(self, real: sqlite3.Connection, code: int, *, stuck: bool = False) -> None:
        self._real = real
        self._code = code
        self._stuck = stuck
        self.failing = True

    @property
    def in_transaction(self) -> bool:
        return self._real.in_transaction

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if self.failing and (sql == "COMMIT" or (self._stuck and sql == "ROLLBACK")):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self._code
            raise error
        return self._real.execute(sql, *parameters)


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    opened = database.open_writer(tmp_path / "db", TABLE)
    yield opened
    opened.close()


def errors(results: list[Any]) -> list[type[Exception] | None]:
    return [type(result.error) if isinstance(result, Failure) else None for result in results]


def test_a_commit_that_fails_fails_for_all_of_its_group(connection: sqlite3.Connection) -> None:
    faulty = FaultyConnection(connection, sqlite3.SQLITE_IOERR_WRITE)
    results = database.run_group(faulty, [put(1), put(2)])  # type: ignore[arg-type]
    assert errors(results) == [StoreFailed, StoreFailed]
    assert numbers(connection) == []
    faulty.failing = False
    assert database.run_group(faulty, [put(1), put(2)]) == [1, 1]  # type: ignore[arg-type]


def test_a_lost_fsync_is_not_tried_again(connection: sqlite3.Connection) -> None:
    faulty = FaultyConnection(connection, sqlite3.SQLITE_IOERR_FSYNC)
    assert errors(database.run_group(faulty, [put(1), put(2)])) == [SyncLost, SyncLost]  # type: ignore[arg-type]
    assert numbers(connection) == []


def test_a_transaction_that_cannot_be_undone_fails_all(connection: sqlite3.Connection) -> None:
    faulty = FaultyConnection(connection, sqlite3.SQLITE_IOERR_WRITE, stuck=True)
    assert errors(database.run_group(faulty, [put(1), put(2)])) == [StoreFailed] * 2  # type: ignore[arg-type]


def test_a_statement_that_takes_the_transaction_with_it_costs_only_its_caller(
    connection: sqlite3.Connection,
) -> None:
    def loses_the_transaction(c: sqlite3.Connection) -> None:
        c.execute("ROLLBACK")
        raise sqlite3.OperationalError("gone")

    def loses_it_and_lies(c: sqlite3.Connection) -> None:
        c.execute("ROLLBACK")
        raise ValueError("gone")

    group = [put(1), loses_the_transaction, put(2), loses_it_and_lies]
    results = database.run_group(connection, group)
    assert errors(results) == [None, StoreFailed, None, StoreFailed]
    assert numbers(connection) == [1, 2]


def test_a_store_that_lost_a_sync_takes_no_more_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def lost(connection: sqlite3.Connection, group: Any) -> list[Any]:
        calls.append(len(group))
        return [Failure(SyncLost("the disk did not confirm a write", hint="check the disk")) for _ in group]

    async def scenario(store: Store) -> None:
        await store.write(put(1))
        monkeypatch.setattr("edgeagent.state.store.run_group", lost)
        results = await asyncio.gather(*(store.write(put(n)) for n in (2, 3)), return_exceptions=True)
        assert all(isinstance(result, SyncLost) for result in results)
        assert isinstance(store.failed, SyncLost)
        with pytest.raises(SyncLost, match="confirm"):
            await store.write(put(4))
        assert await store.read(numbers) == [1]  # reading goes on

    with_store(tmp_path / "db", scenario)
    assert len(calls) == 1 or sum(calls) == 2


def test_the_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "db"
    sqlite3.connect(path).close()
    path.touch()
    path.chmod(0o644)

    async def scenario(store: Store) -> None:
        await store.write(put(1))
        for name in ("db", "db-wal", "db-shm"):
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o600, name

    with_store(path, scenario)
